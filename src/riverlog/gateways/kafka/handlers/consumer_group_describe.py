"""ConsumerGroupDescribe (api key 69). Epochs, members and assignments of KIP-848 groups; a classic group is not found here.

v1 the kind of each member: classic ones are in a group that is changing its protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import TopicId
from riverlog.broker.group_requests import TopicUnauthorized
from riverlog.gateways.kafka.authorized import NOT_ASKED, authorized_operations
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.group_codes import group_code, topic_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.consumer_group_describe import (
    Assignment,
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
    DescribedGroup,
    Member,
    TopicPartitions,
)
from riverlog.state.access import Resource, ResourceKind
from riverlog.state.groups.commands import DescribedConsumer, GroupState

CLASSIC_MEMBER: Final = 0
CONSUMER_MEMBER: Final = 1


@handles(ApiKey.CONSUMER_GROUP_DESCRIBE, versions=range(0, 2))
async def consumer_group_describe(call: Call, request: ConsumerGroupDescribeRequest) -> ConsumerGroupDescribeResponse:
    once = dict.fromkeys(request.group_ids)  # an answer may be much larger than a question
    return ConsumerGroupDescribeResponse(
        groups=[await _describe(call, one, request.include_authorized_operations) for one in once]
    )


async def _describe(call: Call, group_id: str, with_operations: bool) -> DescribedGroup:
    groups = call.broker.groups
    try:
        if not group_id:
            raise RiverlogError(ErrorKind.INVALID_GROUP_ID, "a group of the consumer protocol needs a name")
        description = await groups.describe_consumer(call.caller, group_id)
        if description.state is GroupState.DEAD:
            raise RiverlogError(ErrorKind.GROUP_ID_NOT_FOUND, f"Group {group_id} is not a consumer group.")
    except RiverlogError as refusal:
        code = (topic_code if isinstance(refusal, TopicUnauthorized) else group_code)(refusal.kind)
        return DescribedGroup(group_id=group_id, error_code=code, error_message=refusal.message)
    operations = NOT_ASKED
    if with_operations:
        operations = authorized_operations(call.broker.access, call.caller, Resource(ResourceKind.GROUP, group_id))
    return DescribedGroup(
        group_id=group_id,
        group_state=description.state.value,
        group_epoch=description.group_epoch,
        assignment_epoch=description.assignment_epoch,
        assignor_name=description.assignor,
        members=[_member(call, member) for member in description.members],
        authorized_operations=operations,
    )


def _member(call: Call, member: DescribedConsumer) -> Member:
    return Member(
        member_id=member.member_id,
        instance_id=member.instance_id,
        rack_id=member.rack_id,
        member_epoch=member.member_epoch,
        client_id=member.client_id,
        client_host=member.client_host,
        subscribed_topic_names=sorted(member.subscribed_names),
        subscribed_topic_regex=member.subscribed_regex,
        assignment=_assignment(call, member.assignment),
        target_assignment=_assignment(call, member.target),
        member_type=CLASSIC_MEMBER if member.is_classic else CONSUMER_MEMBER,
    )


def _assignment(call: Call, assignment: Mapping[TopicId, Sequence[int]]) -> Assignment:
    """A topic that is gone, and that the group has yet to hear of, is left out: it has no name any more."""
    named = {
        name: TopicPartitions(topic_id=topic_id, topic_name=name, partitions=sorted(partitions))
        for topic_id, partitions in assignment.items()
        if (name := call.broker.groups.topic_name(topic_id)) is not None
    }
    return Assignment(topic_partitions=[named[name] for name in sorted(named)])
