"""JoinGroup (api key 11). Waits until the group has rebalanced; tells each its generation, and the leader who is there.

v1 a rebalance time-out of its own, v2 throttle time, v4 a new member is given an id first (MEMBER_ID_REQUIRED), v5 static
members, v6 flexible, v7 the protocol type and a null protocol on errors, v8 a reason, v9 skip_assignment.
"""

from __future__ import annotations

import logging

from riverlog.base.errors import RiverlogError
from riverlog.broker.group_requests import JoinAsked
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.group_codes import group_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.join_group import JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember
from riverlog.state.groups.commands import JoinResult

log = logging.getLogger(__name__)


@handles(ApiKey.JOIN_GROUP, versions=range(0, 10))
async def join_group(call: Call, request: JoinGroupRequest) -> JoinGroupResponse:
    asked = JoinAsked(
        member_id=request.member_id,
        instance_id=request.group_instance_id,
        session_timeout_ms=request.session_timeout_ms,
        rebalance_timeout_ms=request.rebalance_timeout_ms if call.version >= 1 else request.session_timeout_ms,
        protocol_type=request.protocol_type,
        protocols=tuple((protocol.name, bytes(protocol.metadata)) for protocol in request.protocols),
        member_id_required=call.version >= 4,
        skip_assignment_known=call.version >= 9,
        reason=request.reason or "",
    )
    if asked.reason:
        log.debug("group %r: member %r joins: %s", request.group_id, asked.member_id, asked.reason)
    try:
        joined = await call.broker.groups.join(call.caller, request.group_id, asked)
    except RiverlogError as refusal:
        joined = JoinResult(refusal.kind, request.member_id)
    return JoinGroupResponse(
        error_code=group_code(joined.error),
        generation_id=joined.generation,
        protocol_type=joined.protocol_type,
        protocol_name=joined.protocol if call.version >= 7 else joined.protocol or "",
        leader=joined.leader,
        skip_assignment=joined.skip_assignment,
        member_id=joined.member_id,
        members=[
            JoinGroupResponseMember(
                member_id=member.member_id, group_instance_id=member.instance_id, metadata=member.metadata
            )
            for member in joined.members
        ],
    )
