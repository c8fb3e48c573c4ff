"""LeaveGroup in every version."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.leave_group import LeaveGroupRequest, MemberIdentity
from riverlog.state.access import DenyAll
from riverlog.testing.group_world import GroupWorld, group_world


def run(story: Callable[[GroupWorld], Awaitable[None]]) -> None:
    async def play() -> None:
        async with group_world() as world:
            await asyncio.wait_for(story(world), 20)

    asyncio.run(play())


@pytest.mark.parametrize("version", range(3))
def test_one_leaves(version: int) -> None:
    async def story(world: GroupWorld) -> None:
        member = await world.stable()

        async def leave(member_id: str, group_id: str = "g") -> int:
            request = LeaveGroupRequest(group_id=group_id, member_id=member_id)
            code: int = (await world.ask(ApiKey.LEAVE_GROUP, version, request)).error_code
            return code

        assert await leave("nobody") == ErrorCode.UNKNOWN_MEMBER_ID
        assert await leave("nobody", "") == ErrorCode.INVALID_GROUP_ID
        assert await leave(member.member_id) == 0
        assert await leave(member.member_id) == ErrorCode.UNKNOWN_MEMBER_ID
        world.topics.access = DenyAll()
        assert await leave("nobody") == ErrorCode.GROUP_AUTHORIZATION_FAILED

    run(story)


@pytest.mark.parametrize("version", range(3, 6))
def test_several_leave(version: int) -> None:
    async def story(world: GroupWorld) -> None:
        await world.stable(group_instance_id="i")
        identities = [
            MemberIdentity(member_id="nobody"),
            MemberIdentity(member_id="", group_instance_id="i", reason="closed" if version >= 5 else None),
        ]
        request = LeaveGroupRequest(group_id="g", members=identities)
        answer = await world.ask(ApiKey.LEAVE_GROUP, version, request)
        assert answer.error_code == 0
        assert [(one.member_id, one.group_instance_id, one.error_code) for one in answer.members] == [
            ("nobody", None, ErrorCode.UNKNOWN_MEMBER_ID),
            ("", "i", 0),
        ]
        world.topics.access = DenyAll()
        answer = await world.ask(ApiKey.LEAVE_GROUP, version, request)
        assert (answer.error_code, list(answer.members)) == (ErrorCode.GROUP_AUTHORIZATION_FAILED, [])

    run(story)
