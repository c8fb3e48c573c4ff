"""The consumer side of a group (KIP-848): heartbeats that join, stay, reconcile and leave, and what members mean for offsets.

A request that was answered but whose answer was lost may come again: the previous epoch is accepted from who owns nothing
that it should not, until the member has shown that it knows its epoch. Any other epoch than the member's is fenced.

Not here: commands, offsets (`group.py`), epochs and rows (`consumer_core.py`), the classic protocol (`consumer_classic.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from riverlog.base.errors import ErrorKind
from riverlog.env.clock import Now
from riverlog.state.groups.assignment import NOTHING, ascending, is_within, united
from riverlog.state.groups.commands import (
    CONSUMER_PROTOCOL_TYPE,
    CommitOffsets,
    CommitPending,
    CommittedOffset,
    ConsumerDescription,
    ConsumerHeartbeat,
    ConsumerHeartbeatResult,
    FetchOffsets,
    GroupSettings,
)
from riverlog.state.groups.consumer_checks import JOINING, LEAVING, check_heartbeat, refused
from riverlog.state.groups.consumer_classic import ClassicCalls
from riverlog.state.groups.consumer_members import LEFT_FOR_A_WHILE, ConsumerMember
from riverlog.state.groups.consumer_rows import CURRENT_PREFIX, SubscriptionRow, encode_current
from riverlog.state.groups.reconciliation import MemberState, Standing
from riverlog.state.groups.topics import TopicsView


class ConsumerSide(ClassicCalls):
    group_type: ClassVar[str] = "consumer"
    protocol_type: ClassVar[str] = CONSUMER_PROTOCOL_TYPE

    # ------------------------------------------------------------------ heartbeats

    def consumer_heartbeat(self, beat: ConsumerHeartbeat) -> ConsumerHeartbeatResult:
        member = self.roster.members.get(beat.member_id)
        if member is not None and self._is_nothing_new(member, beat):
            self.renew(member)
            return self._answer(member)
        if (refusal := check_heartbeat(beat, self.settings)) is not None:
            return refusal
        self.look_at_topics()
        if beat.member_epoch < JOINING:
            result = self._leave(beat)
        else:
            result = self._stay(beat)
        self.set_deadline()
        return result

    def _is_nothing_new(self, member: ConsumerMember, beat: ConsumerHeartbeat) -> bool:
        """Most heartbeats: the member has its target, knows it, and says nothing of itself."""
        standing = member.standing
        epoch = beat.member_epoch
        return (
            epoch == standing.epoch == standing.previous_epoch == self.target.epoch
            and epoch > JOINING
            and standing.state is MemberState.STABLE
            and beat.subscribed_names is None
            and beat.subscribed_regex is None
            and beat.assignor is None
            and beat.rebalance_timeout_ms == -1
            and beat.instance_id == member.instance_id
            and member.classic is None
            and beat.client_id == member.client_id
            and beat.client_host == member.client_host
            and (beat.rack_id is None or beat.rack_id == member.rack_id)
        )

    def _answer(self, member: ConsumerMember) -> ConsumerHeartbeatResult:
        interval_ms = self.settings.consumer_heartbeat_interval_ms
        return ConsumerHeartbeatResult(None, "", member.member_id, member.standing.epoch, interval_ms, None)

    def _stay(self, beat: ConsumerHeartbeat) -> ConsumerHeartbeatResult:
        found = self._find_or_make(beat) if beat.member_epoch == JOINING else self._find(beat)
        if isinstance(found, ConsumerHeartbeatResult):
            return found
        member, is_new = found
        before = member.standing
        if beat.member_epoch == before.epoch != before.previous_epoch:
            # It knows its epoch: who comes with the one before from now on is somebody of the past.
            member.standing = before._replace(previous_epoch=before.epoch)
        if self.describe_member(member, _described(member, beat), is_new):
            self.bump()
        self.assign_if_due()
        self.reconcile(member, beat.owned)
        self.renew(member)
        is_full = (
            beat.rebalance_timeout_ms != -1
            and (beat.subscribed_names is not None or beat.subscribed_regex is not None)
            and beat.owned is not None
        )
        answer = self._answer(member)
        if is_full or beat.member_epoch != member.standing.epoch or member.standing.assigned != before.assigned:
            return answer._replace(assignment=ascending(member.standing.assigned))
        return answer

    def _find(self, beat: ConsumerHeartbeat) -> tuple[ConsumerMember, bool] | ConsumerHeartbeatResult:
        if (refusal := self._stranger(beat)) is not None:
            return refusal
        member = self.roster.members[beat.member_id]
        epoch, standing = beat.member_epoch, member.standing
        if epoch == standing.epoch or (epoch == standing.previous_epoch and _owns_its_own(standing, beat)):
            return member, False
        side = "newer" if epoch > standing.epoch else "older"
        message = (
            f"member epoch {epoch} is {side} than the group's for {beat.member_id!r}, {standing.epoch}: "
            "give up all partitions and join again"
        )
        return refused(ErrorKind.FENCED_MEMBER_EPOCH, message, beat.member_id)

    def _stranger(self, beat: ConsumerHeartbeat) -> ConsumerHeartbeatResult | None:
        """Whether who asks is not who it says."""
        member_id, instance_id = beat.member_id, beat.instance_id
        if instance_id is not None:
            current = self.roster.static.get(instance_id)
            if current is not None and current != member_id:
                message = f"another member is instance {instance_id!r} now"
                return refused(ErrorKind.FENCED_INSTANCE_ID, message, member_id)
            if current is None:
                message = f"no member is instance {instance_id!r}: join again"
                return refused(ErrorKind.UNKNOWN_MEMBER_ID, message, member_id)
        if member_id not in self.roster.members:
            message = f"there is no member {member_id!r} (its session may have run out): join again"
            return refused(ErrorKind.UNKNOWN_MEMBER_ID, message, member_id)
        return None

    def _find_or_make(self, beat: ConsumerHeartbeat) -> tuple[ConsumerMember, bool] | ConsumerHeartbeatResult:
        member_id, instance_id = beat.member_id or beat.fresh_id, beat.instance_id
        member = self.roster.members.get(member_id)
        if member is not None and member.instance_id != instance_id:
            message = f"member {member_id!r} is instance {member.instance_id!r}, not {instance_id!r}"
            return refused(ErrorKind.INVALID_REQUEST, message, member_id)
        current = None if instance_id is None else self.roster.static.get(instance_id)
        if current is not None and current != member_id:
            return self._take_over(self.roster.members[current], member_id)
        if member is not None:
            if member.standing.epoch == LEFT_FOR_A_WHILE:
                self.roster.move(member, member.standing._replace(epoch=0, previous_epoch=-1))
            return member, False
        if len(self.roster) >= self.settings.consumer_members_max:
            message = f"group {self.group_id!r} has {len(self.roster)} members, and may have no more"
            return refused(ErrorKind.GROUP_FULL, message, member_id)
        return ConsumerMember(member_id=member_id, instance_id=instance_id), True

    def _take_over(
        self, old: ConsumerMember, member_id: str
    ) -> tuple[ConsumerMember, bool] | ConsumerHeartbeatResult:
        """Who speaks the classic protocol never says that it leaves: its instance may be taken over at any time."""
        if old.classic is None and old.standing.epoch != LEFT_FOR_A_WHILE:
            message = f"instance {old.instance_id!r} is still a member: it has not left, and its session has not run out"
            return refused(ErrorKind.UNRELEASED_INSTANCE_ID, message, member_id)
        if member_id in self.roster.members:
            return refused(ErrorKind.INVALID_REQUEST, f"member {member_id!r} is another one already", member_id)
        return self.replace(old, member_id), False

    # ------------------------------------------------------------------ leaving

    def _leave(self, beat: ConsumerHeartbeat) -> ConsumerHeartbeatResult:
        if (refusal := self._stranger(beat)) is not None:
            return refusal
        member = self.roster.members[beat.member_id]
        if beat.member_epoch == LEAVING:
            self.remove([member.member_id])
            self.assign_if_due()
        else:
            standing = member.standing
            gone = Standing(LEFT_FOR_A_WHILE, standing.epoch, MemberState.STABLE, standing.assigned, NOTHING)
            self.roster.move(member, gone)
            member.revoke_by_ms = None
            self._write({CURRENT_PREFIX + member.member_id: encode_current(gone)})
        return ConsumerHeartbeatResult(None, "", beat.member_id, beat.member_epoch)

    # ------------------------------------------------------------------ offsets

    def commit_error(self, command: CommitOffsets) -> ErrorKind | None:
        if command.generation < 0 and not len(self.roster):
            return None
        member = self.roster.members.get(command.member_id)
        if member is not None and member.classic is None and not command.epochs_known:
            return ErrorKind.UNSUPPORTED_VERSION
        return self._epoch_error(command.member_id, command.generation)

    def pending_error(self, command: CommitPending) -> ErrorKind | None:
        if command.generation < 0 and not len(self.roster):
            return None
        if command.generation < 0 and not command.member_id and command.instance_id is None:
            return None
        return self._epoch_error(command.member_id, command.generation)

    def fetch_error(self, command: FetchOffsets) -> ErrorKind | None:
        if not command.member_id and command.member_epoch < 0:
            return None
        return self._epoch_error(command.member_id or "", command.member_epoch)

    def _epoch_error(self, member_id: str, epoch: int) -> ErrorKind | None:
        member = self.roster.members.get(member_id)
        if member is None:
            return ErrorKind.UNKNOWN_MEMBER_ID
        if epoch == member.standing.epoch:
            return None
        return ErrorKind.STALE_MEMBER_EPOCH if member.classic is None else ErrorKind.ILLEGAL_GENERATION

    def offsets_deletable(self) -> bool:
        return True

    def is_subscribed(self, topic: str) -> bool:
        return self.roster.is_subscribed(topic)

    def idle_since_ms(self, topic: str, committed: CommittedOffset) -> int | None:
        return None if self.is_subscribed(topic) else committed.commit_ms

    # ------------------------------------------------------------------ for people

    def describe_consumer(self) -> ConsumerDescription:
        members = [member.describe(self.target.of(member.member_id)) for member in self.roster]
        assignor = self.target.assignor or self.settings.consumer_assignors[0]
        return ConsumerDescription(self.current_state, self.group_epoch, self.target.epoch, assignor, members)

    @classmethod
    def loaded(
        cls, group_id: str, rows: Mapping[str, bytes], settings: GroupSettings, topics: TopicsView, now: Now
    ) -> ConsumerSide:
        """The side as its rows say; `deadline_ms` is to be scheduled. Raises Corruption."""
        side = cls(group_id, settings, topics)
        side.load(rows, now)
        return side


def _owns_its_own(standing: Standing, beat: ConsumerHeartbeat) -> bool:
    """Whether it has not left, says what it owns, and that is nothing that we do not know to be its own."""
    if beat.owned is None or standing.epoch == LEFT_FOR_A_WHILE:
        return False
    return is_within(beat.owned, united(standing.assigned, standing.revoking))


def _described(member: ConsumerMember, beat: ConsumerHeartbeat) -> SubscriptionRow:
    """What the member is, with what it says: what it leaves out is as before; an empty expression is none."""
    names, regex = beat.subscribed_names, beat.subscribed_regex
    return SubscriptionRow(
        rebalance_timeout_ms=member.rebalance_timeout_ms if beat.rebalance_timeout_ms == -1 else beat.rebalance_timeout_ms,
        instance_id=member.instance_id,
        rack_id=member.rack_id if beat.rack_id is None else beat.rack_id,
        client_id=beat.client_id,
        client_host=beat.client_host,
        names=member.names if names is None else tuple(sorted(set(names))),
        regex=member.regex if regex is None else regex or None,
        assignor=member.assignor if beat.assignor is None else beat.assignor,
        classic=None,
    )
