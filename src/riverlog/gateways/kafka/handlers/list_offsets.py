"""ListOffsets (api key 2). The ends of a partition, or the first record at a time, exact to the record.

v1 one offset a partition, v2 isolation levels, v4 leader epochs, v6 flexible, v7 -3 (largest timestamp), v8 -4 (earliest local),
v9 -5 (latest tiered), v11 -6 (earliest pending upload). Nothing is tiered yet: -5 and -6 answer -1.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import PartitionId, TopicName
from riverlog.broker.list_offsets import EARLIEST, OffsetQuestion, list_offset
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.errors import error_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)
from riverlog.state.access import Operation, Resource, ResourceKind
from riverlog.storage.contract import Isolation, TimestampedOffset

first_version_of = {-3: 7, -4: 8, -5: 9, -6: 11}
NEVER = 2**15  # is the first version of every other negative timestamp: Kafka answers UNSUPPORTED_VERSION


@handles(ApiKey.LIST_OFFSETS, versions=range(1, 12))
async def list_offsets(call: Call, request: ListOffsetsRequest) -> ListOffsetsResponse:
    isolation = Isolation.READ_COMMITTED if request.isolation_level == 1 else Isolation.READ_UNCOMMITTED
    asked = [(TopicName(topic.name), partition) for topic in request.topics for partition in topic.partitions]
    times = Counter((name, partition.partition_index) for name, partition in asked)
    questions = [
        _question(call, name, partition, times[name, partition.partition_index] > 1) for name, partition in asked
    ]
    found = iter(
        await asyncio.gather(
            *(_find(call, question, isolation) for question in questions if isinstance(question, OffsetQuestion))
        )
    )
    outcomes = iter([next(found) if isinstance(question, OffsetQuestion) else question for question in questions])
    return ListOffsetsResponse(
        throttle_time_ms=0,
        topics=[
            ListOffsetsTopicResponse(
                name=topic.name,
                partitions=[_partition(one.partition_index, next(outcomes)) for one in topic.partitions],
            )
            for topic in request.topics
        ],
    )


def _question(
    call: Call, name: TopicName, asked: ListOffsetsPartition, again: bool
) -> OffsetQuestion | RiverlogError:
    """What the engine is to be asked, or why not. `again`: the partition is in the request more than once."""
    broker = call.broker
    if not broker.access.allows(call.caller, Operation.DESCRIBE, Resource(ResourceKind.TOPIC, name)):
        return RiverlogError(ErrorKind.UNAUTHORIZED, f"not allowed to describe topic {name}")
    if again:
        return RiverlogError(ErrorKind.INVALID_REQUEST, f"{name}-{asked.partition_index} is named twice: name it once")
    topic = broker.topics.by_name.get(name)
    if topic is None or not 0 <= asked.partition_index < topic.partition_count:
        return RiverlogError(ErrorKind.UNKNOWN_TOPIC, f"there is no partition {name}-{asked.partition_index}")
    if asked.timestamp < EARLIEST and call.version < first_version_of.get(asked.timestamp, NEVER):
        return RiverlogError(ErrorKind.UNSUPPORTED_VERSION, f"timestamp {asked.timestamp} is not known to v{call.version}")
    partition = PartitionId(topic.topic_id, asked.partition_index)
    return OffsetQuestion(name, partition, asked.timestamp, asked.current_leader_epoch)


async def _find(call: Call, question: OffsetQuestion, isolation: Isolation) -> TimestampedOffset | RiverlogError:
    try:
        return await list_offset(call.broker.engine, call.broker.access, call.caller, question, isolation)
    except RiverlogError as error:
        return error


def _partition(index: int, outcome: TimestampedOffset | RiverlogError) -> ListOffsetsPartitionResponse:
    if isinstance(outcome, RiverlogError):
        return ListOffsetsPartitionResponse(
            partition_index=index, error_code=error_code(outcome, ResourceKind.TOPIC)
        )
    return ListOffsetsPartitionResponse(
        partition_index=index,
        error_code=0,
        timestamp=outcome.timestamp_ms,
        offset=outcome.offset,
        leader_epoch=outcome.leader_epoch,
    )
