"""DescribeLogDirs (api key 35). How large each partition is; there is one directory.

v2 flexible; v3 an error for the whole; v4 the size of the file system and what we may still write there (-1: a broker in memory);
v5 cordoned directories (there are none). Null means all topics; partitions that do not exist, or are offline, are left out. No
replica lags behind another, so every lag is 0.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Final

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import PartitionId, TopicName
from riverlog.broker.topics import Topic
from riverlog.env.files import Volume
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

log = logging.getLogger(__name__)

DIRECTORY: Final = "topics"  # within the data directory, whose place is nobody's business but the server's


@handles(ApiKey.DESCRIBE_LOG_DIRS, versions=range(1, 6))
async def describe_log_dirs(call: Call, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse:
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
    volume = await _volume(call) if call.version >= 4 else None
    result = DescribeLogDirsResult(
        log_dir=DIRECTORY,
        topics=topics,
        total_bytes=volume.bytes if volume is not None else -1,
        usable_bytes=volume.usable_bytes if volume is not None else -1,
    )
    return DescribeLogDirsResponse(results=[result])


async def _volume(call: Call) -> Volume | None:
    try:
        return await call.broker.engine.volume()
    except OSError as error:
        log.warning("the room on the disk could not be read: %s", error)
        return None


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
