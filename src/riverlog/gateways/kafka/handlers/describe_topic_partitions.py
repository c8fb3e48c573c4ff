"""DescribeTopicPartitions (api key 75). Topics in order of names, page by page.

v0 is all there is. An empty list of topics means all. A page ends after a number of partitions, perhaps within a
topic; its cursor says where the next one begins. """

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import TopicName
from riverlog.broker.topics import Topic
from riverlog.gateways.kafka.authorized import authorized_operations
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.errors import error_code
from riverlog.gateways.kafka.handlers.metadata import OFFLINE, leader_epochs
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.describe_topic_partitions import (
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponseCursor,
    DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
)
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import Resource, ResourceKind
from riverlog.state.topics import check_topic_name, is_internal

partitions_per_page_max: Final = 2000


@handles(ApiKey.DESCRIBE_TOPIC_PARTITIONS, versions=range(0, 1))
def describe_topic_partitions(
    call: Call, request: DescribeTopicPartitionsRequest
) -> DescribeTopicPartitionsResponse:
    left = min(max(request.response_partition_limit, 1), partitions_per_page_max)
    answered: list[DescribeTopicPartitionsResponseTopic] = []
    for name, first, outcome in _asked(call, request):
        if left == 0:
            cursor = DescribeTopicPartitionsResponseCursor(topic_name=name, partition_index=first)
            return DescribeTopicPartitionsResponse(topics=answered, next_cursor=cursor)
        if isinstance(outcome, RiverlogError):
            answered.append(_failed(name, outcome))
            continue
        last = min(first + left, outcome.partition_count)
        answered.append(_topic(call, outcome, first, last))
        left -= max(last - first, 0)
        if last < outcome.partition_count:
            cursor = DescribeTopicPartitionsResponseCursor(topic_name=name, partition_index=last)
            return DescribeTopicPartitionsResponse(topics=answered, next_cursor=cursor)
    return DescribeTopicPartitionsResponse(topics=answered)


def _asked(
    call: Call, request: DescribeTopicPartitionsRequest
) -> Iterator[tuple[str, int, Topic | RiverlogError]]:
    """Name, first partition, and the topic, in order of names from the cursor on."""
    topics: dict[str, Topic | RiverlogError]
    if request.topics:
        topics = {one.name: _find(call, one.name) for one in request.topics}
    else:
        topics = {topic.name: topic for topic in call.broker.topics.visible(call.caller)}
    cursor = request.cursor
    for name in sorted(topics):
        if cursor is None or name > cursor.topic_name:
            yield name, 0, topics[name]
        elif name == cursor.topic_name:
            yield name, max(cursor.partition_index, 0), topics[name]


def _find(call: Call, name: str) -> Topic | RiverlogError:
    try:
        return call.broker.topics.describe(call.caller, TopicName(name))
    except RiverlogError as error:
        if error.kind is ErrorKind.UNKNOWN_TOPIC:
            try:
                check_topic_name(name)
            except RiverlogError as invalid:
                return invalid
        return error


def _failed(name: str, error: RiverlogError) -> DescribeTopicPartitionsResponseTopic:
    code = error_code(error, ResourceKind.TOPIC)
    return DescribeTopicPartitionsResponseTopic(error_code=code, name=name, is_internal=is_internal(name))


def _topic(call: Call, topic: Topic, first: int, last: int) -> DescribeTopicPartitionsResponseTopic:
    epochs = leader_epochs(call, topic)
    return DescribeTopicPartitionsResponseTopic(
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=is_internal(topic.name),
        partitions=_partitions(call.broker.node_id, epochs, first, last),
        topic_authorized_operations=authorized_operations(
            call.broker.access, call.caller, Resource(ResourceKind.TOPIC, topic.name)
        ),
    )


def _partitions(
    node_id: int, epochs: Sequence[int], first: int, last: int
) -> Sequence[DescribeTopicPartitionsResponsePartition]:
    here = (node_id,)
    partitions = []
    for index in range(first, last):
        online = epochs[index] != OFFLINE
        partitions.append(
            DescribeTopicPartitionsResponsePartition(
                error_code=ErrorCode.NONE if online else ErrorCode.LEADER_NOT_AVAILABLE,
                partition_index=index,
                leader_id=node_id if online else -1,
                leader_epoch=epochs[index] if online else -1,
                replica_nodes=here,
                isr_nodes=here if online else (),
                eligible_leader_replicas=(),
                last_known_elr=(),
                offline_replicas=() if online else here,
            )
        )
    return partitions
