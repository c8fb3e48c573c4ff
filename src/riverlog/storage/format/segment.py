"""Walking the batches of a segment by their headers, in windows of bytes that a caller has read.

Invariant: a walk always moves forward or stops, whatever the bytes are. Positions that go in and come out are of the
file: `window_position` says where the window begins. A batch that reaches over the window's end is no error here; the
answer says where to read on. Not here: reading of files, records inside a batch. See docs/formats/segment.md.
"""

from __future__ import annotations

from enum import Enum
from struct import Struct
from typing import Final, NamedTuple

from riverlog.base.ids import Offset, Position
from riverlog.base.units import INT32_MAX
from riverlog.records.checksum import crc32c
from riverlog.records.header import (
    BATCH_HEADER,
    CRC_START,
    HEADER_BYTES,
    MAGIC,
    OVERHEAD_BYTES,
    BatchHeader,
)
from riverlog.storage.format.errors import FormatError

START: Final = Position(0)
FIRST: Final = Offset(0)
BATCH_LENGTH_MIN: Final = HEADER_BYTES - OVERHEAD_BYTES  # of the length field of a batch without records
_OFFSETS: Final = Struct(">qi4xB6xi")  # base offset, length, magic, last offset delta
_TIMES: Final = Struct(">qi4xB6xi8xq")  # the same and the largest timestamp
assert _OFFSETS.size == 27
assert _TIMES.size == 43


class Stop(Enum):
    """Why a scan ended. END and TORN at the end of the file: nothing, or a part of a batch, is left."""

    END = "end"
    TORN = "torn"
    LENGTH = "length"
    MAGIC = "magic"
    OFFSET = "offset"
    GAP = "gap"
    EPOCH = "epoch"
    COUNT = "count"
    CRC = "crc"


class ScannedBatch(NamedTuple):
    position: Position
    header: BatchHeader


class Scan(NamedTuple):
    """`position` is behind the last good batch. With TORN, `bytes_needed` from there on hold the next batch, or its
    header."""

    batches: list[ScannedBatch]
    position: Position
    stop: Stop
    what: str  # for a person; empty with END
    next_offset: Offset | None  # behind the last good batch, else what was expected
    leader_epoch: int
    bytes_needed: int


def header_defect(
    header: BatchHeader, expected: int | None, leader_epoch: int, allow_gaps: bool
) -> tuple[Stop, str] | None:
    """What is wrong by the header alone, where `expected` is the next offset (None: any). None: nothing."""
    if header.magic != MAGIC:
        return Stop.MAGIC, f"magic {header.magic} where a batch has {MAGIC}"
    if header.base_offset < 0 or not 0 <= header.last_offset_delta <= INT32_MAX:
        return Stop.OFFSET, f"offset {header.base_offset} + {header.last_offset_delta}"
    if expected is not None and header.base_offset != expected:
        if header.base_offset < expected:
            return Stop.OFFSET, f"offset {header.base_offset} after {expected - 1}"
        if not allow_gaps:
            return Stop.GAP, f"offset {header.base_offset} where {expected} is next"
    if header.leader_epoch < leader_epoch:
        return Stop.EPOCH, f"leader epoch {header.leader_epoch} after {leader_epoch}"
    if header.record_count < 0 or header.record_count > header.last_offset_delta + 1:
        return Stop.COUNT, f"{header.record_count} records in {header.last_offset_delta + 1} offsets"
    return None


def scan(
    window: bytes | bytearray | memoryview,
    window_position: Position = START,
    expected_next_offset: Offset | None = None,
    *,
    leader_epoch: int = -1,
    check_crc: bool = True,
    allow_gaps: bool = False,
    batch_bytes_max: int = INT32_MAX,
) -> Scan:
    """The whole and good batches from the start of the window on, and why it went no further.

    `expected_next_offset` None: the first batch may have any offset. `allow_gaps`: compaction took batches out, so
    offsets only ascend. To go on, read from `position` at least `bytes_needed` bytes and scan with `next_offset` and
    `leader_epoch`; TORN with nothing more in the file is a torn batch. A length over `batch_bytes_max` is damage, not a
    reason to read on.
    """
    view = memoryview(window)
    end = len(view)
    at = 0
    expected: int | None = expected_next_offset
    batches: list[ScannedBatch] = []
    stop, what, needed = Stop.END, "", HEADER_BYTES
    while at < end:
        if end - at < HEADER_BYTES:
            stop, what = Stop.TORN, f"{end - at} bytes where a batch header has {HEADER_BYTES}"
            break
        header = BatchHeader._make(BATCH_HEADER.unpack_from(view, at))
        size = header.length + OVERHEAD_BYTES
        if not HEADER_BYTES <= size <= batch_bytes_max:
            stop, what = Stop.LENGTH, f"batch length {header.length}"
            break
        if (defect := header_defect(header, expected, leader_epoch, allow_gaps)) is not None:
            stop, what = defect
            break
        if end - at < size:
            stop, what, needed = Stop.TORN, f"{end - at} bytes of a batch of {size}", size
            break
        if check_crc and (crc := crc32c(view[at + CRC_START : at + size])) != header.crc:
            stop, what = Stop.CRC, f"CRC {header.crc:#010x} where the bytes have {crc:#010x}"
            break
        batches.append(ScannedBatch(Position(window_position + at), header))
        leader_epoch = header.leader_epoch
        expected = header.base_offset + header.last_offset_delta + 1
        at += size
    next_offset = None if expected is None else Offset(expected)
    return Scan(batches, Position(window_position + at), stop, what, next_offset, leader_epoch, needed)


class Found(NamedTuple):
    """A batch, by its place in the file; `next_position` is behind it."""

    position: Position
    next_position: Position
    base_offset: Offset
    last_offset: Offset


class ReadOn(NamedTuple):
    """The window holds no answer: walk again in a window that begins at `position`, where a batch header is (or the
    file's end)."""

    position: Position


def find_offset(
    window: bytes | bytearray | memoryview, window_position: Position, offset: Offset, start: Position | None = None
) -> Found | ReadOn:
    """The first batch whose last offset is at or after `offset`, walking from `start` (default: the window's first
    byte), which must be a batch's first byte (what an index lookup gives). Raises FormatError (position: of the file)
    where there is none. The window needs the headers only: 4 KiB are mostly enough; of a batch's records nothing is
    read."""
    at = 0 if start is None else start - window_position
    end = len(window) - HEADER_BYTES
    unpack = _OFFSETS.unpack_from
    while at <= end:
        base, length, magic, delta = unpack(window, at)
        if length < BATCH_LENGTH_MIN or magic != MAGIC:
            raise FormatError(window_position + at, f"no batch: length {length}, magic {magic}")
        if base + delta >= offset:
            position = window_position + at
            return Found(
                Position(position), Position(position + OVERHEAD_BYTES + length), Offset(base), Offset(base + delta)
            )
        at += OVERHEAD_BYTES + length
    return ReadOn(Position(window_position + at))


def find_timestamp(
    window: bytes | bytearray | memoryview, window_position: Position, timestamp_ms: int, offset: Offset = FIRST
) -> Found | ReadOn:
    """The first batch that ends at or after `offset` and, by its largest timestamp, has a record at or after
    `timestamp_ms`; else as `find_offset`."""
    at = 0
    end = len(window) - HEADER_BYTES
    unpack = _TIMES.unpack_from
    while at <= end:
        base, length, magic, delta, max_timestamp = unpack(window, at)
        if length < BATCH_LENGTH_MIN or magic != MAGIC:
            raise FormatError(window_position + at, f"no batch: length {length}, magic {magic}")
        if max_timestamp >= timestamp_ms and base + delta >= offset:
            position = window_position + at
            return Found(
                Position(position), Position(position + OVERHEAD_BYTES + length), Offset(base), Offset(base + delta)
            )
        at += OVERHEAD_BYTES + length
    return ReadOn(Position(window_position + at))


def is_zero(window: bytes | bytearray | memoryview) -> bool:
    """Nothing but zero bytes: the preallocated or never written tail of a file."""
    return not bytes(window).strip(b"\0")
