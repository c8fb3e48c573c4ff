"""AddOffsetsToTxn (api key 25). The group whose offsets a transaction commits; durable before the answer.

v2 PRODUCER_FENCED, v3 flexible, v4 TRANSACTION_ABORTABLE. Clients of transaction version 2 do not send it.
"""

from __future__ import annotations

from riverlog.base.errors import RiverlogError
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.schema.add_offsets_to_txn import AddOffsetsToTxnRequest, AddOffsetsToTxnResponse
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.transaction_codes import transaction_code, transaction_version
from riverlog.state.transactions.commands import Producer


@handles(ApiKey.ADD_OFFSETS_TO_TXN, versions=range(0, 5))
async def add_offsets_to_txn(call: Call, request: AddOffsetsToTxnRequest) -> AddOffsetsToTxnResponse:
    producer = Producer(request.producer_id, request.producer_epoch)
    version = transaction_version(call.version)
    try:
        await call.broker.transactions.add_group(
            call.caller, request.transactional_id, producer, request.group_id, version
        )
    except RiverlogError as refusal:
        return AddOffsetsToTxnResponse(error_code=transaction_code(refusal, fenced_is_known=call.version >= 2))
    return AddOffsetsToTxnResponse(error_code=0)
