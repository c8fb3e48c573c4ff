"""DescribeProducers (api key 61). Who wrote to a partition with a producer id, and which transaction of theirs is open there.
One version, v0."""

from __future__ import annotations

from collections.abc import Sequence

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import PartitionId, TopicName
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.errors import error_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.describe_producers import (
    DescribeProducersRequest,
    DescribeProducersResponse,
    PartitionResponse,
    ProducerState,
    TopicResponse,
)
from riverlog.state.access import Operation, Resource, ResourceKind


@handles(ApiKey.DESCRIBE_PRODUCERS, versions=range(0, 1))
def describe_producers(call: Call, request: DescribeProducersRequest) -> DescribeProducersResponse:
    return DescribeProducersResponse(
        topics=[
            TopicResponse(name=topic.name, partitions=[_partition(call, topic.name, at) for at in topic.partition_indexes])
            for topic in request.topics
        ]
    )


def _partition(call: Call, name: str, index: int) -> PartitionResponse:
    try:
        return PartitionResponse(partition_index=index, active_producers=_producers(call, name, index))
    except RiverlogError as error:
        code = error_code(error, ResourceKind.TOPIC)
        return PartitionResponse(partition_index=index, error_code=code, error_message=error.message)


def _producers(call: Call, name: str, index: int) -> Sequence[ProducerState]:
    broker = call.broker
    if not broker.access.allows(call.caller, Operation.READ, Resource(ResourceKind.TOPIC, name)):
        raise RiverlogError(ErrorKind.UNAUTHORIZED, f"not allowed to read topic {name}")
    topic = broker.topics.by_name.get(TopicName(name))
    if topic is None or not 0 <= index < topic.partition_count:
        raise RiverlogError(ErrorKind.UNKNOWN_TOPIC, f"there is no partition {name}-{index}")
    return [
        ProducerState(
            producer_id=one.producer_id,
            producer_epoch=one.producer_epoch,
            last_sequence=one.last_sequence,
            last_timestamp=one.last_timestamp_ms,
            coordinator_epoch=one.coordinator_epoch,
            current_txn_start_offset=one.current_transaction_first_offset,
        )
        for one in broker.engine.producers(PartitionId(topic.topic_id, index))
    ]
