"""What Kafka's coordinator answers to a request, as pure functions over the state row: who is who, and what comes next.

A *bump* gives the client a new epoch, or, where the epochs of its producer id are used up, a fresh id with epoch 0. The row
remembers who the client was before (`last`) as long as it may repeat the request that bumped it; the repetition is answered
with what it missed. Invariant: `(producer id, epoch)` is given to one client only, and never goes back.

Not here: partitions, rows, waiting (`machine.py`).
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from riverlog.base.errors import ErrorKind
from riverlog.base.ids import ProducerId
from riverlog.state.transactions.commands import End, Init, Producer, TransactionState, Version
from riverlog.state.transactions.rows import EPOCH_MAX, StateRow

EPOCH_LAST: Final = EPOCH_MAX - 1  # the last one that a client is given; the marker after it takes EPOCH_MAX
NOBODY: Final = Producer()

PREPARED: Final = frozenset((TransactionState.PREPARE_COMMIT, TransactionState.PREPARE_ABORT))
COMPLETE: Final = frozenset((TransactionState.COMPLETE_COMMIT, TransactionState.COMPLETE_ABORT))


class Then(Enum):
    """What the machine does where it cannot answer by the row alone."""

    WAIT = auto()  # until the markers are written
    FENCE = auto()  # abort the open transaction, then ask again
    DECIDE = auto()  # end the open transaction
    ABORT_NOTHING = auto()  # no transaction is open: the abort only bumps the epoch
    REPEATED = auto()  # answered before: the same answer


def is_exhausted(producer: Producer) -> bool:
    return producer.epoch >= EPOCH_LAST


def bumped(producer: Producer, fresh_id: ProducerId) -> Producer:
    if not is_exhausted(producer):
        return Producer(producer.producer_id, producer.epoch + 1)
    assert fresh_id >= 0, "whoever asks near the last epoch brings a fresh id"
    return Producer(fresh_id, 0)


def marker_of(producer: Producer) -> Producer:
    """What ends the transaction of `producer` and refuses its late batches."""
    return Producer(producer.producer_id, producer.epoch + 1)


def is_timeout(timeout_ms: int, timeout_ms_max: int) -> bool:
    return 0 < timeout_ms <= timeout_ms_max


def producer_error(row: StateRow | None, producer: Producer) -> ErrorKind | None:
    """Why `producer` may not add, verify or end."""
    if row is None or row.producer.producer_id != producer.producer_id:
        return ErrorKind.INVALID_PRODUCER_ID_MAPPING
    if row.producer.epoch != producer.epoch or producer.epoch > EPOCH_LAST:
        return ErrorKind.PRODUCER_FENCED
    return None


def judge_init(row: StateRow | None, command: Init) -> StateRow | ErrorKind | Then:
    """Gives the row as it is to be written (its times are the machine's)."""
    expected = NOBODY if command.expected.producer_id < 0 else command.expected
    if row is None:
        producer = Producer(command.fresh_id, 0)
        return StateRow(TransactionState.EMPTY, producer, command.timeout_ms, changed_ms=0, last=expected)
    is_repeated = expected == row.last
    if expected not in (NOBODY, row.producer) and not is_repeated:
        return ErrorKind.PRODUCER_FENCED
    if row.state in PREPARED:
        return Then.WAIT
    if row.state is TransactionState.ONGOING:
        return Then.FENCE
    row = row._replace(state=TransactionState.EMPTY, timeout_ms=command.timeout_ms)
    if expected != NOBODY and is_repeated:
        return row
    return row._replace(producer=bumped(row.producer, command.fresh_id), last=expected)


def judge_end(row: StateRow | None, command: End) -> ErrorKind | Then:
    if command.version < Version.EPOCH_BUMPED:
        error = producer_error(row, command.producer)
        return error or _judge_end_plain(row, command)
    is_ended = row is not None and (row.state in PREPARED or row.state in COMPLETE)
    is_repeated = row is not None and is_ended and command.producer == row.last != NOBODY
    if not is_repeated and (error := producer_error(row, command.producer)):
        return error
    return _judge_end_bumped(row, command, is_repeated)


def _judge_end_plain(row: StateRow | None, command: End) -> ErrorKind | Then:
    assert row is not None
    if row.state is TransactionState.ONGOING:
        return Then.DECIDE
    if row.state is TransactionState.EMPTY or row.committed != command.committed:
        return ErrorKind.INVALID_TXN_STATE
    return Then.WAIT if row.state in PREPARED else Then.REPEATED


def _judge_end_bumped(row: StateRow | None, command: End, is_repeated: bool) -> ErrorKind | Then:
    """The epoch rises with each end: who comes with the one before repeats its request, who comes with the current
    one means its next transaction."""
    assert row is not None
    if row.state is TransactionState.ONGOING:
        return Then.DECIDE
    if is_repeated:
        if row.committed != command.committed:
            return ErrorKind.INVALID_TXN_STATE
        return Then.WAIT if row.state in PREPARED else Then.REPEATED
    if command.committed:
        return ErrorKind.INVALID_TXN_STATE
    return Then.WAIT if row.state in PREPARED else Then.ABORT_NOTHING
