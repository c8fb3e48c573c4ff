"""The life of the transactions of one id: how one begins, is decided, fenced, completed, and when it is too late.

    Empty, Complete* --begin--> Ongoing --decide, fence--> Prepare* --complete--> Complete*

The row that says Prepare* is the decision; once it is durable it never changes, and everything that the transaction wrote to
has to hear of it. Invariants: a number has one outcome, and no two transactions have one number; no epoch goes back; one
tick is asked for at a time, and a later one only when it has come (a tick that finds nothing to do costs less than a timer
for each transaction).
Not here: requests and who may ask what (`machine.py`, `rules.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from riverlog.base.ids import PartitionId
from riverlog.env.clock import Now
from riverlog.state.transactions.commands import (
    Add,
    End,
    Init,
    Number,
    Producer,
    ProducerResult,
    Result,
    Token,
    TransactionSettings,
    TransactionState,
    Verify,
    Version,
)
from riverlog.state.transactions.effects import Commit, Effect, Reply, Schedule, WriteMarkers
from riverlog.state.transactions.rows import STATE_KEY, Addition, StateRow, encode_state
from riverlog.state.transactions.rules import NOBODY, PREPARED, bumped, is_exhausted, marker_of

Waiting: TypeAlias = Init | Add | Verify | End


class Parked(NamedTuple):
    command: Waiting
    deadline_ms: int  # monotonic


class TransactionLife:
    def __init__(self, transactional_id: str, settings: TransactionSettings) -> None:
        self.transactional_id = transactional_id
        self.settings = settings
        self._row: StateRow | None = None
        self._expired_number = Number(0)  # of the last transaction before the id expired
        self._partitions: dict[PartitionId, None] = {}  # of the open transaction, or that have not heard of its end
        self._groups: dict[str, None] = {}
        self._add_keys: list[str] = []  # rows that the end of the transaction removes
        self._settling: End | None = None  # it waits for `Settled`
        self._parked: list[Parked] = []
        self._due_ms: int | None = None  # monotonic: time-out of the open transaction, or expiration of the id
        self._scheduled_ms: int | None = None  # the tick that was asked for
        self._effects: list[Effect] = []
        self._now = Now(0, 0)

    # ------------------------------------------------------------------ what the outside may ask

    @property
    def exists(self) -> bool:
        return self._row is not None

    @property
    def state(self) -> TransactionState:
        return TransactionState.DEAD if self._row is None else self._row.state

    @property
    def producer(self) -> Producer:
        return NOBODY if self._row is None else self._row.producer

    @property
    def deadline_ms(self) -> int | None:
        """When something is to be done at the latest: monotonic."""
        due_ms = self._due_ms if self._settling is None else None
        if not self._parked:
            return due_ms
        first_ms = min(request.deadline_ms for request in self._parked)
        return first_ms if due_ms is None else min(first_ms, due_ms)

    def waiting(self) -> list[Token]:
        """The requests that wait for an answer."""
        tokens = [parked.command.token for parked in self._parked]
        return tokens if self._settling is None else [self._settling.token, *tokens]

    @property
    def number(self) -> Number:
        """Of the transaction that is open, or was last."""
        return Number(0) if self._row is None else self._row.number

    def open_number(self) -> Number | None:
        """The transaction that may still be written to."""
        row = self._row
        if row is None or row.state is not TransactionState.ONGOING or self._settling is not None:
            return None
        return row.number

    def admits(self, producer: Producer, partition: PartitionId) -> bool:
        """Whether `producer` may append to `partition` in its transaction. The row that says so may be on its way to the
        disk: whoever asks lets nobody append before the `Add` was answered."""
        return self.open_number() is not None and producer == self.producer and partition in self._partitions

    def _join(self, addition: Addition) -> None:
        self._partitions.update(dict.fromkeys(addition.partitions))
        self._groups.update(dict.fromkeys(addition.groups))

    # ------------------------------------------------------------------ the life of a transaction

    def _begin(self, row: StateRow, first: Addition) -> None:
        begun = row._replace(
            state=TransactionState.ONGOING,
            number=Number(row.number + 1),
            committed=False,
            last=NOBODY,
            start_ms=self._now.wall_ms,
            first=first,
        )
        self._write(begun)

    def _decide(self, row: StateRow, command: End) -> None:
        row = row._replace(
            state=TransactionState.PREPARE_COMMIT if command.committed else TransactionState.PREPARE_ABORT,
            committed=command.committed,
            marker=row.producer,
        )
        if command.version >= Version.EPOCH_BUMPED:
            row = row._replace(
                producer=bumped(row.producer, command.fresh_id), last=row.producer, marker=marker_of(row.producer)
            )
        self._write(row)
        self._reply(command.token, ProducerResult(None, row.producer))
        self._write_markers(row)

    def _abort_nothing(self, row: StateRow, command: End) -> None:
        """It has a number of its own: the outcome of the transaction before stays what it was."""
        row = row._replace(
            state=TransactionState.COMPLETE_ABORT,
            number=Number(row.number + 1),
            committed=False,
            producer=bumped(row.producer, command.fresh_id),
            last=row.producer,
        )
        self._write(row)
        self._reply(command.token, ProducerResult(None, row.producer))

    def _fence(self, command: Init | None) -> None:
        """Aborts the open transaction under the next epoch: for a producer that takes its place, or after its time-out.

        Who asked with what it has, or was too late, may go on under the epoch that the markers made; a producer that
        brings nothing asks again and gets one more, so that nobody shares it with the one before."""
        row = self._row
        assert row is not None
        assert row.state is TransactionState.ONGOING
        assert self._settling is None
        marker = marker_of(row.producer)
        producer, last = marker, NOBODY
        if command is not None and command.expected == row.producer:
            producer, last = bumped(row.producer, command.fresh_id), row.producer
        elif command is None and not is_exhausted(row.producer):
            last = row.producer
        row = row._replace(
            state=TransactionState.PREPARE_ABORT, committed=False, producer=producer, last=last, marker=marker
        )
        self._write(row)
        self._write_markers(row)

    def _write_markers(self, row: StateRow) -> None:
        partitions, groups = tuple(self._partitions), tuple(self._groups)
        self._effects.append(WriteMarkers(row.number, row.marker, row.committed, partitions, groups))

    def _complete(self, row: StateRow) -> None:
        rows = dict.fromkeys(self._add_keys)
        self._add_keys.clear()
        complete = TransactionState.COMPLETE_COMMIT if row.committed else TransactionState.COMPLETE_ABORT
        self._write(row._replace(state=complete, marker=NOBODY, start_ms=-1, first=Addition()), rows, lazy=True)

    # ------------------------------------------------------------------ time

    def _is_due(self) -> bool:
        return self._settling is None and self._due_ms is not None and self._now.monotonic_ms >= self._due_ms

    def _abort_overdue(self) -> None:
        if self._is_due() and self.state is TransactionState.ONGOING:
            self._fence(None)

    def _expire(self) -> None:
        """Numbers go on while the machine lives, for whoever still thinks of the ones before; all that groups kept under
        those is folded, so another machine may begin anew."""
        if self._row is None or not self._is_due() or self.state is TransactionState.ONGOING:
            return
        self._expired_number = self._row.number
        self._row = None
        self._due_ms = None
        rows = dict.fromkeys([STATE_KEY, *self._add_keys])
        self._add_keys.clear()
        self._effects.append(Commit(rows, lazy=True))

    def _find_due(self) -> None:
        """From the wall times of the row. A clock that was set back does not make anybody wait longer than once."""
        row = self._row
        if row is None or row.state in PREPARED:
            self._due_ms = None
            return
        is_open = row.state is TransactionState.ONGOING
        begin_ms, wait_ms = (row.start_ms, row.timeout_ms) if is_open else (row.changed_ms, self.settings.expiration_ms)
        left_ms = begin_ms + wait_ms - self._now.wall_ms
        self._due_ms = self._now.monotonic_ms + min(max(left_ms, 0), wait_ms)

    def _schedule(self) -> None:
        deadline_ms = self.deadline_ms
        if deadline_ms is not None and (self._scheduled_ms is None or deadline_ms < self._scheduled_ms):
            self._scheduled_ms = deadline_ms
            self._effects.append(Schedule(deadline_ms))

    # ------------------------------------------------------------------ rows

    def _reply(self, token: Token, result: Result) -> None:
        self._effects.append(Reply(token, result))

    def _write(self, row: StateRow, removed: Mapping[str, bytes | None] | None = None, lazy: bool = False) -> None:
        self._row = row = row._replace(changed_ms=self._now.wall_ms)
        self._find_due()
        self._effects.append(Commit({**(removed or {}), STATE_KEY: encode_state(row)}, lazy))
