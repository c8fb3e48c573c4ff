"""Drives one group's machine by hand: keeps its time, its answers and the rows that it asked to commit."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from riverlog.base.ids import PartitionId
from riverlog.env.clock import Now
from riverlog.state.groups.classic import ClassicSide
from riverlog.state.groups.commands import (
    Command,
    CommitOffsets,
    CommittedOffset,
    GroupSettings,
    Heartbeat,
    Join,
    Leave,
    Leaver,
    Protocols,
    Result,
    Sync,
    Tick,
    Token,
)
from riverlog.state.groups.effects import Commit, Reply, Schedule
from riverlog.state.groups.group import Group
from riverlog.state.groups.topics import NoTopics, TopicsView


def subscription(*topics: str) -> bytes:
    """The metadata of a consumer that subscribes to these topics."""
    names = b"".join(len(name).to_bytes(2, "big") + name for name in (topic.encode() for topic in topics))
    return b"\x00\x00" + len(topics).to_bytes(4, "big") + names + b"\xff\xff\xff\xff"


def cooperative_subscription(topics: Sequence[str], owned: Mapping[str, Collection[int]], generation: int) -> bytes:
    """The metadata of a consumer that keeps what it owns while it joins."""
    parts = [len(owned).to_bytes(4, "big")]
    for topic, indexes in owned.items():
        name = topic.encode()
        parts += [len(name).to_bytes(2, "big"), name, len(indexes).to_bytes(4, "big")]
        parts += [index.to_bytes(4, "big") for index in sorted(indexes)]
    parts.append(generation.to_bytes(4, "big", signed=True))
    return b"\x00\x02" + subscription(*topics)[2:] + b"".join(parts)


RANGE: Final[Protocols] = (("range", subscription("t")),)


class GroupDriver:
    """Methods that ask give the token of the request; `answers` has its answer as soon as there is one."""

    def __init__(self, settings: GroupSettings | None = None, topics: TopicsView | None = None) -> None:
        self.settings = settings or GroupSettings()
        self.now = Now(1_700_000_000_000, 1_000_000)
        self.topics = topics or NoTopics()
        self.machine = Group("g", self.settings, self.topics)
        self.answers: dict[Token, Result] = {}
        self.rows: dict[str, bytes] = {}
        self.commits: list[Mapping[str, bytes | None]] = []
        self.deadline_ms: int | None = None  # as it was scheduled
        self._tokens = 0

    @property
    def classic(self) -> ClassicSide:
        """The side of the group, which is a classic one."""
        side = self.machine.side
        assert isinstance(side, ClassicSide)
        return side

    def token(self) -> Token:
        self._tokens += 1
        return Token(self._tokens)

    def send(self, command: Command) -> None:
        for effect in self.machine.step(command, self.now):
            match effect:
                case Reply():
                    assert effect.token not in self.answers, f"{effect.token} is answered twice"
                    self.answers[effect.token] = effect.result
                case Commit():
                    self.commits.append(effect.rows)
                    for key, value in effect.rows.items():
                        if value is None:
                            self.rows.pop(key, None)
                        else:
                            self.rows[key] = value
                case Schedule():
                    self.deadline_ms = effect.deadline_ms

    def advance(self, milliseconds: int) -> None:
        """Lets time pass, with a tick at every deadline on the way."""
        until = Now(self.now.wall_ms + milliseconds, self.now.monotonic_ms + milliseconds)
        while self.deadline_ms is not None and self.deadline_ms <= until.monotonic_ms:
            passed = max(self.deadline_ms - self.now.monotonic_ms, 0)
            self.now = Now(self.now.wall_ms + passed, self.now.monotonic_ms + passed)
            self.send(Tick())
        self.now = until

    def reload(self) -> None:
        """Another process takes over: what waited is gone, the monotonic clock is another one."""
        self.now = Now(self.now.wall_ms + 1_000, 5_000)
        self.machine = Group.load("g", self.rows, self.settings, self.topics, self.now)
        self.deadline_ms = self.machine.deadline_ms

    def join(
        self,
        member_id: str = "",
        *,
        instance_id: str | None = None,
        protocols: Protocols = RANGE,
        protocol_type: str = "consumer",
        session_timeout_ms: int = 10_000,
        rebalance_timeout_ms: int = 60_000,
        member_id_required: bool = False,
        skip_assignment_known: bool = True,
    ) -> Token:
        token = self.token()
        join = Join(
            token=token,
            member_id=member_id,
            instance_id=instance_id,
            client_id="c",
            client_host="/127.0.0.1",
            session_timeout_ms=session_timeout_ms,
            rebalance_timeout_ms=rebalance_timeout_ms,
            protocol_type=protocol_type,
            protocols=protocols,
            fresh_id=str(token),
            member_id_required=member_id_required,
            skip_assignment_known=skip_assignment_known,
        )
        self.send(join)
        return token

    def sync(
        self,
        member_id: str,
        generation: int,
        assignments: Mapping[str, bytes] | None = None,
        *,
        instance_id: str | None = None,
        protocol_type: str | None = None,
        protocol: str | None = None,
    ) -> Token:
        token = self.token()
        self.send(Sync(token, member_id, instance_id, generation, protocol_type, protocol, assignments or {}))
        return token

    def beat(self, member_id: str, generation: int, instance_id: str | None = None) -> Result:
        token = self.token()
        self.send(Heartbeat(token, member_id, instance_id, generation))
        return self.answers[token]

    def leave(self, *leavers: Leaver) -> Result:
        token = self.token()
        self.send(Leave(token, leavers))
        return self.answers[token]

    def commit(
        self, offsets: Mapping[PartitionId, int], member_id: str = "", generation: int = -1, expire_ms: int = -1
    ) -> Result:
        token = self.token()
        committed = {
            partition: CommittedOffset(offset, -1, "", self.now.wall_ms, expire_ms)
            for partition, offset in offsets.items()
        }
        self.send(CommitOffsets(token, member_id, None, generation, committed))
        return self.answers[token]

    def stable(self, count: int) -> Sequence[str]:
        """`count` members with everything assigned; their ids, the leader first. The group was empty."""
        tokens = [self.join() for _ in range(count)]
        members = [member.member_id for member in self.classic.membership]
        for member_id, token in zip(members, tokens, strict=True):
            if token in self.answers and self.machine.state.value == "PreparingRebalance":
                self.join(member_id)
        generation = self.classic.generation
        leader = self.classic.membership.leader
        assert leader is not None
        self.sync(leader, generation, {member_id: member_id.encode() for member_id in members})
        for member_id in members:
            self.sync(member_id, generation)
        return [leader, *(member_id for member_id in members if member_id != leader)]
