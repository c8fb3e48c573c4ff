"""Metadata (api key 3). Topics with their partitions, and the brokers: where to send what.

v0 an empty list means all topics; v1 null does; v4 says whether to create; v5 offline replicas; v7 leader epochs; v8
authorized operations; v9 flexible; v10 topic ids; v12 a topic by its id alone; v13 an error for the whole. A topic's
part of the answer is kept as bytes until the topic changes. No racks; one replica, whatever was asked for. """

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import NO_TOPIC_ID, PartitionId, TopicId, TopicName
from riverlog.broker.topics import Topic, Topics
from riverlog.gateways.kafka.authorized import NOT_ASKED, authorized_operations
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.errors import error_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from riverlog.gateways.kafka.wire import embed, encode_element
from riverlog.state.access import CLUSTER, Operation, Resource, ResourceKind
from riverlog.state.topics import check_topic_name, is_internal

OFFLINE: Final = -2  # in place of a leader epoch


class _Kept(NamedTuple):
    """One topic's part of an answer, and what it was made of."""

    topic_version: int
    leader_epochs: Sequence[int]
    parts: dict[int, bytes]  # by version of the api


_kept: WeakKeyDictionary[Topics, dict[TopicId, _Kept]] = WeakKeyDictionary()


@handles(ApiKey.METADATA, versions=range(0, 14))
def metadata(call: Call, request: MetadataRequest) -> MetadataResponse | Awaitable[MetadataResponse]:
    """Waits only where a topic has to be created."""
    topics = call.broker.topics
    if request.topics is None or (call.version == 0 and not request.topics):
        return _respond(call, request, [_topic(call, request, topic) for topic in topics.visible(call.caller)])
    asked = _once_each(request.topics)
    found = [_find(call, one) for one in asked]
    creates = call.version < 4 or request.allow_auto_topic_creation
    if creates and any(_is_missing(one, outcome) for one, outcome in zip(asked, found, strict=True)):
        return _create(call, request, asked, found)
    return _respond(call, request, _parts(call, request, asked, found))


def _once_each(asked: Sequence[MetadataRequestTopic]) -> Sequence[MetadataRequestTopic]:
    return list({_key(one): one for one in asked}.values())


def _key(asked: MetadataRequestTopic) -> TopicId | TopicName:
    """Whoever gives an id is answered by it, whatever name stands beside it."""
    if asked.name is None or asked.topic_id != NO_TOPIC_ID:
        return TopicId(asked.topic_id)
    return TopicName(asked.name)


def _find(call: Call, asked: MetadataRequestTopic) -> Topic | RiverlogError:
    try:
        return call.broker.topics.describe(call.caller, _key(asked))
    except RiverlogError as error:
        if error.kind is ErrorKind.UNKNOWN_TOPIC and asked.name is not None:
            try:
                check_topic_name(asked.name)
            except RiverlogError as invalid:
                return invalid
        return error


def _is_missing(asked: MetadataRequestTopic, outcome: Topic | RiverlogError) -> bool:
    return asked.name is not None and isinstance(outcome, RiverlogError) and outcome.kind is ErrorKind.UNKNOWN_TOPIC


async def _create(
    call: Call,
    request: MetadataRequest,
    asked: Sequence[MetadataRequestTopic],
    found: Sequence[Topic | RiverlogError],
) -> MetadataResponse:
    async def one(asked: MetadataRequestTopic, outcome: Topic | RiverlogError) -> Topic | RiverlogError:
        if asked.name is None or not _is_missing(asked, outcome):
            return outcome
        try:
            return await call.broker.topics.ensure(call.caller, asked.name)
        except RiverlogError as error:
            return error

    outcomes = await asyncio.gather(*(one(a, outcome) for a, outcome in zip(asked, found, strict=True)))
    return _respond(call, request, _parts(call, request, asked, outcomes))


def _parts(
    call: Call,
    request: MetadataRequest,
    asked: Sequence[MetadataRequestTopic],
    outcomes: Sequence[Topic | RiverlogError],
) -> list[MetadataResponseTopic]:
    return [
        _topic(call, request, outcome) if isinstance(outcome, Topic) else _failed(call, one, outcome)
        for one, outcome in zip(asked, outcomes, strict=True)
    ]


def _failed(call: Call, asked: MetadataRequestTopic, error: RiverlogError) -> MetadataResponseTopic:
    """Whoever named an id is told nothing of its name."""
    by_id = asked.name is None or asked.topic_id != NO_TOPIC_ID
    return MetadataResponseTopic(
        error_code=error_code(error, ResourceKind.TOPIC),
        name=(None if call.version >= 12 else "") if by_id else asked.name,
        topic_id=asked.topic_id if by_id else NO_TOPIC_ID,
        is_internal=not by_id and is_internal(asked.name or ""),
    )


def leader_epochs(call: Call, topic: Topic) -> Sequence[int]:
    """Of each partition; OFFLINE where it cannot be served."""
    watermarks = call.broker.engine.watermarks
    epochs = []
    for index in range(topic.partition_count):
        try:
            epochs.append(watermarks(PartitionId(topic.topic_id, index)).leader_epoch)
        except RiverlogError:
            epochs.append(OFFLINE)
    return epochs


def _topic(call: Call, request: MetadataRequest, topic: Topic) -> MetadataResponseTopic:
    epochs = leader_epochs(call, topic)
    if request.include_topic_authorized_operations:
        bits = authorized_operations(call.broker.access, call.caller, Resource(ResourceKind.TOPIC, topic.name))
        return _plain(call, topic, epochs, bits)
    kept_of = _kept.setdefault(call.broker.topics, {})
    kept = kept_of.get(topic.topic_id)
    if kept is None or kept.topic_version != topic.version or kept.leader_epochs != epochs:
        if kept is None and len(kept_of) > 2 * len(call.broker.topics.by_id):
            kept_of.clear()  # most are of topics that are gone
        kept = kept_of[topic.topic_id] = _Kept(topic.version, epochs, {})
    part = kept.parts.get(call.version)
    if part is None:
        part = encode_element(ApiKey.METADATA, call.version, _plain(call, topic, epochs, NOT_ASKED))
        kept.parts[call.version] = part
    return embed(MetadataResponseTopic, part)


def _plain(call: Call, topic: Topic, epochs: Sequence[int], operations: int) -> MetadataResponseTopic:
    node_id = call.broker.node_id
    here, nowhere = (node_id,), ()
    partitions = [
        MetadataResponsePartition(
            partition_index=index, leader_id=node_id, leader_epoch=epoch, replica_nodes=here, isr_nodes=here
        )
        if epoch != OFFLINE
        else MetadataResponsePartition(
            error_code=ErrorCode.LEADER_NOT_AVAILABLE,
            partition_index=index,
            leader_id=-1,
            replica_nodes=here,
            isr_nodes=nowhere,
            offline_replicas=here,
        )
        for index, epoch in enumerate(epochs)
    ]
    return MetadataResponseTopic(
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=is_internal(topic.name),
        partitions=partitions,
        topic_authorized_operations=operations,
    )


def _respond(call: Call, request: MetadataRequest, topics: Sequence[MetadataResponseTopic]) -> MetadataResponse:
    broker = call.broker
    operations = NOT_ASKED
    if request.include_cluster_authorized_operations:
        operations = cluster_operations(call)
    here = MetadataResponseBroker(node_id=broker.node_id, host=call.address.host, port=call.address.port)
    return MetadataResponse(
        brokers=[here],
        cluster_id=broker.cluster_id,
        controller_id=broker.node_id,
        topics=topics,
        cluster_authorized_operations=operations,
    )


def cluster_operations(call: Call) -> int:
    """None of them is told to whoever may not see the cluster."""
    if not call.broker.access.allows(call.caller, Operation.DESCRIBE, CLUSTER):
        return 0
    return authorized_operations(call.broker.access, call.caller, CLUSTER)
