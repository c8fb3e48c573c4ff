"""EndTxn (api key 26). Commits or aborts the open transaction: answered when that is decided, durably, which is after
everything that the transaction wrote is durable. Its markers follow.

v2 PRODUCER_FENCED, v3 flexible, v4 TRANSACTION_ABORTABLE, v5 gives the epoch (and id) of the producer's next transaction.
"""

from __future__ import annotations

from riverlog.base.errors import RiverlogError
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.end_txn import EndTxnRequest, EndTxnResponse
from riverlog.gateways.kafka.transaction_codes import transaction_code, transaction_version
from riverlog.state.transactions.commands import Producer


@handles(ApiKey.END_TXN, versions=range(0, 6))
async def end_txn(call: Call, request: EndTxnRequest) -> EndTxnResponse:
    producer = Producer(request.producer_id, request.producer_epoch)
    version = transaction_version(call.version)
    try:
        following = await call.broker.transactions.end(
            call.caller, request.transactional_id, producer, request.committed, version
        )
    except RiverlogError as refusal:
        return EndTxnResponse(error_code=transaction_code(refusal, fenced_is_known=call.version >= 2))
    return EndTxnResponse(error_code=0, producer_id=following.producer_id, producer_epoch=following.epoch)
