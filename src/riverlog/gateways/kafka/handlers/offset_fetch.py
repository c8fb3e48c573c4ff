"""OffsetFetch (api key 9). How far a group has read; -1 and no error where nothing was committed, or no such group is.

v2 all topics for null and an error of the whole group, v3 throttle time, v5 leader epochs, v6 flexible, v7 require_stable (a
partition of which an open transaction has committed an offset is UNSTABLE_OFFSET_COMMIT: ask again), v8 several groups, v9
member ids and epochs (of KIP-848; not looked at for classic groups), v10 topics by id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import NO_TOPIC_ID, TopicId
from riverlog.broker.group_requests import FetchedOffset, MemberAsked, TopicAsked
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.group_codes import group_code, topic_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)


@handles(ApiKey.OFFSET_FETCH, versions=range(1, 11))
async def offset_fetch(call: Call, request: OffsetFetchRequest) -> OffsetFetchResponse:
    if call.version >= 8:
        once = {group.group_id: group for group in request.groups}
        groups = [await _group(call, group, request.require_stable) for group in once.values()]
        return OffsetFetchResponse(groups=groups)
    topics = request.topics
    asked = None if topics is None else _once_each((one.name, None, one.partition_indexes) for one in topics)
    try:
        fetched = await call.broker.groups.fetch_offsets(call.caller, request.group_id, asked, request.require_stable)
    except RiverlogError as refusal:
        return _refused(call.version, asked or (), group_code(refusal.kind))
    return OffsetFetchResponse(
        topics=[
            OffsetFetchResponseTopic(name=topic.name, partitions=[_partition(one) for one in topic.partitions])
            for topic in fetched
        ]
    )


def _once_each(asked: Iterable[tuple[str, TopicId | None, Sequence[int]]]) -> Sequence[TopicAsked]:
    """Each partition is answered once: metadata make an answer much larger than a question."""
    merged: dict[tuple[str, TopicId | None], dict[int, None]] = {}
    for name, topic_id, partitions in asked:
        merged.setdefault((name, topic_id), {}).update(dict.fromkeys(partitions))
    return [TopicAsked(name, topic_id, tuple(partitions)) for (name, topic_id), partitions in merged.items()]


def _refused(version: int, asked: Sequence[TopicAsked], code: int) -> OffsetFetchResponse:
    """Version 1 has no field for an error of the group: each partition gets it."""
    if version >= 2:
        return OffsetFetchResponse(error_code=code)
    topics = []
    for topic in asked:
        partitions = [
            OffsetFetchResponsePartition(partition_index=index, committed_offset=-1, metadata="", error_code=code)
            for index in topic.partitions
        ]
        topics.append(OffsetFetchResponseTopic(name=topic.name, partitions=partitions))
    return OffsetFetchResponse(topics=topics)


def _partition(fetched: FetchedOffset) -> OffsetFetchResponsePartition:
    committed = fetched.committed
    return OffsetFetchResponsePartition(
        partition_index=fetched.partition_index,
        committed_offset=-1 if committed is None else committed.offset,
        committed_leader_epoch=-1 if committed is None else committed.leader_epoch,
        metadata="" if committed is None else committed.metadata,
        error_code=topic_code(fetched.error),
    )


async def _group(call: Call, group: OffsetFetchRequestGroup, require_stable: bool) -> OffsetFetchResponseGroup:
    by_id = call.version >= 10
    asked = (
        None
        if group.topics is None
        else _once_each(
            (topic.name, TopicId(topic.topic_id) if by_id else None, topic.partition_indexes) for topic in group.topics
        )
    )
    member = MemberAsked(group.member_epoch, group.member_id or "") if call.version >= 9 else None
    try:
        fetched = await call.broker.groups.fetch_offsets(call.caller, group.group_id, asked, require_stable, member)
    except RiverlogError as refusal:
        return OffsetFetchResponseGroup(group_id=group.group_id, error_code=group_code(refusal.kind))
    return OffsetFetchResponseGroup(
        group_id=group.group_id,
        topics=[
            OffsetFetchResponseTopics(
                name=topic.name,
                topic_id=topic.topic_id or NO_TOPIC_ID,
                partitions=[_partition_of_group(one) for one in topic.partitions],
            )
            for topic in fetched
        ],
    )


def _partition_of_group(fetched: FetchedOffset) -> OffsetFetchResponsePartitions:
    committed = fetched.committed
    return OffsetFetchResponsePartitions(
        partition_index=fetched.partition_index,
        committed_offset=-1 if committed is None else committed.offset,
        committed_leader_epoch=-1 if committed is None else committed.leader_epoch,
        metadata="" if committed is None else committed.metadata,
        error_code=topic_code(fetched.error),
    )
