"""ListGroups in every version."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.list_groups import ListGroupsRequest
from riverlog.state.access import DenyAll, Operation
from riverlog.testing.group_world import GroupWorld, group_world
from riverlog.testing.topic_world import Denies


def run(story: Callable[[GroupWorld], Awaitable[None]]) -> None:
    async def play() -> None:
        async with group_world() as world:
            await asyncio.wait_for(story(world), 20)

    asyncio.run(play())


@pytest.mark.parametrize("version", range(6))
def test_lists(version: int) -> None:
    async def story(world: GroupWorld) -> None:
        async def names(states: tuple[str, ...] = (), types: tuple[str, ...] = ()) -> list[str]:
            request = ListGroupsRequest(states_filter=states, types_filter=types)
            answer = await world.ask(ApiKey.LIST_GROUPS, version, request)
            assert answer.error_code == 0
            for group in answer.groups:
                assert group.protocol_type == ("consumer" if group.group_id == "g" else "")
                assert not version >= 4 or group.group_state == ("Stable" if group.group_id == "g" else "Empty")
                assert not version >= 5 or group.group_type == "classic"
            return [group.group_id for group in answer.groups]

        await world.stable()
        await world.commit(5, "h")
        assert await names() == ["g", "h"]
        if version >= 4:
            assert await names(states=("stable",)) == ["g"]
        if version >= 5:
            assert await names(types=("Classic",)) == ["g", "h"]
            assert await names(types=("consumer", "share")) == []
        world.topics.access = Denies(Operation.DESCRIBE, names=("kafka-cluster", "h"))
        assert await names() == ["g"]
        world.topics.access = DenyAll()
        assert await names() == []

    run(story)


def test_a_catalog_that_is_gone_is_said() -> None:
    async def story(world: GroupWorld) -> None:
        world.topics.catalog.fail("the disk is gone")
        answer = await world.ask(ApiKey.LIST_GROUPS, 5, ListGroupsRequest())
        assert answer.error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE

    run(story)
