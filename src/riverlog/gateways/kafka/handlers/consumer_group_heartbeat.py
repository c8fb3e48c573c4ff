"""ConsumerGroupHeartbeat (api key 68). A member of a KIP-848 group joins, says what it owns and hears what it shall own.

v1 member ids of the client's own making, and subscriptions by a regular expression (RE2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import TopicId
from riverlog.broker.group_requests import ConsumerAsked, TopicUnauthorized
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.group_codes import group_code, topic_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.consumer_group_heartbeat import (
    Assignment,
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    ConsumerGroupHeartbeatResponseTopicPartitions,
)


@handles(ApiKey.CONSUMER_GROUP_HEARTBEAT, versions=range(0, 2))
async def consumer_group_heartbeat(
    call: Call, request: ConsumerGroupHeartbeatRequest
) -> ConsumerGroupHeartbeatResponse:
    names = request.subscribed_topic_names
    asked = ConsumerAsked(
        member_id=request.member_id,
        member_epoch=request.member_epoch,
        instance_id=request.instance_id,
        rack_id=request.rack_id,
        rebalance_timeout_ms=request.rebalance_timeout_ms,
        subscribed_names=None if names is None else tuple(names),
        subscribed_regex=request.subscribed_topic_regex if call.version >= 1 else None,
        assignor=request.server_assignor,
        owned=_owned(request),
        id_wanted=call.version == 0,
    )
    try:
        result = await call.broker.groups.consumer_heartbeat(call.caller, request.group_id, asked)
    except RiverlogError as refusal:
        code = (topic_code if isinstance(refusal, TopicUnauthorized) else group_code)(refusal.kind)
        return ConsumerGroupHeartbeatResponse(error_code=code, error_message=refusal.message)
    if result.error is not None:
        return ConsumerGroupHeartbeatResponse(error_code=group_code(result.error), error_message=result.message)
    return ConsumerGroupHeartbeatResponse(
        member_id=result.member_id,
        member_epoch=result.member_epoch,
        heartbeat_interval_ms=result.heartbeat_interval_ms,
        assignment=None if result.assignment is None else _assignment(result.assignment),
    )


def _owned(request: ConsumerGroupHeartbeatRequest) -> Mapping[TopicId, Sequence[int]] | None:
    if request.topic_partitions is None:
        return None
    owned: dict[TopicId, Sequence[int]] = {}
    for topic in request.topic_partitions:
        topic_id = TopicId(topic.topic_id)
        owned[topic_id] = (*owned.get(topic_id, ()), *topic.partitions)  # a topic may be named more than once
    return owned


def _assignment(assignment: Mapping[TopicId, Sequence[int]]) -> Assignment:
    return Assignment(
        topic_partitions=[
            ConsumerGroupHeartbeatResponseTopicPartitions(topic_id=topic_id, partitions=partitions)
            for topic_id, partitions in assignment.items()
        ]
    )
