"""DescribeLogDirs: the size of each partition."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from riverlog.base.ids import PartitionId
from riverlog.gateways.kafka.handlers import describe_log_dirs
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.describe_log_dirs import DescribableLogDirTopic, DescribeLogDirsRequest
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import DenyAll
from riverlog.testing.topic_world import TopicWorld, topic_world

assert describe_log_dirs.describe_log_dirs


async def sizes(world: TopicWorld, version: int, asked: dict[str, list[int]] | None) -> Any:
    topics = None
    if asked is not None:
        topics = [DescribableLogDirTopic(topic=name, partitions=indexes) for name, indexes in asked.items()]
    answer = await world.ask(ApiKey.DESCRIBE_LOG_DIRS, version, DescribeLogDirsRequest(topics=topics))
    (result,) = answer.results
    assert (answer.error_code, result.error_code) == (0, 0)
    return {
        topic.name: {one.partition_index: one.partition_size for one in topic.partitions} for topic in result.topics
    }


@pytest.mark.parametrize("version", range(1, 6))
def test_all_or_those_named(version: int) -> None:
    async def story() -> None:
        async with topic_world() as world:
            made = await world.made("a", 3)
            await world.made("b")
            size = world.engine.bytes_each
            assert await sizes(world, version, None) == {"a": {0: size, 1: size, 2: size}, "b": {0: size}}
            world.engine.offline.add(PartitionId(made.topic_id, 2))
            assert await sizes(world, version, {"a": [0, 2, 9], "none": [0]}) == {"a": {0: size}}

    asyncio.run(story())


@pytest.mark.parametrize("version", [2, 3])
def test_denied(version: int) -> None:
    async def story() -> None:
        async with topic_world() as world:
            await world.made("a")
            world.access = DenyAll()
            answer = await world.ask(ApiKey.DESCRIBE_LOG_DIRS, version, DescribeLogDirsRequest(topics=None))
            assert list(answer.results) == []
            assert answer.error_code == (ErrorCode.CLUSTER_AUTHORIZATION_FAILED if version >= 3 else 0)

    asyncio.run(story())


@pytest.mark.parametrize("version", range(1, 6))
def test_the_file_system_is_told_from_version_4_on(version: int) -> None:
    async def story() -> None:
        async with topic_world() as world:
            (told,) = (await world.ask(ApiKey.DESCRIBE_LOG_DIRS, version, DescribeLogDirsRequest(topics=None))).results
            assert (told.total_bytes, told.usable_bytes) == ((1000, 400) if version >= 4 else (-1, -1))
            world.engine.disk = None
            (told,) = (await world.ask(ApiKey.DESCRIBE_LOG_DIRS, version, DescribeLogDirsRequest(topics=None))).results
            assert (told.total_bytes, told.usable_bytes, told.is_cordoned) == (-1, -1, False)

    asyncio.run(story())
