"""InitProducerId (api key 22). A producer id for idempotent producers; epoch 0, or one more than the client's.

v2 flexible, v3 takes the client's own id and epoch (KIP-360), v5 announces nothing new without transactions. Left out:
transactional ids, which get INVALID_REQUEST until the issue on transactions; v6 is not stable.
"""

from __future__ import annotations

from typing import Final

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.errors import error_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from riverlog.state.access import CLUSTER, Operation, ResourceKind

epoch_max: Final = 2**15 - 1


@handles(ApiKey.INIT_PRODUCER_ID, versions=range(0, 6))
async def init_producer_id(call: Call, request: InitProducerIdRequest) -> InitProducerIdResponse:
    try:
        if not call.broker.access.allows(call.caller, Operation.IDEMPOTENT_WRITE, CLUSTER):
            raise RiverlogError(ErrorKind.UNAUTHORIZED, "not allowed to write idempotently")
        if request.transactional_id is not None:
            raise RiverlogError(
                ErrorKind.INVALID_REQUEST, "transactions are not served yet: produce without a transactional.id"
            )
        if request.producer_id >= 0 and 0 <= request.producer_epoch < epoch_max - 1:
            return _response(0, request.producer_id, request.producer_epoch + 1)
        return _response(0, await call.broker.producer_ids.take(), 0)
    except RiverlogError as error:
        return _response(error_code(error, ResourceKind.CLUSTER), -1, -1)


def _response(code: int, producer_id: int, epoch: int) -> InitProducerIdResponse:
    return InitProducerIdResponse(throttle_time_ms=0, error_code=code, producer_id=producer_id, producer_epoch=epoch)
