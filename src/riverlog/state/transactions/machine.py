"""One transactional id as a pure machine: `step(command, now)` gives the effects.

An `End` that commits first waits until everything appended is durable: it *settles*. Nothing is decided meanwhile, the state
is still Ongoing, and it is again where that fails. Whoever asks what can only be answered after that, or after the markers,
is *parked* and asked again by the machine, at most `settle_wait_ms_max` long; then he is told CONCURRENT_TRANSACTIONS.

Invariant: what was answered is in the rows, so a machine may be dropped at any moment and loaded again.
Not here: how a transaction goes on (`life.py`), who may do what (`rules.py`), bytes (`rows.py`), topic names, access, the
effects (`broker/transactions.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, assert_never

from riverlog.base.errors import Corruption, ErrorKind
from riverlog.env.clock import Now
from riverlog.state.transactions.commands import (
    Add,
    AddResult,
    Command,
    Describe,
    Description,
    End,
    Init,
    LookUp,
    MarkersWritten,
    Number,
    Outcome,
    ProducerResult,
    Settled,
    Tick,
    TransactionSettings,
    TransactionState,
    Verify,
    Version,
)
from riverlog.state.transactions.effects import Commit, Effect, MakeDurable
from riverlog.state.transactions.life import Parked, TransactionLife, Waiting
from riverlog.state.transactions.rows import (
    ADD_PREFIX,
    STATE_KEY,
    Addition,
    StateRow,
    add_key,
    decode_add,
    decode_state,
    encode_add,
    number_of_key,
)
from riverlog.state.transactions.rules import PREPARED, Then, is_timeout, judge_end, judge_init, producer_error

parked_count_max: Final = 100  # requests that wait at one transactional id; a client has five in flight at most
groups_count_max: Final = 1_000  # of one transaction; partitions are as many as there are


class Transaction(TransactionLife):
    def step(self, command: Command, now: Now) -> list[Effect]:
        self._now = now
        effects: list[Effect] = []
        self._effects = effects
        match command:
            case Init() | Add() | Verify() | End():
                self._ask(Parked(command, now.monotonic_ms + self.settings.settle_wait_ms_max))
            case Settled():
                self._settled(command)
            case MarkersWritten():
                self._markers_written(command)
            case Describe():
                self._reply(command.token, self._describe())
            case LookUp():
                self._reply(command.token, self._outcome(command.number))
            case Tick():
                self._tick()
            case _:
                assert_never(command)
        self._schedule()
        return effects

    # ------------------------------------------------------------------ requests, which may have to wait

    def _ask(self, request: Parked) -> None:
        match request.command:
            case Init():
                self._init(request, request.command)
            case Add():
                self._add(request, request.command)
            case Verify():
                self._verify(request, request.command)
            case End():
                self._end(request, request.command)

    def _park(self, request: Parked) -> None:
        if len(self._parked) >= parked_count_max:
            self._refuse(request.command, ErrorKind.CONCURRENT_TRANSACTIONS)
        else:
            self._parked.append(request)

    def _ask_parked(self) -> None:
        """What they wait for may have come."""
        parked, self._parked = self._parked, []
        for request in parked:
            self._ask(request)

    def _refuse(self, command: Waiting, error: ErrorKind) -> None:
        refused = AddResult(error) if isinstance(command, Add | Verify) else ProducerResult(error)
        self._reply(command.token, refused)

    def _init(self, request: Parked, command: Init) -> None:
        if not is_timeout(command.timeout_ms, self.settings.timeout_ms_max):
            self._refuse(command, ErrorKind.INVALID_TRANSACTION_TIMEOUT)
            return
        judged = judge_init(self._row, command)
        match judged:
            case ErrorKind():
                self._refuse(command, judged)
            case StateRow():
                if self._row is None:
                    judged = judged._replace(number=self._expired_number)
                self._write(judged)
                self._reply(command.token, ProducerResult(None, judged.producer))
            case Then.FENCE if self._settling is None:
                self._park(request)
                self._fence(command)
            case _:
                self._park(request)

    def _add(self, request: Parked, command: Add) -> None:
        row = self._row
        error = producer_error(row, command.producer)
        if row is None or error is not None:
            self._refuse(command, error or ErrorKind.INVALID_PRODUCER_ID_MAPPING)
            return
        if row.state in PREPARED or self._settling is not None:
            self._park(request)
            return
        is_open = row.state is TransactionState.ONGOING
        new = Addition(
            tuple(dict.fromkeys(each for each in command.partitions if each not in self._partitions)),
            tuple(dict.fromkeys(each for each in command.groups if each not in self._groups)),
        )
        if len(self._groups) + len(new.groups) > groups_count_max:
            self._refuse(command, ErrorKind.TRANSACTION_ABORTABLE)
            return
        if new != Addition():
            self._join(new)
            if is_open:
                key = add_key(row.number, len(self._add_keys))
                self._add_keys.append(key)
                self._effects.append(Commit({key: encode_add(new)}))
            else:
                self._begin(row, new)
        number = Number(0) if self._row is None else self._row.number
        asked_count = len(command.partitions) + len(command.groups)
        self._reply(command.token, AddResult(None, number, [None] * asked_count))

    def _verify(self, request: Parked, command: Verify) -> None:
        row = self._row
        error = producer_error(row, command.producer)
        if row is None or error is not None:
            self._refuse(command, error or ErrorKind.INVALID_PRODUCER_ID_MAPPING)
        elif row.state in PREPARED or self._settling is not None:
            self._park(request)
        else:
            known = [each in self._partitions for each in command.partitions]
            known += [each in self._groups for each in command.groups]
            errors = [None if one else ErrorKind.TRANSACTION_ABORTABLE for one in known]
            self._reply(command.token, AddResult(None, row.number, errors))

    def _end(self, request: Parked, command: End) -> None:
        judged = judge_end(self._row, command)
        row = self._row
        if isinstance(judged, ErrorKind) or row is None:
            self._refuse(command, judged if isinstance(judged, ErrorKind) else ErrorKind.INVALID_TXN_STATE)
        elif judged is Then.REPEATED:
            self._reply(command.token, ProducerResult(None, row.producer))
        elif judged is Then.ABORT_NOTHING:
            self._abort_nothing(row, command)
        elif judged is Then.WAIT or self._settling is not None:
            self._park(request)
        elif command.committed and self._partitions:
            self._settling = command
            self._effects.append(MakeDurable(row.number, tuple(self._partitions)))
        else:
            self._decide(row, command)

    # ------------------------------------------------------------------ outcomes of effects

    def _settled(self, outcome: Settled) -> None:
        command, row = self._settling, self._row
        if command is None or row is None or outcome.number != row.number:
            return
        self._settling = None
        if outcome.error is None:
            self._decide(row, command)
        else:
            is_bumped = command.version >= Version.EPOCH_BUMPED
            error = ErrorKind.TRANSACTION_ABORTABLE if is_bumped else ErrorKind.COORDINATOR_NOT_AVAILABLE
            self._refuse(command, error)
            self._abort_overdue()
        self._ask_parked()

    def _markers_written(self, written: MarkersWritten) -> None:
        row = self._row
        if row is None or row.state not in PREPARED or written.number != row.number:
            return
        for partition in written.partitions:
            self._partitions.pop(partition, None)
        for group in written.groups:
            self._groups.pop(group, None)
        if not self._partitions and not self._groups:
            self._complete(row)
            self._ask_parked()

    # ------------------------------------------------------------------ time

    def _tick(self) -> None:
        now_ms = self._now.monotonic_ms
        self._scheduled_ms = None  # it may have come too early, and it comes once
        late = [request for request in self._parked if request.deadline_ms <= now_ms]
        self._parked = [request for request in self._parked if request.deadline_ms > now_ms]
        for request in late:
            self._refuse(request.command, ErrorKind.CONCURRENT_TRANSACTIONS)
        self._abort_overdue()
        self._expire()

    # ------------------------------------------------------------------ what became of it

    def _describe(self) -> Description:
        row = self._row
        if row is None:
            return Description(ErrorKind.TRANSACTIONAL_ID_NOT_FOUND)
        return Description(None, row.state, row.producer, row.timeout_ms, row.start_ms, tuple(self._partitions))

    def _outcome(self, number: Number) -> Outcome:
        """Of an earlier transaction nobody needs to ask: it was completed, so every group that it wrote to had folded its
        outcome durably. What a group still has of it came too late, and is as good as aborted."""
        row = self._row
        if row is None or number != row.number:
            return Outcome.ABORTED
        if row.state is TransactionState.ONGOING:
            return Outcome.OPEN
        return Outcome.COMMITTED if row.committed else Outcome.ABORTED

    # ------------------------------------------------------------------ rows

    @classmethod
    def load(
        cls, transactional_id: str, rows: Mapping[str, bytes], settings: TransactionSettings, now: Now
    ) -> tuple[Transaction, list[Effect]]:
        """The machine as its rows say, and what has to go on. Raises Corruption."""
        machine = cls(transactional_id, settings)
        machine._now = now
        machine._add_keys = sorted(key for key in rows if key.startswith(ADD_PREFIX))
        if (value := rows.get(STATE_KEY)) is not None:
            machine._load(decode_state(STATE_KEY, value), rows)
        elif machine._add_keys:
            raise Corruption(machine._add_keys[0], 0, "an addition to a transaction without its state")
        machine._schedule()
        return machine, machine._effects

    def _load(self, row: StateRow, rows: Mapping[str, bytes]) -> None:
        self._row = row
        self._join(row.first)
        for key in self._add_keys:
            if number_of_key(key) == row.number:
                self._join(decode_add(key, rows[key]))
        self._find_due()
        if row.state in PREPARED and (self._partitions or self._groups):
            self._write_markers(row)
        elif row.state in PREPARED:
            self._complete(row)
