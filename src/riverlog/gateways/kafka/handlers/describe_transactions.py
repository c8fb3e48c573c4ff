"""DescribeTransactions (api key 65). State, producer and partitions of transactional ids; only topics that the caller may see.
One version, v0."""

from __future__ import annotations

from riverlog.base.errors import RiverlogError
from riverlog.broker.transaction_requests import Described
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.errors import error_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.describe_transactions import (
    DescribeTransactionsRequest,
    DescribeTransactionsResponse,
    TopicData,
    TransactionState,
)
from riverlog.state.access import ResourceKind


@handles(ApiKey.DESCRIBE_TRANSACTIONS, versions=range(0, 1))
async def describe_transactions(call: Call, request: DescribeTransactionsRequest) -> DescribeTransactionsResponse:
    described = await call.broker.transactions.describe(call.caller, request.transactional_ids)
    return DescribeTransactionsResponse(transaction_states=[_state(one) for one in described])


def _state(one: Described) -> TransactionState:
    if one.error is not None:
        code = error_code(RiverlogError(one.error, ""), ResourceKind.TRANSACTIONAL_ID)
        return TransactionState(transactional_id=one.transactional_id, error_code=code)
    return TransactionState(
        transactional_id=one.transactional_id,
        transaction_state=one.state.value,
        transaction_timeout_ms=one.timeout_ms,
        transaction_start_time_ms=one.start_ms,
        producer_id=one.producer.producer_id,
        producer_epoch=one.producer.epoch,
        topics=[TopicData(topic=name, partitions=sorted(indexes)) for name, indexes in sorted(one.topics.items())],
    )
