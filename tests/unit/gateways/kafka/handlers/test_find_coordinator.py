"""FindCoordinator: groups and transactional ids, one key and several."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.find_coordinator import FindCoordinatorRequest
from riverlog.state.access import DenyAll
from riverlog.testing.group_world import GroupWorld, group_world


def run(story: Callable[[GroupWorld], Awaitable[None]]) -> None:
    async def play() -> None:
        async with group_world() as world:
            await asyncio.wait_for(story(world), 20)

    asyncio.run(play())


@pytest.mark.parametrize("version", range(4))
def test_one_key(version: int) -> None:
    async def story(world: GroupWorld) -> None:
        for key_type in (0, 1) if version else (0,):
            request = FindCoordinatorRequest(key="g", key_type=key_type)
            answer = await world.ask(ApiKey.FIND_COORDINATOR, version, request)
            assert (answer.error_code, answer.node_id, answer.host, answer.port) == (0, 7, "127.0.0.1", 9092)
        world.topics.access = DenyAll()
        answer = await world.ask(ApiKey.FIND_COORDINATOR, version, FindCoordinatorRequest(key="g"))
        assert answer.error_code == ErrorCode.GROUP_AUTHORIZATION_FAILED
        assert (answer.node_id, answer.host, answer.port) == (-1, "", -1)

    run(story)


@pytest.mark.parametrize("version", range(4, 7))
def test_several_keys(version: int) -> None:
    async def story(world: GroupWorld) -> None:
        request = FindCoordinatorRequest(key_type=1, coordinator_keys=["a", "b"])
        found = (await world.ask(ApiKey.FIND_COORDINATOR, version, request)).coordinators
        assert [(one.key, one.error_code, one.node_id, one.host, one.port) for one in found] == [
            ("a", 0, 7, "127.0.0.1", 9092),
            ("b", 0, 7, "127.0.0.1", 9092),
        ]
        world.topics.access = DenyAll()
        found = (await world.ask(ApiKey.FIND_COORDINATOR, version, request)).coordinators
        assert {one.error_code for one in found} == {ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED}

    run(story)


def test_share_groups_are_not_here_yet() -> None:
    async def story(world: GroupWorld) -> None:
        request = FindCoordinatorRequest(key_type=2, coordinator_keys=["g:topic:0"])
        (found,) = (await world.ask(ApiKey.FIND_COORDINATOR, 6, request)).coordinators
        assert found.error_code == ErrorCode.INVALID_REQUEST
        assert "key type 2" in found.error_message

    run(story)
