"""ListOffsets (api key 2). The ends of a partition, or the first record at a time, exact to the record.

v1 one offset a partition, v2 isolation levels, v4 leader epochs, v6 flexible, v7 -3 (largest timestamp), v8 -4 (earliest local),
v9 -5 (latest tiered), v11 -6 (earliest pending upload). Nothing is tiered yet: -5 and -6 answer -1.
"""

from __future__ import annotations

import asyncio

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import PartitionId, TopicName
from riverlog.broker.list_offsets import LATEST, OffsetQuestion, list_offset
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
from riverlog.storage.contract import Isolation

first_version_of = {-3: 7, -4: 8, -5: 9, -6: 11}


@handles(ApiKey.LIST_OFFSETS, versions=range(1, 12))
async def list_offsets(call: Call, request: ListOffsetsRequest) -> ListOffsetsResponse:
    isolation = Isolation.READ_COMMITTED if request.isolation_level == 1 else Isolation.READ_UNCOMMITTED
    topics = []
    for topic in request.topics:
        partitions = await asyncio.gather(
            *(_answer(call, TopicName(topic.name), partition, isolation) for partition in topic.partitions)
        )
        topics.append(ListOffsetsTopicResponse(name=topic.name, partitions=partitions))
    return ListOffsetsResponse(throttle_time_ms=0, topics=topics)


async def _answer(
    call: Call, name: TopicName, asked: ListOffsetsPartition, isolation: Isolation
) -> ListOffsetsPartitionResponse:
    broker = call.broker
    try:
        if not broker.access.allows(call.caller, Operation.DESCRIBE, Resource(ResourceKind.TOPIC, name)):
            raise RiverlogError(ErrorKind.UNAUTHORIZED, f"not allowed to describe topic {name}")
        topic = broker.topics.by_name.get(name)
        if topic is None or not 0 <= asked.partition_index < topic.partition_count:
            raise RiverlogError(ErrorKind.UNKNOWN_TOPIC, f"there is no partition {name}-{asked.partition_index}")
        if asked.timestamp < LATEST and call.version < first_version_of.get(asked.timestamp, 0):
            raise RiverlogError(ErrorKind.UNSUPPORTED_VERSION, f"timestamp {asked.timestamp} is not known to v{call.version}")
        question = OffsetQuestion(
            name, PartitionId(topic.topic_id, asked.partition_index), asked.timestamp, asked.current_leader_epoch
        )
        found = await list_offset(broker.engine, broker.access, call.caller, question, isolation)
    except RiverlogError as error:
        code = error_code(error, ResourceKind.TOPIC)
        return ListOffsetsPartitionResponse(partition_index=asked.partition_index, error_code=code)
    return ListOffsetsPartitionResponse(
        partition_index=asked.partition_index,
        error_code=0,
        timestamp=found.timestamp_ms,
        offset=found.offset,
        leader_epoch=found.leader_epoch,
    )
