"""The sparse time index of one segment: 12-byte entries, timestamp and relative offset. See docs/formats/time-index.md.

Invariant: timestamps ascend strictly, offsets do not fall. An entry (T, o) says: up to offset `o`, the last offset of
the batch that first reached it, T is the largest timestamp. The last entry of a sealed segment holds its largest
timestamp.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import islice
from operator import le, lt
from typing import Final, NamedTuple

from riverlog.base.ids import Offset
from riverlog.base.units import INT32_MAX
from riverlog.storage.format.errors import FormatError

ENTRY_BYTES: Final = 12
_SWAP: Final = sys.byteorder == "little"


class TimeEntry(NamedTuple):
    timestamp_ms: int
    offset: Offset


class TimeIndex:
    """Of the segment that begins at `base_offset`."""

    __slots__ = ("_offsets", "_timestamps", "base_offset")

    def __init__(self, base_offset: Offset) -> None:
        self.base_offset = base_offset
        self._timestamps = array("q")
        self._offsets = array("i")  # relative

    def __len__(self) -> int:
        return len(self._timestamps)

    def __iter__(self) -> Iterator[TimeEntry]:
        for timestamp, relative in zip(self._timestamps, self._offsets, strict=True):
            yield TimeEntry(timestamp, Offset(self.base_offset + relative))

    @property
    def last(self) -> TimeEntry | None:
        if not self._timestamps:
            return None
        return TimeEntry(self._timestamps[-1], Offset(self.base_offset + self._offsets[-1]))

    @property
    def size(self) -> int:
        """Of the encoded index, in bytes."""
        return len(self._timestamps) * ENTRY_BYTES

    def append(self, timestamp_ms: int, offset: Offset) -> bool:
        """Notes that `timestamp_ms` is the largest so far and was reached by the batch that ends with `offset`. False,
        and nothing is noted, where it does not pass the last entry. Raises ValueError where the offset does not fit or
        falls."""
        if timestamp_ms < 0 or (self._timestamps and timestamp_ms <= self._timestamps[-1]):
            return False
        relative = offset - self.base_offset
        if not 0 <= relative <= INT32_MAX or (self._offsets and relative < self._offsets[-1]):
            raise ValueError(f"offset {offset} does not fit the time index of {self.base_offset}")
        self._offsets.append(relative)  # first: a thread that looks up meanwhile goes by the timestamps
        self._timestamps.append(timestamp_ms)
        return True

    def lookup(self, timestamp_ms: int) -> Offset:
        """Where to begin to look for the first record at or after `timestamp_ms`: no such record is in a batch that
        ends before the offset that is returned (the batch that ends *with* it may hold it)."""
        at = bisect_right(self._timestamps, timestamp_ms)
        return Offset(self.base_offset + self._offsets[at - 1]) if at else self.base_offset

    def truncate_to(self, offset: Offset) -> None:
        """Drops the entries at or after `offset` (the new log end)."""
        at = bisect_left(self._offsets, max(offset - self.base_offset, 0))
        del self._timestamps[at:], self._offsets[at:]

    def encode(self, first: int = 0) -> bytes:
        """The bytes from the entry with index `first` on."""
        timestamps, offsets = self._timestamps[first:], self._offsets[first:]
        if _SWAP:
            timestamps.byteswap()
            offsets.byteswap()
        return _weave(timestamps.tobytes(), offsets.tobytes())

    @classmethod
    def decode(cls, data: bytes | bytearray | memoryview, base_offset: Offset) -> TimeIndex:
        """Raises FormatError. A tail of zeros (Kafka preallocates an index, and a crash leaves it so) is left out."""
        index = cls(base_offset)
        view = memoryview(data)
        whole = len(view) - len(view) % ENTRY_BYTES
        if any(view[whole:]):
            raise FormatError(whole, f"{len(view)} bytes are no whole number of time index entries")
        timestamps, offsets = index._timestamps, index._offsets
        for column, column_bytes in zip((timestamps, offsets), _unweave(bytes(view[:whole])), strict=True):
            column.frombytes(column_bytes)
            if _SWAP:
                column.byteswap()
        while (
            timestamps and timestamps[-1] == 0 and offsets[-1] == 0
        ):  # only a first entry may be of zeros: it is not missed
            timestamps.pop()
            offsets.pop()
        if offsets and not (
            timestamps[0] >= 0
            and offsets[0] >= 0
            and all(map(lt, timestamps, islice(timestamps, 1, None)))
            and all(map(le, offsets, islice(offsets, 1, None)))
        ):
            raise _first_defect(timestamps, offsets)
        return index


def _weave(timestamps: bytes, offsets: bytes) -> bytes:
    """Columns of 8 and of 4 bytes an entry -> entries of 12. A byte of all entries at once: the loop runs in C."""
    woven = bytearray(len(timestamps) + len(offsets))
    for at in range(8):
        woven[at::ENTRY_BYTES] = timestamps[at::8]
    for at in range(4):
        woven[8 + at :: ENTRY_BYTES] = offsets[at::4]
    return bytes(woven)


def _unweave(data: bytes) -> tuple[bytes, bytes]:
    """The other way."""
    count = len(data) // ENTRY_BYTES
    timestamps, offsets = bytearray(8 * count), bytearray(4 * count)
    for at in range(8):
        timestamps[at::8] = data[at::ENTRY_BYTES]
    for at in range(4):
        offsets[at::4] = data[8 + at :: ENTRY_BYTES]
    return bytes(timestamps), bytes(offsets)


def _first_defect(timestamps: array[int], offsets: array[int]) -> FormatError:
    before, before_relative, at = -1, 0, 0
    for timestamp, relative in zip(timestamps, offsets, strict=True):
        if timestamp <= before or relative < before_relative:
            break
        before, before_relative, at = timestamp, relative, at + 1
    what = f"time index entry {timestamps[at]} -> {offsets[at]} does not ascend"
    return FormatError(at * ENTRY_BYTES, what)
