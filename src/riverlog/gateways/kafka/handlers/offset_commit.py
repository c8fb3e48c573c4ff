"""OffsetCommit (api key 8). Durable before it is answered; kept by topic id.

v2-4 a retention of its own, v3 throttle time, v6 leader epochs, v7 static members, v8 flexible, v9 member epochs of KIP-848
(STALE_MEMBER_EPOCH; an older version is UNSUPPORTED_VERSION to a member of such a group) and GROUP_ID_NOT_FOUND, v10 topics
by id.
"""

from __future__ import annotations

from collections.abc import Sequence

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import TopicId
from riverlog.broker.group_requests import MemberAsked, PartitionCommit, TopicCommit
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.group_codes import group_code, topic_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)


@handles(ApiKey.OFFSET_COMMIT, versions=range(2, 11))
async def offset_commit(call: Call, request: OffsetCommitRequest) -> OffsetCommitResponse:
    by_id = call.version >= 10
    topics = [
        TopicCommit(
            topic.name,
            TopicId(topic.topic_id) if by_id else None,
            [
                PartitionCommit(
                    partition.partition_index,
                    partition.committed_offset,
                    partition.committed_leader_epoch,
                    partition.committed_metadata or "",
                )
                for partition in topic.partitions
            ],
        )
        for topic in request.topics
    ]
    member = MemberAsked(request.generation_id_or_member_epoch, request.member_id, request.group_instance_id)
    try:
        errors = await call.broker.groups.commit_offsets(
            call.caller, request.group_id, member, topics, request.retention_time_ms, epochs_known=call.version >= 9
        )
    except RiverlogError as refusal:
        code = group_code(refusal.kind)
        return _response(request, [[code] * len(topic.partitions) for topic in topics])
    return _response(request, [[_code(call.version, error) for error in of_topic] for of_topic in errors])


def _code(version: int, error: ErrorKind | None) -> int:
    if error is ErrorKind.GROUP_ID_NOT_FOUND and version < 9:
        error = ErrorKind.ILLEGAL_GENERATION  # all that older clients know to do about it
    return topic_code(error)


def _response(request: OffsetCommitRequest, codes: Sequence[Sequence[int]]) -> OffsetCommitResponse:
    return OffsetCommitResponse(
        topics=[
            OffsetCommitResponseTopic(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=[
                    OffsetCommitResponsePartition(partition_index=partition.partition_index, error_code=code)
                    for partition, code in zip(topic.partitions, of_topic, strict=True)
                ],
            )
            for topic, of_topic in zip(request.topics, codes, strict=True)
        ]
    )
