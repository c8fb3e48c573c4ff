"""The classic side of a group: its rows, and what its members mean for offsets; their own rules are `rebalance.py`.

Rows are written when something settled: a generation became Stable, a static member was replaced in a stable one, the
last member went. After a load the last stable generation goes on; its sessions start anew. A rebalance that was under
way is forgotten: its members are told so by ILLEGAL_GENERATION or UNKNOWN_MEMBER_ID and join again.

Not here: commands, offsets (`group.py`), groups of the consumer protocol (`consumer.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from riverlog.base.errors import Corruption, ErrorKind
from riverlog.env.clock import Now
from riverlog.state.groups.commands import (
    CONSUMER_PROTOCOL_TYPE,
    CommitOffsets,
    CommitPending,
    CommittedOffset,
    Description,
    FetchOffsets,
    GroupSettings,
    GroupState,
    JoinResult,
    SyncResult,
    Token,
)
from riverlog.state.groups.members import Member
from riverlog.state.groups.pending import RowChanges
from riverlog.state.groups.rebalance import RebalancingGroup
from riverlog.state.groups.rows import (
    CLASSIC_KEY,
    MEMBER_PREFIX,
    ClassicRow,
    decode_classic,
    decode_member,
    encode_classic,
    encode_member,
    member_key,
)


class ClassicSide(RebalancingGroup):
    group_type: ClassVar[str] = "classic"

    def __init__(self, group_id: str, settings: GroupSettings) -> None:
        super().__init__(group_id, settings)
        self._stored: dict[str, bytes] = {}  # the rows of group and members, all commits done

    # ------------------------------------------------------------------ what the group asks

    @property
    def current_state(self) -> GroupState:
        return self.state

    @property
    def exists(self) -> bool:
        return bool(self.membership.members or self._pending or self._stored)

    @property
    def member_count(self) -> int:
        return len(self.membership)

    @property
    def has_newcomers(self) -> bool:
        return bool(self._pending)

    def waiting(self) -> list[Token]:
        """The requests that wait for an answer."""
        return [token for member in self.membership for token in (member.joining, member.syncing) if token is not None]

    def forget(self) -> RowChanges:
        assert not self.membership.members
        rows: RowChanges = dict.fromkeys(self._stored)
        self._stored.clear()
        self._reset()
        return rows

    # ------------------------------------------------------------------ coming from and going to the consumer protocol

    def dissolve(self) -> RowChanges:
        """The members go on in another side: who waits is told to join again."""
        for member in self.membership:
            self._answer_join(member, JoinResult(ErrorKind.REBALANCE_IN_PROGRESS, member.member_id))
            self._answer_sync(member, SyncResult(ErrorKind.REBALANCE_IN_PROGRESS))
        return dict.fromkeys(self._stored)

    def adopt(self, generation: int, members: Sequence[Member]) -> None:
        """Consumers that come from another side, at least one; they are called to rebalance.

        Until then they commit in the generation that they know. The rows already say the next one, so that after a load
        nobody takes what it has for the whole: it is told ILLEGAL_GENERATION and joins again."""
        self.generation = generation + 1
        self.protocol_type = CONSUMER_PROTOCOL_TYPE
        for member in members:
            self.membership.add(member)
            self._renew(member)
        self.protocol = self.membership.vote()
        self._subscribed = self.membership.subscriptions(self.protocol_type, self.protocol)
        self._enter(GroupState.STABLE)
        self._store()
        self.generation = generation
        self._rebalance_or_complete()

    # ------------------------------------------------------------------ offsets

    def commit_error(self, command: CommitOffsets) -> ErrorKind | None:
        """The group exists, or it is empty."""
        if command.generation < 0 and self.state is GroupState.EMPTY:
            return None
        if command.generation < 0 and not command.member_id and command.instance_id is None:
            return ErrorKind.UNKNOWN_MEMBER_ID  # an outsider may commit only where nobody is
        error = self._check(command.member_id, command.instance_id, command.generation)
        if error is not None:
            return error
        self._renew(self.membership.members[command.member_id])
        return ErrorKind.REBALANCE_IN_PROGRESS if self.state is GroupState.COMPLETING_REBALANCE else None

    def pending_error(self, command: CommitPending) -> ErrorKind | None:
        """A producer may commit without saying for which member."""
        if command.generation < 0 and not command.member_id and command.instance_id is None:
            return None
        if command.generation < 0 and self.state is GroupState.EMPTY:
            return None
        return self._check(command.member_id, command.instance_id, command.generation)

    def fetch_error(self, command: FetchOffsets) -> ErrorKind | None:
        return None

    def offsets_deletable(self) -> bool:
        return self.state is GroupState.EMPTY or self.protocol_type == CONSUMER_PROTOCOL_TYPE

    def is_subscribed(self, topic: str) -> bool:
        if self.state is GroupState.EMPTY:
            return False
        return self._subscribed is None or topic in self._subscribed

    def idle_since_ms(self, topic: str, committed: CommittedOffset) -> int | None:
        if self.protocol_type is None:
            return committed.commit_ms
        if self.state is GroupState.EMPTY:
            return committed.commit_ms if self.state_since_ms < 0 else self.state_since_ms
        if self.state is GroupState.STABLE and not self.is_subscribed(topic):
            return committed.commit_ms
        return None

    # ------------------------------------------------------------------ for people

    def describe(self) -> Description:
        is_stable = self.state is GroupState.STABLE
        protocol = self.protocol if is_stable else None
        members = [member.describe(protocol) for member in self.membership]
        return Description(self.state, self.protocol_type or "", protocol or "", members)

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
    def load(cls, group_id: str, rows: Mapping[str, bytes], settings: GroupSettings, now: Now) -> ClassicSide:
        """The side as its rows say; `deadline_ms` is to be scheduled. Raises Corruption."""
        side = cls(group_id, settings)
        side._now = now
        members: list[Member] = []
        for key, value in sorted(rows.items()):
            if key.startswith(MEMBER_PREFIX):
                side._stored[key] = value
                members.append(Member.of_row(key[len(MEMBER_PREFIX) :], decode_member(key, value)))
        if (value := rows.get(CLASSIC_KEY, b"")) or members:
            side._stored[CLASSIC_KEY] = value
            side._load_generation(decode_classic(CLASSIC_KEY, value), members)
        return side

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

