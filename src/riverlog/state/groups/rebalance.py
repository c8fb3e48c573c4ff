"""The members' half of a classic group's machine: joining, rebalancing, assigning, staying and going.

Membership runs in generations. Empty: nobody. PreparingRebalance: all are asked to join (again) and their JoinGroups
wait. CompletingRebalance: the generation is fixed, each was told who leads, SyncGroups wait for the leader's answer.
Stable: each knows its part. The rules are Kafka's, because its clients know them by heart.

Invariants: a request that waits is the `joining` or `syncing` of exactly one member; the generation never falls while
the group exists; `deadline_ms` is never later than the earliest time at which something runs out.
Not here: rows, who may commit offsets (`classic.py`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping

from riverlog.base.errors import ErrorKind
from riverlog.state.groups.commands import (
    GroupSettings,
    GroupState,
    Heartbeat,
    Join,
    JoinResult,
    Leave,
    LeaveResult,
    Sync,
    SyncResult,
    Token,
    new_member_join_ms_max,
)
from riverlog.state.groups.members import Member, Membership
from riverlog.state.groups.side import Side


class RebalancingGroup(Side):
    def __init__(self, group_id: str, settings: GroupSettings) -> None:
        super().__init__(group_id, settings)
        self._reset()

    @abstractmethod
    def _store(self) -> None:
        """Something settled: writes what differs of the group's and its members' rows."""

    def _reset(self) -> None:
        self.state = GroupState.EMPTY
        self.state_since_ms = -1  # wall time
        self.generation = 0
        self.protocol_type: str | None = None
        self.protocol: str | None = None
        self.membership = Membership()
        self._subscribed: frozenset[str] | None = frozenset()
        self._pending: dict[str, int] = {}  # member ids that were given out -> when they are taken back, monotonic
        self._pending_sync: set[str] = set()  # who has not asked for its part of this generation
        self._sync_deadline_ms: int | None = None
        self._join_deadline_ms: int | None = None
        self._initial_deadline_ms: int | None = None  # only while the first rebalance of an empty group gathers members
        self._initial_remaining_ms = 0
        self._initial_newcomer = False

    def join(self, join: Join) -> None:
        settings = self.settings
        if not settings.session_timeout_ms_min <= join.session_timeout_ms <= settings.session_timeout_ms_max:
            self._refuse_join(join, ErrorKind.INVALID_SESSION_TIMEOUT)
        elif not self._has_room(join.member_id):
            if join.member_id in self.membership:
                self._remove([join.member_id])
            self._refuse_join(join, ErrorKind.GROUP_FULL)
        elif not self._understands(join):
            self._refuse_join(join, ErrorKind.INCONSISTENT_GROUP_PROTOCOL)
        elif join.member_id:
            self._join_known(join)
        else:
            self._join_unknown(join)

    def _join_unknown(self, join: Join) -> None:
        member_id = f"{join.client_id if join.instance_id is None else join.instance_id}-{join.fresh_id}"
        if join.instance_id is not None:
            old_id = self.membership.static.get(join.instance_id)
            if old_id is None:
                self._add(join, member_id)
            else:
                self._replace_static(join, old_id, member_id)
        elif join.member_id_required:
            self._pending[member_id] = self._now.monotonic_ms + join.session_timeout_ms
            self._wake_at(self._pending[member_id])
            self._reply(join.token, JoinResult(ErrorKind.MEMBER_ID_REQUIRED, member_id))
        else:
            self._add(join, member_id)

    def _join_known(self, join: Join) -> None:
        if join.instance_id is None and join.member_id in self._pending:
            self._add(join, join.member_id)
            return
        if (error := self.membership.check(join.member_id, join.instance_id)) is not None:
            self._refuse_join(join, error)
            return
        member = self.membership.get(join.member_id)
        is_leader = self.membership.leader == member.member_id
        unchanged = member.protocols == join.protocols
        if self.state is GroupState.COMPLETING_REBALANCE and unchanged:
            # The answer to its JoinGroup may have been lost; who changed nothing gets the same one again.
            self._renew(member)
            self._reply(join.token, self._joined(member, is_leader))
        elif self.state is GroupState.STABLE and unchanged and not is_leader:
            self._renew(member)
            self._reply(join.token, self._joined(member, is_leader=False))
        else:  # also a leader that joins again when all is stable: that is how it asks for a rebalance
            self.membership.update(member, join)
            self._await_join(member, join.token)
            self._rebalance_or_complete()

    def _add(self, join: Join, member_id: str) -> None:
        self._pending.pop(member_id, None)
        if not len(self.membership):
            self.protocol_type = join.protocol_type
        if self._initial_deadline_ms is not None:
            self._initial_newcomer = True
        member = Member.of_join(member_id, join, self._now.monotonic_ms + new_member_join_ms_max)
        self.membership.add(member)
        self._wake_at(member.expires_ms)
        self._rebalance_or_complete()

    def _replace_static(self, join: Join, old_id: str, new_id: str) -> None:
        """The instance came back and does not know its member id: whoever used the old one is fenced."""
        old_leader = self.membership.leader
        member = self.membership.get(old_id)
        self._answer_join(member, JoinResult(ErrorKind.FENCED_INSTANCE_ID, old_id))
        self._answer_sync(member, SyncResult(ErrorKind.FENCED_INSTANCE_ID))
        self.membership.replace_static(old_id, new_id)
        self.membership.update(member, join)
        if old_id in self._pending_sync:
            self._pending_sync.remove(old_id)
            self._pending_sync.add(new_id)
        self._renew(member)
        if self.state is GroupState.STABLE and self.membership.vote() == self.protocol:
            self._store()
            is_leader = self.membership.leader == new_id
            joined = self._joined(member, is_leader and join.skip_assignment_known)
            if not join.skip_assignment_known:
                # It would assign anew if it read that it leads; so it reads the id that it had.
                joined = joined._replace(leader=old_leader or "")
            self._reply(join.token, joined._replace(skip_assignment=is_leader and join.skip_assignment_known))
            return
        self._await_join(member, join.token)
        self._rebalance_or_complete()

    def _has_room(self, member_id: str) -> bool:
        limit = self.settings.members_max
        if not member_id and len(self._pending) >= limit:
            return False
        if self.state is GroupState.EMPTY:
            return True
        known = member_id in self.membership
        if self.state is GroupState.PREPARING_REBALANCE:
            waits = known and self.membership.get(member_id).joining is not None
            return waits or self.membership.joining_count < limit
        return known or len(self.membership) < limit

    def _understands(self, join: Join) -> bool:
        """Whether the group and the one who joins have a protocol in common."""
        if not len(self.membership):
            return bool(join.protocol_type and join.protocols)
        return join.protocol_type == self.protocol_type and self.membership.supports(join.protocols)

    def _refuse_join(self, join: Join, error: ErrorKind) -> None:
        self._reply(join.token, JoinResult(error, "" if error is ErrorKind.GROUP_FULL else join.member_id))

    def _joined(self, member: Member, is_leader: bool) -> JoinResult:
        return JoinResult(
            error=None,
            member_id=member.member_id,
            generation=self.generation,
            protocol_type=self.protocol_type,
            protocol=self.protocol,
            leader=self.membership.leader or "",
            members=self.membership.roster(self.protocol) if is_leader else (),
        )

    def _await_join(self, member: Member, token: Token) -> None:
        superseded = self.membership.await_join(member, token)
        if superseded is not None:
            self._reply(superseded, JoinResult(ErrorKind.REBALANCE_IN_PROGRESS, member.member_id))

    def _rebalance_or_complete(self) -> None:
        if self.state is GroupState.PREPARING_REBALANCE:
            self._complete_join_if_all()
        else:
            self._prepare_rebalance()

    def _prepare_rebalance(self) -> None:
        now_ms = self._now.monotonic_ms
        if self.state is GroupState.COMPLETING_REBALANCE:
            for member in self.membership:
                member.assignment = b""
                self._answer_sync(member, SyncResult(ErrorKind.REBALANCE_IN_PROGRESS))
        self._pending_sync.clear()
        self._sync_deadline_ms = None
        is_initial = self.state is GroupState.EMPTY
        self._enter(GroupState.PREPARING_REBALANCE)
        timeout_ms = self.membership.rebalance_timeout_ms()
        if not is_initial:
            self._join_deadline_ms = now_ms + timeout_ms
            self._wake_at(self._join_deadline_ms)
            self._complete_join_if_all()
        elif (delay_ms := self.settings.initial_rebalance_delay_ms) == 0:
            self._complete_join()
        else:
            self._initial_newcomer = False
            self._initial_remaining_ms = max(timeout_ms - delay_ms, 0)
            self._initial_deadline_ms = now_ms + delay_ms
            self._wake_at(self._initial_deadline_ms)

    def _initial_due(self) -> None:
        """While members come in during the delay it is extended, at most up to the rebalance time-out."""
        if self._initial_newcomer and self._initial_remaining_ms:
            delay_ms = min(self.settings.initial_rebalance_delay_ms, self._initial_remaining_ms)
            self._initial_newcomer = False
            self._initial_remaining_ms -= delay_ms
            self._initial_deadline_ms = self._now.monotonic_ms + delay_ms
        else:
            self._complete_join()

    def _complete_join_if_all(self) -> None:
        if self._initial_deadline_ms is None and not self._pending and self.membership.all_joined():
            self._complete_join()

    def _complete_join(self) -> None:
        """Fixes the generation. Who did not join again is out, but for static members: their sessions decide."""
        now_ms = self._now.monotonic_ms
        self._initial_deadline_ms = self._join_deadline_ms = None
        for member in [member for member in self.membership if member.joining is None and member.instance_id is None]:
            self.membership.remove(member.member_id)
        if len(self.membership) and not self.membership.elect_joined_leader():
            self._join_deadline_ms = now_ms + self.membership.rebalance_timeout_ms()
            self._wake_at(self._join_deadline_ms)
            return
        self.generation += 1
        if not len(self.membership):
            self.protocol = None
            self._subscribed = frozenset()
            self._enter(GroupState.EMPTY)
            self._store()
            return
        self.protocol = self.membership.vote()
        self._subscribed = self.membership.subscriptions(self.protocol_type, self.protocol)
        self._enter(GroupState.COMPLETING_REBALANCE)
        for member in self.membership:
            self._pending_sync.add(member.member_id)
            if not self._answer_join(member, self._joined(member, self.membership.leader == member.member_id)):
                self._renew(member)
        self._sync_deadline_ms = now_ms + self.membership.rebalance_timeout_ms()
        self._wake_at(self._sync_deadline_ms)

    def sync(self, sync: Sync) -> None:
        error = self._check(sync.member_id, sync.instance_id, sync.generation)
        if error is None and (
            (sync.protocol_type is not None and sync.protocol_type != self.protocol_type)
            or (sync.protocol is not None and sync.protocol != self.protocol)
        ):
            error = ErrorKind.INCONSISTENT_GROUP_PROTOCOL
        if error is None and self.state is GroupState.PREPARING_REBALANCE:
            error = ErrorKind.REBALANCE_IN_PROGRESS
        if error is not None:
            self._reply(sync.token, SyncResult(error))
            return
        member = self.membership.get(sync.member_id)
        self._pending_sync.discard(member.member_id)
        if not self._pending_sync:
            self._sync_deadline_ms = None
        if self.state is GroupState.STABLE:
            self._renew(member)
            self._reply(sync.token, self._synced(member))
            return
        self._answer_sync(member, SyncResult(ErrorKind.REBALANCE_IN_PROGRESS))  # an older one of its own
        member.syncing = sync.token
        if self.membership.leader == member.member_id:
            self._assign(sync.assignments)

    def _assign(self, assignments: Mapping[str, bytes]) -> None:
        for member in self.membership:
            member.assignment = assignments.get(member.member_id, b"")
        self._enter(GroupState.STABLE)
        self._store()
        for member in self.membership:
            self._answer_sync(member, self._synced(member))

    def _synced(self, member: Member) -> SyncResult:
        return SyncResult(None, member.assignment, self.protocol_type, self.protocol)

    def heartbeat(self, beat: Heartbeat) -> ErrorKind | None:
        error = self._check(beat.member_id, beat.instance_id, beat.generation)
        if error is not None:
            return error
        self._renew(self.membership.members[beat.member_id])
        return ErrorKind.REBALANCE_IN_PROGRESS if self.state is GroupState.PREPARING_REBALANCE else None

    def _check(self, member_id: str, instance_id: str | None, generation: int) -> ErrorKind | None:
        error = self.membership.check(member_id, instance_id)
        if error is None and generation != self.generation:
            return ErrorKind.ILLEGAL_GENERATION
        return error

    def leave(self, leave: Leave) -> None:
        errors: list[ErrorKind | None] = []
        gone: list[str] = []
        pending_gone = False
        for leaver in leave.leavers:
            error, member_id = self.membership.find(leaver)
            if leaver.instance_id is None and self._pending.pop(leaver.member_id, None) is not None:
                error, pending_gone = None, True
            elif error is None and member_id in gone:
                error = ErrorKind.UNKNOWN_MEMBER_ID
            elif error is None:
                gone.append(member_id)
            errors.append(error)
        if gone:
            self._remove(gone)
        elif pending_gone and self.state is GroupState.PREPARING_REBALANCE:
            self._complete_join_if_all()
        self._reply(leave.token, LeaveResult(errors))

    def _remove(self, member_ids: Iterable[str]) -> None:
        for member_id in member_ids:
            member = self.membership.get(member_id)
            self._answer_join(member, JoinResult(ErrorKind.UNKNOWN_MEMBER_ID, member_id))
            self._answer_sync(member, SyncResult(ErrorKind.UNKNOWN_MEMBER_ID))
            self.membership.remove(member_id)
            self._pending_sync.discard(member_id)
        self._rebalance_or_complete()

    def _renew(self, member: Member) -> None:
        """The member gave a sign of life."""
        member.expires_ms = self._now.monotonic_ms + member.session_timeout_ms
        self._wake_at(member.expires_ms)

    def tick(self) -> None:
        now_ms = self._now.monotonic_ms
        late = [member_id for member_id, until_ms in self._pending.items() if until_ms <= now_ms]
        for member_id in late:
            del self._pending[member_id]
        expired = [m.member_id for m in self.membership if m.expires_ms <= now_ms and m.is_watched()]
        if expired:
            self._remove(expired)
        elif late and self.state is GroupState.PREPARING_REBALANCE:
            self._complete_join_if_all()
        if self._initial_deadline_ms is not None and self._initial_deadline_ms <= now_ms:
            self._initial_due()
        if self._join_deadline_ms is not None and self._join_deadline_ms <= now_ms:
            self._complete_join()
        if self._sync_deadline_ms is not None and self._sync_deadline_ms <= now_ms:
            self._sync_deadline_ms = None
            self._remove(list(self._pending_sync))
        self.deadline_ms = self._next_deadline()

    def _next_deadline(self) -> int | None:
        deadlines = [member.expires_ms for member in self.membership if member.is_watched()]
        deadlines += self._pending.values()
        others = (self._initial_deadline_ms, self._join_deadline_ms, self._sync_deadline_ms)
        return min(deadlines + [deadline for deadline in others if deadline is not None], default=None)

    def _answer_join(self, member: Member, result: JoinResult) -> bool:
        """Answers the member's JoinGroup if one waits; its session counts again from now."""
        token = self.membership.take_joining(member)
        if token is None:
            return False
        member.is_new = False
        self._renew(member)
        self._reply(token, result)
        return True

    def _answer_sync(self, member: Member, result: SyncResult) -> None:
        token, member.syncing = member.syncing, None
        if token is not None:
            self._renew(member)
            self._reply(token, result)

    def _enter(self, state: GroupState) -> None:
        self.state = state
        self.state_since_ms = self._now.wall_ms
