"""`checkpoint`: what is known to be synced, of all partitions in one file. See docs/formats/checkpoint.md.

Invariant: what it says was durable before it was written; it may be behind, never ahead. It is replaced whole. Recovery
reads no byte before a partition's recovery point. Not here: producers (snapshots), leader epochs below the highest
(their own file).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, starmap
from struct import Struct
from typing import Final, NamedTuple

from riverlog.base.ids import LeaderEpoch, Offset, PartitionId, Position, TopicId
from riverlog.records.checksum import crc32c
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.rows import rows

MAGIC: Final = b"RIVERCKP"
VERSION: Final = 1
CLEAN: Final = 1  # flag: written by a clean stop, nothing came after it
_HEADER: Final = Struct(">8sHHQII")  # magic, version, flags, generation, partitions, segments
_PARTITION: Final = Struct(">16siiqqqqI")
_SEGMENT: Final = Struct(">qqqqI")
_CRC: Final = Struct(">I")
assert (_HEADER.size, _PARTITION.size, _SEGMENT.size) == (28, 60, 36)


class SegmentMark(NamedTuple):
    """A sealed segment whose files are synced. `max_timestamp_ms` -1: it holds no record. `checksum` 0: not
    computed."""

    base_offset: Offset
    size: int
    last_offset: Offset
    max_timestamp_ms: int
    checksum: int = 0


class PartitionMark(NamedTuple):
    """`recovery_offset` is the offset of the batch that begins at byte `recovery_position` of the segment
    `recovery_segment` (the active one): all before it is synced. `segments` are the sealed ones, ascending, without
    gaps in the list."""

    partition: PartitionId
    leader_epoch: LeaderEpoch  # the highest, -1: none
    log_start: Offset
    recovery_offset: Offset
    recovery_segment: Offset
    recovery_position: Position
    segments: Sequence[SegmentMark] = ()


class Checkpoint(NamedTuple):
    """`generation` rises with each writing. `clean`: the recovery points are the log ends."""

    clean: bool
    generation: int
    partitions: Sequence[PartitionMark] = ()


def encode(checkpoint: Checkpoint) -> bytes:
    partitions = checkpoint.partitions
    segments = [segment for mark in partitions for segment in mark.segments]
    parts = [
        _HEADER.pack(
            MAGIC, VERSION, CLEAN if checkpoint.clean else 0, checkpoint.generation, len(partitions), len(segments)
        )
    ]
    parts += [
        _PARTITION.pack(
            mark.partition.topic_id,
            mark.partition.index,
            mark.leader_epoch,
            mark.log_start,
            mark.recovery_offset,
            mark.recovery_segment,
            mark.recovery_position,
            len(mark.segments),
        )
        for mark in partitions
    ]
    parts += starmap(_SEGMENT.pack, segments)
    body = b"".join(parts)
    return body + _CRC.pack(crc32c(body))


def decode(data: bytes | bytearray | memoryview) -> Checkpoint:
    """Raises FormatError."""
    view = memoryview(data)
    if len(view) < _HEADER.size + _CRC.size:
        raise FormatError(0, f"{len(view)} bytes are no checkpoint")
    magic, version, flags, generation, partition_count, segment_count = _HEADER.unpack_from(view)
    if magic != MAGIC:
        raise FormatError(0, "no checkpoint: it begins with other bytes")
    if version != VERSION:
        raise FormatError(8, f"checkpoint of version {version}, known is {VERSION}")
    segments_at = _HEADER.size + partition_count * _PARTITION.size
    end = segments_at + segment_count * _SEGMENT.size
    if len(view) != end + _CRC.size:
        raise FormatError(
            20, f"{len(view)} bytes where {partition_count} partitions and {segment_count} segments have {end + 4}"
        )
    if (crc := crc32c(view[:end])) != (noted := _CRC.unpack_from(view, end)[0]):
        raise FormatError(end, f"CRC {noted:#010x} where the bytes have {crc:#010x}")
    segments = map(SegmentMark._make, rows(_SEGMENT, view, segments_at, end))
    partitions: list[PartitionMark] = []
    left = segment_count
    places = rows(_PARTITION, view, _HEADER.size, segments_at)
    for at, (topic_id, index, epoch, start, offset, base, position, count) in enumerate(places):
        left -= count
        if left < 0 or index < 0 or start < 0 or not 0 <= base <= offset or position < 0:
            raise FormatError(_HEADER.size + at * _PARTITION.size, "a partition that cannot be")
        mark = (
            PartitionId(TopicId(topic_id), index),
            epoch,
            start,
            offset,
            base,
            position,
            tuple(islice(segments, count)),
        )
        partitions.append(PartitionMark._make(mark))
    if left:
        raise FormatError(24, f"{left} segments of no partition")
    return Checkpoint(bool(flags & CLEAN), generation, partitions)
