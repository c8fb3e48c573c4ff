"""Fetch (api key 1). Waits for min_bytes or max_wait; one budget of bytes for the whole answer, the first batch always whole.

v4 isolation levels, v7 incremental sessions, v9 leader epochs, v11 rack (no rack-aware replicas: there is one), v12 flexible and
diverging epochs, v13 topic ids, v15-18 fields of replicas, which are skipped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from itertools import groupby
from typing import NamedTuple

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import NO_TOPIC_ID, Offset, PartitionId, TopicId, TopicName
from riverlog.broker.fetch import Answer, FetchRead, refused
from riverlog.broker.topics import Topic
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.errors import error_code
from riverlog.gateways.kafka.fetch_sessions import FINAL_EPOCH, INITIAL_EPOCH, FetchSession, Told, Wanted
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.fetch import (
    AbortedTransaction,
    EpochEndOffset,
    FetchableTopicResponse,
    FetchRequest,
    FetchResponse,
    LeaderIdAndEpoch,
    PartitionData,
)
from riverlog.state.access import Operation, Resource, ResourceKind
from riverlog.storage.contract import EpochEnd, FetchedPartition, Isolation

first_version_of_ids = 13


class Plan(NamedTuple):
    """What a request asks for: `wanted` in order, and for each either a place among `reads` or why not."""

    wanted: Sequence[Wanted]
    reads: Sequence[FetchRead]
    refusals: dict[int, FetchedPartition]
    session: FetchSession | None
    incremental: bool


@handles(ApiKey.FETCH, versions=range(4, 19))
def fetch(call: Call, request: FetchRequest) -> FetchResponse | Awaitable[FetchResponse]:
    try:
        plan = _plan(call, request)
        isolation = Isolation(request.isolation_level)
    except RiverlogError as error:
        return FetchResponse(throttle_time_ms=0, error_code=error_code(error, ResourceKind.TOPIC), responses=())
    except ValueError:
        return FetchResponse(throttle_time_ms=0, error_code=42, responses=())  # INVALID_REQUEST: no such isolation
    answer = call.broker.fetching.fetch(
        call.caller,
        plan.reads,
        bytes_min=request.min_bytes,
        bytes_max=min(request.max_bytes, call.broker.settings.fetch_bytes_max),
        wait_ms=0 if plan.refusals else request.max_wait_ms,
        isolation=isolation,
    )
    if isinstance(answer, Answer):
        return _respond(call, plan, answer)
    return _respond_later(call, plan, answer)


async def _respond_later(call: Call, plan: Plan, answer: Awaitable[Answer]) -> FetchResponse:
    future = asyncio.ensure_future(answer)  # noqa: TID251 - it is a future already, and awaited in the next line
    try:
        return _respond(call, plan, await future)
    except asyncio.CancelledError:  # the connection has gone, perhaps after the answer was there
        if future.done() and not future.cancelled() and future.exception() is None:
            future.result().close()
        raise


def _plan(call: Call, request: FetchRequest) -> Plan:
    by_id = call.version >= first_version_of_ids
    asked = [
        Wanted(
            topic.topic_id if by_id else topic.topic,
            partition.partition,
            partition.current_leader_epoch,
            partition.fetch_offset,
            partition.last_fetched_epoch,
            partition.partition_max_bytes,
        )
        for topic in request.topics
        for partition in topic.partitions
    ]
    session = None
    incremental = False
    if request.session_epoch == FINAL_EPOCH or call.version < 7:
        call.sessions.close(request.session_id)
    elif request.session_epoch == INITIAL_EPOCH:
        call.sessions.close(request.session_id)
        if asked:
            session = call.sessions.open(asked)
    else:
        session = call.sessions.resume(request.session_id, request.session_epoch)
        forgotten = [
            (topic.topic_id if by_id else topic.topic, index)
            for topic in request.forgotten_topics_data
            for index in topic.partitions
        ]
        call.sessions.update(session, asked, forgotten)
        asked = list(session.wanted.values())
        incremental = True
    reads, refusals = _resolve(call, asked)
    return Plan(asked, reads, refusals, session, incremental)


def _resolve(call: Call, asked: Sequence[Wanted]) -> tuple[list[FetchRead], dict[int, FetchedPartition]]:
    topics = call.broker.topics
    reads: list[FetchRead] = []
    refusals: dict[int, FetchedPartition] = {}
    for place, wanted in enumerate(asked):
        key = wanted.topic
        topic = topics.by_id.get(TopicId(key)) if isinstance(key, bytes) else topics.by_name.get(TopicName(key))
        if topic is not None and 0 <= wanted.partition < topic.partition_count:
            reads.append(
                FetchRead(
                    topic.name,
                    PartitionId(topic.topic_id, wanted.partition),
                    Offset(wanted.offset),
                    wanted.bytes_max,
                    wanted.leader_epoch,
                    wanted.last_fetched_epoch,
                )
            )
        else:
            refusals[place] = refused(_why_not(call, wanted, topic))
    return reads, refusals


def _why_not(call: Call, wanted: Wanted, topic: Topic | None) -> RiverlogError:
    """Of a partition that is not there. Who may not read the topic is not told that; else `Fetching` asks."""
    name = topic.name if topic is not None else wanted.topic
    if isinstance(name, bytes):
        return RiverlogError(ErrorKind.UNKNOWN_TOPIC_ID, "there is no topic of that id; refresh the metadata")
    if not call.broker.access.allows(call.caller, Operation.READ, Resource(ResourceKind.TOPIC, name)):
        return RiverlogError(ErrorKind.UNAUTHORIZED, f"not allowed to read topic {name}")
    return RiverlogError(ErrorKind.UNKNOWN_TOPIC, f"there is no partition {name}-{wanted.partition}; refresh the metadata")


def _respond(call: Call, plan: Plan, answer: Answer) -> FetchResponse:
    fetched = iter(enumerate(answer.partitions))
    said: list[tuple[Wanted, PartitionData]] = []
    session = plan.session
    for place, wanted in enumerate(plan.wanted):
        end: EpochEnd | None = None
        if (partition := plan.refusals.get(place)) is None:
            number, partition = next(fetched)
            end = answer.diverging.get(number)
        if session is not None:
            told = Told(partition.high_watermark, partition.log_start_offset)
            failed = partition.error is not None or end is not None
            changed = session.changed((wanted.topic, wanted.partition), told, partition.slices.size, failed)
            if plan.incremental and not changed:
                partition.slices.close()
                continue
        said.append((wanted, _partition(call, wanted, partition, end)))
    responses = [
        FetchableTopicResponse(
            topic=topic if isinstance(topic, str) else "",
            topic_id=topic if isinstance(topic, bytes) else NO_TOPIC_ID,
            partitions=[data for _, data in each],
        )
        for topic, each in groupby(said, key=lambda pair: pair[0].topic)
    ]
    return FetchResponse(
        throttle_time_ms=0, error_code=0, session_id=session.id if session is not None else 0, responses=responses
    )


def _partition(call: Call, wanted: Wanted, partition: FetchedPartition, end: EpochEnd | None) -> PartitionData:
    code = 0
    leader = LeaderIdAndEpoch()
    if partition.error is not None:
        refusal = error_code(partition.error, ResourceKind.TOPIC)
        call.broker.telemetry.request(ApiKey.FETCH).errors[refusal.name] += 1
        code = int(refusal)
    aborted = None
    if partition.aborted is not None:
        aborted = [
            AbortedTransaction(producer_id=one.producer_id, first_offset=one.first_offset) for one in partition.aborted
        ]
    return PartitionData(
        partition_index=wanted.partition,
        error_code=code,
        high_watermark=partition.high_watermark,
        last_stable_offset=partition.last_stable_offset,
        log_start_offset=partition.log_start_offset,
        diverging_epoch=EpochEndOffset(epoch=end.leader_epoch, end_offset=end.end_offset) if end else EpochEndOffset(),
        current_leader=leader,
        aborted_transactions=aborted,
        records=partition.slices if partition.slices.size else b"",
    )
