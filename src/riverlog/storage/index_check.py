"""Holds the entries of a segment's two indexes against its batches, which are told one after another. Pure.

Invariant: one pass and constant memory beside the index itself. What is found is (position in the index file, what).
"""

from __future__ import annotations

from collections.abc import Iterator

from riverlog.storage.format import offset_index, time_index
from riverlog.storage.format.offset_index import OffsetEntry, OffsetIndex
from riverlog.storage.format.time_index import TimeEntry, TimeIndex


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
