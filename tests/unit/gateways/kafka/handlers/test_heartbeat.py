"""Heartbeat in every version."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.heartbeat import HeartbeatRequest
from riverlog.state.access import DenyAll
from riverlog.testing.group_world import GroupWorld, group_world


def run(story: Callable[[GroupWorld], Awaitable[None]]) -> None:
    async def play() -> None:
        async with group_world() as world:
            await asyncio.wait_for(story(world), 20)

    asyncio.run(play())


@pytest.mark.parametrize("version", range(5))
def test_heartbeats(version: int) -> None:
    async def story(world: GroupWorld) -> None:
        async def beat(member_id: str, generation: int, group_id: str = "g") -> int:
            request = HeartbeatRequest(group_id=group_id, member_id=member_id, generation_id=generation)
            code: int = (await world.ask(ApiKey.HEARTBEAT, version, request)).error_code
            return code

        member = await world.stable()
        assert await beat(*member) == 0
        assert await beat(member.member_id, 0) == ErrorCode.ILLEGAL_GENERATION
        assert await beat("nobody", 1) == ErrorCode.UNKNOWN_MEMBER_ID
        assert await beat("nobody", 1, "unknown") == ErrorCode.UNKNOWN_MEMBER_ID
        assert await beat("nobody", 1, "") == ErrorCode.INVALID_GROUP_ID
        world.topics.access = DenyAll()
        assert await beat(*member) == ErrorCode.GROUP_AUTHORIZATION_FAILED

    run(story)


@pytest.mark.parametrize("version", [3, 4])
def test_a_fenced_instance(version: int) -> None:
    async def story(world: GroupWorld) -> None:
        await world.stable(group_instance_id="i")
        request = HeartbeatRequest(group_id="g", member_id="x", generation_id=1, group_instance_id="i")
        answer = await world.ask(ApiKey.HEARTBEAT, version, request)
        assert answer.error_code == ErrorCode.FENCED_INSTANCE_ID

    run(story)
