"""LeaveGroup (api key 13). Members go at once instead of when their sessions run out.

v1 throttle time, v3 several members, static ones by their instance id, with an error each; v4 flexible, v5 reasons.
"""

from __future__ import annotations

import logging

from riverlog.base.errors import RiverlogError
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.group_codes import group_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberResponse
from riverlog.state.groups.commands import Leaver

log = logging.getLogger(__name__)


@handles(ApiKey.LEAVE_GROUP, versions=range(0, 6))
async def leave_group(call: Call, request: LeaveGroupRequest) -> LeaveGroupResponse:
    if call.version < 3:
        leavers = [Leaver(request.member_id)]
    else:
        leavers = [Leaver(one.member_id, one.group_instance_id, one.reason or "") for one in request.members]
    for leaver in leavers:
        log.debug("group %r: %r leaves: %s", request.group_id, leaver.member_id, leaver.reason)
    try:
        errors = (await call.broker.groups.leave(call.caller, request.group_id, leavers)).errors
    except RiverlogError as refusal:
        return LeaveGroupResponse(error_code=group_code(refusal.kind))
    if call.version < 3:
        return LeaveGroupResponse(error_code=group_code(errors[0]))
    return LeaveGroupResponse(
        members=[
            MemberResponse(
                member_id=leaver.member_id, group_instance_id=leaver.instance_id, error_code=group_code(error)
            )
            for leaver, error in zip(leavers, errors, strict=True)
        ]
    )
