"""DescribeTopicPartitions: in order of names, page by page."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from riverlog.base.ids import PartitionId
from riverlog.gateways.kafka.handlers import describe_topic_partitions
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.describe_topic_partitions import (
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsRequestCursor,
    TopicRequest,
)
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import DenyAll
from riverlog.testing.topic_world import TopicWorld, topic_world

assert describe_topic_partitions.describe_topic_partitions


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def wrapped() -> None:
        await asyncio.wait_for(story(), 20)

    asyncio.run(wrapped())


async def ask(world: TopicWorld, *names: str, limit: int = 2000, cursor: tuple[str, int] | None = None) -> Any:
    begin = None
    if cursor is not None:
        begin = DescribeTopicPartitionsRequestCursor(topic_name=cursor[0], partition_index=cursor[1])
    request = DescribeTopicPartitionsRequest(
        topics=[TopicRequest(name=name) for name in names], response_partition_limit=limit, cursor=begin
    )
    return await world.ask(ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0, request)


def test_topics_in_order_with_ids_and_operations() -> None:
    async def story() -> None:
        async with topic_world() as world:
            b, a = await world.made("b", 2), await world.made("a")
            world.engine.offline.add(PartitionId(b.topic_id, 1))
            answer = await ask(world)
            assert [topic.name for topic in answer.topics] == ["a", "b"]
            assert [topic.topic_id for topic in answer.topics] == [a.topic_id, b.topic_id]
            assert answer.next_cursor is None
            assert answer.topics[0].topic_authorized_operations == 0b1101_1111_1000
            served, offline = answer.topics[1].partitions
            assert (served.leader_id, list(served.replica_nodes), list(served.isr_nodes)) == (7, [7], [7])
            assert (offline.leader_id, offline.error_code) == (-1, ErrorCode.LEADER_NOT_AVAILABLE)

    run(story)


def test_pages_cover_everything_once() -> None:
    async def story() -> None:
        async with topic_world() as world:
            for name, count in (("a", 3), ("b", 1), ("c", 4)):
                await world.made(name, count)
            for limit in range(1, 9):
                seen: list[tuple[str, int]] = []
                cursor: tuple[str, int] | None = None
                pages = 0
                while pages == 0 or cursor is not None:
                    answer = await ask(world, limit=limit, cursor=cursor)
                    page = [(topic.name, one.partition_index) for topic in answer.topics for one in topic.partitions]
                    assert 0 < len(page) <= limit
                    seen += page
                    pages += 1
                    begin = answer.next_cursor
                    cursor = None if begin is None else (begin.topic_name, begin.partition_index)
                assert seen == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("c", 0), ("c", 1), ("c", 2), ("c", 3)]

    run(story)


def test_a_cursor_at_a_topic_that_is_gone_goes_on_with_the_next() -> None:
    async def story() -> None:
        async with topic_world() as world:
            await world.made("a")
            await world.made("c")
            answer = await ask(world, cursor=("b", 5))
            assert [topic.name for topic in answer.topics] == ["c"]

    run(story)


def test_unknown_invalid_and_denied_topics() -> None:
    async def story() -> None:
        async with topic_world() as world:
            await world.made("a")
            answer = await ask(world, "z", "a b", "a")
            assert [(topic.name, topic.error_code) for topic in answer.topics] == [
                ("a", 0),
                ("a b", ErrorCode.INVALID_TOPIC_EXCEPTION),
                ("z", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
            ]
            world.access = DenyAll()
            answer = await ask(world, "z", "a")
            assert {topic.error_code for topic in answer.topics} == {ErrorCode.TOPIC_AUTHORIZATION_FAILED}
            assert list((await ask(world)).topics) == []

    run(story)
