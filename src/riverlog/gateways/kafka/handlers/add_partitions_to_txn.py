"""AddPartitionsToTxn (api key 24). Partitions that a transaction writes to; durable before the answer. All or none: where one
is refused, the others are OPERATION_NOT_ATTEMPTED.

v0-3 are clients', of one transaction (v2 PRODUCER_FENCED, v3 flexible). v4 is brokers': transactions in batches, and whether
partitions are in one (verify only). v5 TRANSACTION_ABORTABLE. Clients of transaction version 2 do not send it at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from riverlog.base.errors import RiverlogError
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.errors import unauthorized_code
from riverlog.gateways.kafka.group_codes import topic_code
from riverlog.gateways.kafka.schema.add_partitions_to_txn import (
    AddPartitionsToTxnPartitionResult,
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTopicResult,
)
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.transaction_codes import transaction_code
from riverlog.state.access import CLUSTER, Operation, ResourceKind
from riverlog.state.transactions.commands import Producer, Version

brokers_version_min: Final = 4


@handles(ApiKey.ADD_PARTITIONS_TO_TXN, versions=range(0, 6))
async def add_partitions_to_txn(call: Call, request: AddPartitionsToTxnRequest) -> AddPartitionsToTxnResponse:
    if call.version < brokers_version_min:
        producer = Producer(request.v3_and_below_producer_id, request.v3_and_below_producer_epoch)
        results = await _add(
            call, request.v3_and_below_transactional_id, producer, request.v3_and_below_topics, Version.PLAIN, False
        )
        return AddPartitionsToTxnResponse(results_by_topic_v3_and_below=results)
    if not call.broker.access.allows(call.caller, Operation.CLUSTER_ACTION, CLUSTER):
        return AddPartitionsToTxnResponse(error_code=unauthorized_code(ResourceKind.CLUSTER))
    each = await asyncio.gather(
        *(
            _add(
                call,
                one.transactional_id,
                Producer(one.producer_id, one.producer_epoch),
                one.topics,
                Version.EPOCH_BUMPED,
                one.verify_only,
            )
            for one in request.transactions
        )
    )
    return AddPartitionsToTxnResponse(
        results_by_transaction=[
            AddPartitionsToTxnResult(transactional_id=one.transactional_id, topic_results=results)
            for one, results in zip(request.transactions, each, strict=True)
        ]
    )


async def _add(
    call: Call,
    transactional_id: str,
    producer: Producer,
    topics: Sequence[AddPartitionsToTxnTopic],
    version: Version,
    verify_only: bool,
) -> Sequence[AddPartitionsToTxnTopicResult]:
    partitions = [(topic.name, index) for topic in topics for index in topic.partitions]
    try:
        errors = await call.broker.transactions.add_partitions(
            call.caller, transactional_id, producer, partitions, version, verify_only
        )
        codes = [topic_code(error) for error in errors]
    except RiverlogError as refusal:
        codes = [int(transaction_code(refusal, fenced_is_known=call.version >= 2))] * len(partitions)
    each = iter(codes)
    return [
        AddPartitionsToTxnTopicResult(
            name=topic.name,
            results_by_partition=[
                AddPartitionsToTxnPartitionResult(partition_index=index, partition_error_code=next(each))
                for index in topic.partitions
            ],
        )
        for topic in topics
    ]
