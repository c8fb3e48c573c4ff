"""Where a segment is damaged, and how far: for `repair.py`. Reads, never writes; not pure.

Invariant: whatever is between the regions that are found is whole batches with right CRCs whose offsets follow one another,
and every offset of the segment is in a batch or in a region. Not here: what becomes of a region.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from riverlog.base.ids import Offset
from riverlog.base.units import MIB
from riverlog.records.checksum import crc32c
from riverlog.records.header import CRC_START, HEADER_BYTES, MAGIC, MAGIC_POSITION, BatchHeader, read_header
from riverlog.storage.format.leader_epochs import LeaderEpochs
from riverlog.storage.format.segment import header_defect
from riverlog.storage.windows import BATCH_BYTES_MAX

search_bytes: Final = MIB  # that are looked through at a time for the next good batch


class Region(NamedTuple):
    """Bytes `start` to `end` of a segment's log, which held the offsets from `first_offset` up to `next_offset`. No
    bytes: they are missing. No offsets: bytes behind the end."""

    start: int
    end: int
    first_offset: int
    next_offset: int
    what: str


class Expected(NamedTuple):
    """What the checkpoint says of a segment: offsets from `base_offset` up to `next_offset` in `size` bytes. `gaps`: it was
    compacted."""

    base_offset: int
    next_offset: int
    size: int
    gaps: bool


def find_damage(path: str, expected: Expected, epochs: LeaderEpochs | None = None) -> list[Region]:
    """`epochs`: those that the batches must have. Raises OSError; a file that is not there is one region."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return [Region(0, 0, expected.base_offset, expected.next_offset, "the file is gone")]
    try:
        return list(_Search(descriptor, expected, epochs).regions())
    finally:
        os.close(descriptor)


class _Search:
    def __init__(self, descriptor: int, expected: Expected, epochs: LeaderEpochs | None) -> None:
        self._epochs = epochs
        self._descriptor = descriptor
        self._expected = expected
        self._size = os.fstat(descriptor).st_size

    def regions(self) -> Iterator[Region]:
        position, offset, epoch = 0, self._expected.base_offset, -1
        while position < self._size:
            header, what = self._batch(position, offset, epoch, self._expected.gaps)
            if header is not None:
                position, offset, epoch = position + header.size, header.next_offset, header.leader_epoch
                continue
            start, found = (
                position,
                self._behind_gap(position, offset, epoch) or self._next_good(position, offset, epoch),
            )
            if found is None:
                yield Region(start, self._size, offset, self._expected.next_offset, what)
                return
            position, header = found
            yield Region(start, position, offset, header.base_offset, what)
            offset = header.base_offset
        short = self._size < self._expected.size or not self._expected.gaps
        if offset < self._expected.next_offset and short:
            yield Region(self._size, self._size, offset, self._expected.next_offset, "the file ends")

    def _read(self, count: int, position: int) -> bytes:
        return os.pread(self._descriptor, count, position)

    def _batch(self, position: int, offset: int, epoch: int, gaps: bool) -> tuple[BatchHeader | None, str]:
        """The batch there, if it is whole and good; else what is wrong."""
        head = self._read(HEADER_BYTES, position)
        if len(head) < HEADER_BYTES:
            return None, f"{len(head)} bytes where a batch header has {HEADER_BYTES}"
        header = read_header(head)
        if not HEADER_BYTES <= header.size <= min(BATCH_BYTES_MAX, self._size - position):
            return None, f"batch length {header.length}"
        if (defect := header_defect(header, offset, epoch, gaps)) is not None:
            return None, defect[1]
        if header.next_offset > self._expected.next_offset:
            return None, f"offset {header.last_offset}, the segment ends with {self._expected.next_offset - 1}"
        noted = self._epochs.epoch_of(Offset(header.base_offset)) if self._epochs is not None else -1
        if noted not in (-1, header.leader_epoch):
            return None, f"leader epoch {header.leader_epoch} where {noted} is noted"
        data = memoryview(self._read(header.size, position))
        if len(data) < header.size or crc32c(data[CRC_START:]) != header.crc:
            return None, "the CRC is not that of the bytes"
        return header, ""

    def _behind_gap(self, position: int, offset: int, epoch: int) -> tuple[int, BatchHeader] | None:
        """The batch there, if only batches before it are missing: then what comes behind fits its offset."""
        header, _ = self._batch(position, offset, epoch, True)
        if header is None:
            return None
        end = position + header.size
        if end == self._size:
            fits = header.next_offset == self._expected.next_offset
        else:
            fits = self._batch(end, header.next_offset, header.leader_epoch, self._expected.gaps)[0] is not None
        return (position, header) if fits else None

    def _next_good(self, position: int, offset: int, epoch: int) -> tuple[int, BatchHeader] | None:
        """The next good batch behind the bad one: by its length, if that leads to one, else by looking at every byte."""
        head = self._read(HEADER_BYTES, position)
        if len(head) == HEADER_BYTES:
            size = read_header(head).size
            if HEADER_BYTES <= size < self._size - position:
                header, _ = self._batch(position + size, offset, epoch, True)
                if header is not None:
                    return position + size, header
        at = position + 1
        while at + HEADER_BYTES <= self._size:
            window = self._read(search_bytes + HEADER_BYTES, at)
            found = window.find(MAGIC, MAGIC_POSITION)
            while 0 <= found < search_bytes + MAGIC_POSITION:
                header, _ = self._batch(at + found - MAGIC_POSITION, offset, epoch, True)
                if header is not None:
                    return at + found - MAGIC_POSITION, header
                found = window.find(MAGIC, found + 1)
            at += search_bytes
        return None
