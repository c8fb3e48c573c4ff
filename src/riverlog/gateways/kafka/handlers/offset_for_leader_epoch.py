"""OffsetForLeaderEpoch (api key 23). Where a leader epoch ended: a client that has read beyond that has seen a cut tail.

v2 current leader epoch, v3 replica id (skipped), v4 flexible.
"""

from __future__ import annotations

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import PartitionId, TopicName
from riverlog.broker.fetch import check_leader_epoch
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.errors import error_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.offset_for_leader_epoch import (
    EpochEndOffset,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
)
from riverlog.state.access import Operation, Resource, ResourceKind


@handles(ApiKey.OFFSET_FOR_LEADER_EPOCH, versions=range(2, 5))
def offset_for_leader_epoch(call: Call, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse:
    topics = [
        OffsetForLeaderTopicResult(
            topic=topic.topic,
            partitions=[_end(call, TopicName(topic.topic), partition) for partition in topic.partitions],
        )
        for topic in request.topics
    ]
    return OffsetForLeaderEpochResponse(throttle_time_ms=0, topics=topics)


def _end(call: Call, name: TopicName, asked: OffsetForLeaderPartition) -> EpochEndOffset:
    broker = call.broker
    try:
        if not broker.access.allows(call.caller, Operation.DESCRIBE, Resource(ResourceKind.TOPIC, name)):
            raise RiverlogError(ErrorKind.UNAUTHORIZED, f"not allowed to describe topic {name}")
        topic = broker.topics.by_name.get(name)
        if topic is None or not 0 <= asked.partition < topic.partition_count:
            raise RiverlogError(ErrorKind.UNKNOWN_TOPIC, f"there is no partition {name}-{asked.partition}")
        partition = PartitionId(topic.topic_id, asked.partition)
        check_leader_epoch(broker.engine, partition, asked.current_leader_epoch)
        end = broker.engine.epoch_end(partition, asked.leader_epoch)
    except RiverlogError as error:
        return EpochEndOffset(error_code=error_code(error, ResourceKind.TOPIC), partition=asked.partition)
    return EpochEndOffset(
        error_code=0, partition=asked.partition, leader_epoch=end.leader_epoch, end_offset=end.end_offset
    )
