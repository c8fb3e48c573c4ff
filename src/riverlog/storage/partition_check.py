"""The check of one partition of a stopped data directory. Reads, never writes; not pure.

Invariants: bounded memory (a window of a segment and its indexes), and nothing that a start would repair by itself is
called a problem: what lies beyond the recovery point of an unclean stop is a note. Every byte of a partition that was
stopped cleanly is held by something: a batch's CRC, the exact continuity of offsets and epochs, a file's checksum in the
checkpoint, an index entry that must name a batch. Not here: which partitions there are (`verify.py`), repair (`repair.py`).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from riverlog.base.ids import Offset
from riverlog.base.units import INT64_MAX
from riverlog.records.checksum import crc32c
from riverlog.storage.format import checkpoint, names, producer_snapshot, swap, txn_index
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.leader_epochs import LeaderEpochs
from riverlog.storage.format.offset_index import OffsetIndex
from riverlog.storage.format.segment import header_defect
from riverlog.storage.format.time_index import TimeIndex
from riverlog.storage.index_check import EpochWalk, OffsetIndexCheck, TimeIndexCheck, TxnIndexCheck
from riverlog.storage.local.swaps import CLEANED, swapped
from riverlog.storage.windows import WINDOW_BYTES, StoredBatch, stored_batches


class Problem(NamedTuple):
    """`position` counts bytes in the file (0 where it is about the whole). A note is nothing to worry about: the next
    start puts it right."""

    path: str
    position: int
    what: str
    is_note: bool = False

    def __str__(self) -> str:
        return f"{'note: ' if self.is_note else ''}{self.path}: {self.what} at position {self.position}"


class Recovery(NamedTuple):
    """From where on a start looks for a torn tail: a position in the segment `segment`, and all later segments."""

    clean: bool
    segment: int
    position: int

    def may_repair(self, base_offset: int, position: int) -> bool:
        return not self.clean and (base_offset, position) >= (self.segment, self.position)


NOTHING_TO_RECOVER: Final = Recovery(clean=True, segment=INT64_MAX, position=0)
ALL_TO_RECOVER: Final = Recovery(clean=False, segment=-1, position=0)


@dataclass(slots=True, kw_only=True)
class _Segment:
    """What a walk over a segment found. `ended` False: damage kept it from seeing the end."""

    base_offset: Offset
    size: int
    next_offset: Offset | None
    last_offset: int = -1
    leader_epoch: int = -1
    max_timestamp: int = -1
    ended: bool = True
    offset_at: int | None = None  # of the batch at the recovery position, or the next offset where that is the end
    gaps: bool = False  # compaction took batches out
    log_crc: int = 0  # of the whole file, where `ended` and the checkpoint has one


@dataclass(slots=True, kw_only=True)
class Partition:
    """What is known of a partition beside its files. `found` and `mark`: what the checkpoint says; `swapping`: base offsets of
    the new segments of a compaction that was putting them into place."""

    directory: str
    recovery: Recovery
    mark: checkpoint.PartitionMark | None = None
    gaps: bool = False  # whatever the checkpoint says
    swapping: Collection[Offset] = ()

    def path_of(self, base_offset: Offset, suffix: str) -> str:
        path = os.path.join(self.directory, names.segment_file_name(base_offset, suffix))
        return path + CLEANED if base_offset in self.swapping and os.path.exists(path + CLEANED) else path

    def mark_of(self, base_offset: Offset) -> checkpoint.SegmentMark | None:
        for sealed in self.mark.segments if self.mark is not None else ():
            if sealed.base_offset == base_offset:
                return sealed
        return None


def check_partition(partition: Partition) -> Iterator[Problem]:
    """One partition: its segments in order, what stands beside them, and what the checkpoint says of it."""
    directory, recovery = partition.directory, partition.recovery
    yield from _swap(partition)
    mark = partition.mark
    files: dict[str, list[Offset]] = {suffix: [] for suffix in names.SEGMENT_SUFFIXES}
    for name in os.listdir(directory):
        if name.endswith(CLEANED):
            parsed = names.parse_segment_file_name(name.removesuffix(CLEANED))
            if parsed is not None and parsed.base_offset not in partition.swapping:
                yield Problem(os.path.join(directory, name), 0, "is of a compaction that was given up", True)
                continue
        else:
            parsed = names.parse_segment_file_name(name)
        if parsed is not None and not parsed.deleted and parsed.base_offset not in files[parsed.suffix]:
            files[parsed.suffix].append(parsed.base_offset)
    bases = sorted(files[names.LOG])
    if not bases:
        if recovery.clean and (mark is None or mark.recovery_offset > mark.log_start):
            yield Problem(directory, 0, "no segment")
        return
    epochs_path = os.path.join(directory, names.LEADER_EPOCHS)
    epochs: LeaderEpochs | None = None
    try:
        epochs = LeaderEpochs.decode(content_of(epochs_path))
    except FileNotFoundError:
        yield Problem(epochs_path, 0, "is missing", is_note=not recovery.clean)
    except FormatError as error:
        yield Problem(epochs_path, error.position, error.what)
    walk = EpochWalk(epochs)
    segments: list[_Segment] = []
    aborted = TxnIndexCheck(bases[0])
    for base_offset in bases:
        before = segments[-1] if segments else None
        segment = _Segment(base_offset=base_offset, size=0, next_offset=None)
        aborted.begin()
        yield from _segment(partition, segment, before, walk, aborted, sealed=base_offset != bases[-1])
        yield from _txn_index(partition, segment, aborted)
        segments.append(segment)
    last = segments[-1]
    log_end = last.next_offset if last.ended else None
    if epochs is not None and epochs.entries and log_end is not None and epochs.entries[-1].start_offset > log_end:
        what = f"leader epoch {epochs.latest} from {epochs.entries[-1].start_offset}, the log ends at {log_end}"
        yield Problem(epochs_path, 0, what, is_note=not recovery.clean)
    yield from _snapshots(directory, sorted(files[names.SNAPSHOT]), log_end, recovery)
    if mark is not None:
        yield from _agreement(directory, segments, mark, recovery, epochs)
        yield from _checksums(partition, segments)
        if recovery.clean:
            yield from _small_files(partition, mark)


def _swap(partition: Partition) -> Iterator[Problem]:
    """A compaction that was putting new segments into place: the next start ends that, and so it is looked at as if it had."""
    path = os.path.join(partition.directory, names.SWAP)
    try:
        content = swap.decode(content_of(path))
    except FileNotFoundError:
        return
    except FormatError as error:
        yield Problem(path, error.position, error.what)
        return
    mark = partition.mark
    if mark is not None and content.partition != mark.partition:
        yield Problem(path, 0, "is of another partition")
        return
    yield Problem(path, 0, "a compaction was putting new segments into place: the next start ends that", True)
    partition.swapping = {fresh.base_offset for group in content.groups for fresh in group.fresh}
    partition.gaps = partition.gaps or mark is None
    if mark is not None:
        partition.mark = swapped(mark, content.groups)


def _segment(
    partition: Partition,
    segment: _Segment,
    before: _Segment | None,
    epochs: EpochWalk,
    aborted: TxnIndexCheck,
    *,
    sealed: bool,
) -> Iterator[Problem]:
    """Every batch of a segment and both its indexes. Fills in `segment`; `before` is the segment before it."""
    base_offset, recovery, mark = segment.base_offset, partition.recovery, partition.mark
    path = partition.path_of(base_offset, names.LOG)
    known = partition.mark_of(base_offset)
    summed = known is not None and known.checksums is not None
    segment.gaps = partition.gaps or (known is not None and bool(known.flags & checkpoint.COMPACTED))
    expected: Offset = base_offset
    if before is not None and before.ended and before.next_offset is not None and before.next_offset != base_offset:
        what = f"begins with {base_offset}, the segment before it ends at {before.next_offset}"
        if before.next_offset > base_offset or not before.gaps:
            yield Problem(path, 0, what, recovery.may_repair(base_offset, 0))
    leader_epoch = before.leader_epoch if before is not None else -1
    offsets = OffsetIndexCheck()
    times = TimeIndexCheck()
    yield from _load_indexes(partition, base_offset, offsets, times)
    with open(path, "rb", buffering=0) as file:
        segment.size = os.fstat(file.fileno()).st_size
        log_start = mark.log_start if mark is not None else INT64_MAX
        noted_at = mark.recovery_position if mark is not None and mark.recovery_segment == base_offset else None
        try:
            for batch in stored_batches(file):
                header = batch.header
                if batch.position == noted_at:
                    segment.offset_at = header.base_offset
                for what in _defects(batch, expected, leader_epoch, segment.gaps, epochs, log_start):
                    yield Problem(path, batch.position, what, recovery.may_repair(base_offset, batch.position))
                offsets.batch(batch.position, header.last_offset)
                times.batch(header.max_timestamp, header.base_offset, header.last_offset)
                if (header.is_transactional or not header.record_count) and batch.crc_ok:
                    aborted.batch(header, batch.data)
                expected, leader_epoch = Offset(header.next_offset), header.leader_epoch
                segment.last_offset = header.last_offset
                if summed:
                    segment.log_crc = crc32c(batch.data, segment.log_crc)
        except FormatError as error:
            segment.ended = False
            is_note = recovery.may_repair(base_offset, error.position)
            tail = f" ({segment.size - error.position} bytes, cut off at the next start)" if is_note else ""
            yield Problem(path, error.position, error.what + tail, is_note)
        if segment.ended and segment.size == noted_at:
            segment.offset_at = expected
    if known is not None and segment.gaps and segment.ended:
        expected = max(expected, Offset(known.last_offset + 1))
    segment.next_offset, segment.leader_epoch, segment.max_timestamp = expected, leader_epoch, times.max_timestamp
    is_note = recovery.may_repair(base_offset, INT64_MAX)
    for position, what in offsets.end(segment.ended):
        yield Problem(partition.path_of(base_offset, names.INDEX), position, what, is_note)
    for position, what in times.end(segment.ended, sealed):
        yield Problem(partition.path_of(base_offset, names.TIME_INDEX), position, what, is_note)


def _defects(
    batch: StoredBatch, expected: Offset, leader_epoch: int, allow_gaps: bool, epochs: EpochWalk, log_start: int
) -> Iterator[str]:
    """What is wrong with one batch whose place and length are right. Below the log start no epoch is noted."""
    header = batch.header
    if not batch.crc_ok:
        yield f"the CRC of the batch of offset {header.base_offset} is not that of its bytes"
    if (defect := header_defect(header, expected, leader_epoch, allow_gaps)) is not None:
        yield defect[1]
    if epochs.known:
        noted = epochs.at(header.base_offset)
        differs = noted != header.leader_epoch and (noted >= 0 or header.base_offset >= log_start)
        if epochs.is_news((noted, header.leader_epoch) if differs else None):
            what = f"leader epoch {header.leader_epoch} at offset {header.base_offset}"
            yield f"{what}, where {names.LEADER_EPOCHS} has {noted}"


def _load_indexes(
    partition: Partition, base_offset: Offset, offsets: OffsetIndexCheck, times: TimeIndexCheck
) -> Iterator[Problem]:
    recovery = partition.recovery
    is_note = recovery.may_repair(base_offset, INT64_MAX)
    for suffix in (names.INDEX, names.TIME_INDEX):
        path = partition.path_of(base_offset, suffix)
        try:
            data = content_of(path)
            if suffix == names.INDEX:
                offsets.expect(OffsetIndex.decode(data, base_offset))
            else:
                times.expect(TimeIndex.decode(data, base_offset))
        except FileNotFoundError:
            if recovery.clean or not is_note:
                yield Problem(path, 0, "is missing", is_note=base_offset >= recovery.segment)
        except FormatError as error:
            yield Problem(path, error.position, error.what, is_note)


def _txn_index(partition: Partition, segment: _Segment, check: TxnIndexCheck) -> Iterator[Problem]:
    """Behind the recovery point of an unclean stop nobody believes it."""
    path, mark = partition.path_of(segment.base_offset, names.TXN_INDEX), partition.mark
    is_note = partition.recovery.may_repair(segment.base_offset, INT64_MAX)
    end = mark.recovery_offset if is_note and mark is not None else (INT64_MAX if not is_note else -1)
    try:
        data = content_of(path)
    except FileNotFoundError:
        data = b""
    try:
        for position, what in check.end(txn_index.decode(data), end if segment.ended else -1, segment.gaps):
            if segment.ended:
                yield Problem(path, position, what, is_note)
    except FormatError as error:
        yield Problem(path, error.position, error.what, is_note)


def _snapshots(
    directory: str, offsets: Collection[Offset], log_end: Offset | None, recovery: Recovery
) -> Iterator[Problem]:
    for offset in offsets:
        path = os.path.join(directory, names.segment_file_name(offset, names.SNAPSHOT))
        is_note = recovery.may_repair(offset, INT64_MAX)
        try:
            entries = producer_snapshot.decode(content_of(path))
        except FormatError as error:
            yield Problem(path, error.position, error.what, is_note)
            continue
        if log_end is not None and offset > log_end:
            yield Problem(path, 0, f"a snapshot at offset {offset}, the log ends at {log_end}", is_note)
        for entry in entries:
            if entry.batches and entry.batches[-1].base_offset + entry.batches[-1].last_offset_delta >= offset:
                yield Problem(
                    path, 0, f"producer {entry.producer_id} has a batch behind the snapshot's offset", is_note
                )


def _agreement(
    directory: str,
    segments: list[_Segment],
    mark: checkpoint.PartitionMark,
    recovery: Recovery,
    epochs: LeaderEpochs | None,
) -> Iterator[Problem]:
    """What the checkpoint says of this partition against what is there."""
    by_base = {segment.base_offset: segment for segment in segments}
    first, last = segments[0], segments[-1]
    is_note = not recovery.clean
    for sealed in mark.segments:
        path = os.path.join(directory, names.segment_file_name(sealed.base_offset, names.LOG))
        found = by_base.get(sealed.base_offset)
        if found is None:  # retention may have come after the checkpoint, from the oldest on
            yield Problem(
                path, 0, "is missing; the checkpoint names it", is_note and sealed.base_offset < first.base_offset
            )
        elif found.size != sealed.size:
            yield Problem(
                path, min(found.size, sealed.size), f"{found.size} bytes where the checkpoint has {sealed.size}"
            )
        elif (
            found.last_offset > sealed.last_offset
            or (found.last_offset < sealed.last_offset and not found.gaps)
            or found.max_timestamp != sealed.max_timestamp_ms
        ):
            what = (
                f"offset {found.last_offset} and timestamp {found.max_timestamp} are the last where the checkpoint has "
            )
            yield Problem(path, 0, f"{what}{sealed.last_offset} and {sealed.max_timestamp_ms}")
    log_end = last.next_offset if last.ended else None
    if mark.log_start < first.base_offset or (log_end is not None and mark.log_start > log_end):
        what = f"log start {mark.log_start} of the checkpoint is not in the log ({first.base_offset} to {log_end})"
        yield Problem(directory, 0, what, is_note and mark.log_start < first.base_offset)
    path = os.path.join(directory, names.segment_file_name(mark.recovery_segment, names.LOG))
    active = by_base.get(mark.recovery_segment)
    if active is None:
        yield Problem(path, 0, "is missing; the checkpoint's recovery point is in it")
    elif active.size < mark.recovery_position:
        yield Problem(path, active.size, f"ends before the recovery point of the checkpoint ({mark.recovery_position})")
    elif active.offset_at != mark.recovery_offset and (active.offset_at is not None or active.ended):
        what = f"offset {active.offset_at} where the checkpoint's recovery point has {mark.recovery_offset}"
        yield Problem(path, mark.recovery_position, what)
    elif recovery.clean and (active is not last or active.size != mark.recovery_position):
        yield Problem(path, mark.recovery_position, "goes on behind the end that a clean stop has noted")
    if epochs is not None and mark.leader_epoch > epochs.latest:
        what = f"ends with leader epoch {epochs.latest}, the checkpoint has {mark.leader_epoch}"
        yield Problem(os.path.join(directory, names.LEADER_EPOCHS), 0, what)


def _checksums(partition: Partition, segments: list[_Segment]) -> Iterator[Problem]:
    """Of the sealed segments that have them: each whole file."""
    mark = partition.mark
    assert mark is not None
    by_base = {segment.base_offset: segment for segment in segments}
    suffixes = (names.LOG, names.INDEX, names.TIME_INDEX, names.TXN_INDEX)
    for sealed in mark.segments:
        segment = by_base.get(sealed.base_offset)
        if segment is None or sealed.checksums is None:
            continue
        for suffix, noted in zip(suffixes, sealed.checksums, strict=True):
            path = partition.path_of(sealed.base_offset, suffix)
            if suffix == names.LOG and segment.ended:
                found: int | None = segment.log_crc
            else:
                found = _file_crc(path)
            if found is None and noted is not None and suffix == names.TXN_INDEX:
                yield Problem(path, 0, "is missing")
            elif found is not None and found != noted:
                what = f"{noted:#010x}" if noted is not None else "no such file"
                yield Problem(path, 0, f"the file has CRC {found:#010x} where the checkpoint has {what}")


def _small_files(partition: Partition, mark: checkpoint.PartitionMark) -> Iterator[Problem]:
    """After a clean stop: the files whose own formats have no checksum, and whether a snapshot is there or not."""
    snapshot = names.segment_file_name(mark.recovery_offset, names.SNAPSHOT)
    small = (names.PARTITION_METADATA, names.LEADER_EPOCHS, snapshot)
    for name, noted in zip(small, mark.file_checksums, strict=True):
        path = os.path.join(partition.directory, name)
        if noted is not None and (found := _file_crc(path)) != noted:
            if found is not None:
                yield Problem(path, 0, f"the file has CRC {found:#010x} where the checkpoint has {noted:#010x}")
            elif name == snapshot:
                yield Problem(path, 0, "is missing; the checkpoint names it")


def _file_crc(path: str) -> int | None:
    crc = 0
    try:
        with open(path, "rb", buffering=0) as file:
            while window := file.read(WINDOW_BYTES):
                crc = crc32c(window, crc)
    except FileNotFoundError:
        return None
    return crc


def content_of(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
