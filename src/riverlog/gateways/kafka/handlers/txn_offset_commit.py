"""TxnOffsetCommit (api key 28). Offsets that become the group's when the transaction is committed; durable before the answer.

v2 leader epochs, v3 flexible and members (KIP-447), v4 TRANSACTION_ABORTABLE, v5 adds the group to the transaction by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.broker.group_requests import MemberAsked, PartitionCommit, TopicCommit
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.group_codes import group_code, topic_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
)
from riverlog.gateways.kafka.transaction_codes import transaction_code, transaction_version
from riverlog.state.transactions.commands import Producer, Version

_KNOWN_FOR: Final = {
    ErrorKind.PRODUCER_FENCED: ErrorKind.INVALID_PRODUCER_EPOCH,
    ErrorKind.STALE_MEMBER_EPOCH: ErrorKind.ILLEGAL_GENERATION,
}


@handles(ApiKey.TXN_OFFSET_COMMIT, versions=range(0, 6))
async def txn_offset_commit(call: Call, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse:
    topics = [
        TopicCommit(
            topic.name,
            None,
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
    member = MemberAsked(request.generation_id, request.member_id, request.group_instance_id)
    version = transaction_version(call.version)
    try:
        errors = await call.broker.transactions.commit_offsets(
            call.caller,
            request.transactional_id,
            Producer(request.producer_id, request.producer_epoch),
            version,
            request.group_id,
            member,
            topics,
        )
    except RiverlogError as refusal:
        code = _refusal_code(refusal, version)
        return _response(request, [[code] * len(topic.partitions) for topic in topics])
    return _response(
        request,
        [[topic_code(_KNOWN_FOR.get(error, error) if error else None) for error in of_topic] for of_topic in errors],
    )


def _refusal_code(refusal: RiverlogError, version: Version) -> int:
    """In what clients of that version know to act on, as Kafka says it."""
    kind = _KNOWN_FOR.get(refusal.kind, refusal.kind)
    if kind is ErrorKind.UNAUTHORIZED:
        return int(transaction_code(refusal))
    if kind is ErrorKind.CONCURRENT_TRANSACTIONS and version < Version.EPOCH_BUMPED:
        kind = ErrorKind.COORDINATOR_NOT_AVAILABLE
    elif kind is ErrorKind.TRANSACTION_ABORTABLE and version < Version.FLEXIBLE:
        kind = ErrorKind.INVALID_TXN_STATE
    return group_code(kind)


def _response(request: TxnOffsetCommitRequest, codes: Sequence[Sequence[int]]) -> TxnOffsetCommitResponse:
    return TxnOffsetCommitResponse(
        topics=[
            TxnOffsetCommitResponseTopic(
                name=topic.name,
                partitions=[
                    TxnOffsetCommitResponsePartition(partition_index=partition.partition_index, error_code=code)
                    for partition, code in zip(topic.partitions, of_topic, strict=True)
                ],
            )
            for topic, of_topic in zip(request.topics, codes, strict=True)
        ]
    )
