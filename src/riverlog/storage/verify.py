"""The check of a stopped data directory: what `riverlog verify` prints. Reads, never writes; not pure.

Invariant: bounded memory (a window of a segment and its indexes), and nothing that a start would repair by itself is
called a problem: what lies beyond the recovery point of an unclean stop is a note. Understands our data directory, a
log directory of Kafka's, and one partition's directory. Not here: repair; the journal; the catalog's rows.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from riverlog.base.ids import Offset, PartitionId, TopicId, topic_id_text
from riverlog.base.units import INT64_MAX
from riverlog.storage.format import checkpoint, meta, names, partition_metadata, producer_snapshot, txn_index
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.leader_epochs import LeaderEpochs
from riverlog.storage.format.offset_index import OffsetIndex
from riverlog.storage.format.segment import header_defect
from riverlog.storage.format.time_index import TimeIndex
from riverlog.storage.index_check import OffsetIndexCheck, TimeIndexCheck
from riverlog.storage.windows import StoredBatch, stored_batches


class Problem(NamedTuple):
    """`position` counts bytes in the file (0 where it is about the whole). A note is nothing to worry about: the next
    start puts it right."""

    path: str
    position: int
    what: str
    is_note: bool = False

    def __str__(self) -> str:
        return f"{'note: ' if self.is_note else ''}{self.path}: {self.what} at position {self.position}"


class _Recovery(NamedTuple):
    """From where on a start looks for a torn tail: a position in the segment `segment`, and all later segments."""

    clean: bool
    segment: int
    position: int

    def may_repair(self, base_offset: int, position: int) -> bool:
        return not self.clean and (base_offset, position) >= (self.segment, self.position)


_NOTHING_TO_RECOVER: Final = _Recovery(clean=True, segment=INT64_MAX, position=0)
_ALL_TO_RECOVER: Final = _Recovery(clean=False, segment=-1, position=0)


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


def verify(directory: str, *, compacted_topics: Collection[str] = ()) -> Iterator[Problem]:
    """All that is wrong in `directory`. Raises ValueError where it is no data directory and no partition's, OSError
    where it cannot be read. The offsets of `compacted_topics` may have gaps."""
    directory = directory.rstrip("/") or "/"
    if not os.path.isdir(directory):
        raise ValueError(f"{directory} is not a directory: give a data directory, or one partition's")
    topics = os.path.join(directory, names.TOPICS)
    if os.path.isfile(os.path.join(directory, names.META)) or os.path.isdir(topics):
        return _data_directory(directory, topics, compacted_topics)
    if any(name.endswith(names.LOG) and names.parse_segment_file_name(name) for name in os.listdir(directory)):
        return _single(directory, compacted_topics)
    if any(names.parse_partition_directory_name(name) for name in os.listdir(directory)):
        return _partitions(directory, compacted_topics, None, {})
    raise ValueError(f"{directory} is neither a data directory (no {names.META}) nor a partition's (no segments)")


def _single(directory: str, compacted_topics: Collection[str]) -> Iterator[Problem]:
    parsed = names.parse_partition_directory_name(os.path.basename(directory))
    allow_gaps = parsed is not None and parsed.topic in compacted_topics
    yield from _partition(directory, _NOTHING_TO_RECOVER, None, allow_gaps)


def _data_directory(directory: str, topics: str, compacted_topics: Collection[str]) -> Iterator[Problem]:
    yield from _lock(os.path.join(directory, names.LOCK))
    path = os.path.join(directory, names.META)
    try:
        meta.decode(_content(path))
    except FileNotFoundError:
        yield Problem(path, 0, "is missing")
    except FormatError as error:
        yield Problem(path, error.position, error.what)
    path = os.path.join(directory, names.CHECKPOINT)
    found: checkpoint.Checkpoint | None = None
    try:
        found = checkpoint.decode(_content(path))
    except FileNotFoundError:
        yield Problem(path, 0, "is missing: the next start reads every segment", is_note=True)
    except FormatError as error:
        yield Problem(path, error.position, error.what)
    marks = {} if found is None else {mark.partition: mark for mark in found.partitions}
    yield from _partitions(topics, compacted_topics, found, marks)


def _lock(path: str) -> Iterator[Problem]:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        yield Problem(
            path, 0, "a broker runs on this directory: stop it first, or what follows may be work in progress", True
        )
    finally:
        os.close(descriptor)


def _partitions(
    topics: str,
    compacted_topics: Collection[str],
    found: checkpoint.Checkpoint | None,
    marks: Mapping[PartitionId, checkpoint.PartitionMark],
) -> Iterator[Problem]:
    """Every partition below `topics`; `found` None: there is no checkpoint to agree with."""
    ours = os.path.basename(topics) == names.TOPICS
    seen: dict[PartitionId, str] = {}
    ids: dict[str, TopicId] = {}
    deleted: set[TopicId] = set()
    for name in sorted(os.listdir(topics)) if os.path.isdir(topics) else ():
        path = os.path.join(topics, name)
        if (gone := names.parse_deleted_directory_name(name)) is not None:
            deleted.add(gone.topic_id)
        parsed = names.parse_partition_directory_name(name)
        if parsed is None or not os.path.isdir(path):
            continue
        metadata = os.path.join(path, names.PARTITION_METADATA)
        mark: checkpoint.PartitionMark | None = None
        try:
            topic_id = partition_metadata.decode(_content(metadata))
        except FileNotFoundError:
            yield Problem(metadata, 0, "is missing")
        except FormatError as error:
            yield Problem(metadata, error.position, error.what)
        else:
            partition = PartitionId(topic_id, parsed.partition)
            if ids.setdefault(parsed.topic, topic_id) != topic_id:
                what = f"topic id {topic_id_text(topic_id)} where others have {topic_id_text(ids[parsed.topic])}"
                yield Problem(metadata, 0, what)
            if (other := seen.setdefault(partition, path)) != path:
                yield Problem(metadata, 0, f"the same topic id and partition as {other}")
            mark = marks.get(partition)
        recovery = _NOTHING_TO_RECOVER
        if mark is not None and found is not None:
            recovery = _Recovery(found.clean, mark.recovery_segment, mark.recovery_position)
        elif ours:
            recovery = _ALL_TO_RECOVER
        yield from _partition(path, recovery, mark, parsed.topic in compacted_topics)
    for partition in sorted(marks.keys() - seen.keys()):
        mark = marks[partition]
        if partition.topic_id not in deleted and mark.recovery_offset > mark.log_start:  # else it never had a record
            what = f"partition {partition.index} of topic {topic_id_text(partition.topic_id)} has no directory"
            place = os.path.join(os.path.dirname(topics), names.CHECKPOINT)
            yield Problem(place, 0, what, is_note=found is not None and not found.clean)


def _partition(
    directory: str, recovery: _Recovery, mark: checkpoint.PartitionMark | None, allow_gaps: bool
) -> Iterator[Problem]:
    """One partition: its segments in order, what stands beside them, and what the checkpoint says of it."""
    files: dict[str, list[Offset]] = {suffix: [] for suffix in names.SEGMENT_SUFFIXES}
    for name in os.listdir(directory):
        if (parsed := names.parse_segment_file_name(name)) is not None and not parsed.deleted:
            files[parsed.suffix].append(parsed.base_offset)
    bases = sorted(files[names.LOG])
    if not bases:
        if recovery.clean and (mark is None or mark.recovery_offset > mark.log_start):
            yield Problem(directory, 0, "no segment")
        return
    epochs_path = os.path.join(directory, names.LEADER_EPOCHS)
    epochs: LeaderEpochs | None = None
    try:
        epochs = LeaderEpochs.decode(_content(epochs_path))
    except FileNotFoundError:
        yield Problem(epochs_path, 0, "is missing", is_note=not recovery.clean)
    except FormatError as error:
        yield Problem(epochs_path, error.position, error.what)
    segments: list[_Segment] = []
    for base_offset in bases:
        before = segments[-1] if segments else None
        segment = _Segment(base_offset=base_offset, size=0, next_offset=None)
        sealed = base_offset != bases[-1]
        yield from _segment(directory, segment, before, epochs, recovery, mark, allow_gaps, sealed)
        yield from _txn_index(directory, segment, files[names.TXN_INDEX])
        segments.append(segment)
    last = segments[-1]
    log_end = last.next_offset if last.ended else None
    if epochs is not None and epochs.entries and log_end is not None and epochs.entries[-1].start_offset > log_end:
        what = f"leader epoch {epochs.latest} from {epochs.entries[-1].start_offset}, the log ends at {log_end}"
        yield Problem(epochs_path, 0, what, is_note=not recovery.clean)
    yield from _snapshots(directory, sorted(files[names.SNAPSHOT]), log_end, recovery)
    if mark is not None:
        yield from _agreement(directory, segments, mark, recovery, epochs)


def _segment(
    directory: str,
    segment: _Segment,
    before: _Segment | None,
    epochs: LeaderEpochs | None,
    recovery: _Recovery,
    mark: checkpoint.PartitionMark | None,
    allow_gaps: bool,
    sealed: bool,
) -> Iterator[Problem]:
    """Every batch of a segment and both its indexes. Fills in `segment`; `before` is the segment before it."""
    base_offset = segment.base_offset
    stem = os.path.join(directory, names.segment_name(base_offset))
    path = stem + names.LOG
    expected: Offset = base_offset
    if before is not None and before.ended and before.next_offset is not None and before.next_offset != base_offset:
        what = f"begins with {base_offset}, the segment before it ends at {before.next_offset}"
        if before.next_offset > base_offset or not allow_gaps:
            yield Problem(path, 0, what, recovery.may_repair(base_offset, 0))
    leader_epoch = before.leader_epoch if before is not None else -1
    offsets = OffsetIndexCheck()
    times = TimeIndexCheck()
    yield from _load_indexes(stem, base_offset, offsets, times, recovery)
    with open(path, "rb", buffering=0) as file:
        segment.size = os.fstat(file.fileno()).st_size
        log_start = mark.log_start if mark is not None else INT64_MAX
        noted_at = mark.recovery_position if mark is not None and mark.recovery_segment == base_offset else None
        try:
            for batch in stored_batches(file):
                header = batch.header
                if batch.position == noted_at:
                    segment.offset_at = header.base_offset
                for what in _defects(batch, expected, leader_epoch, allow_gaps, epochs, log_start):
                    yield Problem(path, batch.position, what, recovery.may_repair(base_offset, batch.position))
                offsets.batch(batch.position, header.last_offset)
                times.batch(header.max_timestamp, header.base_offset, header.last_offset)
                expected, leader_epoch = Offset(header.next_offset), header.leader_epoch
                segment.last_offset = header.last_offset
        except FormatError as error:
            segment.ended = False
            is_note = recovery.may_repair(base_offset, error.position)
            tail = f" ({segment.size - error.position} bytes, cut off at the next start)" if is_note else ""
            yield Problem(path, error.position, error.what + tail, is_note)
        if segment.ended and segment.size == noted_at:
            segment.offset_at = expected
    segment.next_offset, segment.leader_epoch, segment.max_timestamp = expected, leader_epoch, times.max_timestamp
    is_note = recovery.may_repair(base_offset, INT64_MAX)
    for position, what in offsets.end(segment.ended):
        yield Problem(stem + names.INDEX, position, what, is_note)
    for position, what in times.end(segment.ended, sealed):
        yield Problem(stem + names.TIME_INDEX, position, what, is_note)


def _defects(
    batch: StoredBatch,
    expected: Offset,
    leader_epoch: int,
    allow_gaps: bool,
    epochs: LeaderEpochs | None,
    log_start: int,
) -> Iterator[str]:
    """What is wrong with one batch whose place and length are right. Below the log start no epoch is noted."""
    header = batch.header
    if not batch.crc_ok:
        yield f"the CRC of the batch of offset {header.base_offset} is not that of its bytes"
    if (defect := header_defect(header, expected, leader_epoch, allow_gaps)) is not None:
        yield defect[1]
    if epochs is not None and header.leader_epoch != leader_epoch:
        noted = epochs.epoch_of(Offset(header.base_offset))
        if noted != header.leader_epoch and (noted >= 0 or header.base_offset >= log_start):
            what = f"leader epoch {header.leader_epoch} at offset {header.base_offset}"
            yield f"{what}, where {names.LEADER_EPOCHS} has {noted}"


def _load_indexes(
    stem: str, base_offset: Offset, offsets: OffsetIndexCheck, times: TimeIndexCheck, recovery: _Recovery
) -> Iterator[Problem]:
    is_note = recovery.may_repair(base_offset, INT64_MAX)
    for suffix in (names.INDEX, names.TIME_INDEX):
        try:
            data = _content(stem + suffix)
            if suffix == names.INDEX:
                offsets.expect(OffsetIndex.decode(data, base_offset))
            else:
                times.expect(TimeIndex.decode(data, base_offset))
        except FileNotFoundError:
            if recovery.clean or not is_note:
                yield Problem(stem + suffix, 0, "is missing", is_note=base_offset >= recovery.segment)
        except FormatError as error:
            yield Problem(stem + suffix, error.position, error.what, is_note)


def _txn_index(directory: str, segment: _Segment, present: Collection[Offset]) -> Iterator[Problem]:
    if segment.base_offset not in present:
        return
    path = os.path.join(directory, names.segment_file_name(segment.base_offset, names.TXN_INDEX))
    try:
        for at, entry in enumerate(txn_index.decode(_content(path))):
            if segment.ended and not segment.base_offset <= entry.last_offset <= segment.last_offset:
                what = f"an abort at offset {entry.last_offset}, the segment ends with {segment.last_offset}"
                yield Problem(path, at * txn_index.ENTRY_BYTES, what)
    except FormatError as error:
        yield Problem(path, error.position, error.what)


def _snapshots(
    directory: str, offsets: Collection[Offset], log_end: Offset | None, recovery: _Recovery
) -> Iterator[Problem]:
    for offset in offsets:
        path = os.path.join(directory, names.segment_file_name(offset, names.SNAPSHOT))
        is_note = recovery.may_repair(offset, INT64_MAX)
        try:
            entries = producer_snapshot.decode(_content(path))
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
    recovery: _Recovery,
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
        elif (found.last_offset, found.max_timestamp) != (sealed.last_offset, sealed.max_timestamp_ms):
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


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
