"""A live group goes from the classic protocol to the consumer protocol and back, with its members and what they have.

Up, when the first member of the consumer protocol joins: classic members keep what their leader gave them, and the bytes of
their consumers have to be understood for that. Down, when the last one is gone: the classic members are called to rebalance.
Committed offsets have no part in it.
"""

from __future__ import annotations

from typing import Final

from riverlog.base.ids import TopicId
from riverlog.state.groups.assignment import assignment_of
from riverlog.state.groups.classic import ClassicSide
from riverlog.state.groups.commands import CONSUMER_PROTOCOL_TYPE, GroupSettings
from riverlog.state.groups.consumer import ConsumerSide
from riverlog.state.groups.consumer_classic import named_partitions, owned_partitions
from riverlog.state.groups.consumer_members import ConsumerMember
from riverlog.state.groups.consumer_protocol import (
    Subscription,
    decode_assignment,
    decode_subscription,
    encode_assignment,
)
from riverlog.state.groups.consumer_rows import ClassicFacts
from riverlog.state.groups.members import Member
from riverlog.state.groups.reconciliation import MemberState, Standing
from riverlog.state.groups.topics import TopicsView

UPGRADING: Final = frozenset({"bidirectional", "upgrade"})
DOWNGRADING: Final = frozenset({"bidirectional", "downgrade"})

Owners = dict[tuple[TopicId, int], str]


class CannotUpgrade(Exception):
    """The message says why the classic group has to stay one."""


def upgraded(classic: ClassicSide, settings: GroupSettings, topics: TopicsView) -> ConsumerSide:
    """Nothing is changed in the classic side. Raises CannotUpgrade."""
    if settings.migration_policy not in UPGRADING:
        raise CannotUpgrade(f"group.consumer.migration.policy is {settings.migration_policy}")
    if classic.protocol_type != CONSUMER_PROTOCOL_TYPE:
        raise CannotUpgrade(f"its members speak protocol type {classic.protocol_type!r}, not {CONSUMER_PROTOCOL_TYPE!r}")
    subscriptions = {member.member_id: _subscription(classic, member) for member in classic.membership}
    owners: Owners = {}
    for member in classic.membership:
        _claim_assigned(member, owners, topics)
    for member_id, subscription in subscriptions.items():
        # What a cooperative consumer still has while its group rebalances is known only from what it says itself.
        for topic_id, indexes in owned_partitions(subscription.owned, topics).items():
            for index in indexes:
                owners.setdefault((topic_id, index), member_id)
    side = ConsumerSide(classic.group_id, settings, topics)
    side.group_epoch = side.target.epoch = classic.generation
    partitions: dict[str, list[tuple[TopicId, int]]] = {member_id: [] for member_id in subscriptions}
    for partition, owner in owners.items():
        partitions[owner].append(partition)
    for member in classic.membership:
        assigned = assignment_of(partitions[member.member_id])
        comer = _consumer_member(member, subscriptions[member.member_id])
        comer.standing = Standing(classic.generation, classic.generation, MemberState.STABLE, assigned)
        side.roster.add(comer)
        if assigned:
            side.target.of_member[comer.member_id] = assigned
    return side


def _subscription(classic: ClassicSide, member: Member) -> Subscription:
    metadata = member.metadata(classic.protocol) or member.protocols[0][1]
    try:
        return decode_subscription(metadata)
    except ValueError as cause:
        raise CannotUpgrade(f"the subscription of member {member.member_id!r} cannot be read: {cause}") from cause


def _claim_assigned(member: Member, owners: Owners, topics: TopicsView) -> None:
    try:
        partitions, user_data = decode_assignment(member.assignment)
    except ValueError as cause:
        raise CannotUpgrade(f"the assignment of member {member.member_id!r} cannot be read: {cause}") from cause
    if user_data:
        raise CannotUpgrade("an assignor of its own keeps data in the assignment, which would be lost")
    for topic_id, indexes in owned_partitions(partitions, topics).items():
        for index in indexes:
            if owners.setdefault((topic_id, index), member.member_id) != member.member_id:
                raise CannotUpgrade("its leader gave a partition to two members")


def _consumer_member(member: Member, subscription: Subscription) -> ConsumerMember:
    return ConsumerMember(
        member_id=member.member_id,
        instance_id=member.instance_id,
        rack_id=subscription.rack_id or None,
        client_id=member.client_id,
        client_host=member.client_host,
        rebalance_timeout_ms=member.rebalance_timeout_ms,
        names=tuple(sorted(set(subscription.topics))),
        classic=ClassicFacts(member.session_timeout_ms, member.protocols),
    )


def wants_downgrade(side: ConsumerSide) -> bool:
    """Whether only members of the classic protocol are left, and may be a classic group again."""
    count = len(side.roster)
    return (
        0 < count == side.roster.classic_count
        and side.settings.migration_policy in DOWNGRADING
        and count <= side.settings.members_max
    )


def classic_members(side: ConsumerSide, topics: TopicsView) -> list[Member]:
    """The members of a side that `wants_downgrade`, with what they have, in the bytes of their protocol."""
    members = []
    for member in side.roster:
        assert member.classic is not None
        members.append(
            Member(
                member_id=member.member_id,
                instance_id=member.instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                session_timeout_ms=member.classic.session_timeout_ms,
                rebalance_timeout_ms=member.rebalance_timeout_ms,
                protocols=member.classic.protocols,
                assignment=encode_assignment(named_partitions(member.standing.assigned, topics)),
            )
        )
    return members
