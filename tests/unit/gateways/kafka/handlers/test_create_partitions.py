"""CreatePartitions: more of them, never fewer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from riverlog.base.ids import TopicName
from riverlog.gateways.kafka.handlers import create_partitions
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.create_partitions import (
    CreatePartitionsAssignment,
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import DenyAll
from riverlog.testing.topic_world import TopicWorld, topic_world

assert create_partitions.create_partitions


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def wrapped() -> None:
        await asyncio.wait_for(story(), 20)

    asyncio.run(wrapped())


def more(name: str, count: int, assignments: list[list[int]] | None = None) -> CreatePartitionsTopic:
    given = None if assignments is None else [CreatePartitionsAssignment(broker_ids=ids) for ids in assignments]
    return CreatePartitionsTopic(name=name, count=count, assignments=given)


async def widen(
    world: TopicWorld, *topics: CreatePartitionsTopic, version: int = 3, validate_only: bool = False
) -> list[int]:
    request = CreatePartitionsRequest(topics=topics, validate_only=validate_only)
    results = (await world.ask(ApiKey.CREATE_PARTITIONS, version, request)).results
    assert [bool(result.error_message) for result in results] == [result.error_code != 0 for result in results]
    return [result.error_code for result in results]


@pytest.mark.parametrize("version", range(0, 4))
def test_partitions_are_added(version: int) -> None:
    async def story() -> None:
        async with topic_world() as world:
            await world.made("a", 2)
            assert await widen(world, more("a", 5), version=version) == [0]
            assert world.topics.by_name[TopicName("a")].partition_count == 5
            assert world.engine.calls == ["open a 2", "open a 5"]

    run(story)


def test_what_is_refused() -> None:
    async def story() -> None:
        async with topic_world() as world:
            for name in "abcde":
                await world.made(name, 2)
            codes = await widen(
                world,
                more("a", 2),
                more("b", 1),
                more("unknown", 3),
                more("c", 3, [[1], [1]]),
                more("d", 3, [[]]),
                more("e", 3, [[4]]),
            )
            assert codes == [
                ErrorCode.INVALID_PARTITIONS,
                ErrorCode.INVALID_PARTITIONS,
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                0,
            ]
            assert await widen(world, more("a", 3), more("a", 4)) == [ErrorCode.INVALID_REQUEST]
            assert await widen(world, more("a", 3), validate_only=True) == [0]
            assert world.topics.by_name[TopicName("a")].partition_count == 2

    run(story)


def test_denied() -> None:
    async def story() -> None:
        async with topic_world() as world:
            await world.made("a", 2)
            world.access = DenyAll()
            denied = ErrorCode.TOPIC_AUTHORIZATION_FAILED
            assert await widen(world, more("a", 3), more("unknown", 3)) == [denied, denied]

    run(story)
