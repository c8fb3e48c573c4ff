"""Compaction of a log by key: batches in, batches out. Pure; the rules are those of Kafka's log cleaner (KIP-534 with them).

First `Mapping` reads the dirty part of a log and notes the last offset of each key; then `Thinning` reads all of it up to
there and writes what stays. Invariants: the last record of each key stays (a tombstone until its delete horizon); offsets stay; a
batch of which nothing goes stays byte for byte; the last batch of a producer, and of a group of segments, stays at least as
a header, so that no sequence and no log end is forgotten; what cannot be read, though its CRC is right, stays whole.
Not here: which part of a log (`compaction_plan.py`), files and swaps (`local/compacting.py`), the loops over records (`kernels`).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from collections.abc import Mapping as MappingType
from typing import Final, NamedTuple, TypeAlias

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import Offset
from riverlog.base.units import INT32_MAX, INT64_MAX
from riverlog.kernels import (
    IndexState,
    MalformedRecord,
    OffsetMap,
    WindowEnd,
    map_records,
    map_window,
    rebase_records,
    thin_records,
    thin_window,
)
from riverlog.records.batch import check_stored_batch, records_of, unpacked_records
from riverlog.records.builder import assembled
from riverlog.records.compression import Compression
from riverlog.records.control import ControlType, control_type
from riverlog.records.header import (
    COMPRESSION_MASK,
    DELETE_HORIZON_BIT,
    HEADER_BYTES,
    MAGIC,
    OVERHEAD_BYTES,
    BatchHeader,
    read_header,
)
from riverlog.state.producers import ProducerEntry
from riverlog.storage.format.txn_index import AbortedEntry

Buffer: TypeAlias = bytes | bytearray | memoryview

NO_TIMESTAMP: Final = -1
KEY_SLOT_BYTES: Final = 24  # of the map, a quarter of whose slots stays free: 32 bytes a key


class Damaged(Exception):
    """A batch that is not what was written. `position` counts from the start of the window."""

    def __init__(self, position: int, what: str) -> None:
        super().__init__(what)
        self.position = position
        self.what = what


class _Aborted:
    """An aborted transaction whose marker has not been passed."""

    __slots__ = ("entry", "seen")

    def __init__(self, entry: AbortedEntry) -> None:
        self.entry = entry
        self.seen = False  # a batch of it


class Transactions:
    """Tells, batch after batch in the order of the log, what was aborted and which markers nobody needs any more.
    `aborted`: all transactions with a record in what is read, from the transaction indexes."""

    def __init__(self, aborted: Iterable[AbortedEntry] = ()) -> None:
        self._waiting = deque(sorted(aborted, key=lambda entry: entry.first_offset))
        self._aborted: dict[int, _Aborted] = {}
        self._committed: dict[int, None] = {}
        self.needed: list[AbortedEntry] = []  # whose marker stays: of the new transaction index

    def _reach(self, offset: int) -> None:
        while self._waiting and self._waiting[0].first_offset <= offset:
            entry = self._waiting.popleft()
            self._aborted.setdefault(entry.producer_id, _Aborted(entry))

    def is_aborted(self, header: BatchHeader) -> bool:
        """A batch of records of a transaction."""
        self._reach(header.last_offset)
        if (aborted := self._aborted.get(header.producer_id)) is not None:
            aborted.seen = True
            return True
        self._committed[header.producer_id] = None
        return False

    def is_spent(self, header: BatchHeader, type_: int | None) -> bool:
        """A control batch (None: its record is gone): whether nothing of its transaction was met before it."""
        self._reach(header.last_offset)
        if type_ is None:
            return True
        if type_ == ControlType.COMMIT:
            return self._committed.pop(header.producer_id, self) is self
        if type_ == ControlType.ABORT:
            aborted = self._aborted.pop(header.producer_id, None)
            if aborted is None or not aborted.seen:
                return True
            self.needed.append(aborted.entry)
        return False

    def take_needed(self) -> list[AbortedEntry]:
        needed, self.needed = self.needed, []
        return needed


def marker_type(batch: Buffer, header: BatchHeader) -> int | None:
    """Of a control batch; None where it is empty. Types that we do not know are kept. Raises RiverlogError."""
    for record in records_of(batch, header):
        return control_type(record.key)
    return None


def whole_batch(window: memoryview, position: int) -> tuple[memoryview, BatchHeader]:
    """The batch at `position`, which is there whole, with a good CRC. Raises Damaged."""
    header = read_header(window, position)
    if header.magic != MAGIC or header.size < HEADER_BYTES or header.size > len(window) - position:
        raise Damaged(position, f"no batch: length {header.length}, magic {header.magic}")
    batch = window[position : position + header.size]
    try:
        check_stored_batch(batch, header)
    except RiverlogError as error:
        raise Damaged(position, error.message) from None
    if header.base_offset < 0 or header.last_offset_delta < 0:
        raise Damaged(position, f"offset {header.base_offset} + {header.last_offset_delta}")
    return batch, header


def bytes_needed(window: memoryview, position: int) -> int:
    """How many bytes from `position` on hold the batch there, or its header. Raises Damaged."""
    if len(window) - position < HEADER_BYTES:
        return HEADER_BYTES
    header = read_header(window, position)
    if header.length < HEADER_BYTES - OVERHEAD_BYTES or header.size > INT32_MAX:
        raise Damaged(position, f"batch length {header.length}")
    return header.size


class Mapping:
    """The first pass: what is the last offset of each key, from `start` on. `latest`: everything up to it is in the map;
    `full`: there is more, for which the map has no room."""

    def __init__(self, offset_map: OffsetMap, start: Offset, transactions: Transactions) -> None:
        self.map = offset_map
        self.start = start
        self.latest = Offset(start - 1)
        self.full = False
        self.records = 0
        self.unreadable = 0  # batches
        self._transactions = transactions

    def feed(self, window: memoryview) -> int:
        """Takes whole batches from the window's start on; gives how many bytes it took. Fewer than all: the rest is a part of
        a batch, or the map is full. Raises Damaged."""
        position = 0
        while True:
            mapped = map_window(self.map, window, position, self.start)
            position = mapped.position
            self.records += mapped.records
            self._reached(mapped.last_offset)
            if mapped.stopped is WindowEnd.END:
                return position
            if mapped.stopped is WindowEnd.FULL:
                self.full = True
                return position
            batch, header = whole_batch(window, position)
            if mapped.stopped is WindowEnd.MALFORMED:
                self.unreadable += 1
                self._reached(header.last_offset)
            elif not self._take(batch, header):
                self.full = True
                return position
            position += header.size

    def _take(self, batch: memoryview, header: BatchHeader) -> bool:
        """One batch that is packed or of a transaction. False: the map is full."""
        if header.last_offset < self.start:
            return True
        try:
            if header.is_control:
                self._transactions.is_spent(header, marker_type(batch, header))
            elif not (header.is_transactional and self._transactions.is_aborted(header)):
                records = unpacked_records(batch, header)
                mapped = map_records(
                    self.map, records, header.record_count, header.last_offset_delta, header.base_offset, self.start
                )
                self.records += mapped.records
                self._reached(mapped.last_offset)
                if mapped.stopped is WindowEnd.FULL:
                    return False
        except (RiverlogError, MalformedRecord):
            self.unreadable += 1
        self._reached(header.last_offset)
        return True

    def _reached(self, offset: int) -> None:
        self.latest = Offset(max(self.latest, offset))


class LastOfProducers:
    """The batches that the producers' state needs. `offsets`: the last offsets of each one's last batch, ascending;
    `epochs`: of those of whom only a marker is known."""

    def __init__(self, producers: Iterable[ProducerEntry] = ()) -> None:
        offsets: list[int] = []
        epochs: dict[int, int] = {}
        for entry in producers:
            if entry.batches:
                last = entry.batches[-1]
                offsets.append(last.base_offset + last.last_offset_delta)
            else:
                epochs[entry.producer_id] = entry.epoch
        self.offsets = array("q", sorted(offsets))
        self.epochs: MappingType[int, int] = epochs


class Thinned(NamedTuple):
    """What `Thinning.feed` took, and what is to be written for it. `entries`: index entries, four numbers each (position in
    `data`, last offset of the batch, largest timestamp so far and its offset)."""

    taken: int
    data: Buffer
    first_offset: int
    entries: array[int]


class Thinning:
    """The second pass: what stays of a log up to `latest`, and all that lies behind it in the last segment."""

    def __init__(
        self,
        offset_map: OffsetMap,
        latest: Offset,
        transactions: Transactions,
        producers: LastOfProducers,
        *,
        now_ms: int,
        delete_retention_ms: int,
        index_interval_bytes: int,
    ) -> None:
        self.map = offset_map
        self.latest = latest
        self.transactions = transactions
        self.now_ms = now_ms
        self.horizon_ms = min(now_ms + delete_retention_ms, INT64_MAX)
        self.interval_bytes = index_interval_bytes
        self.index = IndexState()  # of the segment that is being written
        self.records = 0
        self.kept = 0
        self.batches = 0  # written
        self.unreadable = 0
        self._producers = producers
        self._keep_empty = producers.offsets
        self._out = bytearray()

    def begin_group(self, last_offset: int) -> None:
        """A group of segments begins, whose last batch ends with `last_offset`: that one stays."""
        offsets = self._producers.offsets
        at = bisect_left(offsets, last_offset)
        self._keep_empty = array("q", offsets[:at])
        self._keep_empty.append(last_offset)
        self._keep_empty.extend(offsets[at:])

    def begin_segment(self) -> None:
        self.index = IndexState()

    def feed(self, window: memoryview) -> Thinned:
        """Takes whole batches from the window's start on. Nothing taken: the window has no whole batch. What is given is good
        until the next call. Raises Damaged."""
        if len(self._out) < 2 * len(window):
            self._out = bytearray(4 * len(window))
        done = thin_window(
            self.map, window, 0, self._out, self.latest, self._keep_empty, self.now_ms, self.horizon_ms,
            self.interval_bytes, self.index,
        )  # fmt: skip
        self.index = done.state
        self.records += done.records
        self.kept += done.kept
        self.batches += done.batches
        if done.position or done.stopped is WindowEnd.END:
            return Thinned(done.position, memoryview(self._out)[: done.written], done.first_offset, done.entries)
        batch, header = whole_batch(window, 0)
        if done.stopped is WindowEnd.ROOM:
            self._out = bytearray(4 * header.size + 64 * (header.record_count + 1))
            return self.feed(window)
        if done.stopped is WindowEnd.MALFORMED:
            self.unreadable += 1
            self.records += header.record_count
            self.kept += header.record_count
            return self._written(batch, header, batch)
        return self._written(batch, header, self._thin(batch, header))

    def _written(self, batch: memoryview, header: BatchHeader, data: Buffer) -> Thinned:
        """One batch that was done by itself; into the index' books as the kernel does it."""
        if not len(data):
            return Thinned(header.size, b"", -1, array("q"))
        self.batches += 1
        since, highest, highest_offset = self.index
        timestamp = read_header(data).max_timestamp
        if timestamp > highest:
            highest, highest_offset = timestamp, header.last_offset
        entries = array("q")
        if since > self.interval_bytes:
            entries.extend((0, header.last_offset, highest, highest_offset))
            since = 0
        self.index = IndexState(since + len(data), highest, highest_offset)
        return Thinned(header.size, data, header.base_offset, entries)

    def _thin(self, batch: memoryview, header: BatchHeader) -> Buffer:
        """What stays of one batch that is packed or of a transaction: itself, another one, a header, or nothing."""
        self.records += header.record_count
        has_horizon = bool(header.attributes & DELETE_HORIZON_BIT)
        is_over = has_horizon and self.now_ms >= header.base_timestamp
        try:
            if header.is_control:
                spent = self.transactions.is_spent(header, marker_type(batch, header))
                if not header.record_count or (spent and is_over):
                    return self._emptied(batch, header)
                self.kept += header.record_count
                if not spent or has_horizon:
                    return batch
                return self._rebuilt(header, unpacked_records(batch, header), header.record_count, True)
            if header.is_transactional and self.transactions.is_aborted(header):
                return self._emptied(batch, header)
            return self._thin_records(batch, header, has_horizon, is_over)
        except (RiverlogError, MalformedRecord):
            self.unreadable += 1
            return batch

    def _thin_records(self, batch: memoryview, header: BatchHeader, has_horizon: bool, is_over: bool) -> Buffer:
        thinned = thin_records(
            self.map,
            unpacked_records(batch, header),
            header.record_count,
            header.last_offset_delta,
            header.base_offset,
            header.base_timestamp,
            self.latest,
            is_over,
        )
        self.kept += thinned.kept
        stamped = thinned.tombstones > 0 and not has_horizon
        if not thinned.kept:
            return self._emptied(batch, header)
        if thinned.kept == header.record_count and not stamped:
            return batch
        if not header.is_log_append_time:
            header = header._replace(max_timestamp=thinned.max_timestamp)
        return self._rebuilt(header, thinned.data, thinned.kept, stamped)

    def _rebuilt(self, header: BatchHeader, records: Buffer, count: int, stamped: bool) -> Buffer:
        """The batch with these of its records. `stamped`: it gets its delete horizon now, as its base timestamp."""
        attributes = header.attributes
        base_timestamp = header.base_timestamp
        if stamped:
            records = rebase_records(records, count, base_timestamp, self.horizon_ms)
            attributes |= DELETE_HORIZON_BIT
            base_timestamp = self.horizon_ms
        header = header._replace(attributes=attributes, base_timestamp=base_timestamp, record_count=count)
        return assembled(header, records, Compression(header.compression))

    def _emptied(self, batch: memoryview, header: BatchHeader) -> Buffer:
        """Nothing, or the header alone where somebody needs it."""
        at = bisect_left(self._keep_empty, header.last_offset)
        needed = at < len(self._keep_empty) and self._keep_empty[at] == header.last_offset
        if header.is_control and self._producers.epochs.get(header.producer_id) == header.producer_epoch:
            needed = True
        if not needed:
            return b""
        if not header.record_count:
            return batch
        attributes = header.attributes & ~(COMPRESSION_MASK | DELETE_HORIZON_BIT)
        return assembled(header._replace(attributes=attributes, base_timestamp=NO_TIMESTAMP, record_count=0), b"")
