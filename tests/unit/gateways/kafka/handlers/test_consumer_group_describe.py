"""ConsumerGroupDescribe in both versions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from riverlog.broker.group_requests import ConsumerAsked
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.consumer_group_describe import (
    ConsumerGroupDescribeRequest,
    DescribedGroup,
)
from riverlog.gateways.kafka.schema.describe_groups import DescribeGroupsRequest
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.list_groups import ListGroupsRequest
from riverlog.state.access import LIBRARY_CALLER, DenyAll, Operation
from riverlog.testing.group_world import GroupWorld, group_world
from riverlog.testing.topic_world import Denies


def run(story: Callable[[GroupWorld], Awaitable[None]]) -> None:
    async def play() -> None:
        async with group_world() as world:
            await asyncio.wait_for(story(world), 20)

    asyncio.run(play())


async def describe(world: GroupWorld, version: int, group_id: str, operations: bool = False) -> DescribedGroup:
    request = ConsumerGroupDescribeRequest(group_ids=[group_id, group_id], include_authorized_operations=operations)
    (group,) = (await world.ask(ApiKey.CONSUMER_GROUP_DESCRIBE, version, request)).groups
    described: DescribedGroup = group
    assert described.group_id == group_id
    return described


async def joined(world: GroupWorld) -> None:
    asked = ConsumerAsked(
        "m", 0, "static", "rack", rebalance_timeout_ms=10_000, subscribed_names=("u", "t"), owned={}
    )
    assert (await world.groups.consumer_heartbeat(LIBRARY_CALLER, "g", asked)).error is None


@pytest.mark.parametrize("version", [0, 1])
def test_a_group_and_its_member(version: int) -> None:
    async def story(world: GroupWorld) -> None:
        await joined(world)
        group = await describe(world, version, "g", operations=True)
        assert (group.error_code, group.group_state, group.assignor_name) == (0, "Stable", "uniform")
        assert (group.group_epoch, group.assignment_epoch) == (1, 1)
        assert group.authorized_operations > 0
        (member,) = group.members
        assert (member.member_id, member.instance_id, member.rack_id, member.member_epoch) == ("m", "static", "rack", 1)
        assert (member.client_id, member.client_host) == ("riverlog", "/in-process")
        assert list(member.subscribed_topic_names) == ["t", "u"]
        assert member.member_type == (1 if version else -1)
        (assigned,) = member.assignment.topic_partitions
        assert (assigned.topic_id, assigned.topic_name, list(assigned.partitions)) == (world.topic_id, "t", [0, 1, 2, 3])
        (target,) = member.target_assignment.topic_partitions
        assert list(target.partitions) == [0, 1, 2, 3]

    run(story)


@pytest.mark.parametrize("version", [0, 1])
def test_what_is_not_a_consumer_group_is_not_found(version: int) -> None:
    async def story(world: GroupWorld) -> None:
        await world.stable()  # a classic one
        for name in ("g", "nobody"):
            group = await describe(world, version, name)
            assert (group.error_code, list(group.members)) == (ErrorCode.GROUP_ID_NOT_FOUND, [])
            assert group.error_message == f"Group {name} is not a consumer group."
        assert (await describe(world, version, "")).error_code == ErrorCode.INVALID_GROUP_ID

    run(story)


def test_the_classic_requests_do_not_find_it_but_list_it() -> None:
    async def story(world: GroupWorld) -> None:
        await joined(world)
        (old,) = (await world.ask(ApiKey.DESCRIBE_GROUPS, 5, DescribeGroupsRequest(groups=["g"]))).groups
        assert (old.error_code, old.group_state, list(old.members)) == (0, "Dead", [])
        (new,) = (await world.ask(ApiKey.DESCRIBE_GROUPS, 6, DescribeGroupsRequest(groups=["g"]))).groups
        assert (new.error_code, new.group_state) == (ErrorCode.GROUP_ID_NOT_FOUND, "Dead")
        for types, count in (([], 1), (["Consumer"], 1), (["classic"], 0), (["share"], 0)):
            listed = (await world.ask(ApiKey.LIST_GROUPS, 5, ListGroupsRequest(types_filter=types))).groups
            assert len(listed) == count
        (one,) = (await world.ask(ApiKey.LIST_GROUPS, 5, ListGroupsRequest(states_filter=["stable"]))).groups
        assert (one.group_id, one.group_type, one.group_state, one.protocol_type) == ("g", "consumer", "Stable", "consumer")

    run(story)


def test_denied() -> None:
    async def story(world: GroupWorld) -> None:
        await joined(world)
        world.topics.access = Denies(Operation.DESCRIBE, names=("t",))
        group = await describe(world, 1, "g")
        assert (group.error_code, list(group.members)) == (ErrorCode.TOPIC_AUTHORIZATION_FAILED, [])
        world.topics.access = DenyAll()
        assert (await describe(world, 1, "g")).error_code == ErrorCode.GROUP_AUTHORIZATION_FAILED

    run(story)
