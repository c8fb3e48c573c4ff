"""One partition of the in-memory twin: batches as bytes, in order, and who is woken when there are more.

Invariant: a transaction that is open keeps its records, but for what its user has deleted. Not here: lateness, topics, answers
to whole calls (`memory.py`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Final

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import Offset, PartitionId
from riverlog.records.batch import first_record_at_or_after, max_timestamp_of, records_of
from riverlog.records.builder import end_marker
from riverlog.records.control import ControlType
from riverlog.records.header import BatchHeader, read_header
from riverlog.state.producers import Duplicate, Producers
from riverlog.storage.aborted import Aborted
from riverlog.storage.contract import (
    NO_SLICES,
    AbortedTransaction,
    Appended,
    Buffer,
    EndMarker,
    Refused,
    Slices,
    TimestampedOffset,
    TopicLog,
    Watermarks,
)
from riverlog.storage.format.txn_index import AbortedEntry

NOTHING_ABORTED: Final[Sequence[AbortedTransaction]] = ()


class MemoryPartition:
    """Batches as bytes, in order; `bases` are their base offsets."""

    __slots__ = (
        "aborted",
        "bases",
        "batches",
        "config",
        "gone",
        "headers",
        "id",
        "log_end",
        "log_start",
        "name",
        "producers",
        "size",
        "subscribers",
    )

    def __init__(self, topic: TopicLog, index: int) -> None:
        self.id = PartitionId(topic.topic_id, index)
        self.name = f"{topic.name}-{index}"
        self.config = topic.config
        self.batches: list[bytes] = []
        self.headers: list[BatchHeader] = []
        self.bases: list[int] = []
        self.log_start = Offset(0)
        self.log_end = Offset(0)
        self.size = 0
        self.producers = Producers()
        self.aborted = Aborted()
        self.subscribers: dict[MemorySubscription, None] = {}
        self.gone: RiverlogError | None = None

    def append(self, batch: Buffer, header: BatchHeader, now_ms: int) -> Appended | Refused:
        if self.gone is not None:
            return Refused(self.gone)
        verdict = self.producers.check(header)
        if isinstance(verdict, Duplicate):
            return Appended(verdict.base_offset, verdict.next_offset, self.log_start, True)
        if verdict is not None:
            return Refused(verdict, self.log_start)
        base_offset = self._write(batch, header)
        self.producers.apply(self.headers[-1], base_offset, now_ms)
        if self.config.cleanup_delete and 0 <= self.config.retention_bytes < self.size:
            self.retain(None)
        return Appended(base_offset, self.log_end, self.log_start)

    def end_transaction(self, marker: EndMarker, now_ms: int) -> Appended | Refused:
        if self.gone is not None:
            return Refused(self.gone)
        _, producer_id, epoch, committed, coordinator_epoch = marker
        verdict = self.producers.check_marker(producer_id, epoch, coordinator_epoch)
        if isinstance(verdict, RiverlogError):
            return Refused(verdict, self.log_start)
        if not verdict:
            return Appended(self.log_end, self.log_end, self.log_start, True)
        batch = end_marker(
            ControlType.COMMIT if committed else ControlType.ABORT,
            producer_id=producer_id,
            producer_epoch=epoch,
            coordinator_epoch=coordinator_epoch,
            timestamp_ms=now_ms,
        )
        base_offset = self._write(batch, read_header(batch))
        done = self.producers.end_transaction(self.headers[-1], base_offset, now_ms, coordinator_epoch)
        self.producers.last_stable_offset(self.log_end)  # it is visible: it need not be remembered
        if done is not None and not committed:
            self.aborted.add(AbortedEntry(*done))
        return Appended(base_offset, self.log_end, self.log_start)

    def _write(self, batch: Buffer, header: BatchHeader) -> Offset:
        base_offset = self.log_end
        stamped = header._replace(base_offset=base_offset, leader_epoch=0)
        head = base_offset.to_bytes(8, "big") + bytes(memoryview(batch)[8:12]) + bytes(4)
        self.batches.append(head + memoryview(batch)[16:])
        self.headers.append(stamped)
        self.bases.append(base_offset)
        self.size += len(batch)
        self.log_end = Offset(stamped.next_offset)
        return base_offset

    def retain(self, now_ms: int | None) -> None:
        """Drops what has outlived the topic's retention: by size and start offset, by time where `now_ms` is given. What
        is open stays, but for what its user has deleted."""
        config, stable = self.config, self.stable_offset()
        oldest_ms = -1
        if now_ms is not None and config.cleanup_delete and config.retention_ms >= 0:
            oldest_ms = now_ms - config.retention_ms
        surplus = self.size - config.retention_bytes if config.cleanup_delete and config.retention_bytes >= 0 else -1
        count = freed = 0
        for header in self.headers:
            expired = 0 <= header.max_timestamp < oldest_ms
            stays = (not expired and surplus - freed < header.size) or header.next_offset > stable
            if header.next_offset > self.log_start and stays:
                break
            count += 1
            freed += header.size
        if count:
            self.log_start = max(self.log_start, Offset(self.headers[count - 1].next_offset))
            del self.batches[:count], self.headers[:count], self.bases[:count]
            self.size -= freed
            self.aborted.drop_before(self.log_start)

    def read(
        self, offset: Offset, bytes_max: int, first: bool, end_offset: Offset
    ) -> tuple[Slices, Sequence[AbortedTransaction]]:
        """Whole batches below `end_offset` from the one that holds `offset` on; one at least where it is the `first` of a
        fetch. And the aborted transactions that overlap them."""
        if offset >= end_offset or not self.batches:
            return NO_SLICES, ()
        at = end = max(0, bisect_right(self.bases, offset) - 1)
        size = 0
        for batch, header in zip(self.batches[at:], self.headers[at:], strict=True):
            if (size + len(batch) > bytes_max and not (first and size == 0)) or header.base_offset >= end_offset:
                break
            size += len(batch)
            end += 1
        if end == at:
            return NO_SLICES, ()
        aborted = self.aborted.overlapping(offset, Offset(self.headers[end - 1].next_offset))
        return Slices((self.batches[at] if end == at + 1 else b"".join(self.batches[at:end]),), size), aborted

    def stable_offset(self) -> Offset:
        return max(self.producers.last_stable_offset(self.log_end), self.log_start)

    def watermarks(self) -> Watermarks:
        return Watermarks(self.log_start, self.log_end, self.log_end, self.log_end, self.stable_offset(), 0)

    def first_at(self, timestamp_ms: int) -> TimestampedOffset | None:
        for header, batch in zip(self.headers, self.batches, strict=True):
            if header.max_timestamp < timestamp_ms or header.is_control or header.next_offset <= self.log_start:
                continue
            found = first_record_at_or_after(batch, header, timestamp_ms)
            if found is None:
                continue
            offset = Offset(header.base_offset + found.offset_delta)
            if offset >= self.log_start:
                return TimestampedOffset(offset, found.timestamp, 0)
            for record in records_of(batch, header):
                if record.offset >= self.log_start and record.timestamp_ms >= timestamp_ms:
                    return TimestampedOffset(Offset(record.offset), record.timestamp_ms, 0)
        return None

    def newest(self) -> TimestampedOffset | None:
        best: TimestampedOffset | None = None
        for header, batch in zip(self.headers, self.batches, strict=True):
            if header.is_control or (best is not None and header.max_timestamp <= best.timestamp_ms):
                continue
            found = max_timestamp_of(batch, header)
            if found is not None and header.base_offset + found.offset_delta >= self.log_start:
                best = TimestampedOffset(Offset(header.base_offset + found.offset_delta), found.timestamp, 0)
            elif header.next_offset > self.log_start:
                for record in records_of(batch, header):
                    if record.offset >= self.log_start and (best is None or record.timestamp_ms > best.timestamp_ms):
                        best = TimestampedOffset(Offset(record.offset), record.timestamp_ms, 0)
        return best


class MemorySubscription:
    def __init__(self, partitions: Sequence[MemoryPartition], wake: Callable[[], None]) -> None:
        self._partitions = partitions
        self.wake: Callable[[], None] | None = wake
        for partition in partitions:
            partition.subscribers[self] = None

    def close(self) -> None:
        self.wake = None
        for partition in self._partitions:
            partition.subscribers.pop(self, None)
        self._partitions = ()
