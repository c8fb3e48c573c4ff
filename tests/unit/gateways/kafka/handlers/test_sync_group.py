"""SyncGroup in every version."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from riverlog.state.access import DenyAll
from riverlog.testing.group_world import GroupWorld, group_world


def run(story: Callable[[GroupWorld], Awaitable[None]]) -> None:
    async def play() -> None:
        async with group_world() as world:
            await asyncio.wait_for(story(world), 20)

    asyncio.run(play())


@pytest.mark.parametrize("version", range(6))
def test_the_leader_assigns_and_gets_its_part(version: int) -> None:
    async def story(world: GroupWorld) -> None:
        joined = await world.join()

        async def sync(generation: int = 1, name: str | None = "range", with_type: bool = True) -> tuple[int, bytes]:
            answer = await world.ask(
                ApiKey.SYNC_GROUP,
                version,
                SyncGroupRequest(
                    group_id="g",
                    generation_id=generation,
                    member_id=joined.member_id,
                    protocol_type="consumer" if with_type and version >= 5 else None,
                    protocol_name=name if version >= 5 else None,
                    assignments=[SyncGroupRequestAssignment(member_id=joined.member_id, assignment=b"part")],
                ),
            )
            if version >= 5 and not answer.error_code:
                assert (answer.protocol_type, answer.protocol_name) == ("consumer", "range")
            return answer.error_code, answer.assignment

        assert await sync(7) == (ErrorCode.ILLEGAL_GENERATION, b"")
        if version >= 5:
            for question in (sync(name="other"), sync(name=None), sync(with_type=False)):
                assert await question == (ErrorCode.INCONSISTENT_GROUP_PROTOCOL, b"")
        assert await sync() == (0, b"part")
        world.topics.access = DenyAll()
        assert await sync() == (ErrorCode.GROUP_AUTHORIZATION_FAILED, b"")

    run(story)
