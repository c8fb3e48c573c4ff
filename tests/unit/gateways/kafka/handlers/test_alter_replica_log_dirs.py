"""AlterReplicaLogDirs: there is one directory to move to."""

from __future__ import annotations

import asyncio

import pytest

from riverlog.gateways.kafka.handlers import alter_replica_log_dirs
from riverlog.gateways.kafka.schema.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirTopic,
)
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.describe_log_dirs import DescribeLogDirsRequest
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import DenyAll
from riverlog.testing.topic_world import TopicWorld, topic_world

assert alter_replica_log_dirs.alter_replica_log_dirs


async def move(world: TopicWorld, version: int, path: str, name: str, *indexes: int) -> list[int]:
    topic = AlterReplicaLogDirTopic(name=name, partitions=indexes)
    request = AlterReplicaLogDirsRequest(dirs=[AlterReplicaLogDir(path=path, topics=[topic])])
    (result,) = (await world.ask(ApiKey.ALTER_REPLICA_LOG_DIRS, version, request)).results
    assert result.topic_name == name
    assert [one.partition_index for one in result.partitions] == list(indexes)
    return [one.error_code for one in result.partitions]


@pytest.mark.parametrize("version", [1, 2])
def test_a_move_to_where_it_is(version: int) -> None:
    async def story() -> None:
        async with topic_world() as world:
            await world.made("a", 2)
            described = await world.ask(ApiKey.DESCRIBE_LOG_DIRS, 4, DescribeLogDirsRequest(topics=None))
            path = described.results[0].log_dir
            unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            assert await move(world, version, path, "a", 0, 1, 2) == [0, 0, unknown]
            assert await move(world, version, path, "b", 0) == [unknown]
            assert await move(world, version, "/elsewhere", "a", 0) == [ErrorCode.LOG_DIR_NOT_FOUND]
            world.access = DenyAll()
            assert await move(world, version, path, "a", 0) == [ErrorCode.CLUSTER_AUTHORIZATION_FAILED]

    asyncio.run(story())
