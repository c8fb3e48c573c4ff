"""OffsetDelete (api key 47). Forgets committed offsets of topics that the group does not subscribe to. One version, v0."""

from __future__ import annotations

from riverlog.base.errors import RiverlogError
from riverlog.broker.group_requests import TopicAsked
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.group_codes import group_code, topic_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)


@handles(ApiKey.OFFSET_DELETE, versions=range(0, 1))
async def offset_delete(call: Call, request: OffsetDeleteRequest) -> OffsetDeleteResponse:
    asked = [TopicAsked(one.name, None, [each.partition_index for each in one.partitions]) for one in request.topics]
    try:
        errors = await call.broker.groups.delete_offsets(call.caller, request.group_id, asked)
    except RiverlogError as refusal:
        return OffsetDeleteResponse(error_code=group_code(refusal.kind))
    return OffsetDeleteResponse(
        topics=[
            OffsetDeleteResponseTopic(
                name=topic.name,
                partitions=[
                    OffsetDeleteResponsePartition(partition_index=index, error_code=topic_code(error))
                    for index, error in zip(topic.partitions, of_topic, strict=True)
                ],
            )
            for topic, of_topic in zip(asked, errors, strict=True)
        ]
    )
