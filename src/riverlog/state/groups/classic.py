"""One classic consumer group as a pure machine: `step(command, now)` gives the effects.

Here are its commands, its committed offsets and its rows; its members' half is `rebalance.py`.

Rows are written when something settled: a generation became Stable, a static member was replaced in a stable one, the
last member went. After a load the last stable generation goes on; its sessions start anew. A rebalance that was under
way is forgotten: its members are told so by ILLEGAL_GENERATION or UNKNOWN_MEMBER_ID and join again.

Not here: topic names, access, who runs the effects (`broker/coordinator.py`), groups of KIP-848.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    Leave,
    Sync,
    Tick,
    Token,
)
from riverlog.state.groups.effects import Effect, Schedule
from riverlog.state.groups.members import Member
from riverlog.state.groups.offsets import Offsets, RowChanges
from riverlog.state.groups.rebalance import RebalancingGroup
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


class ClassicGroup(RebalancingGroup):
    def __init__(self, group_id: str, settings: GroupSettings) -> None:
        super().__init__(group_id, settings)
        self.offsets = Offsets()
        self._stored: dict[str, bytes] = {}  # the rows of group and members, all commits done

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

    # ------------------------------------------------------------------ rows

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
        self._subscribed = self.membership.subscriptions(self.protocol_type, self.protocol)

