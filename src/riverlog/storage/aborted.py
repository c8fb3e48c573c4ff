"""The aborted transactions of one partition, in the order of their markers: what read_committed fetches are told. Pure.

Invariant: markers ascend. An entry's last stable offset lets a look end early: whatever was aborted after it began at that
offset or behind it. A look costs the entries between what was asked for and that place, not those of the log.
Not here: how they are kept on disk (`format/txn_index.py`), which transactions are open (`state/producers.py`).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from riverlog.base.ids import Offset, ProducerId
from riverlog.records.control import ControlType, marker_in
from riverlog.records.header import BatchHeader
from riverlog.state.producers import Producers
from riverlog.storage.contract import AbortedTransaction
from riverlog.storage.format.txn_index import AbortedEntry


class Aborted:
    """32 bytes an entry."""

    __slots__ = ("_first", "_last", "_producers", "_stable")

    def __init__(self, entries: Iterable[AbortedEntry] = ()) -> None:
        self._producers = array("q")
        self._first = array("q")
        self._last = array("q")
        self._stable = array("q")
        for entry in entries:
            self.add(entry)

    def __len__(self) -> int:
        return len(self._last)

    def add(self, entry: AbortedEntry) -> None:
        """Behind all others."""
        assert not self._last or entry.last_offset > self._last[-1], (entry, self._last[-1])
        self._producers.append(entry.producer_id)
        self._first.append(entry.first_offset)
        self._last.append(entry.last_offset)
        self._stable.append(entry.last_stable_offset)

    def overlapping(self, start: Offset, end: Offset) -> Sequence[AbortedTransaction]:
        """Those with a record or their marker in the offsets from `start` to `end`, or between the two, by first offset."""
        found: list[tuple[int, int]] = []
        for at in range(bisect_left(self._last, start), len(self._last)):
            if self._first[at] < end:
                found.append((self._first[at], self._producers[at]))
            if self._stable[at] >= end:
                break
        found.sort()
        return [AbortedTransaction(ProducerId(producer_id), Offset(first)) for first, producer_id in found]

    def between(self, start: Offset, end: Offset) -> list[AbortedEntry]:
        """Those whose markers have offsets from `start` on, below `end`."""
        low, high = bisect_left(self._last, start), bisect_left(self._last, end)
        columns = (self._producers, self._first, self._last, self._stable)
        return [
            AbortedEntry(ProducerId(producer_id), Offset(first), Offset(last), Offset(stable))
            for producer_id, first, last, stable in zip(*(column[low:high] for column in columns), strict=True)
        ]

    def count_between(self, start: Offset, end: Offset) -> int:
        return max(0, bisect_left(self._last, end) - bisect_left(self._last, start))

    def replace(self, start: Offset, end: Offset, entries: Sequence[AbortedEntry] = ()) -> None:
        """Those whose markers have offsets from `start` on, below `end`, become `entries`, which lie there too."""
        low, high = bisect_left(self._last, start), bisect_left(self._last, end)
        self._producers[low:high] = array("q", [entry.producer_id for entry in entries])
        self._first[low:high] = array("q", [entry.first_offset for entry in entries])
        self._last[low:high] = array("q", [entry.last_offset for entry in entries])
        self._stable[low:high] = array("q", [entry.last_stable_offset for entry in entries])

    def drop_before(self, offset: Offset) -> None:
        """What ended before the log's first offset overlaps nothing any more."""
        if self._last and self._last[0] < offset:
            self.replace(Offset(0), offset)


def replay_marker(
    producers: Producers, batch: bytes | memoryview, header: BatchHeader, now_ms: int
) -> AbortedEntry | None:
    """A control batch of a log, read again. Gives the transaction that it aborted."""
    marker = marker_in(batch, header)
    coordinator_epoch = marker.coordinator_epoch if marker is not None else -1
    done = producers.end_transaction(header, Offset(header.base_offset), now_ms, coordinator_epoch)
    producers.last_stable_offset(producers.next_offset)  # nothing of it waits to be visible
    if done is None or marker is None or marker.type is not ControlType.ABORT:
        return None
    return AbortedEntry(*done)
