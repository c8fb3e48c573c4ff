"""Who is in a group, as its coordinator tells: the members of both protocols in one shape, with what they have and shall have.

ConsumerGroupDescribe for groups of the consumer protocol, DescribeGroups for classic ones; a group that is neither is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from riverlog.cli.asking import GROUP, Cluster, name_of
from riverlog.cli.errors import CommandError
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.consumer_group_describe import ConsumerGroupDescribeRequest
from riverlog.gateways.kafka.schema.consumer_protocol_assignment import ConsumerProtocolAssignment
from riverlog.gateways.kafka.schema.consumer_protocol_subscription import ConsumerProtocolSubscription
from riverlog.gateways.kafka.schema.describe_groups import DescribeGroupsRequest
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.wire import DecodeError, decode_structure

Shares = Mapping[str, Sequence[int]]  # topic -> partitions


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """`epoch`, `target` and `regex` are of the consumer protocol; a classic member has its whole share or none."""

    member_id: str
    client: str
    host: str
    instance: str | None
    protocol: str  # classic or consumer; a group in migration has both
    epoch: int | None
    topics: Sequence[str]
    regex: str | None
    assigned: Shares
    target: Shares | None

    def name(self) -> str:
        """As refusals name it."""
        instance = f", instance {self.instance}" if self.instance else ""
        return f"{self.member_id} ({self.client} at {self.host}{instance})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    name: str
    protocol: str  # classic or consumer
    state: str
    epoch: int | None
    assignment_epoch: int | None
    assignor: str | None
    members: Sequence[Member]

    @property
    def is_dead(self) -> bool:
        """So Kafka calls a group of which its coordinator knows nothing."""
        return self.state == "dead"


def describe_group(cluster: Cluster, name: str) -> Group:
    """A group that is not there is dead and classic. Raises CommandError."""
    if ApiKey.CONSUMER_GROUP_DESCRIBE in cluster.served():
        request = ConsumerGroupDescribeRequest(group_ids=[name])
        answer = cluster.ask_coordinator(GROUP, name, ApiKey.CONSUMER_GROUP_DESCRIBE, request, _code)
        (group,) = answer.groups
        if group.error_code == ErrorCode.NONE:
            return _of_consumer(group)
        if group.error_code != ErrorCode.GROUP_ID_NOT_FOUND:
            raise _refused(name, group)
    answer = cluster.ask_coordinator(GROUP, name, ApiKey.DESCRIBE_GROUPS, DescribeGroupsRequest(groups=[name]), _code)
    (group,) = answer.groups
    if group.error_code not in (ErrorCode.NONE, ErrorCode.GROUP_ID_NOT_FOUND):
        raise _refused(name, group)
    return _of_classic(group)


def _code(answer: Any) -> int:
    return int(answer.groups[0].error_code)


def _refused(name: str, group: Any) -> CommandError:
    return CommandError(
        f"the broker does not describe group {name!r}: {group.error_message or name_of(group.error_code)}"
    )


def _of_consumer(group: Any) -> Group:
    members = [
        Member(
            member_id=one.member_id, client=one.client_id, host=one.client_host.lstrip("/"), instance=one.instance_id,
            protocol="classic" if one.member_type == 0 else "consumer", epoch=one.member_epoch,
            topics=sorted(one.subscribed_topic_names), regex=one.subscribed_topic_regex or None,
            assigned=_shares(one.assignment), target=_shares(one.target_assignment),
        )
        for one in group.members
    ]  # fmt: skip
    return Group(
        name=group.group_id, protocol="consumer", state=group.group_state.lower(), epoch=group.group_epoch,
        assignment_epoch=group.assignment_epoch, assignor=group.assignor_name or None, members=_sorted(members),
    )  # fmt: skip


def _of_classic(group: Any) -> Group:
    is_consumer = group.protocol_type in ("consumer", "")
    members = [
        Member(
            member_id=one.member_id, client=one.client_id, host=one.client_host.lstrip("/"),
            instance=one.group_instance_id, protocol="classic", epoch=None,
            topics=_subscribed(one.member_metadata) if is_consumer else (), regex=None,
            assigned=_assigned(one.member_assignment) if is_consumer else {}, target=None,
        )
        for one in group.members
    ]  # fmt: skip
    return Group(
        name=group.group_id, protocol="classic", state=group.group_state.lower(), epoch=None, assignment_epoch=None,
        assignor=group.protocol_data or None, members=_sorted(members),
    )  # fmt: skip


def _sorted(members: Iterable[Member]) -> Sequence[Member]:
    return sorted(members, key=lambda one: (one.client, one.member_id))


def _shares(assignment: Any) -> Shares:
    return {one.topic_name: sorted(one.partitions) for one in assignment.topic_partitions}


def _subscribed(metadata: bytes) -> Sequence[str]:
    """What no consumer wrote says nothing."""
    try:
        found: Sequence[str] = decode_structure(ConsumerProtocolSubscription, *_versioned(metadata, 3)).topics
    except DecodeError:
        return ()
    return sorted(found)


def _assigned(assignment: bytes) -> Shares:
    try:
        found = decode_structure(ConsumerProtocolAssignment, *_versioned(assignment, 3))
    except DecodeError:
        return {}
    return {one.topic: sorted(one.partitions) for one in found.assigned_partitions}


def _versioned(data: bytes, version_max: int) -> tuple[int, bytes]:
    """The version that opens such bytes, and the rest. A newer version is read as the newest that is known, as Kafka does."""
    return min(int.from_bytes(bytes(data[:2]), "big"), version_max), bytes(data[2:])
