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
from struct import Struct
from typing import Final, NamedTuple

from riverlog.base.ids import Offset
from riverlog.base.units import INT32_MAX
from riverlog.storage.format.errors import FormatError

TIME_ENTRY: Final = Struct(">qi")
ENTRY_BYTES: Final = 12
assert TIME_ENTRY.size == ENTRY_BYTES
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
        self._timestamps.append(timestamp_ms)
        self._offsets.append(relative)
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
        count = len(self._timestamps) - first
        halves = memoryview(self._timestamps[first:]).cast("B").cast("i") if count else memoryview(b"")
        words = array("i", bytes(ENTRY_BYTES * max(count, 0)))
        if count > 0:
            both = array("i", halves)
            words[0::3] = both[1::2] if _SWAP else both[0::2]
            words[1::3] = both[0::2] if _SWAP else both[1::2]
            words[2::3] = self._offsets[first:]
            if _SWAP:
                words.byteswap()
        return words.tobytes()

    @classmethod
    def decode(cls, data: bytes | bytearray | memoryview, base_offset: Offset) -> TimeIndex:
        """Raises FormatError. A tail of zeros (Kafka preallocates an index, and a crash leaves it so) is left out."""
        index = cls(base_offset)
        view = memoryview(data)
        whole = len(view) - len(view) % ENTRY_BYTES
        if any(view[whole:]):
            raise FormatError(whole, f"{len(view)} bytes are no whole number of time index entries")
        before, before_relative = -1, 0
        timestamps, offsets = index._timestamps, index._offsets
        for at, (timestamp, relative) in enumerate(TIME_ENTRY.iter_unpack(view[:whole])):
            if timestamp <= before or relative < before_relative:
                if not any(view[at * ENTRY_BYTES :]):
                    break
                raise FormatError(at * ENTRY_BYTES, f"time index entry {timestamp} -> {relative} does not ascend")
            timestamps.append(timestamp)
            offsets.append(relative)
            before, before_relative = timestamp, relative
        if len(timestamps) == 1 and timestamps[0] == 0 and offsets[0] == 0 and len(view) > ENTRY_BYTES:
            del timestamps[:], offsets[:]  # nothing but zeros
        return index
