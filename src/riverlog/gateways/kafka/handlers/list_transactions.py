"""ListTransactions (api key 66). The transactional ids that the caller may see, by state, producer id, duration and name.

v1 those open for longer than a duration, v2 those whose whole id matches a regular expression of RE2.
"""

from __future__ import annotations

from typing import Final

from riverlog.base.errors import RiverlogError
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.errors import error_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.list_transactions import (
    ListTransactionsRequest,
    ListTransactionsResponse,
    TransactionState,
)
from riverlog.state.access import ResourceKind
from riverlog.state.transactions import commands

_STATES: Final = {state.value: state for state in commands.TransactionState}


@handles(ApiKey.LIST_TRANSACTIONS, versions=range(0, 3))
async def list_transactions(call: Call, request: ListTransactionsRequest) -> ListTransactionsResponse:
    unknown = [name for name in request.state_filters if name not in _STATES]
    states = [_STATES[name] for name in request.state_filters if name in _STATES]
    if request.state_filters and not states:
        return ListTransactionsResponse(unknown_state_filters=unknown)
    try:
        listed = await call.broker.transactions.list(
            call.caller, states, request.producer_id_filters, request.duration_filter, request.transactional_id_pattern
        )
    except RiverlogError as refusal:
        code = error_code(refusal, ResourceKind.TRANSACTIONAL_ID)
        return ListTransactionsResponse(error_code=code, unknown_state_filters=unknown)
    return ListTransactionsResponse(
        unknown_state_filters=unknown,
        transaction_states=[
            TransactionState(
                transactional_id=one.transactional_id, producer_id=one.producer_id, transaction_state=one.state.value
            )
            for one in listed
        ],
    )
