"""DescribeGroups in every version."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.describe_groups import DescribedGroup, DescribeGroupsRequest
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import DenyAll
from riverlog.testing.group_driver import subscription
from riverlog.testing.group_world import GroupWorld, group_world


def run(story: Callable[[GroupWorld], Awaitable[None]]) -> None:
    async def play() -> None:
        async with group_world() as world:
            await asyncio.wait_for(story(world), 20)

    asyncio.run(play())


async def describe(world: GroupWorld, version: int, group_id: str, operations: bool = False) -> DescribedGroup:
    request = DescribeGroupsRequest(groups=[group_id], include_authorized_operations=operations)
    (group,) = (await world.ask(ApiKey.DESCRIBE_GROUPS, version, request)).groups
    assert group.group_id == group_id
    described: DescribedGroup = group
    return described


@pytest.mark.parametrize("version", range(7))
def test_a_stable_group_and_one_that_is_not_there(version: int) -> None:
    async def story(world: GroupWorld) -> None:
        member = await world.stable(group_instance_id="i")
        group = await describe(world, version, "g")
        assert (group.error_code, group.group_state) == (0, "Stable")
        assert (group.protocol_type, group.protocol_data) == ("consumer", "range")
        (described,) = group.members
        assert described.member_id == member.member_id
        assert described.group_instance_id == ("i" if version >= 4 else None)
        assert (described.client_id, described.client_host) == ("riverlog", "/in-process")
        assert (described.member_metadata, described.member_assignment) == (subscription("t"), b"part")
        missing = await describe(world, version, "nobody")
        assert (missing.group_state, list(missing.members)) == ("Dead", [])
        assert missing.error_code == (ErrorCode.GROUP_ID_NOT_FOUND if version >= 6 else 0)
        assert missing.error_message == ("Group nobody not found." if version >= 6 else None)
        world.topics.access = DenyAll()
        assert (await describe(world, version, "g")).error_code == ErrorCode.GROUP_AUTHORIZATION_FAILED

    run(story)


@pytest.mark.parametrize("version", range(3, 7))
def test_authorized_operations(version: int) -> None:
    async def story(world: GroupWorld) -> None:
        await world.commit(5)
        assert (await describe(world, version, "g")).authorized_operations == -(2**31)
        every = sum(1 << code for code in (3, 6, 8, 10, 11))
        assert (await describe(world, version, "g", operations=True)).authorized_operations == every

    run(story)
