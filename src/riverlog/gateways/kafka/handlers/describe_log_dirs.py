"""DescribeLogDirs (api key 35). How large each partition is; there is one directory.

v2 flexible; v3 an error for the whole; v4 room on the disk (-1: not told); v5 cordoned directories (there are none).
Null means all topics; partitions that do not exist are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import PartitionId, TopicName
from riverlog.broker.topics import Topic
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.describe_log_dirs import (
    DescribeLogDirsPartition,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopic,
)
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import CLUSTER, Operation

DIRECTORY: Final = "topics"  # within the data directory, whose place is nobody's business but the server's


@handles(ApiKey.DESCRIBE_LOG_DIRS, versions=range(1, 6))
def describe_log_dirs(call: Call, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse:
    broker = call.broker
    if not broker.access.allows(call.caller, Operation.DESCRIBE, CLUSTER):
        return DescribeLogDirsResponse(error_code=ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
    if request.topics is None:
        everything = broker.topics.by_name.values()
        topics = [_topic(call, topic, range(topic.partition_count)) for topic in everything]
    else:
        topics = [
            _topic(call, topic, one.partitions)
            for one in request.topics
            if (topic := broker.topics.by_name.get(TopicName(one.topic))) is not None
        ]
    return DescribeLogDirsResponse(results=[DescribeLogDirsResult(log_dir=DIRECTORY, topics=topics)])


def _topic(call: Call, topic: Topic, indexes: Iterable[int]) -> DescribeLogDirsTopic:
    return DescribeLogDirsTopic(name=topic.name, partitions=_partitions(call, topic, indexes))


def _partitions(call: Call, topic: Topic, indexes: Iterable[int]) -> Sequence[DescribeLogDirsPartition]:
    partitions = []
    for index in indexes:
        if not 0 <= index < topic.partition_count:
            continue
        try:
            size = call.broker.engine.size(PartitionId(topic.topic_id, index)).bytes
        except RiverlogError:
            continue  # offline, or going
        partitions.append(DescribeLogDirsPartition(partition_index=index, partition_size=size))
    return partitions
