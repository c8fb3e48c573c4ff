"""Members that speak the classic protocol in a group of the consumer protocol: while a live group moves from one to the other.

Their assignment is the group's target, as everybody's; the generation that they are told is their member epoch. They go
towards the target by joining again: a heartbeat says REBALANCE_IN_PROGRESS when there is something to gain or to give up,
the JoinGroup says what is still owned, the SyncGroup brings what is assigned. No JoinGroup ever waits for others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from riverlog.base.errors import ErrorKind
from riverlog.base.ids import TopicId, TopicName
from riverlog.state.groups.assignment import Assignment, partitions_of
from riverlog.state.groups.commands import (
    CONSUMER_PROTOCOL_TYPE,
    Heartbeat,
    Join,
    JoinResult,
    Leave,
    LeaveResult,
    Sync,
    SyncResult,
    rebalance_timeout_ms_min,
)
from riverlog.state.groups.consumer_core import ConsumerCore
from riverlog.state.groups.consumer_members import ConsumerMember
from riverlog.state.groups.consumer_protocol import Subscription, decode_subscription, encode_assignment
from riverlog.state.groups.consumer_rows import ClassicFacts, SubscriptionRow
from riverlog.state.groups.reconciliation import MemberState
from riverlog.state.groups.topics import TopicsView

NO_PARTITIONS: Final[Mapping[TopicId, Sequence[int]]] = {}


class ClassicCalls(ConsumerCore):
    # ------------------------------------------------------------------ joining

    def join(self, join: Join) -> None:
        self.look_at_topics()
        result = self._join(join)
        self.set_deadline()
        self._reply(join.token, result)

    def _join(self, join: Join) -> JoinResult:
        settings = self.settings
        if not settings.session_timeout_ms_min <= join.session_timeout_ms <= settings.session_timeout_ms_max:
            return JoinResult(ErrorKind.INVALID_SESSION_TIMEOUT, join.member_id)
        if join.member_id not in self.roster.members and self._is_full(join):
            return JoinResult(ErrorKind.GROUP_FULL, "")
        if join.protocol_type != CONSUMER_PROTOCOL_TYPE or not self._understands(join):
            return JoinResult(ErrorKind.INCONSISTENT_GROUP_PROTOCOL, join.member_id)
        try:
            subscription = decode_subscription(join.protocols[0][1])
        except ValueError:
            return JoinResult(ErrorKind.INCONSISTENT_GROUP_PROTOCOL, join.member_id)
        if any(subscription.owned.values()) and join.member_id not in self.roster.members:
            # Its session ran out while it kept what it had: it has to give that up before it comes in again.
            return JoinResult(ErrorKind.UNKNOWN_MEMBER_ID, join.member_id)
        found = self._joining(join)
        if isinstance(found, JoinResult):
            return found
        member, is_new = found
        self._describe_classic(member, join, subscription, is_new)
        self.assign_if_due()
        self.reconcile(member, owned_partitions(subscription.owned, self._topics))
        member.join_by_ms = None
        member.sync_by_ms = self._now.monotonic_ms + member.rebalance_timeout_ms
        self.renew(member)
        return JoinResult(None, member.member_id, member.standing.epoch, CONSUMER_PROTOCOL_TYPE, join.protocols[0][0])

    def _is_full(self, join: Join) -> bool:
        takes_over = join.instance_id is not None and join.instance_id in self.roster.static
        return not takes_over and len(self.roster) >= self.settings.consumer_members_max

    def _understands(self, join: Join) -> bool:
        """Whether some protocol is known to all that speak the classic one: they may have to agree on it again."""
        others = [
            {name for name, _ in member.classic.protocols}
            for member in self.roster
            if member.classic is not None and member.member_id != join.member_id
        ]
        return any(all(name in names for names in others) for name, _ in join.protocols)

    def _joining(self, join: Join) -> tuple[ConsumerMember, bool] | JoinResult:
        member_id, instance_id = join.member_id, join.instance_id
        fresh_id = f"{join.client_id if instance_id is None else instance_id}-{join.fresh_id}"
        if instance_id is None:
            if not member_id and join.member_id_required:
                return JoinResult(ErrorKind.MEMBER_ID_REQUIRED, fresh_id)
            known = self.roster.members.get(member_id)
            return (ConsumerMember(member_id=member_id or fresh_id), True) if known is None else (known, False)
        current = self.roster.static.get(instance_id)
        if current is None:
            if member_id:
                return JoinResult(ErrorKind.UNKNOWN_MEMBER_ID, member_id)
            return ConsumerMember(member_id=fresh_id, instance_id=instance_id), True
        if not member_id:
            return self.replace(self.roster.members[current], fresh_id), False
        if current != member_id:
            return JoinResult(ErrorKind.FENCED_INSTANCE_ID, member_id)
        return self.roster.members[member_id], False

    def _describe_classic(self, member: ConsumerMember, join: Join, subscription: Subscription, is_new: bool) -> None:
        row = SubscriptionRow(
            rebalance_timeout_ms=max(join.rebalance_timeout_ms, rebalance_timeout_ms_min),
            instance_id=member.instance_id,
            rack_id=subscription.rack_id or None,
            client_id=join.client_id,
            client_host=join.client_host,
            names=tuple(sorted(set(subscription.topics))),
            regex=None,
            assignor=None,
            classic=ClassicFacts(join.session_timeout_ms, join.protocols),
        )
        if self.describe_member(member, row, is_new):
            self.bump()

    # ------------------------------------------------------------------ staying

    def sync(self, sync: Sync) -> None:
        result = self._sync(sync)
        self.set_deadline()
        self._reply(sync.token, result)

    def _sync(self, sync: Sync) -> SyncResult:
        error = self._classic_error(sync.member_id, sync.instance_id, sync.generation)
        if error is not None:
            return SyncResult(error)
        member = self.roster.members[sync.member_id]
        assert member.classic is not None
        protocol = sync.protocol or member.classic.protocols[0][0]
        is_known = any(name == protocol for name, _ in member.classic.protocols)
        if sync.protocol_type not in (None, CONSUMER_PROTOCOL_TYPE) or not is_known:
            return SyncResult(ErrorKind.INCONSISTENT_GROUP_PROTOCOL)
        standing = member.standing
        if standing.epoch < self.target.epoch and standing.state is not MemberState.UNREVOKED_PARTITIONS:
            self._call_back(member)
            return SyncResult(ErrorKind.REBALANCE_IN_PROGRESS)
        member.sync_by_ms = None
        self.renew(member)
        assigned = encode_assignment(named_partitions(standing.assigned, self._topics))
        return SyncResult(None, assigned, CONSUMER_PROTOCOL_TYPE, protocol)

    def heartbeat(self, beat: Heartbeat) -> ErrorKind | None:
        error = self._classic_error(beat.member_id, beat.instance_id, beat.generation)
        if error is not None:
            return error
        member = self.roster.members[beat.member_id]
        if not self._has_to_join(member):
            self.renew(member)
            return None
        self._call_back(member)
        self.set_deadline()
        return ErrorKind.REBALANCE_IN_PROGRESS

    def _has_to_join(self, member: ConsumerMember) -> bool:
        standing = member.standing
        if standing.epoch < self.target.epoch or standing.state is MemberState.UNREVOKED_PARTITIONS:
            return True
        if standing.state is MemberState.STABLE:
            return False
        is_free, member_id = self.roster.is_free, member.member_id
        return all(is_free(member_id, *one) for one in partitions_of(self.target.of(member_id)))

    def _call_back(self, member: ConsumerMember) -> None:
        """It is told to join again, and has its rebalance time-out for that."""
        if member.join_by_ms is None:
            member.join_by_ms = self._now.monotonic_ms + member.rebalance_timeout_ms
        self.renew(member)

    def _classic_error(self, member_id: str, instance_id: str | None, generation: int) -> ErrorKind | None:
        if instance_id is not None:
            current = self.roster.static.get(instance_id)
            if current is not None and current != member_id:
                return ErrorKind.FENCED_INSTANCE_ID
            if current is None:
                return ErrorKind.UNKNOWN_MEMBER_ID
        member = self.roster.members.get(member_id)
        if member is None or member.classic is None:
            return ErrorKind.UNKNOWN_MEMBER_ID
        return None if generation == member.standing.epoch else ErrorKind.ILLEGAL_GENERATION

    # ------------------------------------------------------------------ leaving

    def leave(self, leave: Leave) -> None:
        self.look_at_topics()
        errors: list[ErrorKind | None] = []
        gone: list[str] = []
        for leaver in leave.leavers:
            member_id = leaver.member_id
            if not member_id and leaver.instance_id is not None:
                member_id = self.roster.static.get(leaver.instance_id, "")
            member = self.roster.members.get(member_id)
            generation = -1 if member is None else member.standing.epoch
            error = self._classic_error(member_id, leaver.instance_id, generation)
            if error is None and member_id in gone:
                error = ErrorKind.UNKNOWN_MEMBER_ID
            if error is None:
                gone.append(member_id)
            errors.append(error)
        if gone:
            self.remove(gone)
            self.assign_if_due()
        self.set_deadline()
        self._reply(leave.token, LeaveResult(errors))


def owned_partitions(owned: Mapping[str, Sequence[int]], topics: TopicsView) -> Mapping[TopicId, Sequence[int]]:
    """By topic id; of a topic that is no more nothing is owned."""
    known = ((topics.by_name.get(TopicName(name)), indexes) for name, indexes in owned.items())
    return {topic.topic_id: indexes for topic, indexes in known if topic is not None} or NO_PARTITIONS


def named_partitions(assignment: Assignment, topics: TopicsView) -> dict[str, Sequence[int]]:
    """By name; a topic that is no more has none."""
    known = ((topics.by_id.get(topic_id), indexes) for topic_id, indexes in assignment.items())
    return {topic.name: sorted(indexes) for topic, indexes in known if topic is not None}
