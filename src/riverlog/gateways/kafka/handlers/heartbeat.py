"""Heartbeat (api key 12). A member says that it is alive, and hears whether it must join again.

v1 throttle time, v3 static members, v4 flexible.
"""

from __future__ import annotations

from riverlog.base.errors import RiverlogError
from riverlog.broker.group_requests import MemberAsked
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.group_codes import group_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.heartbeat import HeartbeatRequest, HeartbeatResponse


@handles(ApiKey.HEARTBEAT, versions=range(0, 5))
async def heartbeat(call: Call, request: HeartbeatRequest) -> HeartbeatResponse:
    member = MemberAsked(request.generation_id, request.member_id, request.group_instance_id)
    try:
        error = await call.broker.groups.heartbeat(call.caller, request.group_id, member)
    except RiverlogError as refusal:
        error = refusal.kind
    return HeartbeatResponse(error_code=group_code(error))
