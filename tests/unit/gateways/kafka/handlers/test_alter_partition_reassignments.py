"""AlterPartitionReassignments: only to where the partition is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from riverlog.gateways.kafka.handlers import alter_partition_reassignments
from riverlog.gateways.kafka.schema.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import DenyAll
from riverlog.testing.topic_world import TopicWorld, topic_world

assert alter_partition_reassignments.alter_partition_reassignments


async def move(
    world: TopicWorld, version: int, name: str, index: int, replicas: Sequence[int] | None
) -> tuple[int, int | None]:
    """The code for all, and the partition's."""
    one = ReassignablePartition(partition_index=index, replicas=replicas)
    request = AlterPartitionReassignmentsRequest(topics=[ReassignableTopic(name=name, partitions=[one])])
    answer = await world.ask(ApiKey.ALTER_PARTITION_REASSIGNMENTS, version, request)
    codes = [one.error_code for topic in answer.responses for one in topic.partitions]
    return answer.error_code, codes[0] if codes else None


@pytest.mark.parametrize("version", [0, 1])
def test_this_broker_is_the_only_target(version: int) -> None:
    async def story() -> None:
        async with topic_world() as world:
            await world.made("a", 2)
            assert await move(world, version, "a", 1, [7]) == (0, 0)
            for replicas in ([], [8], [7, 7], [7, 8]):
                assert await move(world, version, "a", 0, replicas) == (0, ErrorCode.INVALID_REPLICA_ASSIGNMENT)
            assert await move(world, version, "a", 0, None) == (0, ErrorCode.NO_REASSIGNMENT_IN_PROGRESS)
            assert await move(world, version, "a", 2, [7]) == (0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            assert await move(world, version, "b", 0, [7]) == (0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            world.access = DenyAll()
            assert await move(world, version, "a", 1, [7]) == (ErrorCode.CLUSTER_AUTHORIZATION_FAILED, None)

    asyncio.run(story())
