"""ListGroups (api key 16). The groups that the caller may see.

v1 throttle time, v3 flexible, v4 states and a filter by them, v5 types (`classic`, `consumer`) and a filter by them.
"""

from __future__ import annotations

from riverlog.base.errors import RiverlogError
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.group_codes import group_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.list_groups import ListedGroup, ListGroupsRequest, ListGroupsResponse


@handles(ApiKey.LIST_GROUPS, versions=range(0, 6))
async def list_groups(call: Call, request: ListGroupsRequest) -> ListGroupsResponse:
    try:
        listed = await call.broker.groups.list_groups(call.caller, request.states_filter, request.types_filter)
    except RiverlogError as refusal:
        return ListGroupsResponse(error_code=group_code(refusal.kind))
    return ListGroupsResponse(
        groups=[
            ListedGroup(
                group_id=group.group_id,
                protocol_type=group.protocol_type,
                group_state=group.state.value,
                group_type=group.group_type,
            )
            for group in listed
        ]
    )
