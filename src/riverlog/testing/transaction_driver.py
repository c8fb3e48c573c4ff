"""Drives the machine of one transactional id by hand, as the broker's runner would: keeps its time, rows and answers.

Commits become durable at once, or, with `holds_commits`, when `commit_one` is called; what may only be done then (replies,
markers) waits for it. A lazy commit waits for the next one; `reload` loses it, and all that was not durable.
Not here: what a log or a group does with markers; `markers` has those that were begun.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from riverlog.base.ids import PartitionId, ProducerId, TopicId
from riverlog.env.clock import Now
from riverlog.state.transactions.commands import (
    Add,
    Command,
    Describe,
    Description,
    End,
    Init,
    LookUp,
    MarkersWritten,
    Number,
    Outcome,
    Producer,
    Result,
    Settled,
    Tick,
    Token,
    TransactionSettings,
    Verify,
    Version,
)
from riverlog.state.transactions.effects import Commit, Effect, MakeDurable, Reply, Schedule, WriteMarkers
from riverlog.state.transactions.machine import Transaction
from riverlog.state.transactions.rules import NOBODY

TOPIC_ID: Final = TopicId(b"t" * 16)
P0: Final = PartitionId(TOPIC_ID, 0)
P1: Final = PartitionId(TOPIC_ID, 1)
V2: Final = Version.EPOCH_BUMPED

Rows = dict[str, bytes | None]


class TransactionDriver:
    """Methods that ask give the token of the request; `answers` has its answer as soon as there is one."""

    def __init__(self, settings: TransactionSettings | None = None, holds_commits: bool = False) -> None:
        self.settings = settings or TransactionSettings()
        self.now = Now(1_700_000_000_000, 1_000_000)
        self.holds_commits = holds_commits
        self.machine = Transaction("x", self.settings)
        self.answers: dict[Token, Result] = {}
        self.rows: dict[str, bytes] = {}
        self.markers: list[WriteMarkers] = []  # begun by this machine and not told to be done
        self.settling: MakeDurable | None = None
        self.deadline_ms: int | None = None  # as it was scheduled
        self.schedule_count = 0
        self.pending: list[tuple[Rows, list[Reply | WriteMarkers]]] = []  # commits in flight, and what waits for each
        self.lazy: Rows = {}
        self._tokens = 0
        self._producer_ids = 999

    def token(self) -> Token:
        self._tokens += 1
        return Token(self._tokens)

    def fresh_id(self) -> ProducerId:
        self._producer_ids += 1
        return ProducerId(self._producer_ids)

    # ------------------------------------------------------------------ what a runner does

    def send(self, command: Command) -> list[Effect]:
        effects = self.machine.step(command, self.now)
        self._do(effects)
        return effects

    def _do(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Reply() | WriteMarkers():
                    if self.pending:
                        self.pending[-1][1].append(effect)
                    else:
                        self._deliver(effect)
                case Commit(lazy=True):
                    self.lazy.update(effect.rows)
                case Commit():
                    self.pending.append(({**self.lazy, **effect.rows}, []))
                    self.lazy.clear()
                    if not self.holds_commits:
                        self.commit_one()
                case MakeDurable():
                    assert self.settling is None, "two at once"
                    self.settling = effect
                case Schedule():
                    self.deadline_ms = effect.deadline_ms
                    self.schedule_count += 1

    def _deliver(self, effect: Reply | WriteMarkers) -> None:
        if isinstance(effect, Reply):
            assert effect.token not in self.answers, f"{effect.token} is answered twice"
            self.answers[effect.token] = effect.result
        else:
            self.markers.append(effect)

    def commit_one(self, delivered_count: int | None = None) -> None:
        """The oldest commit in flight is durable; of what waited for it only the first few are done, where that is said."""
        rows, behind = self.pending.pop(0)
        self._store(rows)
        for effect in behind[:delivered_count]:
            self._deliver(effect)

    def commit_lazy(self) -> None:
        """The runner had nothing else to do. Not while a commit is in flight, which must come first."""
        assert not self.pending
        rows, self.lazy = self.lazy, {}
        self._store(rows)

    def _store(self, rows: Rows) -> None:
        for key, value in rows.items():
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value

    def advance(self, milliseconds: int) -> None:
        """Lets time pass, with a tick at every deadline on the way."""
        until = Now(self.now.wall_ms + milliseconds, self.now.monotonic_ms + milliseconds)
        while self.deadline_ms is not None and self.deadline_ms <= until.monotonic_ms:
            passed = max(self.deadline_ms - self.now.monotonic_ms, 0)
            self.now = Now(self.now.wall_ms + passed, self.now.monotonic_ms + passed)
            self.deadline_ms = None
            self.send(Tick())
            assert self.deadline_ms is None or self.deadline_ms > self.now.monotonic_ms, "a tick that asks for itself"
        self.now = until

    def reload(self, away_ms: int = 1_000) -> list[Effect]:
        """Another process takes over: what was not durable is gone, the monotonic clock is another one."""
        self.now = Now(self.now.wall_ms + away_ms, 5_000)
        self.pending.clear()
        self.lazy.clear()
        self.markers.clear()
        self.settling = None
        self.deadline_ms = None
        self.machine, effects = Transaction.load("x", self.rows, self.settings, self.now)
        self._do(effects)
        return effects

    # ------------------------------------------------------------------ requests

    def init(self, expected: Producer = NOBODY, timeout_ms: int = 60_000) -> Token:
        token = self.token()
        self.send(Init(token, timeout_ms, expected, self.fresh_id()))
        return token

    def add(
        self, producer: Producer, *partitions: PartitionId, groups: Sequence[str] = (), version: Version = V2
    ) -> Token:
        token = self.token()
        self.send(Add(token, producer, version, partitions, groups))
        return token

    def verify(self, producer: Producer, *partitions: PartitionId, groups: Sequence[str] = ()) -> Token:
        token = self.token()
        self.send(Verify(token, producer, partitions, groups))
        return token

    def end(self, producer: Producer, committed: bool, version: Version = V2) -> Token:
        token = self.token()
        self.send(End(token, producer, version, committed, self.fresh_id()))
        return token

    def settle(self, outcome: Settled | None = None) -> None:
        """What `MakeDurable` asked for is done, or was not possible (`outcome`)."""
        settling, self.settling = self.settling, None
        assert settling is not None, "nothing is to be made durable"
        self.send(outcome or Settled(settling.number))

    def write_markers(self) -> WriteMarkers:
        """The oldest markers that were asked for are written, all of them."""
        asked = self.markers.pop(0)
        self.send(MarkersWritten(asked.number, asked.partitions, asked.groups))
        return asked

    # ------------------------------------------------------------------ requests and their answers

    def new_producer(self, expected: Producer = NOBODY, timeout_ms: int = 60_000) -> Producer:
        return self.producer_of(self.init(expected, timeout_ms))

    def producer_of(self, token: Token) -> Producer:
        """Of an answer of Init or End without an error."""
        result = self.answers[token]
        assert getattr(result, "error", None) is None, result
        producer = getattr(result, "producer", None)
        assert isinstance(producer, Producer)
        return producer

    def commit(self, producer: Producer, version: Version = V2) -> Producer:
        """Ends the open transaction whole, markers included."""
        token = self.end(producer, committed=True, version=version)
        if self.settling is not None:
            self.settle()
        self.write_markers()
        return self.producer_of(token)

    def describe(self) -> Description:
        token = self.token()
        self.send(Describe(token))
        result = self.answers[token]
        assert isinstance(result, Description)
        return result

    def outcome(self, number: int) -> Outcome:
        token = self.token()
        self.send(LookUp(token, Number(number)))
        result = self.answers[token]
        assert isinstance(result, Outcome)
        return result
