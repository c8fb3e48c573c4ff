"""InitProducerId (api key 22). A producer id for idempotent producers; with a transactional id its next epoch, after which
every producer before it is fenced and its open transaction aborted.

v2 flexible, v3 takes the client's own id and epoch (KIP-360), v4 PRODUCER_FENCED, v5 TRANSACTION_ABORTABLE. Left out: v6 is not
stable (two-phase commit).
"""

from __future__ import annotations

from typing import Final

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.errors import error_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from riverlog.gateways.kafka.transaction_codes import transaction_code
from riverlog.state.access import CLUSTER, Operation, ResourceKind
from riverlog.state.transactions.commands import Producer

epoch_max: Final = 2**15 - 1


@handles(ApiKey.INIT_PRODUCER_ID, versions=range(0, 6))
async def init_producer_id(call: Call, request: InitProducerIdRequest) -> InitProducerIdResponse:
    if request.transactional_id is not None:
        return await _of_transactional_id(call, request, request.transactional_id)
    try:
        if not call.broker.access.allows(call.caller, Operation.IDEMPOTENT_WRITE, CLUSTER):
            raise RiverlogError(ErrorKind.UNAUTHORIZED, "not allowed to write idempotently")
        expected = _expected(request)
        if 0 <= expected.epoch < epoch_max - 1:
            return _response(0, expected.producer_id, expected.epoch + 1)
        return _response(0, await call.broker.producer_ids.take(), 0)
    except RiverlogError as error:
        return _response(error_code(error, ResourceKind.CLUSTER), -1, -1)


async def _of_transactional_id(
    call: Call, request: InitProducerIdRequest, transactional_id: str
) -> InitProducerIdResponse:
    try:
        producer_id, epoch = await call.broker.transactions.init(
            call.caller, transactional_id, request.transaction_timeout_ms, _expected(request)
        )
        return _response(0, producer_id, epoch)
    except RiverlogError as error:
        return _response(transaction_code(error, fenced_is_known=call.version >= 4), -1, -1)


def _expected(request: InitProducerIdRequest) -> Producer:
    """Who the client is. Both numbers or none."""
    if (request.producer_id < 0) != (request.producer_epoch < 0):
        raise RiverlogError(ErrorKind.INVALID_REQUEST, "a producer has both an id and an epoch: send both, or -1 and -1")
    return Producer(request.producer_id, request.producer_epoch)


def _response(code: int, producer_id: int, epoch: int) -> InitProducerIdResponse:
    return InitProducerIdResponse(throttle_time_ms=0, error_code=code, producer_id=producer_id, producer_epoch=epoch)
