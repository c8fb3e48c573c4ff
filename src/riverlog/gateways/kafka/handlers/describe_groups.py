"""DescribeGroups (api key 15). States and members of classic groups.

v1 throttle time, v3 authorized operations, v4 static members, v5 flexible; up to v5 a group that is not there, or is one of the
consumer protocol (ConsumerGroupDescribe shows those), is Dead without an error, from v6 on GROUP_ID_NOT_FOUND with a message.
"""

from __future__ import annotations

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.gateways.kafka.authorized import NOT_ASKED, authorized_operations
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.group_codes import group_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.describe_groups import (
    DescribedGroup,
    DescribedGroupMember,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
)
from riverlog.state.access import Resource, ResourceKind
from riverlog.state.groups.commands import GroupState


@handles(ApiKey.DESCRIBE_GROUPS, versions=range(0, 7))
async def describe_groups(call: Call, request: DescribeGroupsRequest) -> DescribeGroupsResponse:
    with_operations = call.version >= 3 and request.include_authorized_operations
    once = dict.fromkeys(request.groups)  # an answer may be much larger than a question
    return DescribeGroupsResponse(groups=[await _describe(call, one, with_operations) for one in once])


async def _describe(call: Call, group_id: str, with_operations: bool) -> DescribedGroup:
    try:
        description = await call.broker.groups.describe(call.caller, group_id)
        if description.state is GroupState.DEAD and call.version >= 6:
            raise RiverlogError(ErrorKind.GROUP_ID_NOT_FOUND, f"Group {group_id} not found.")
    except RiverlogError as refusal:
        is_missing = refusal.kind is ErrorKind.GROUP_ID_NOT_FOUND
        return DescribedGroup(
            group_id=group_id,
            error_code=group_code(refusal.kind),
            error_message=refusal.message,
            group_state=GroupState.DEAD.value if is_missing else "",
        )
    operations = NOT_ASKED
    if with_operations:
        operations = authorized_operations(call.broker.access, call.caller, Resource(ResourceKind.GROUP, group_id))
    return DescribedGroup(
        group_id=group_id,
        group_state=description.state.value,
        protocol_type=description.protocol_type,
        protocol_data=description.protocol,
        members=[
            DescribedGroupMember(
                member_id=member.member_id,
                group_instance_id=member.instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                member_metadata=member.metadata,
                member_assignment=member.assignment,
            )
            for member in description.members
        ],
        authorized_operations=operations,
    )
