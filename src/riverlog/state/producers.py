"""Idempotent producers of one partition: which batch is next, which was here before, which is refused. A pure machine.

Invariant: what is remembered of a producer is exactly what its last batches in this log say. The engine asks `check`,
writes, then tells `apply`, with nothing between the two; a replay of the log tells `apply` alone. Rules and errors are
Kafka 4's: a producer that is not known here may begin with any sequence, a new epoch begins with sequence 0, an epoch
never falls, and the last five batches are answered as duplicates; UNKNOWN_PRODUCER_ID and DUPLICATE_SEQUENCE are never
answered. Held to a real Kafka, batch for batch, by tests/clients/test_kafka_producers.py. A transaction is open from its
first batch to its marker, which may raise the producer's epoch. Not here: who may use a producer id, transactions'
decisions (their coordinator), durability of the original of a duplicate (the engine).
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import Offset, ProducerId
from riverlog.base.limits import producer_batches_remembered
from riverlog.base.units import INT32_MAX
from riverlog.records.header import CONTROL_BIT, TRANSACTIONAL_BIT, BatchHeader

NO_SEQUENCE: Final = -1
NO_OFFSET: Final = Offset(-1)
FIRST: Final = Offset(0)
_WIDTH: Final = 3  # of a batch in Producer.batches
_REMEMBERED: Final = _WIDTH * producer_batches_remembered
_SEQUENCES: Final = INT32_MAX + 1  # after 2147483647 comes 0


class Duplicate(NamedTuple):
    """The batch is in the log already: the answer is the one that it got, once `next_offset` is durable."""

    base_offset: Offset
    next_offset: Offset


class Completed(NamedTuple):
    """A transaction that a marker ended; `marker_offset` is the marker's. `stable_offset`: where the first of those began
    that were still open then, else the offset behind the marker."""

    producer_id: ProducerId
    first_offset: Offset
    marker_offset: Offset
    stable_offset: Offset


class BatchMark(NamedTuple):
    """One batch that is remembered."""

    base_sequence: int
    base_offset: Offset
    last_offset_delta: int

    @property
    def last_sequence(self) -> int:
        return (self.base_sequence + self.last_offset_delta) % _SEQUENCES


class ProducerEntry(NamedTuple):
    """All that is known of a producer, as a snapshot keeps it. `batches`: oldest first, at most five, none after a
    marker that raised the epoch. `timestamp_ms` is the wall time of the last append (expiry counts from it)."""

    producer_id: ProducerId
    epoch: int
    timestamp_ms: int
    coordinator_epoch: int = -1
    transaction_first_offset: Offset = NO_OFFSET
    batches: tuple[BatchMark, ...] = ()


class _Producer:
    """Mutable state of one producer. `batches` holds (base sequence, base offset, last offset delta) of up to five,
    flat."""

    __slots__ = ("batches", "coordinator_epoch", "epoch", "next_sequence", "timestamp_ms", "transaction_first_offset")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.next_sequence = 0
        self.timestamp_ms = 0
        self.coordinator_epoch = -1
        self.transaction_first_offset: int = NO_OFFSET
        self.batches = array("q")


class Producers:
    """Of one partition. `next_offset` is behind the last batch that was applied (for snapshots and replays)."""

    __slots__ = ("_completed", "_open", "_producers", "next_offset")

    def __init__(self) -> None:
        self._producers: dict[int, _Producer] = {}
        self._open: dict[int, int] = {}  # producer id -> first offset of its open transaction; in the order of the log
        self._completed: deque[Completed] = deque()  # whose markers may not be visible yet: both offsets ascend
        self.next_offset = Offset(0)

    def __len__(self) -> int:
        return len(self._producers)

    # The hot path

    def check(self, header: BatchHeader) -> Duplicate | RiverlogError | None:
        """What becomes of a batch of a client: None, append it; a Duplicate, answer the old offsets; an error, refuse
        it (OUT_OF_ORDER_SEQUENCE, INVALID_PRODUCER_EPOCH, INVALID_TXN_STATE, INVALID_RECORD). Changes nothing."""
        producer_id = header[9]
        if producer_id < 0:
            return None
        epoch, sequence = header[10], header[11]
        producer = self._producers.get(producer_id)
        if producer is not None and producer.epoch == epoch and producer.next_sequence == sequence:
            if producer.transaction_first_offset < 0 or header[5] & TRANSACTIONAL_BIT:
                return None
        return self._check_slowly(header, producer)

    def apply(self, header: BatchHeader, base_offset: Offset, now_ms: int) -> None:
        """The batch stands in the log at `base_offset`, since `now_ms` (wall time). Never refuses: also used for
        replays. A control batch ends the producer's transaction (`end_transaction` says more; this is its short
        form)."""
        producer_id = header[9]
        delta = header[6]
        self.next_offset = Offset(base_offset + delta + 1)
        if producer_id < 0:
            return
        if header[5] & CONTROL_BIT:
            self.end_transaction(header, base_offset, now_ms)
            return
        producer = self._producers.get(producer_id)
        if producer is None or producer.epoch != header[10]:
            producer = self._begin_epoch(producer_id, header[10])
        sequence = header[11]
        batches = producer.batches
        if len(batches) >= _REMEMBERED:
            del batches[:_WIDTH]
        batches.extend((sequence, base_offset, delta))
        following = sequence + delta + 1
        producer.next_sequence = following if following < _SEQUENCES else following - _SEQUENCES
        producer.timestamp_ms = now_ms
        if header[5] & TRANSACTIONAL_BIT and producer.transaction_first_offset < 0:
            producer.transaction_first_offset = base_offset
            self._open[producer_id] = base_offset

    def _check_slowly(self, header: BatchHeader, producer: _Producer | None) -> Duplicate | RiverlogError | None:
        """Whatever is not simply the next batch of a known producer."""
        epoch, sequence = header.producer_epoch, header.base_sequence
        who = f"producer {header.producer_id} epoch {epoch}"
        if epoch < 0 or (sequence < 0 and not header.is_control):
            return RiverlogError(
                ErrorKind.INVALID_RECORD, f"{who}: an idempotent batch needs an epoch and a sequence, not {sequence}"
            )
        if producer is None:
            return None
        if epoch < producer.epoch:
            return RiverlogError(
                ErrorKind.INVALID_PRODUCER_EPOCH,
                f"{who} was replaced by epoch {producer.epoch}: another producer uses the same id; this one must stop",
            )
        if header.is_control:
            return None
        if epoch > producer.epoch:
            if sequence != 0:
                return RiverlogError(
                    ErrorKind.OUT_OF_ORDER_SEQUENCE, f"{who}: a new epoch begins with sequence 0, not {sequence}"
                )
        elif sequence != producer.next_sequence:
            return self._duplicate(header, producer) or RiverlogError(
                ErrorKind.OUT_OF_ORDER_SEQUENCE,
                f"{who}: sequence {sequence} where {producer.next_sequence} is next: send the batches before it first",
            )
        if producer.transaction_first_offset >= 0 and not header.is_transactional:
            return RiverlogError(
                ErrorKind.INVALID_TXN_STATE, f"{who} has an open transaction: end it before sending outside of one"
            )
        return None

    @staticmethod
    def _duplicate(header: BatchHeader, producer: _Producer) -> Duplicate | None:
        batches = producer.batches
        for at in range(len(batches) - _WIDTH, -1, -_WIDTH):
            if batches[at] == header.base_sequence and batches[at + 2] == header.last_offset_delta:
                base_offset = batches[at + 1]
                return Duplicate(Offset(base_offset), Offset(base_offset + batches[at + 2] + 1))
        return None

    def _begin_epoch(self, producer_id: int, epoch: int) -> _Producer:
        """A producer that is new here, or begins again under another epoch; its open transaction stays open until its
        marker."""
        if (producer := self._producers.get(producer_id)) is None:
            producer = self._producers[producer_id] = _Producer(epoch)
        else:
            producer.epoch = epoch
            producer.next_sequence = 0
            producer.batches = array("q")
        return producer

    # Transactions: their first offsets, and what they hold back

    def check_marker(self, producer_id: ProducerId, epoch: int, coordinator_epoch: int) -> bool | RiverlogError:
        """What becomes of a marker: True, append it; False, it was told before; an error, refuse it
        (INVALID_PRODUCER_EPOCH, TRANSACTION_COORDINATOR_FENCED, INVALID_RECORD). Changes nothing."""
        if producer_id < 0 or epoch < 0:
            return RiverlogError(ErrorKind.INVALID_RECORD, f"a marker of producer {producer_id} epoch {epoch}")
        producer = self._producers.get(producer_id)
        if producer is None:
            return True
        if epoch < producer.epoch:
            return RiverlogError(
                ErrorKind.INVALID_PRODUCER_EPOCH,
                f"a marker of producer {producer_id} epoch {epoch}, which was replaced by epoch {producer.epoch}",
            )
        if coordinator_epoch < producer.coordinator_epoch:
            return RiverlogError(
                ErrorKind.TRANSACTION_COORDINATOR_FENCED,
                f"a marker of coordinator epoch {coordinator_epoch}; one of epoch {producer.coordinator_epoch} has "
                "written here: this coordinator must stop",
            )
        return (
            producer.transaction_first_offset >= 0
            or epoch > producer.epoch
            or coordinator_epoch > producer.coordinator_epoch
        )

    def end_transaction(
        self, header: BatchHeader, base_offset: Offset, now_ms: int, coordinator_epoch: int = -1
    ) -> Completed | None:
        """The control batch stands in the log at `base_offset`. Gives the transaction that it ended; None: it held no
        record."""
        self.next_offset = Offset(base_offset + header.last_offset_delta + 1)
        producer = self._producers.get(header.producer_id)
        if producer is None or producer.epoch != header.producer_epoch:
            producer = self._begin_epoch(header.producer_id, header.producer_epoch)
        producer.timestamp_ms = now_ms
        producer.coordinator_epoch = max(coordinator_epoch, producer.coordinator_epoch)
        first_offset = producer.transaction_first_offset
        if first_offset < 0:
            return None
        producer.transaction_first_offset = NO_OFFSET
        self._open.pop(header.producer_id, None)
        stable_offset = self.first_open_or(self.next_offset)
        completed = Completed(ProducerId(header.producer_id), Offset(first_offset), base_offset, stable_offset)
        while self._completed and self._completed[-1].first_offset > first_offset:
            self._completed.pop()  # it holds back nothing that this one does not, and not as long
        self._completed.append(completed)
        return completed

    def last_stable_offset(self, high_watermark: Offset) -> Offset:
        """The first offset of the first transaction that is open, or whose marker is not below the high watermark; else
        the high watermark, which never falls."""
        if not self._open and not self._completed:
            return high_watermark
        stable: int = high_watermark
        completed = self._completed
        while completed and completed[0].marker_offset < high_watermark:
            completed.popleft()
        if completed:
            stable = min(stable, completed[0].first_offset)
        if self._open:
            stable = min(stable, next(iter(self._open.values())))
        return Offset(stable)

    def note_coordinator(self, producer_id: ProducerId, coordinator_epoch: int) -> None:
        """Of a marker that `apply` was told of."""
        producer = self._producers[producer_id]
        producer.coordinator_epoch = max(coordinator_epoch, producer.coordinator_epoch)

    def first_open_or(self, offset: Offset) -> Offset:
        """Where the first open transaction began; `offset` where none is open."""
        return Offset(next(iter(self._open.values()), offset))

    @property
    def newest_open(self) -> int:
        """Where the last one began of those that are open; -1: none is."""
        return next(reversed(self._open.values()), NO_OFFSET)

    def open_offsets(self) -> list[Offset]:
        """Where the open transactions began, ascending."""
        return [Offset(first_offset) for first_offset in self._open.values()]

    def unstable_offsets(self) -> set[int]:
        """All that the last stable offset may be now, or come to be, but for high watermarks."""
        return {*self._open.values(), *(done.first_offset for done in self._completed)}

    # Snapshots, truncation, expiry

    def entries(self) -> Iterator[ProducerEntry]:
        """What a snapshot at `next_offset` keeps."""
        for producer_id, producer in self._producers.items():
            yield _entry(producer_id, producer)

    def get(self, producer_id: ProducerId) -> ProducerEntry | None:
        producer = self._producers.get(producer_id)
        return None if producer is None else _entry(producer_id, producer)

    def end_of(self, producer_id: ProducerId) -> int:
        """Where the last batch of the producer's present epoch ends; 0: it has none."""
        producer = self._producers.get(producer_id)
        if producer is None or not producer.batches:
            return 0
        return producer.batches[-2] + producer.batches[-1] + 1

    def restore(self, entries: Iterable[ProducerEntry], next_offset: Offset) -> None:
        """Forgets all and begins from a snapshot at `next_offset`; then `apply` the batches from there on. The way to
        truncate too: restore the last snapshot at or before the new log end, apply what is left after it."""
        self.clear(next_offset)
        for entry in entries:
            producer = self._producers[entry.producer_id] = _Producer(entry.epoch)
            producer.timestamp_ms = entry.timestamp_ms
            producer.coordinator_epoch = entry.coordinator_epoch
            producer.transaction_first_offset = entry.transaction_first_offset
            for mark in entry.batches[-producer_batches_remembered:]:
                producer.batches.extend(mark)
                producer.next_sequence = (mark.last_sequence + 1) % _SEQUENCES
        opened = sorted(
            (producer.transaction_first_offset, producer_id)
            for producer_id, producer in self._producers.items()
            if producer.transaction_first_offset >= 0
        )
        self._open = {producer_id: first_offset for first_offset, producer_id in opened}

    def clear(self, next_offset: Offset = FIRST) -> None:
        """Forgets all: the log begins anew at `next_offset`."""
        self._producers.clear()
        self._open.clear()
        self._completed.clear()
        self.next_offset = next_offset

    def expire(self, now_ms: int, expiration_ms: int) -> int:
        """Forgets who has not appended for `producer.id.expiration.ms` and has no open transaction; gives how many."""
        oldest = now_ms - expiration_ms
        doomed = [
            producer_id
            for producer_id, producer in self._producers.items()
            if producer.timestamp_ms <= oldest and producer.transaction_first_offset < 0
        ]
        for producer_id in doomed:
            del self._producers[producer_id]
        return len(doomed)


def _entry(producer_id: int, producer: _Producer) -> ProducerEntry:
    batches = producer.batches
    marks = tuple(
        BatchMark(batches[at], Offset(batches[at + 1]), batches[at + 2]) for at in range(0, len(batches), _WIDTH)
    )
    return ProducerEntry(
        ProducerId(producer_id),
        producer.epoch,
        producer.timestamp_ms,
        producer.coordinator_epoch,
        Offset(producer.transaction_first_offset),
        marks,
    )
