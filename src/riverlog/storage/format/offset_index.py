"""The sparse offset index of one segment: 8-byte entries, relative offset and position. See
docs/formats/offset-index.md.

Invariant: entries ascend strictly in both columns. As in Kafka an entry holds the *last* offset of the batch that
begins at its position. In memory an entry is one 64-bit number (relative offset high, position low), so a lookup is one
bisection and encoding is a byte swap. Not here: when an entry is due (`index.interval.bytes`), files.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import islice
from operator import lt
from typing import Final, NamedTuple

from riverlog.base.ids import Offset, Position
from riverlog.base.units import INT32_MAX
from riverlog.storage.format.errors import FormatError

ENTRY_BYTES: Final = 8
_LOW: Final = 0xFFFF_FFFF
_SWAP: Final = sys.byteorder == "little"


class OffsetEntry(NamedTuple):
    offset: Offset
    position: Position


class OffsetIndex:
    """Of the segment that begins at `base_offset`."""

    __slots__ = ("_entries", "base_offset")

    def __init__(self, base_offset: Offset) -> None:
        self.base_offset = base_offset
        self._entries = array("q")

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[OffsetEntry]:
        base = self.base_offset
        for entry in self._entries:
            yield OffsetEntry(Offset(base + (entry >> 32)), Position(entry & _LOW))

    @property
    def last(self) -> OffsetEntry | None:
        if not self._entries:
            return None
        entry = self._entries[-1]
        return OffsetEntry(Offset(self.base_offset + (entry >> 32)), Position(entry & _LOW))

    @property
    def size(self) -> int:
        """Of the encoded index, in bytes."""
        return len(self._entries) * ENTRY_BYTES

    def accepts(self, offset: Offset) -> bool:
        """Whether an entry for that offset fits into the 32 bits of this segment; where not, the segment must be
        rolled."""
        return 0 <= offset - self.base_offset <= INT32_MAX

    def append(self, last_offset: Offset, position: Position) -> None:
        """An entry for the batch that begins at `position` and ends with `last_offset`. Raises ValueError where it does
        not ascend."""
        relative = last_offset - self.base_offset
        if not (0 <= relative <= INT32_MAX and 0 <= position <= INT32_MAX):
            raise ValueError(f"offset {last_offset} at {position} does not fit the index of {self.base_offset}")
        if self._entries and (relative <= self._entries[-1] >> 32 or position <= self._entries[-1] & _LOW):
            raise ValueError(f"offset {last_offset} at {position} does not ascend in the index of {self.base_offset}")
        self._entries.append(relative << 32 | position)

    def lookup(self, offset: Offset) -> Position:
        """Where to begin to walk for `offset`: the place of the last entry at or before it, else 0."""
        at = bisect_right(self._entries, (offset - self.base_offset) << 32 | _LOW)
        return Position(self._entries[at - 1] & _LOW) if at else Position(0)

    def position_after(self, offset: Offset) -> Position | None:
        """The place of the first batch in the index that ends at or after `offset`: a bound for reads. None: the index
        ends before."""
        at = bisect_left(self._entries, (offset - self.base_offset) << 32)
        return Position(self._entries[at] & _LOW) if at < len(self._entries) else None

    def offset_behind(self, position: int) -> Offset | None:
        """An offset that is behind every batch that begins before byte `position`. None: the index ends before."""
        at = bisect_left(self._entries, position, key=lambda entry: entry & _LOW)
        return Offset(self.base_offset + (self._entries[at] >> 32) + 1) if at < len(self._entries) else None

    def truncate_to(self, offset: Offset) -> None:
        """Drops the entries at or after `offset` (the new log end)."""
        del self._entries[bisect_left(self._entries, max(offset - self.base_offset, 0) << 32) :]

    def truncate_to_position(self, position: Position) -> None:
        """Drops the entries at or behind byte `position` of the segment (its new size)."""
        first: int = position  # of the entries that go
        del self._entries[bisect_left(self._entries, first, key=lambda entry: entry & _LOW) :]

    def encode(self, first: int = 0) -> bytes:
        """The bytes from the entry with index `first` on."""
        entries = self._entries[first:]
        if _SWAP:
            entries.byteswap()
        return entries.tobytes()

    @classmethod
    def decode(cls, data: bytes | bytearray | memoryview, base_offset: Offset) -> OffsetIndex:
        """Raises FormatError. A tail of zeros (Kafka preallocates an index, and a crash leaves it so) is left out."""
        index = cls(base_offset)
        entries = index._entries
        entries.frombytes(memoryview(data)[: len(data) - len(data) % ENTRY_BYTES])
        if _SWAP:
            entries.byteswap()
        while (
            entries and entries[-1] == 0
        ):  # a real entry of zeros can only be the first, and says what an empty index says
            entries.pop()
        if len(data) % ENTRY_BYTES and any(memoryview(data)[len(data) - len(data) % ENTRY_BYTES :]):
            raise FormatError(
                len(data) - len(data) % ENTRY_BYTES, f"{len(data)} bytes are no whole number of index entries"
            )
        relatives, positions = _columns(entries)
        if entries and not (
            relatives[0] >= 0
            and positions[0] >= 0
            and all(map(lt, positions, islice(positions, 1, None)))
            and all(map(lt, relatives, islice(relatives, 1, None)))
        ):
            raise _first_defect(entries)
        return index


def _columns(entries: array[int]) -> tuple[array[int], array[int]]:
    """The relative offsets and the positions of all entries."""
    words = array("i")
    words.frombytes(memoryview(entries).cast("B"))
    return (words[1::2], words[0::2]) if _SWAP else (words[0::2], words[1::2])


def _first_defect(entries: array[int]) -> FormatError:
    before = before_position = -1
    at = 0
    for entry in entries:
        relative, position = entry >> 32, entry & _LOW
        if relative <= before or position <= before_position or position > INT32_MAX:
            break
        before, before_position, at = relative, position, at + 1
    what = f"index entry {entries[at] >> 32} -> {entries[at] & _LOW} does not ascend"
    return FormatError(at * ENTRY_BYTES, what)
