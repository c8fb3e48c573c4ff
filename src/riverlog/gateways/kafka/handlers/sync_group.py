"""SyncGroup (api key 14). The leader brings the assignment, everybody waits for its part.

v1 throttle time, v3 static members, v4 flexible, v5 protocol type and name, which must be the group's.
"""

from __future__ import annotations

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.broker.group_requests import MemberAsked
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.group_codes import group_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.sync_group import SyncGroupRequest, SyncGroupResponse
from riverlog.state.groups.commands import SyncResult


@handles(ApiKey.SYNC_GROUP, versions=range(0, 6))
async def sync_group(call: Call, request: SyncGroupRequest) -> SyncGroupResponse:
    synced = await _sync(call, request)
    return SyncGroupResponse(
        error_code=group_code(synced.error),
        protocol_type=synced.protocol_type,
        protocol_name=synced.protocol,
        assignment=synced.assignment,
    )


async def _sync(call: Call, request: SyncGroupRequest) -> SyncResult:
    member = MemberAsked(request.generation_id, request.member_id, request.group_instance_id)
    assignments = {one.member_id: bytes(one.assignment) for one in request.assignments}
    if call.version >= 5 and (request.protocol_type is None or request.protocol_name is None):
        return SyncResult(ErrorKind.INCONSISTENT_GROUP_PROTOCOL)
    try:
        return await call.broker.groups.sync(
            call.caller, request.group_id, member, assignments, request.protocol_type, request.protocol_name
        )
    except RiverlogError as refusal:
        return SyncResult(refusal.kind)
