"""DeleteRecords (api key 21). Moves the start of partitions up to an offset (-1: the high watermark), durably.

v2 flexible. Segments below it go in the background.
"""

from __future__ import annotations

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import Offset, PartitionId, TopicName
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.errors import error_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.delete_records import (
    DeleteRecordsPartitionResult,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)
from riverlog.state.access import Operation, Resource, ResourceKind


@handles(ApiKey.DELETE_RECORDS, versions=range(0, 3))
async def delete_records(call: Call, request: DeleteRecordsRequest) -> DeleteRecordsResponse:
    topics = []
    for topic in request.topics:
        partitions = [
            await _delete(call, TopicName(topic.name), partition.partition_index, Offset(partition.offset))
            for partition in topic.partitions
        ]
        topics.append(DeleteRecordsTopicResult(name=topic.name, partitions=partitions))
    return DeleteRecordsResponse(throttle_time_ms=0, topics=topics)


async def _delete(call: Call, name: TopicName, index: int, offset: Offset) -> DeleteRecordsPartitionResult:
    broker = call.broker
    try:
        if not broker.access.allows(call.caller, Operation.DELETE, Resource(ResourceKind.TOPIC, name)):
            raise RiverlogError(ErrorKind.UNAUTHORIZED, f"not allowed to delete from topic {name}")
        topic = broker.topics.by_name.get(name)
        if topic is None or not 0 <= index < topic.partition_count:
            raise RiverlogError(ErrorKind.UNKNOWN_TOPIC, f"there is no partition {name}-{index}")
        if not topic.config.cleanup_delete:
            raise RiverlogError(ErrorKind.POLICY_VIOLATION, f"topic {name} is compacted only: its records are not cut off")
        start = await broker.engine.delete_before(PartitionId(topic.topic_id, index), offset)
    except RiverlogError as error:
        code = error_code(error, ResourceKind.TOPIC)
        return DeleteRecordsPartitionResult(partition_index=index, low_watermark=-1, error_code=code)
    return DeleteRecordsPartitionResult(partition_index=index, low_watermark=start, error_code=0)
