"""What lies synced beside a log at its recovery point: the indexes of its segment, the producers, the leader epochs.

Invariant: what cannot be used is not believed in part; indexes are made again by reading their segment from the beginning,
producers from the headers of all batches before. Not here: the batches behind the recovery point (`recovery.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from riverlog.base.ids import Offset, Position
from riverlog.base.units import MIB
from riverlog.env.files import File
from riverlog.records.header import BATCH_HEADER, HEADER_BYTES, BatchHeader
from riverlog.storage.format import names, producer_snapshot
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.leader_epochs import LeaderEpochs
from riverlog.storage.format.offset_index import OffsetIndex
from riverlog.storage.format.time_index import TimeIndex
from riverlog.storage.local.segments import Segment
from riverlog.storage.local.transaction_files import logs_before, walk

if TYPE_CHECKING:
    from riverlog.storage.local.recovery import Recovery

log = logging.getLogger(__name__)

scan_bytes: Final = MIB  # that are read at a time


def load_indexes(recovery: Recovery, segment: Segment, file: File) -> None:
    """Of the segment with the recovery point: its indexes up to there are synced. Where they cannot be used the
    segment is scanned from its beginning."""
    mark = recovery.mark
    assert mark is not None
    position = mark.recovery_position
    if not position:
        return
    try:
        index = OffsetIndex.decode(recovery.files.read(segment.index_path), segment.base_offset)
        times = TimeIndex.decode(recovery.files.read(segment.time_index_path), segment.base_offset)
    except (FormatError, OSError) as error:
        log.warning("%s: no use of its indexes (%s); it is read from the beginning", segment.log_path, error)
        return
    index.truncate_to_position(Position(position))
    times.truncate_to(mark.recovery_offset)
    last = index.last
    if last is not None and last.offset >= mark.recovery_offset:
        log.warning("%s: its index does not fit; it is read from the beginning", segment.log_path)
        return
    segment.index, segment.time_index = index, times
    segment.saved_entries, segment.saved_times = len(index), len(times)
    segment.size = position
    segment.next_offset = mark.recovery_offset
    segment.bytes_since_entry = position - (last.position if last is not None else 0)
    if (active := mark.active) is not None:
        segment.created_ms, segment.first_timestamp = active.created_ms, active.first_timestamp
        segment.max_timestamp, segment.max_timestamp_offset = active.max_timestamp, active.max_timestamp_offset
        segment.bytes_since_entry = active.bytes_since_entry
        return
    if (newest := times.last) is not None:
        segment.max_timestamp, segment.max_timestamp_offset = newest
    head = file.read_at(HEADER_BYTES, 0)
    if len(head) == HEADER_BYTES:
        segment.first_timestamp = BatchHeader._make(BATCH_HEADER.unpack(head)).max_timestamp


def restore_producers(recovery: Recovery, bases: Sequence[Offset], offset: Offset) -> None:
    """The snapshot at the recovery point; there is none where no producer was known."""
    partition = recovery.partition
    if offset not in partition.snapshot_offsets:
        partition.producers.clear(offset)
        return
    path = f"{partition.directory}/{names.segment_file_name(offset, names.SNAPSHOT)}"
    try:
        partition.producers.restore(producer_snapshot.decode(recovery.files.read(path)), offset)
    except FormatError as error:
        log.warning("%s; the producers are read from the segments", error.at(path).message)
        rebuild_producers(recovery, bases, offset)


def rebuild_producers(recovery: Recovery, bases: Sequence[Offset], end: Offset) -> None:
    """From all batches before `end`: their headers are walked."""
    partition, mark = recovery.partition, recovery.mark
    assert mark is not None
    partition.producers.clear()
    for _ in walk(recovery.files, logs_before(partition, mark, bases), partition.producers, recovery.now_ms):
        pass  # what was aborted is in the transaction indexes
    partition.producers.next_offset = end


def drop_snapshots(recovery: Recovery) -> list[int]:
    """Those behind the log end are of what was cut off. Gives the others."""
    partition = recovery.partition
    kept: list[int] = []
    for offset in partition.snapshot_offsets:
        if offset <= partition.log_end:
            kept.append(offset)
        else:
            name = names.segment_file_name(Offset(offset), names.SNAPSHOT)
            recovery.files.remove(f"{partition.directory}/{name}")
    return kept


def read_epochs(recovery: Recovery) -> LeaderEpochs:
    """None, where their file is gone or damaged."""
    path = f"{recovery.partition.directory}/{names.LEADER_EPOCHS}"
    try:
        return LeaderEpochs.decode(recovery.files.read(path))
    except FileNotFoundError:
        pass
    except FormatError as error:
        log.warning("%s; leader epochs are taken from the checkpoint and the batches", error.at(path).message)
    return LeaderEpochs()
