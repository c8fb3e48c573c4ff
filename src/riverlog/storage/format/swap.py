"""`swap`: which segments of a partition are being replaced by which. See docs/formats/swap.md.

Invariant: it is replaced whole, and once it is there the new segments count. Not here: what is done with it
(`storage/local/swaps.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from struct import Struct
from typing import Final, NamedTuple

from riverlog.base.ids import Offset, PartitionId, TopicId
from riverlog.records.checksum import crc32c
from riverlog.storage.format.checkpoint import Checksums, SegmentMark
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.rows import rows

MAGIC: Final = b"RIVERSWP"
VERSION: Final = 1
_HEADER: Final = Struct(">8sH16siI")
_GROUP: Final = Struct(">II")
_BASE: Final = Struct(">q")
_SEGMENT: Final = Struct(">qqqqqqHHIIII")
_CRC: Final = Struct(">I")
assert (_HEADER.size, _GROUP.size, _SEGMENT.size) == (34, 8, 68)


class Group(NamedTuple):
    """Neighbours, and what they became. The first of `fresh` has the base offset of the first of `replaced`."""

    replaced: Sequence[Offset]
    fresh: Sequence[SegmentMark]


class Swap(NamedTuple):
    partition: PartitionId
    groups: Sequence[Group]


def encode(swap: Swap) -> bytes:
    parts = [_HEADER.pack(MAGIC, VERSION, swap.partition.topic_id, swap.partition.index, len(swap.groups))]
    for group in swap.groups:
        parts.append(_GROUP.pack(len(group.replaced), len(group.fresh)))
        parts += [_BASE.pack(base_offset) for base_offset in group.replaced]
        parts += [_encode_segment(mark) for mark in group.fresh]
    body = b"".join(parts)
    return body + _CRC.pack(crc32c(body))


def _encode_segment(mark: SegmentMark) -> bytes:
    checksums = mark.checksums
    sums = (checksums.log, checksums.offsets, checksums.times, checksums.transactions) if checksums else (None,) * 4
    files = sum(1 << at for at, one in enumerate(sums) if one is not None)
    return _SEGMENT.pack(
        mark.base_offset,
        mark.size,
        mark.last_offset,
        mark.max_timestamp_ms,
        mark.max_timestamp_offset,
        mark.created_ms,
        mark.flags,
        files,
        *(one or 0 for one in sums),
    )


def decode(data: bytes | bytearray | memoryview) -> Swap:
    """Raises FormatError."""
    view = memoryview(data)
    if len(view) < _HEADER.size + _CRC.size:
        raise FormatError(0, f"{len(view)} bytes are no swap")
    magic, version, topic_id, index, count = _HEADER.unpack_from(view)
    if magic != MAGIC:
        raise FormatError(0, "no swap: it begins with other bytes")
    if version != VERSION:
        raise FormatError(8, f"swap of version {version}, known is {VERSION}")
    end = len(view) - _CRC.size
    if (crc := crc32c(view[:end])) != (noted := _CRC.unpack_from(view, end)[0]):
        raise FormatError(end, f"CRC {noted:#010x} where the bytes have {crc:#010x}")
    if index < 0:
        raise FormatError(26, f"partition {index}")
    groups: list[Group] = []
    at, last = _HEADER.size, -1
    for _ in range(count):
        group, after = _decode_group(view, at, end)
        if group.replaced[0] <= last:
            raise FormatError(at, f"segment {group.replaced[0]} after offset {last}")
        at, last = after, max(group.replaced[-1], group.fresh[-1].last_offset)
        groups.append(group)
    if at != end:
        raise FormatError(at, f"{end - at} bytes behind the last group")
    return Swap(PartitionId(TopicId(topic_id), index), tuple(groups))


def _decode_group(view: memoryview, start: int, end: int) -> tuple[Group, int]:
    if end - start < _GROUP.size:
        raise FormatError(start, "a group is cut off")
    replaced_count, fresh_count = _GROUP.unpack_from(view, start)
    bases_at = start + _GROUP.size
    fresh_at = bases_at + replaced_count * _BASE.size
    after = fresh_at + fresh_count * _SEGMENT.size
    if after > end:
        raise FormatError(start, f"{replaced_count} segments for {fresh_count} in {end - start} bytes")
    replaced = tuple(Offset(base_offset) for (base_offset,) in rows(_BASE, view, bases_at, fresh_at))
    fresh = tuple(_decode_segment(row) for row in rows(_SEGMENT, view, fresh_at, after))
    if not replaced or not fresh or replaced[0] < 0 or fresh[0].base_offset != replaced[0]:
        raise FormatError(start, "a group that cannot be")
    before = -1
    for mark in fresh:
        if mark.base_offset <= before or mark.last_offset < mark.base_offset or mark.size < 1:
            raise FormatError(start, f"segment {mark.base_offset} of {mark.size} bytes up to {mark.last_offset}")
        before = mark.last_offset
    if any(one >= other for one, other in pairwise(replaced)):
        raise FormatError(start, "replaced segments do not ascend")
    return Group(replaced, fresh), after


def _decode_segment(row: tuple[int, ...]) -> SegmentMark:
    base_offset, size, last_offset, max_timestamp, max_offset, created_ms, flags, files, *sums = row
    offsets, times, transactions = (sums[at] if files & 1 << at else None for at in (1, 2, 3))
    checksums = Checksums(sums[0], offsets, times, transactions) if files & 1 else None
    return SegmentMark(
        Offset(base_offset), size, Offset(last_offset), max_timestamp, Offset(max_offset), created_ms, flags, checksums
    )
