"""`checkpoint`: what is known to be synced, of all partitions in one file. See docs/formats/checkpoint.md.

Invariant: what it says was durable before it was written; it may be behind, never ahead. It is replaced whole. Recovery
reads no byte before a partition's recovery point. Version 2 is written, version 1 is read for good.
Not here: producers (snapshots), leader epochs below the highest (their own file).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from struct import Struct
from typing import Any, Final, NamedTuple

from riverlog.base.ids import LeaderEpoch, Offset, PartitionId, Position, TopicId
from riverlog.records.checksum import crc32c
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.rows import rows

MAGIC: Final = b"RIVERCKP"
VERSION: Final = 2
CLEAN: Final = 1  # flag: written by a clean stop, nothing came after it

COMPACTED: Final = 1  # flags of a segment
ABORTED: Final = 2  # it has a transaction index

_ACTIVE: Final = 1  # flags of a partition
_SNAPSHOT: Final = 2
_METADATA_SUM: Final = 4
_EPOCHS_SUM: Final = 8
_SNAPSHOT_SUM: Final = 16
_ABORTED_SHIFT: Final = 8  # above the flags: how many aborted transactions the active segment has

_HEADER: Final = Struct(">8sHHQII")  # magic, version, flags, generation, partitions, segments
_PARTITION: Final = Struct(">16siiqqqqqIIqqqqqIII")
_SEGMENT: Final = Struct(">qqqqqqHHIIII")
_PARTITION_1: Final = Struct(">16siiqqqqI")
_SEGMENT_1: Final = Struct(">qqqq4x")
_CRC: Final = Struct(">I")
assert (_HEADER.size, _PARTITION.size, _SEGMENT.size) == (28, 124, 68)
assert (_PARTITION_1.size, _SEGMENT_1.size) == (60, 36)


class Checksums(NamedTuple):
    """CRC-32C of each whole file of a sealed segment. None: there is no such file."""

    log: int
    offsets: int | None = None
    times: int | None = None
    transactions: int | None = None


class SegmentMark(NamedTuple):
    """A sealed segment whose files are synced. `max_timestamp_ms` -1: it holds no record; `max_timestamp_offset` -1 and
    `created_ms` 0: not known. `checksums` None: not computed yet."""

    base_offset: Offset
    size: int
    last_offset: Offset
    max_timestamp_ms: int
    max_timestamp_offset: Offset = Offset(-1)
    created_ms: int = 0
    flags: int = 0
    checksums: Checksums | None = None


class ActiveMark(NamedTuple):
    """The active segment at the recovery point."""

    created_ms: int
    first_timestamp: int  # -1: no batch has one
    max_timestamp: int  # -1: no batch has one
    max_timestamp_offset: Offset
    bytes_since_entry: int  # of the offset index
    aborted: int = 0  # entries of its transaction index


class FileChecksums(NamedTuple):
    """CRC-32C of a partition's small files, whose own formats have none or a part. None: not known. They hold after a
    clean stop; after another the files may be newer."""

    metadata: int | None = None
    epochs: int | None = None
    snapshot: int | None = None  # the one at the recovery offset


_NO_FILE_CHECKSUMS: Final = FileChecksums()


class PartitionMark(NamedTuple):
    """`recovery_offset` is the offset of the batch that begins at byte `recovery_position` of the segment
    `recovery_segment` (the active one): all before it is synced. `segments` are the sealed ones, ascending, without
    gaps in the list. `active` None: there is no active segment, or it is not known."""

    partition: PartitionId
    leader_epoch: LeaderEpoch  # the highest, -1: none
    log_start: Offset
    recovery_offset: Offset
    recovery_segment: Offset
    recovery_position: Position
    segments: Sequence[SegmentMark] = ()
    cleaned_offset: Offset = Offset(0)  # compaction has been through everything before it
    active: ActiveMark | None = None
    has_snapshot: bool = False  # a producer snapshot lies at the recovery offset
    file_checksums: FileChecksums = _NO_FILE_CHECKSUMS


class Checkpoint(NamedTuple):
    """`generation` rises with each writing. `clean`: the recovery points are the log ends. `version` 1: `active`,
    `has_snapshot` and what else came with version 2 are not known."""

    clean: bool
    generation: int
    partitions: Sequence[PartitionMark] = ()
    version: int = VERSION


def encode(checkpoint: Checkpoint) -> bytes:
    """In version 2, whatever was read."""
    partitions = checkpoint.partitions
    parts = [b""]
    parts += map(_partition_row, partitions)
    pack, segment_count = _SEGMENT.pack, 0
    for mark in partitions:
        segment_count += len(mark.segments)
        for base_offset, size, last_offset, time, time_offset, created_ms, flags, checksums in mark.segments:
            known, sums = (0, _NO_SUMS) if checksums is None else _sums(checksums)
            parts.append(
                pack(base_offset, size, last_offset, time, time_offset, created_ms, flags, known, *sums),
            )
    flags = CLEAN if checkpoint.clean else 0
    parts[0] = _HEADER.pack(MAGIC, VERSION, flags, checkpoint.generation, len(partitions), segment_count)
    body = b"".join(parts)
    return body + _CRC.pack(crc32c(body))


_NO_SUMS: Final = (0, 0, 0, 0)
_NO_ACTIVE: Final = (0, 0, 0, 0, 0)


def _sums(checksums: Checksums) -> tuple[int, tuple[int, int, int, int]]:
    log, offsets, times, transactions = checksums
    known = 1 | (offsets is not None) << 1 | (times is not None) << 2 | (transactions is not None) << 3
    return known, (log, offsets or 0, times or 0, transactions or 0)


def _partition_row(mark: PartitionMark) -> bytes:
    (topic_id, index), epoch, start, offset, base, position, segments, cleaned, active, snapshot, sums = mark
    flags = (_ACTIVE if active is not None else 0) | (_SNAPSHOT if snapshot else 0)
    metadata, epochs, snapshot_sum = sums
    if metadata is not None:
        flags |= _METADATA_SUM
    if epochs is not None:
        flags |= _EPOCHS_SUM
    if snapshot_sum is not None:
        flags |= _SNAPSHOT_SUM
    if active is not None:
        flags |= active.aborted << _ABORTED_SHIFT
    return _PARTITION.pack(
        topic_id,
        index,
        epoch,
        start,
        offset,
        base,
        position,
        cleaned,
        len(segments),
        flags,
        *(active[:5] if active is not None else _NO_ACTIVE),
        metadata or 0,
        epochs or 0,
        snapshot_sum or 0,
    )


def decode(data: bytes | bytearray | memoryview) -> Checkpoint:
    """Raises FormatError."""
    view = memoryview(data)
    if len(view) < _HEADER.size + _CRC.size:
        raise FormatError(0, f"{len(view)} bytes are no checkpoint")
    magic, version, flags, generation, partition_count, segment_count = _HEADER.unpack_from(view)
    if magic != MAGIC:
        raise FormatError(0, "no checkpoint: it begins with other bytes")
    if not 1 <= version <= VERSION:
        raise FormatError(8, f"checkpoint of version {version}, known are 1 to {VERSION}")
    partition_row, segment_row = (_PARTITION_1, _SEGMENT_1) if version == 1 else (_PARTITION, _SEGMENT)
    segments_at = _HEADER.size + partition_count * partition_row.size
    end = segments_at + segment_count * segment_row.size
    if len(view) != end + _CRC.size:
        raise FormatError(
            20, f"{len(view)} bytes where {partition_count} partitions and {segment_count} segments have {end + 4}"
        )
    if (crc := crc32c(view[:end])) != (noted := _CRC.unpack_from(view, end)[0]):
        raise FormatError(end, f"CRC {noted:#010x} where the bytes have {crc:#010x}")
    partition_rows = rows(partition_row, view, _HEADER.size, segments_at)
    segment_rows = rows(segment_row, view, segments_at, end)
    if version == 1:
        segments: Iterator[SegmentMark] = (SegmentMark(*row) for row in segment_rows)
        partitions = list(_partitions_1(partition_rows, segments))
    else:
        partitions = list(_partitions(partition_rows, iter(_segments(segment_rows))))
    counted = sum(len(mark.segments) for mark in partitions)
    if counted != segment_count:
        raise FormatError(24, f"{segment_count - counted} segments of no partition")
    return Checkpoint(bool(flags & CLEAN), generation, partitions, version)


def _segments(segment_rows: Iterable[tuple[Any, ...]]) -> list[SegmentMark]:
    """Once for each of perhaps 100,000 segments, at every start."""
    new, mark, sums = tuple.__new__, SegmentMark, Checksums
    return [
        new(
            mark,
            (
                base,
                size,
                last,
                time,
                time_offset,
                created_ms,
                flags,
                new(
                    sums,
                    (
                        log,
                        offsets if known & 2 else None,
                        times if known & 4 else None,
                        transactions if known & 8 else None,
                    ),
                )
                if known & 1
                else None,
            ),
        )
        for (
            base,
            size,
            last,
            time,
            time_offset,
            created_ms,
            flags,
            known,
            log,
            offsets,
            times,
            transactions,
        ) in segment_rows
    ]


def _partitions(partition_rows: Iterable[tuple[Any, ...]], segments: Iterator[SegmentMark]) -> Iterator[PartitionMark]:
    for at, row in enumerate(partition_rows):
        topic_id, index, epoch, start, offset, base, position, cleaned, count, flags = row[:10]
        sealed = tuple(islice(segments, count))
        if len(sealed) != count or cleaned < 0 or not _can_be(index, start, offset, base, position):
            raise FormatError(_HEADER.size + at * _PARTITION.size, "a partition that cannot be")
        sums = _NO_FILE_CHECKSUMS
        if flags & (_METADATA_SUM | _EPOCHS_SUM | _SNAPSHOT_SUM):
            sums = FileChecksums(
                row[15] if flags & _METADATA_SUM else None,
                row[16] if flags & _EPOCHS_SUM else None,
                row[17] if flags & _SNAPSHOT_SUM else None,
            )
        yield PartitionMark(
            PartitionId(TopicId(topic_id), index),
            epoch,
            start,
            offset,
            base,
            position,
            sealed,
            cleaned,
            ActiveMark._make((*row[10:15], flags >> _ABORTED_SHIFT)) if flags & _ACTIVE else None,
            bool(flags & _SNAPSHOT),
            sums,
        )


def _partitions_1(
    partition_rows: Iterable[tuple[Any, ...]], segments: Iterator[SegmentMark]
) -> Iterator[PartitionMark]:
    for at, (topic_id, index, epoch, start, offset, base, position, count) in enumerate(partition_rows):
        sealed = tuple(islice(segments, count))
        if len(sealed) != count or not _can_be(index, start, offset, base, position):
            raise FormatError(_HEADER.size + at * _PARTITION_1.size, "a partition that cannot be")
        yield PartitionMark(PartitionId(TopicId(topic_id), index), epoch, start, offset, base, position, sealed)


def _can_be(index: int, start: int, offset: int, base: int, position: int) -> bool:
    return index >= 0 and start >= 0 and 0 <= base <= offset and position >= 0
