"""Batches of a segment file, one after another, in bounded memory: for people and for `verify`, not for the data path.

Invariant: at most one window, or one batch where that is larger, is in memory. Not pure: reads files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

from riverlog.base.ids import Position
from riverlog.base.limits import batch_decompressed_bytes_max
from riverlog.base.units import MIB
from riverlog.records.checksum import crc32c
from riverlog.records.header import CRC_START, HEADER_BYTES, MAGIC, BatchHeader, read_header
from riverlog.storage.format.errors import FormatError

WINDOW_BYTES: Final = 4 * MIB
BATCH_BYTES_MAX: Final = batch_decompressed_bytes_max  # a length above it is damage: no batch was ever taken that large


class StoredBatch(NamedTuple):
    """`data` is borrowed: it is good until the next batch is asked for."""

    position: Position
    header: BatchHeader
    data: memoryview

    @property
    def crc_ok(self) -> bool:
        return crc32c(self.data[CRC_START:]) == self.header.crc


def stored_batches(file: BinaryIO, position: int = 0, end: int | None = None) -> Iterator[StoredBatch]:
    """The batches from `position` (a batch's first byte) to the end of the file, or to `end`.

    Checks only what it needs to find the next one. Raises FormatError at the first bytes that are no whole batch; their
    `position` is the file's.
    """
    size = os.fstat(file.fileno()).st_size if end is None else end
    window = memoryview(b"")
    start = position
    while position < size:
        if (have := start + len(window) - position) < HEADER_BYTES and start + len(window) < size:
            window, start = _read(file, position, min(WINDOW_BYTES, size - position)), position
            have = len(window)
        at = position - start
        if have < HEADER_BYTES:
            raise FormatError(position, f"{have} bytes where a batch header has {HEADER_BYTES}")
        header = read_header(window, at)
        if not HEADER_BYTES <= header.size <= BATCH_BYTES_MAX:
            raise FormatError(position, f"batch length {header.length}")
        if header.magic != MAGIC:
            raise FormatError(position, f"magic {header.magic} where a batch has {MAGIC}")
        if position + header.size > size:
            raise FormatError(position, f"{size - position} bytes of a batch of {header.size}")
        if have < header.size:
            count = min(max(WINDOW_BYTES, header.size), size - position)
            window, start = _read(file, position, count), position
            at = 0
            if len(window) < header.size:
                raise FormatError(position, "the file became shorter")
        yield StoredBatch(Position(position), header, window[at : at + header.size])
        position += header.size


def _read(file: BinaryIO, position: int, count: int) -> memoryview:
    """Fewer bytes at the file's end only."""
    return memoryview(os.pread(file.fileno(), count, position))
