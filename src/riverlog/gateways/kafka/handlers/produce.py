"""Produce (api key 0). One batch a partition; the whole request is one append, answered at the level of its acks.

v3 record batches of magic 2 and transactions; v8 names the failing record; v9 flexible; v10 current leader; v11
TRANSACTION_ABORTABLE; v12 adds the partitions to the transaction by itself; v13 topic ids.
Left out: v0-2 (announced, because clients expect it, and refused).
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import TopicId, TopicName
from riverlog.broker.produce import Outcome, Outcomes, Write
from riverlog.broker.topics import Topic
from riverlog.broker.transaction_requests import NotAllowedTransactional
from riverlog.gateways.kafka.dispatch import Call, Hangup, handles
from riverlog.gateways.kafka.errors import error_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.produce import (
    BatchIndexAndErrorMessage,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from riverlog.records.batch import RecordError
from riverlog.state.access import Operation, Resource, ResourceKind
from riverlog.state.topics import check_topic_name
from riverlog.state.transactions.commands import Version
from riverlog.storage.contract import Acks, Appended, Refused


@handles(ApiKey.PRODUCE, versions=range(3, 14))
def produce(call: Call, request: ProduceRequest) -> ProduceResponse | Awaitable[ProduceResponse | None] | None:
    try:
        acks = Acks(request.acks)
    except ValueError:
        error = RiverlogError(ErrorKind.INVALID_REQUIRED_ACKS, f"acks={request.acks}: give 0, 1 or -1 (all)")
        return _respond(call, request, [error] * len(request.topic_data), ())
    topics = [_topic(call, data) for data in request.topic_data]
    writes = [
        Write(topic, partition.index, partition.records)
        for topic, data in zip(topics, request.topic_data, strict=True)
        if isinstance(topic, Topic)
        for partition in data.partition_data
    ]
    producing = call.broker.producing
    if request.transactional_id is None:
        outcomes = producing.produce(call.caller, writes, acks, call.lane)
    else:
        version = _transaction_version(call.version)
        outcomes = producing.produce(call.caller, writes, acks, call.lane, request.transactional_id, version)
    if isinstance(outcomes, Sequence):
        return _answer(call, request, topics, outcomes, acks)
    return _answer_later(call, request, topics, outcomes, acks)


def _transaction_version(version: int) -> Version:
    if version >= 12:
        return Version.EPOCH_BUMPED
    return Version.FLEXIBLE if version >= 11 else Version.PLAIN


async def _answer_later(
    call: Call,
    request: ProduceRequest,
    topics: Sequence[Topic | RiverlogError],
    outcomes: Awaitable[Outcomes],
    acks: Acks,
) -> ProduceResponse | None:
    return _answer(call, request, topics, await outcomes, acks)


def _topic(call: Call, data: TopicProduceData) -> Topic | RiverlogError:
    if call.version >= 13:
        topic = call.broker.topics.by_id.get(TopicId(data.topic_id))
        return topic or RiverlogError(ErrorKind.UNKNOWN_TOPIC_ID, "no topic has that id; refresh the metadata")
    topic = call.broker.topics.by_name.get(TopicName(data.name))
    if topic is not None:
        return topic  # whether it may be written to is asked there, before anything is said of it
    if not call.broker.access.allows(call.caller, Operation.WRITE, Resource(ResourceKind.TOPIC, data.name)):
        return RiverlogError(ErrorKind.UNAUTHORIZED, f"not allowed to write to topic {data.name}")
    try:
        check_topic_name(data.name)
    except RiverlogError as error:
        return error
    return RiverlogError(ErrorKind.UNKNOWN_TOPIC, f"there is no topic {data.name}; create it, or ask for its metadata first")


def _answer(
    call: Call, request: ProduceRequest, topics: Sequence[Topic | RiverlogError], outcomes: Outcomes, acks: Acks
) -> ProduceResponse | None:
    if acks is Acks.NONE:
        errors = [topic for topic in topics if isinstance(topic, RiverlogError)]
        errors += [outcome.error for outcome in outcomes if isinstance(outcome, Refused)]
        if errors:
            raise Hangup(f"a produce with acks=0 failed: {errors[0].message}")
        return None
    return _respond(call, request, topics, outcomes)


def _respond(
    call: Call, request: ProduceRequest, topics: Sequence[Topic | RiverlogError], outcomes: Outcomes
) -> ProduceResponse:
    each = iter(outcomes)
    responses = []
    for data, topic in zip(request.topic_data, topics, strict=True):
        partitions = []
        for partition in data.partition_data:
            if isinstance(topic, Topic):
                stamped = topic.config.log_append_time
                partitions.append(_partition(call, partition.index, next(each), stamped))
            else:
                partitions.append(_partition(call, partition.index, Refused(topic), False))
        responses.append(TopicProduceResponse(name=data.name, topic_id=data.topic_id, partition_responses=partitions))
    return ProduceResponse(responses=responses)


def _partition(call: Call, index: int, outcome: Outcome, log_append_time: bool) -> PartitionProduceResponse:
    if type(outcome) is Appended:
        return PartitionProduceResponse(
            index=index,
            error_code=0,
            base_offset=outcome.base_offset,
            log_append_time_ms=call.broker.clock.now_ms() if log_append_time else -1,
            log_start_offset=outcome.log_start_offset,
        )
    assert isinstance(outcome, Refused)
    error = outcome.error
    about_id = isinstance(error, NotAllowedTransactional)
    code = error_code(error, ResourceKind.TRANSACTIONAL_ID if about_id else ResourceKind.TOPIC)
    call.broker.telemetry.request(ApiKey.PRODUCE).errors[code.name] += 1
    failing: Sequence[BatchIndexAndErrorMessage] = ()
    if isinstance(error, RecordError):
        failing = [BatchIndexAndErrorMessage(batch_index=error.record_index, batch_index_error_message=error.message)]
    return PartitionProduceResponse(
        index=index,
        error_code=code,
        base_offset=-1,
        log_start_offset=outcome.log_start_offset,
        record_errors=failing,
        error_message=error.message,
    )
