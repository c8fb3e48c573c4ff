"""DeleteGroups (api key 42). Groups without members go, with their offsets.

v1 throttle time on quota violations, v2 flexible.
"""

from __future__ import annotations

from riverlog.base.errors import RiverlogError
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.group_codes import group_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.delete_groups import (
    DeletableGroupResult,
    DeleteGroupsRequest,
    DeleteGroupsResponse,
)


@handles(ApiKey.DELETE_GROUPS, versions=range(0, 3))
async def delete_groups(call: Call, request: DeleteGroupsRequest) -> DeleteGroupsResponse:
    names = list(dict.fromkeys(request.groups_names))
    return DeleteGroupsResponse(results=[await _delete(call, group_id) for group_id in names])


async def _delete(call: Call, group_id: str) -> DeletableGroupResult:
    try:
        error = await call.broker.groups.delete_group(call.caller, group_id)
    except RiverlogError as refusal:
        error = refusal.kind
    return DeletableGroupResult(group_id=group_id, error_code=group_code(error))
