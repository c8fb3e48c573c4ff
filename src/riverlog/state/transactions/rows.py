"""The rows of a transactional id's scope, as bytes and back: docs/formats/transaction-rows.md.

Every row begins with its format's version. Rows of a key that is not known here are kept and not touched.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct, error
from typing import Final, NamedTuple

from riverlog.base.errors import Corruption
from riverlog.base.ids import PartitionId, TopicId
from riverlog.state.transactions.commands import Number, Producer, TransactionState

STATE_KEY: Final = "state"
ADD_PREFIX: Final = "add/"
FORMAT_VERSION: Final = 1
EPOCH_MAX: Final = 32_767  # of a marker; no producer is ever given it

_STATE_HEAD: Final = Struct(">BBBqqhqhqhiqq")
_COUNT: Final = Struct(">i")
_PARTITION: Final = Struct(">16si")
assert (_STATE_HEAD.size, _PARTITION.size) == (61, 20)


class StateCode(IntEnum):  # persisted, see docs/formats/transaction-rows.md: never renumber, never reuse
    EMPTY = 1
    ONGOING = 2
    PREPARE_COMMIT = 3
    PREPARE_ABORT = 4
    COMPLETE_COMMIT = 5
    COMPLETE_ABORT = 6


_CODES: Final = {TransactionState[code.name]: int(code) for code in StateCode}
_STATES: Final = {code: state for state, code in _CODES.items()}


class Addition(NamedTuple):
    """Partitions and groups that one request added to a transaction."""

    partitions: tuple[PartitionId, ...] = ()
    groups: tuple[str, ...] = ()


class StateRow(NamedTuple):
    state: TransactionState
    producer: Producer  # who the client is from now on
    timeout_ms: int
    changed_ms: int  # wall time
    number: Number = Number(0)
    committed: bool = False  # the outcome of `number`, once it is decided
    last: Producer = Producer()  # who it was before the last bump, if it may ask again for what that bump answered
    marker: Producer = Producer()  # what the markers of a Prepare state carry
    start_ms: int = -1  # wall time
    first: Addition = Addition()


def add_key(number: Number, index: int) -> str:
    return f"{ADD_PREFIX}{number}/{index}"


def number_of_key(key: str) -> Number:
    """Of a key of `add_key`. Raises Corruption."""
    try:
        number, index = key[len(ADD_PREFIX) :].split("/")
        int(index)
        return Number(int(number))
    except ValueError as cause:
        raise Corruption(key, 0, "the key is not of an addition to a transaction") from cause


def encode_state(row: StateRow) -> bytes:
    head = _STATE_HEAD.pack(
        FORMAT_VERSION,
        _CODES[row.state],
        row.committed,
        row.number,
        *row.producer,
        *row.last,
        *row.marker,
        row.timeout_ms,
        row.start_ms,
        row.changed_ms,
    )
    return head + _addition(row.first)


def decode_state(key: str, value: bytes) -> StateRow:
    """Raises Corruption."""
    reader = _Reader(key, value)
    _, code, committed, number, *rest = reader.take(_STATE_HEAD)
    producer_id, epoch, last_id, last_epoch, marker_id, marker_epoch, timeout_ms, start_ms, changed_ms = rest
    state = _STATES.get(code)
    if state is None:
        raise Corruption(key, 1, f"{code} is not the code of a state")
    if committed > 1 or number < 0 or epoch < 0:
        raise Corruption(key, 2, "fields out of their bounds")
    return StateRow(
        state=state,
        producer=Producer(producer_id, epoch),
        timeout_ms=timeout_ms,
        changed_ms=changed_ms,
        number=Number(number),
        committed=bool(committed),
        last=Producer(last_id, last_epoch),
        marker=Producer(marker_id, marker_epoch),
        start_ms=start_ms,
        first=reader.addition(),
    )


def encode_add(addition: Addition) -> bytes:
    return bytes((FORMAT_VERSION,)) + _addition(addition)


def decode_add(key: str, value: bytes) -> Addition:
    """Raises Corruption."""
    reader = _Reader(key, value)
    reader.position = 1
    return reader.addition()


def _addition(addition: Addition) -> bytes:
    parts = [_COUNT.pack(len(addition.partitions))]
    parts += (_PARTITION.pack(*partition) for partition in addition.partitions)
    parts.append(_COUNT.pack(len(addition.groups)))
    for group in addition.groups:
        text = group.encode()
        parts += (_COUNT.pack(len(text)), text)
    return b"".join(parts)


class _Reader:
    """Takes a row apart; every way in which it can be wrong is a Corruption that names the row's key."""

    def __init__(self, key: str, value: bytes) -> None:
        self.key = key
        self.value = value
        self.position = 0
        if not value:
            raise Corruption(key, 0, "the row is empty")
        if value[0] != FORMAT_VERSION:
            raise Corruption(key, 0, f"format {value[0]} is not known here (a newer riverlog wrote it?)")

    def take(self, struct: Struct) -> tuple[int, ...]:
        try:
            fields = struct.unpack_from(self.value, self.position)
        except error as cause:
            raise Corruption(self.key, self.position, "the row is cut short") from cause
        self.position += struct.size
        return fields

    def count(self, item_size: int) -> int:
        (count,) = self.take(_COUNT)
        if count < 0 or count * item_size > len(self.value) - self.position:
            raise Corruption(self.key, self.position - _COUNT.size, f"a count of {count} is more than the row holds")
        return count

    def partition(self) -> PartitionId:
        raw, index = _PARTITION.unpack_from(self.value, self.position)
        if index < 0:
            raise Corruption(self.key, self.position, f"{index} is not the index of a partition")
        self.position += _PARTITION.size
        return PartitionId(TopicId(raw), index)

    def text(self) -> str:
        length = self.count(1)
        begin, self.position = self.position, self.position + length
        try:
            return self.value[begin : self.position].decode()
        except UnicodeDecodeError as cause:
            raise Corruption(self.key, begin, "text that is not UTF-8") from cause

    def addition(self) -> Addition:
        """The rest of the row."""
        partitions = tuple(self.partition() for _ in range(self.count(_PARTITION.size)))
        groups = tuple(self.text() for _ in range(self.count(_COUNT.size)))
        if self.position != len(self.value):
            raise Corruption(self.key, self.position, "bytes after the end of the row")
        return Addition(partitions, groups)
