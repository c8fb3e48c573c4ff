"""One classic consumer group as a pure machine: `step(command, now)` gives the effects.

Membership runs in generations. Empty: nobody. PreparingRebalance: all are asked to join (again) and their JoinGroups
wait. CompletingRebalance: the generation is fixed, each was told who leads, SyncGroups wait for the leader's answer.
Stable: each knows its part. The rules are Kafka's, because its clients know them by heart.

Rows are written when something settled: a generation became Stable, a static member was replaced in a stable one, the
last member went. After a load the last stable generation goes on; its sessions start anew. A rebalance that was under
way is forgotten: its members are told so by ILLEGAL_GENERATION or UNKNOWN_MEMBER_ID and join again.

Invariants: a request that waits is the `joining` or `syncing` of exactly one member; the generation never falls while
the group exists; `deadline_ms` is never later than the earliest time at which something runs out.
Not here: topic names, access, who runs the effects (`broker/coordinator.py`), groups of KIP-848.
This file is longer than 400 lines because the states and their transitions are one thing to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import assert_never

from riverlog.base.errors import Corruption, ErrorKind
from riverlog.env.clock import Now
from riverlog.state.groups.commands import (
    CONSUMER_PROTOCOL_TYPE,
    Command,
    CommitOffsets,
    CommittedOffset,
    CutOffsets,
    DeleteGroup,
    DeleteOffsets,
    DeleteOffsetsResult,
    Describe,
    Description,
    DropTopics,
    ExpireOffsets,
    FetchOffsets,
    GroupSettings,
    GroupState,
    Heartbeat,
    Join,
    JoinResult,
    Leave,
    Leaver,
    LeaveResult,
    Result,
    Sync,
    SyncResult,
    Tick,
    Token,
    new_member_join_ms_max,
    rebalance_timeout_ms_min,
)
from riverlog.state.groups.effects import Commit, Effect, Reply, Schedule
from riverlog.state.groups.members import Member, Membership
from riverlog.state.groups.offsets import Offsets, RowChanges
from riverlog.state.groups.rows import (
    CLASSIC_KEY,
    MEMBER_PREFIX,
    OFFSET_PREFIX,
    ClassicRow,
    decode_classic,
    decode_member,
    decode_offset,
    encode_classic,
    encode_member,
    member_key,
    partition_of_key,
)
from riverlog.state.groups.subscription import subscribed_topics


class ClassicGroup:
    def __init__(self, group_id: str, settings: GroupSettings) -> None:
        self.group_id = group_id
        self.settings = settings
        self.offsets = Offsets()
        self.deadline_ms: int | None = None  # monotonic; when the next `Tick` is due
        self._stored: dict[str, bytes] = {}  # the rows of group and members, all commits done
        self._now = Now(0, 0)
        self._effects: list[Effect] = []
        self._reset()

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

    # ------------------------------------------------------------------ what the outside may ask

    @property
    def exists(self) -> bool:
        return bool(self.membership.members or self._pending or self._stored or len(self.offsets))

    def waiting(self) -> list[Token]:
        """The requests that wait for an answer."""
        return [token for member in self.membership for token in (member.joining, member.syncing) if token is not None]

    def step(self, command: Command, now: Now) -> list[Effect]:
        self._now = now
        effects: list[Effect] = []
        self._effects = effects
        deadline_ms = self.deadline_ms
        match command:
            case Heartbeat():
                self._reply(command.token, self._heartbeat(command))
            case CommitOffsets():
                self._commit_offsets(command)
            case FetchOffsets():
                self._reply(command.token, self.offsets.fetch(command.partitions))
            case Join():
                self._join(command)
            case Sync():
                self._sync(command)
            case Leave():
                self._leave(command)
            case Tick():
                self._tick()
            case Describe():
                self._reply(command.token, self._describe())
            case DeleteGroup():
                self._delete_group(command.token)
            case DeleteOffsets():
                self._delete_offsets(command)
            case ExpireOffsets():
                self._expire_offsets(command)
            case DropTopics():
                self._write(self.offsets.drop_topics(command.topic_ids))
            case CutOffsets():
                self._write(self.offsets.cut(command.partition, command.log_end))
            case _:
                assert_never(command)
        if self.deadline_ms != deadline_ms or isinstance(command, Tick):
            effects.append(Schedule(self.deadline_ms))
        return effects

    # ------------------------------------------------------------------ joining

    def _join(self, join: Join) -> None:
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
        member = Member(
            member_id=member_id,
            instance_id=join.instance_id,
            client_id=join.client_id,
            client_host=join.client_host,
            session_timeout_ms=join.session_timeout_ms,
            rebalance_timeout_ms=max(join.rebalance_timeout_ms, rebalance_timeout_ms_min),
            protocols=join.protocols,
            joining=join.token,
            is_new=True,
            expires_ms=self._now.monotonic_ms + new_member_join_ms_max,
        )
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

    # ------------------------------------------------------------------ rebalancing

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
        self._subscribed = self._subscriptions()
        self._enter(GroupState.COMPLETING_REBALANCE)
        for member in self.membership:
            self._pending_sync.add(member.member_id)
            if not self._answer_join(member, self._joined(member, self.membership.leader == member.member_id)):
                self._renew(member)
        self._sync_deadline_ms = now_ms + self.membership.rebalance_timeout_ms()
        self._wake_at(self._sync_deadline_ms)

    def _sync(self, sync: Sync) -> None:
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

    # ------------------------------------------------------------------ staying and going

    def _heartbeat(self, beat: Heartbeat) -> ErrorKind | None:
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

    def _leave(self, leave: Leave) -> None:
        errors: list[ErrorKind | None] = []
        gone: list[str] = []
        pending_gone = False
        for leaver in leave.leavers:
            error, member_id = self._leaver(leaver)
            if error is None and self._pending.pop(member_id, None) is not None:
                pending_gone = True
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

    def _leaver(self, leaver: Leaver) -> tuple[ErrorKind | None, str]:
        """Who is meant."""
        if leaver.instance_id is None and leaver.member_id in self._pending:
            return None, leaver.member_id
        if not leaver.member_id and leaver.instance_id is not None:
            current = self.membership.static.get(leaver.instance_id)
            return (ErrorKind.UNKNOWN_MEMBER_ID, "") if current is None else (None, current)
        return self.membership.check(leaver.member_id, leaver.instance_id), leaver.member_id

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

    def _tick(self) -> None:
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

    # ------------------------------------------------------------------ offsets

    def _commit_offsets(self, command: CommitOffsets) -> None:
        error = self._commit_error(command)
        if error is None:
            self._write(self.offsets.commit(command.offsets))
        self._reply(command.token, error)

    def _commit_error(self, command: CommitOffsets) -> ErrorKind | None:
        if command.generation < 0 and self.state is GroupState.EMPTY:
            return None
        if command.generation < 0 and not command.member_id and command.instance_id is None:
            return ErrorKind.UNKNOWN_MEMBER_ID  # an outsider may commit only where nobody is
        if not self.exists:
            return ErrorKind.GROUP_ID_NOT_FOUND
        error = self._check(command.member_id, command.instance_id, command.generation)
        if error is not None:
            return error
        self._renew(self.membership.members[command.member_id])
        return ErrorKind.REBALANCE_IN_PROGRESS if self.state is GroupState.COMPLETING_REBALANCE else None

    def _delete_offsets(self, command: DeleteOffsets) -> None:
        error: ErrorKind | None = None
        if not self.exists:
            error = ErrorKind.GROUP_ID_NOT_FOUND
        elif self.state is not GroupState.EMPTY and self.protocol_type != CONSUMER_PROTOCOL_TYPE:
            error = ErrorKind.NON_EMPTY_GROUP
        if error is not None:
            self._reply(command.token, DeleteOffsetsResult(error))
            return
        free = [partition for topic, partition in command.partitions if not self._is_subscribed(topic)]
        self._write(self.offsets.remove(free))
        refused = ErrorKind.GROUP_SUBSCRIBED_TO_TOPIC
        errors = [refused if self._is_subscribed(topic) else None for topic, _ in command.partitions]
        self._reply(command.token, DeleteOffsetsResult(None, errors))

    def _expire_offsets(self, command: ExpireOffsets) -> None:
        rows = self.offsets.expire(
            now_ms=self._now.wall_ms,
            retention_ms=self.settings.offsets_retention_ms,
            names=command.names,
            idle_since_ms=self._idle_since_ms,
        )
        self._write(rows)
        if self.state is GroupState.EMPTY and not self._pending and not len(self.offsets):
            self._write(dict.fromkeys(self._stored))  # a group of nobody that has read nothing
            self._stored.clear()
            self._reset()

    def _idle_since_ms(self, topic: str, committed: CommittedOffset) -> int | None:
        if self.protocol_type is None:
            return committed.commit_ms
        if self.state is GroupState.EMPTY:
            return committed.commit_ms if self.state_since_ms < 0 else self.state_since_ms
        if self.state is GroupState.STABLE and not self._is_subscribed(topic):
            return committed.commit_ms
        return None

    def _is_subscribed(self, topic: str) -> bool:
        if self.state is GroupState.EMPTY:
            return False
        return self._subscribed is None or topic in self._subscribed

    def _subscriptions(self) -> frozenset[str] | None:
        """None: not known, so nothing of it expires."""
        if self.protocol_type != CONSUMER_PROTOCOL_TYPE:
            return None
        return subscribed_topics([member.metadata(self.protocol) for member in self.membership])

    # ------------------------------------------------------------------ for people

    def _describe(self) -> Description:
        if not self.exists:
            return Description(GroupState.DEAD)
        is_stable = self.state is GroupState.STABLE
        protocol = self.protocol if is_stable else None
        members = [member.describe(protocol) for member in self.membership]
        return Description(self.state, self.protocol_type or "", protocol or "", members)

    def _delete_group(self, token: Token) -> None:
        if not self.exists:
            self._reply(token, ErrorKind.GROUP_ID_NOT_FOUND)
        elif self.state is not GroupState.EMPTY:
            self._reply(token, ErrorKind.NON_EMPTY_GROUP)
        else:
            rows: RowChanges = dict.fromkeys(self._stored)
            rows.update(self.offsets.remove([partition for partition, _ in self.offsets.items()]))
            self._stored.clear()
            self._reset()
            self._write(rows)
            self._reply(token, None)

    # ------------------------------------------------------------------ effects and rows

    def _reply(self, token: Token, result: Result) -> None:
        self._effects.append(Reply(token, result))

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

    def _write(self, rows: Mapping[str, bytes | None]) -> None:
        if rows:
            self._effects.append(Commit(rows))

    def _wake_at(self, deadline_ms: int) -> None:
        if self.deadline_ms is None or deadline_ms < self.deadline_ms:
            self.deadline_ms = deadline_ms

    def _enter(self, state: GroupState) -> None:
        self.state = state
        self.state_since_ms = self._now.wall_ms

    def _store(self) -> None:
        """Writes what differs of the group's and its members' rows."""
        leader = self.membership.leader
        row = ClassicRow(self.generation, self.state_since_ms, self.protocol_type, self.protocol, leader)
        wanted = {CLASSIC_KEY: encode_classic(row)}
        for member in self.membership:
            wanted[member_key(member.member_id)] = encode_member(member.to_row())
        stored = self._stored
        rows: RowChanges = {key: None for key in stored if key not in wanted}
        rows.update((key, value) for key, value in wanted.items() if stored.get(key) != value)
        self._stored = wanted
        self._write(rows)

    @classmethod
    def load(cls, group_id: str, rows: Mapping[str, bytes], settings: GroupSettings, now: Now) -> ClassicGroup:
        """The machine as its rows say; `deadline_ms` is to be scheduled. Raises Corruption."""
        group = cls(group_id, settings)
        group._now = now
        members: list[Member] = []
        for key, value in sorted(rows.items()):
            if key.startswith(OFFSET_PREFIX):
                group.offsets.load(partition_of_key(key), decode_offset(key, value))
            elif key.startswith(MEMBER_PREFIX):
                group._stored[key] = value
                members.append(Member.of_row(key[len(MEMBER_PREFIX) :], decode_member(key, value)))
        if (value := rows.get(CLASSIC_KEY, b"")) or members:
            group._stored[CLASSIC_KEY] = value
            group._load_generation(decode_classic(CLASSIC_KEY, value), members)
        return group

    def _load_generation(self, row: ClassicRow, members: Sequence[Member]) -> None:
        self.generation = row.generation
        self.protocol_type = row.protocol_type
        self.protocol = row.protocol
        self.state_since_ms = row.state_since_ms
        for member in members:
            self.membership.add(member)
            self._renew(member)
        if not members:
            return
        supported = self.membership.support[row.protocol or ""] == len(members)
        if row.leader is None or row.leader not in self.membership or not supported:
            raise Corruption(CLASSIC_KEY, 0, f"leader {row.leader!r} or protocol {row.protocol!r} is not the members'")
        self.membership.leader = row.leader
        self.state = GroupState.STABLE
        self._subscribed = self._subscriptions()

