"""DeleteGroups in every version."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.delete_groups import DeleteGroupsRequest
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import DenyAll
from riverlog.testing.group_world import GroupWorld, group_world


def run(story: Callable[[GroupWorld], Awaitable[None]]) -> None:
    async def play() -> None:
        async with group_world() as world:
            await asyncio.wait_for(story(world), 20)

    asyncio.run(play())


@pytest.mark.parametrize("version", range(3))
def test_deletes(version: int) -> None:
    async def story(world: GroupWorld) -> None:
        async def delete(*names: str) -> dict[str, int]:
            answer = await world.ask(ApiKey.DELETE_GROUPS, version, DeleteGroupsRequest(groups_names=names))
            return {one.group_id: one.error_code for one in answer.results}

        await world.stable()
        await world.commit(5, "h")
        assert await delete("g", "h", "nobody", "h") == {
            "g": ErrorCode.NON_EMPTY_GROUP,
            "h": 0,
            "nobody": ErrorCode.GROUP_ID_NOT_FOUND,
        }
        assert await delete("h") == {"h": ErrorCode.GROUP_ID_NOT_FOUND}
        world.topics.access = DenyAll()
        assert await delete("g") == {"g": ErrorCode.GROUP_AUTHORIZATION_FAILED}

    run(story)
