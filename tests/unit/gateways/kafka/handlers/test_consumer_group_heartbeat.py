"""ConsumerGroupHeartbeat in both versions, as a client sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from riverlog.broker.settings import BrokerSettings
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatRequestTopicPartitions,
    ConsumerGroupHeartbeatResponse,
)
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import LIBRARY_CALLER, DenyAll, Operation
from riverlog.testing.group_world import GroupWorld, group_world
from riverlog.testing.topic_world import Denies


def run(story: Callable[[GroupWorld], Awaitable[None]], settings: BrokerSettings | None = None) -> None:
    async def play() -> None:
        async with group_world(settings) as world:
            await asyncio.wait_for(story(world), 20)

    asyncio.run(play())


async def beat(world: GroupWorld, version: int = 1, **given: Any) -> ConsumerGroupHeartbeatResponse:
    fields: dict[str, Any] = {"group_id": "g", "member_id": "m"} | given
    if fields.get("member_epoch", 0) == 0:
        fields = {"rebalance_timeout_ms": 10_000, "topic_partitions": [], "subscribed_topic_names": ["t"]} | fields
    answer: ConsumerGroupHeartbeatResponse = await world.ask(
        ApiKey.CONSUMER_GROUP_HEARTBEAT, version, ConsumerGroupHeartbeatRequest(**fields)
    )
    return answer


def parts(answer: ConsumerGroupHeartbeatResponse) -> dict[bytes, list[int]] | None:
    if answer.assignment is None:
        return None
    return {topic.topic_id: list(topic.partitions) for topic in answer.assignment.topic_partitions}


@pytest.mark.parametrize("version", [0, 1])
def test_a_member_joins_beats_and_leaves(version: int) -> None:
    async def story(world: GroupWorld) -> None:
        joined = await beat(world, version, member_id="" if version == 0 else "mine")
        assert (joined.error_code, joined.heartbeat_interval_ms) == (0, 5_000)
        assert joined.member_id == ("mine" if version else joined.member_id)
        assert joined.member_id
        assert joined.member_epoch > 0
        assert parts(joined) == {world.topic_id: [0, 1, 2, 3]}
        me = {"member_id": joined.member_id, "member_epoch": joined.member_epoch}
        owned = [ConsumerGroupHeartbeatRequestTopicPartitions(topic_id=world.topic_id, partitions=[0, 1, 2, 3])]
        again = await beat(world, version, topic_partitions=owned, **me)
        assert (again.error_code, again.member_epoch, parts(again)) == (0, joined.member_epoch, None)
        left = await beat(world, version, member_id=joined.member_id, member_epoch=-1)
        assert (left.error_code, left.member_epoch) == (0, -1)
        gone = await beat(world, version, **me)
        assert gone.error_code == ErrorCode.UNKNOWN_MEMBER_ID
        assert gone.error_message

    run(story)


def test_stale_epochs_are_fenced() -> None:
    async def story(world: GroupWorld) -> None:
        joined = await beat(world)
        fenced = await beat(world, member_epoch=joined.member_epoch + 1)
        assert fenced.error_code == ErrorCode.FENCED_MEMBER_EPOCH

    run(story)


def test_a_regular_expression_and_one_that_is_none() -> None:
    async def story(world: GroupWorld) -> None:
        await world.topics.made("other", 1)
        joined = await beat(world, subscribed_topic_names=None, subscribed_topic_regex="^t$")
        assert parts(joined) == {world.topic_id: [0, 1, 2, 3]}
        bad = await beat(world, member_id="n", subscribed_topic_names=None, subscribed_topic_regex="(")
        assert bad.error_code == ErrorCode.INVALID_REGULAR_EXPRESSION

    run(story)


def test_what_is_refused() -> None:
    async def story(world: GroupWorld) -> None:
        assert (await beat(world, group_id="")).error_code == ErrorCode.INVALID_GROUP_ID
        assert (await beat(world, server_assignor="mine")).error_code == ErrorCode.UNSUPPORTED_ASSIGNOR
        assert (await beat(world, member_id="")).error_code == ErrorCode.INVALID_REQUEST
        assert (await beat(world, rebalance_timeout_ms=-1)).error_code == ErrorCode.INVALID_REQUEST
        assert (await beat(world, member_id="m" * 10_000)).error_code == ErrorCode.INVALID_REQUEST
        assert (await beat(world, subscribed_topic_names=["t" * 10_000])).error_code == ErrorCode.INVALID_REQUEST
        world.topics.access = Denies(Operation.DESCRIBE)
        assert (await beat(world)).error_code == ErrorCode.TOPIC_AUTHORIZATION_FAILED
        world.topics.access = DenyAll()
        assert (await beat(world)).error_code == ErrorCode.GROUP_AUTHORIZATION_FAILED

    run(story)


def test_the_configs_of_the_group_hold_for_the_next_heartbeat() -> None:
    async def story(world: GroupWorld) -> None:
        joined = await beat(world)
        assert joined.heartbeat_interval_ms == 5_000
        await world.groups.configs.alter(LIBRARY_CALLER, "g", {"consumer.heartbeat.interval.ms": "7000"})
        again = await beat(world, member_epoch=joined.member_epoch)
        assert again.heartbeat_interval_ms == 7_000
        other = await beat(world, group_id="h")
        assert other.heartbeat_interval_ms == 5_000

    run(story)


def test_a_topic_that_is_named_twice_is_owned_with_all_its_partitions() -> None:
    async def story(world: GroupWorld) -> None:
        joined = await beat(world)
        assert (await beat(world, member_id="other")).error_code == 0
        await world.pass_ms(1_000)
        owned = [
            ConsumerGroupHeartbeatRequestTopicPartitions(topic_id=world.topic_id, partitions=part)
            for part in ([2, 3], [0, 1])
        ]
        me = {"member_id": "m", "member_epoch": joined.member_epoch}
        kept = await beat(world, topic_partitions=owned, **me)
        assert parts(kept) == {world.topic_id: [0, 1]}
        again = await beat(world, topic_partitions=owned, **me)
        assert (again.error_code, again.member_epoch) == (0, joined.member_epoch)
        other = await beat(world, member_id="other", member_epoch=joined.member_epoch)
        assert parts(other) in (None, {}), "2 and 3 are not given up yet"

    run(story)
