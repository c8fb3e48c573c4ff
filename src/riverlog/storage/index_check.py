"""Holds the entries of a segment's indexes against its batches, which are told one after another. Pure.

Invariant: one pass and constant memory beside the indexes themselves (and the producers of transactions). What is found is
(position in the index file, what).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from riverlog.base.ids import Offset
from riverlog.records.header import BatchHeader
from riverlog.state.producers import Producers
from riverlog.storage.aborted import replay_marker
from riverlog.storage.format import offset_index, time_index, txn_index
from riverlog.storage.format.leader_epochs import LeaderEpochs
from riverlog.storage.format.offset_index import OffsetEntry, OffsetIndex
from riverlog.storage.format.time_index import TimeEntry, TimeIndex
from riverlog.storage.format.txn_index import AbortedEntry


class OffsetIndexCheck:
    """Every entry must hold the place of a batch's first byte and the last offset of that batch."""

    def __init__(self) -> None:
        self._entries: Iterator[OffsetEntry] = iter(())
        self._next: OffsetEntry | None = None
        self._at = 0
        self._found: list[tuple[int, str]] = []

    def expect(self, index: OffsetIndex) -> None:
        self._entries = iter(index)
        self._next = next(self._entries, None)

    def batch(self, position: int, last_offset: int) -> None:
        while (entry := self._next) is not None and entry.position <= position:
            if entry.position != position:
                self._wrong(f"offset {entry.offset} -> position {entry.position}, where no batch begins")
            elif entry.offset != last_offset:
                self._wrong(f"offset {entry.offset} -> position {position}, whose batch ends with {last_offset}")
            self._advance()

    def end(self, complete: bool) -> Iterator[tuple[int, str]]:
        """`complete` False: the segment was not read to its end, so entries behind may be right."""
        while (entry := self._next) is not None and complete:
            self._wrong(f"offset {entry.offset} -> position {entry.position}, behind the last batch")
            self._advance()
        yield from self._found

    def _advance(self) -> None:
        self._next = next(self._entries, None)
        self._at += 1

    def _wrong(self, what: str) -> None:
        self._found.append((self._at * offset_index.ENTRY_BYTES, f"index entry {what}"))


class TimeIndexCheck:
    """Every entry must hold the largest timestamp so far and the last offset of the batch that first had it.

    `max_timestamp` is the largest of all batches told, -1 at first."""

    def __init__(self) -> None:
        self.max_timestamp = -1
        self._last: int | None = None  # of the index's last entry; None: there is no index
        self._entries: Iterator[TimeEntry] = iter(())
        self._next: TimeEntry | None = None
        self._at = 0
        self._found: list[tuple[int, str]] = []

    def expect(self, index: TimeIndex) -> None:
        self._last = -1 if index.last is None else index.last.timestamp_ms
        self._entries = iter(index)
        self._next = next(self._entries, None)

    def batch(self, max_timestamp: int, base_offset: int, last_offset: int) -> None:
        passed = max_timestamp > self.max_timestamp
        if passed:
            self.max_timestamp = max_timestamp
        while (entry := self._next) is not None and entry.offset <= last_offset:
            if entry.offset != last_offset:
                self._wrong(f"{entry.timestamp_ms} -> offset {entry.offset}, which no batch ends with")
            elif entry.timestamp_ms != max_timestamp or not passed:
                self._wrong(f"{entry.timestamp_ms} -> offset {entry.offset}, which is not the first to reach it")
            self._next = next(self._entries, None)
            self._at += 1

    def end(self, complete: bool, sealed: bool) -> Iterator[tuple[int, str]]:
        """`complete` False: the segment was not read to its end, so entries behind may be right. `sealed`: another
        segment follows, so the last entry holds the segment's largest timestamp (0 needs no entry: a lookup finds it
        without)."""
        while (entry := self._next) is not None and complete:
            self._wrong(f"{entry.timestamp_ms} -> offset {entry.offset}, behind the last batch")
            self._next = next(self._entries, None)
            self._at += 1
        if complete and sealed and self._last is not None and self._last != self.max_timestamp > 0:
            self._wrong(
                f"for {self.max_timestamp}, the largest of a sealed segment, is missing: it ends at {self._last}"
            )
        yield from self._found

    def _wrong(self, what: str) -> None:
        self._found.append((self._at * time_index.ENTRY_BYTES, f"time index entry {what}"))


class TxnIndexCheck:
    """Every entry must be of an abort marker in its segment, and every transaction that was aborted there must have one. Of one
    partition: a transaction may have begun in an earlier segment."""

    def __init__(self, first_offset: int) -> None:
        self._first_offset = first_offset  # of the log: what began before it cannot be told
        self._producers = Producers()
        self._aborted: dict[int, AbortedEntry] = {}
        self._repaired = False

    def begin(self) -> None:
        """The next segment."""
        self._aborted = {}

    def batch(self, header: BatchHeader, batch: memoryview) -> None:
        """Whose CRC is right: one of a transaction, or an empty one, with which `riverlog repair` has filled a hole."""
        self._repaired = self._repaired or not (header.is_transactional or header.record_count)
        if header.producer_id < 0 or not header.is_transactional:
            return
        if not header.is_control:
            self._producers.apply(header, Offset(header.base_offset), 0)
        elif (entry := replay_marker(self._producers, batch, header, 0)) is not None:
            self._aborted[entry.last_offset] = entry

    def end(self, entries: Sequence[AbortedEntry], end: int, gaps: bool) -> Iterator[tuple[int, str]]:
        """`entries` are those of the segment's file, of which every transaction that was aborted before `end` must be one.
        `gaps`: compaction may have taken what a transaction began with, or all of it; a repair its marker too."""
        gaps = gaps or self._repaired
        for at, entry in enumerate(entries):
            found = self._aborted.pop(entry.last_offset, None)
            position = at * txn_index.ENTRY_BYTES
            if found is None:
                if not gaps and entry.first_offset >= self._first_offset:
                    yield position, f"an abort at offset {entry.last_offset}, where no transaction is aborted"
            elif gaps or min(entry.first_offset, entry.last_stable_offset) < self._first_offset:
                if entry.producer_id != found.producer_id:
                    yield position, f"an abort of producer {entry.producer_id}, the marker is {found.producer_id}'s"
            elif entry != found:
                yield position, f"{tuple(entry)} where the batches say {tuple(found)}"
        for offset in self._aborted:
            if offset < end:
                yield len(entries) * txn_index.ENTRY_BYTES, f"the transaction that ends at offset {offset} is missing"


class EpochWalk:
    """The leader epochs that a file notes, for offsets that mostly ascend."""

    def __init__(self, epochs: LeaderEpochs | None) -> None:
        self._entries = epochs.entries if epochs is not None else []
        self._at = -1
        self._offset = -1
        self._said: tuple[int, int] | None = None
        self.known = epochs is not None

    def at(self, offset: int) -> int:
        """-1: before all."""
        if offset < self._offset:
            self._at = -1
        self._offset = offset
        entries = self._entries
        while self._at + 1 < len(entries) and entries[self._at + 1].start_offset <= offset:
            self._at += 1
        return entries[self._at].epoch if self._at >= 0 else -1

    def is_news(self, differ: tuple[int, int] | None) -> bool:
        """Whether the batch before this one did not differ in the same way. None: this one does not."""
        said, self._said = self._said, differ
        return differ is not None and differ != said
