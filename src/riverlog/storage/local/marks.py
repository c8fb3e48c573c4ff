"""What a checkpoint says of a segment, and of a partition's small files, made of what the loop knows. Pure.

Invariant: a mark is of the moment in which it is made. Not here: when what it says is synced (`checkpoints.py`).
"""

from __future__ import annotations

from riverlog.base.ids import Offset, Position
from riverlog.records.checksum import crc32c
from riverlog.storage.format import partition_metadata
from riverlog.storage.format.checkpoint import (
    ABORTED,
    COMPACTED,
    ActiveMark,
    FileChecksums,
    PartitionMark,
    SegmentMark,
)
from riverlog.storage.local.partition import LocalPartition
from riverlog.storage.local.segments import Segment


def segment_mark(segment: Segment) -> SegmentMark:
    """Of a sealed segment."""
    return SegmentMark(
        segment.base_offset,
        segment.size,
        Offset(segment.next_offset - 1),
        max(segment.max_timestamp, -1),
        segment.max_timestamp_offset,
        segment.created_ms,
        (COMPACTED if segment.compacted else 0) | (ABORTED if segment.aborted else 0),
        segment.checksums,
    )


def active_mark(segment: Segment) -> ActiveMark:
    return ActiveMark(
        segment.created_ms,
        max(segment.first_timestamp, -1),
        max(segment.max_timestamp, -1),
        segment.max_timestamp_offset,
        segment.bytes_since_entry,
        segment.aborted,
    )


def file_checksums(partition: LocalPartition, epochs: bytes | None) -> FileChecksums:
    """`epochs`: what is about to be written; None: the file stays. The snapshot's is known once it is encoded."""
    if not partition.made:
        return FileChecksums()
    if epochs is not None:
        epochs_sum: int | None = crc32c(epochs)
    else:
        epochs_sum = partition.mark.file_checksums.epochs if partition.mark is not None else None
    return FileChecksums(crc32c(partition_metadata.encode(partition.id.topic_id)), epochs_sum)


def empty_mark(partition: LocalPartition) -> PartitionMark:
    """Of a partition of which nothing is known to be synced: only its leader epoch is to be kept."""
    nothing = Offset(0)
    return PartitionMark(partition.id, partition.leader_epoch, nothing, nothing, nothing, Position(0))
