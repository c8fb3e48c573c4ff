"""FindCoordinator (api key 10). Every group and every transactional id is coordinated by this broker.

v1 key types and messages, v3 flexible, v4 several keys, v5 an error of transactions, v6 share groups' keys, which are refused
until there are share groups.
"""

from __future__ import annotations

from typing import Final

from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.errors import unauthorized_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.find_coordinator import (
    Coordinator,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)
from riverlog.state.access import ResourceKind

_KINDS: Final = {0: ResourceKind.GROUP, 1: ResourceKind.TRANSACTIONAL_ID}


@handles(ApiKey.FIND_COORDINATOR, versions=range(0, 7))
async def find_coordinator(call: Call, request: FindCoordinatorRequest) -> FindCoordinatorResponse:
    keys = request.coordinator_keys if call.version >= 4 else [request.key]
    found = [_find(call, request.key_type, key) for key in keys]
    if call.version >= 4:
        return FindCoordinatorResponse(coordinators=found)
    one = found[0]
    return FindCoordinatorResponse(
        error_code=one.error_code, error_message=one.error_message, node_id=one.node_id, host=one.host, port=one.port
    )


def _find(call: Call, key_type: int, key: str) -> Coordinator:
    kind = _KINDS.get(key_type)
    if kind is None:
        message = f"key type {key_type} is not coordinated here: ask for a group (0) or a transactional id (1)"
        return Coordinator(
            key=key, node_id=-1, port=-1, error_code=ErrorCode.INVALID_REQUEST, error_message=message
        )
    if call.broker.groups.find(call.caller, kind, key) is not None:
        message = f"{call.caller.principal} may not describe this {kind.name.lower().replace('_', ' ')}"
        return Coordinator(key=key, node_id=-1, port=-1, error_code=unauthorized_code(kind), error_message=message)
    return Coordinator(key=key, node_id=call.broker.node_id, host=call.address.host, port=call.address.port)
