"""`riverlog repair`: what is done about damage that `verify` has found, in a stopped directory, when somebody decides.

Invariants: nothing is changed without an order, truncate or skip; what is dropped is first copied into a file beside its
segment, synced; offsets are dense afterwards and never used again: in the place of what is lost stand batches without
records, so the log ends where it ended. Only after a clean stop: what a start would repair by itself is left to it.
Order of writing: copies, new files, then the checkpoint; after a crash on the way the same command ends the work.
Not here: finding damage (`damage_search.py`), the catalog.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

from riverlog.base.errors import Corruption, ErrorKind, RiverlogError
from riverlog.base.ids import LeaderEpoch, Offset, PartitionId, Position, TopicId, TopicName
from riverlog.base.units import INT32_MAX, MIB
from riverlog.env.files import File, Files, replace_file, write_file, write_whole
from riverlog.records.builder import empty_batch
from riverlog.records.checksum import crc32c
from riverlog.storage.damage_search import Expected, Region, find_damage
from riverlog.storage.format import checkpoint, names, partition_metadata
from riverlog.storage.format.checkpoint import (
    ABORTED,
    COMPACTED,
    Checkpoint,
    FileChecksums,
    PartitionMark,
    SegmentMark,
)
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.leader_epochs import EpochEntry, LeaderEpochs
from riverlog.storage.format.txn_index import ENTRY_BYTES
from riverlog.storage.local.checksums import checksums_of
from riverlog.storage.local.marks import active_mark, segment_mark
from riverlog.storage.local.opening import take
from riverlog.storage.local.segments import Segment
from riverlog.storage.local.swaps import finish_swaps, forget_manifest
from riverlog.storage.local.transaction_files import gather
from riverlog.storage.windows import stored_batches

index_interval_bytes: Final = 4096
copy_bytes: Final = MIB


class Order(Enum):
    TRUNCATE = "truncate"  # everything from the first damage on goes
    SKIP = "skip"  # only what is damaged goes


class Loss(NamedTuple):
    """Records that are lost, or only an index that is made again (`first_offset` is `next_offset`). `saved_as`: where the
    bytes were kept; None where there were none, or nothing was done."""

    path: str
    position: int
    size: int
    first_offset: int
    next_offset: int
    what: str
    saved_as: str | None = None

    def __str__(self) -> str:
        if self.first_offset == self.next_offset:
            lost = f"{self.size} bytes" if self.size else "no record is lost"
        else:
            lost = f"{self.size} bytes, offsets {self.first_offset} to {self.next_offset - 1}"
        kept = f"; saved as {self.saved_as}" if self.saved_as is not None else ""
        return f"{self.path}: {self.what} at position {self.position}: {lost}{kept}"


@dataclass(slots=True, kw_only=True)
class _Segment:
    """A segment as the checkpoint has it, and what is wrong with it. `stale`: an index, or what the checkpoint says."""

    expected: Expected
    regions: list[Region]
    stale: str = ""
    mark: SegmentMark | None = None  # None: the active one


@dataclass(slots=True, kw_only=True)
class _Work:
    """One partition."""

    directory: str
    mark: PartitionMark
    segments: list[_Segment] = field(default_factory=list)
    epochs: LeaderEpochs | None = None
    missing: bool = False
    metadata_ok: bool = True

    @property
    def is_sound(self) -> bool:
        return (
            not self.missing
            and self.metadata_ok
            and self.epochs is not None
            and not any(one.regions or one.stale for one in self.segments)
        )

    def path(self, base_offset: int, suffix: str = names.LOG) -> str:
        return f"{self.directory}/{names.segment_file_name(Offset(base_offset), suffix)}"


def repair(
    files: Files,
    directory: str,
    order: Order | None,
    *,
    now_ms: int,
    topic: str | None = None,
    partition: int | None = None,
    topic_ids: Mapping[str, TopicId] | None = None,
) -> list[Loss]:
    """Gives what is (`order` None: would be) lost or made again. `topic_ids`: of the catalog, for partitions whose directories
    are gone. Raises RiverlogError where it cannot work on this directory (a process has it, which the message names; it was
    not stopped cleanly), OSError."""
    held = take(files, directory)
    try:
        return _repair(files, directory, order, now_ms, topic, partition, topic_ids or {})
    finally:
        held.release()


def _repair(
    files: Files,
    directory: str,
    order: Order | None,
    now_ms: int,
    topic: str | None,
    partition: int | None,
    topic_ids: Mapping[str, TopicId],
) -> list[Loss]:
    found = _read_checkpoint(files, directory)
    marks = {mark.partition: mark for mark in found.partitions}
    losses: list[Loss] = []
    for path, noted in _chosen(files, directory, marks, topic, partition, topic_ids):
        manifest = f"{path}/{names.SWAP}"
        swapping = files.exists(manifest)
        if swapping:
            losses.append(Loss(manifest, 0, 0, 0, 0, "a compaction was interrupted: it is finished before all else"))
            if order is None:
                continue
        mark = _swapped(files, path, noted)
        work = _look(files, path, mark)
        if work.is_sound and not swapping:
            continue
        repairer = _Repair(files, work, order, now_ms)
        fresh = repairer.run()
        losses += repairer.losses
        if order is not None:
            marks[mark.partition] = fresh
            fresh_checkpoint = Checkpoint(True, found.generation + 1, list(marks.values()))
            replace_file(files, f"{directory}/{names.CHECKPOINT}", checkpoint.encode(fresh_checkpoint))
        if swapping:
            forget_manifest(files, path)
    return losses


def _swapped(files: Files, directory: str, mark: PartitionMark) -> PartitionMark:
    """Once a compaction that was interrupted is finished. A damaged manifest says nothing: what the checkpoint says counts."""
    try:
        return finish_swaps(files, directory, mark, mark.partition) or mark
    except Corruption:
        return mark


def _read_checkpoint(files: Files, directory: str) -> Checkpoint:
    try:
        found = checkpoint.decode(files.read(f"{directory}/{names.CHECKPOINT}"))
    except (FileNotFoundError, FormatError) as error:
        raise RiverlogError(
            ErrorKind.STORAGE,
            f"{directory} has no checkpoint that can be read ({error}): the next start reads every segment and cuts off what "
            "is bad; start the broker once and stop it, then repair",
        ) from None
    if not found.clean:
        raise RiverlogError(
            ErrorKind.STORAGE,
            f"{directory} was not stopped cleanly: start the broker once and stop it, so that it recovers what it can "
            "(damaged partitions stay offline meanwhile), then repair",
        )
    return found


def _chosen(
    files: Files,
    directory: str,
    marks: Mapping[PartitionId, PartitionMark],
    topic: str | None,
    partition: int | None,
    topic_ids: Mapping[str, TopicId],
) -> Iterator[tuple[str, PartitionMark]]:
    """Partitions that have a mark, by their directories; those whose directories are gone by the catalog's names."""
    topics = f"{directory}/{names.TOPICS}"
    seen: set[PartitionId] = set()
    ids = dict(topic_ids)
    known = {topic_id: name for name, topic_id in ids.items()}
    for name in files.list(topics):
        parsed = names.parse_partition_directory_name(name)
        if parsed is None:
            continue
        try:
            topic_id = partition_metadata.decode(files.read(f"{topics}/{name}/{names.PARTITION_METADATA}"))
        except (FileNotFoundError, FormatError):
            if parsed.topic not in ids:
                continue
            topic_id = ids[parsed.topic]
        known.setdefault(topic_id, parsed.topic)
        which = PartitionId(topic_id, parsed.partition)
        seen.add(which)
        if (mark := marks.get(which)) is not None and _wanted(parsed.topic, parsed.partition, topic, partition):
            yield f"{topics}/{name}", mark
    for which, mark in marks.items():
        name = known.get(which.topic_id, "")
        if which not in seen and mark.recovery_offset > 0 and name and _wanted(name, which.index, topic, partition):
            yield f"{topics}/{names.partition_directory_name(TopicName(name), which.index)}", mark


def _wanted(name: str, index: int, topic: str | None, partition: int | None) -> bool:
    return topic in (None, name) and partition in (None, index)


def _look(files: Files, directory: str, mark: PartitionMark) -> _Work:
    work = _Work(directory=directory, mark=mark)
    if not files.exists(directory):
        work.missing = True
        return work
    metadata = f"{directory}/{names.PARTITION_METADATA}"
    expected_metadata = partition_metadata.encode(mark.partition.topic_id)
    work.metadata_ok = files.exists(metadata) and files.read(metadata) == expected_metadata
    try:
        content = files.read(f"{directory}/{names.LEADER_EPOCHS}")
        noted = mark.file_checksums.epochs
        work.epochs = LeaderEpochs.decode(content) if noted in (None, crc32c(content)) else None
    except (FileNotFoundError, FormatError):
        pass
    for sealed in mark.segments:
        gaps = bool(sealed.flags & COMPACTED)
        expected = Expected(sealed.base_offset, sealed.last_offset + 1, sealed.size, gaps)
        work.segments.append(_look_at(files, work, expected, sealed))
    if mark.recovery_position or mark.recovery_offset > mark.recovery_segment:
        expected = Expected(mark.recovery_segment, mark.recovery_offset, mark.recovery_position, False)
        work.segments.append(_look_at(files, work, expected, None))
    return work


def _look_at(files: Files, work: _Work, expected: Expected, mark: SegmentMark | None) -> _Segment:
    base_offset = expected.base_offset
    segment = _Segment(expected=expected, regions=find_damage(work.path(base_offset), expected, work.epochs), mark=mark)
    if not segment.regions and files.size(work.path(base_offset)) != expected.size:
        segment.stale = "another size than the checkpoint has"
    for suffix in (names.INDEX, names.TIME_INDEX):
        if not files.exists(work.path(base_offset, suffix)):
            segment.stale = segment.stale or f"its {suffix} is gone"
    if mark is not None and mark.checksums is not None and not segment.regions and not segment.stale:
        for suffix, noted in ((names.INDEX, mark.checksums.offsets), (names.TIME_INDEX, mark.checksums.times)):
            if crc32c(files.read(work.path(base_offset, suffix))) != noted:
                segment.stale = f"its {suffix} is not what was written"
    return segment


class _Repair:
    """Of one partition. `order` None: only says what would be lost."""

    def __init__(self, files: Files, work: _Work, order: Order | None, now_ms: int) -> None:
        self.files = files
        self.work = work
        self.order = order
        self.now_ms = now_ms
        self.losses: list[Loss] = []
        self._batch_epoch: Callable[[int], int] = lambda _: max(work.mark.leader_epoch, 0)

    def run(self) -> PartitionMark:
        """The mark as it is afterwards."""
        if self.work.missing:
            return self._missing()
        self._metadata()
        epochs = self.work.epochs or self._epochs_of_batches()
        self._batch_epoch = lambda offset: max(epochs.epoch_of(Offset(offset)), 0)
        segments = self.work.segments
        done: list[Segment] = []
        for at, one in enumerate(segments):
            if one.regions and self.order is Order.TRUNCATE:
                end = self.work.mark.recovery_offset
                first = one.regions[0]
                indexes = [self.work.path(each.expected.base_offset, names.TXN_INDEX) for each in segments[at:]]
                gather(self.files, indexes[0], indexes[1:], first.first_offset)
                self._drop_behind(segments[at + 1 :])
                whole = Region(first.start, self._size(one), first.first_offset, end, first.what)
                done += self._rewrite(one, [whole], one.expected._replace(next_offset=end))
                break
            if one.regions:
                done += self._rewrite(one, one.regions, one.expected)
            else:
                done.append(self._indexed(one.expected, bool(one.stale), one.mark))
                if one.stale:
                    path = self.work.path(one.expected.base_offset)
                    offset = one.expected.next_offset
                    self.losses.append(Loss(path, 0, 0, offset, offset, f"{one.stale}: made again"))
        if self.order is None:
            return self.work.mark
        return self._mark(done, epochs)

    def _size(self, segment: _Segment) -> int:
        path = self.work.path(segment.expected.base_offset)
        return self.files.size(path) if self.files.exists(path) else 0

    def _metadata(self) -> None:
        if self.work.metadata_ok:
            return
        path = f"{self.work.directory}/{names.PARTITION_METADATA}"
        self.losses.append(Loss(path, 0, 0, 0, 0, "it is damaged or gone: made again"))
        if self.order is not None:
            replace_file(self.files, path, partition_metadata.encode(self.work.mark.partition.topic_id))

    # A directory that is gone

    def _missing(self) -> PartitionMark:
        mark, directory = self.work.mark, self.work.directory
        end = mark.recovery_offset
        self.losses.append(Loss(directory, 0, 0, mark.log_start, end, "the directory is gone"))
        if self.order is None:
            return mark
        files = self.files
        files.make_directory(directory)
        metadata = partition_metadata.encode(mark.partition.topic_id)
        write_file(files, f"{directory}/{names.PARTITION_METADATA}", metadata)
        epochs = LeaderEpochs([EpochEntry(LeaderEpoch(max(mark.leader_epoch, 0)), end)]).encode()
        write_file(files, f"{directory}/{names.LEADER_EPOCHS}", epochs)
        files.sync_directory(directory)
        files.sync_directory(os.path.dirname(directory))
        return PartitionMark(
            mark.partition,
            mark.leader_epoch,
            end,
            end,
            end,
            Position(0),
            cleaned_offset=mark.cleaned_offset,
            file_checksums=FileChecksums(crc32c(metadata), crc32c(epochs)),
        )

    # Segments

    def _rewrite(self, segment: _Segment, regions: Sequence[Region], expected: Expected) -> list[Segment]:
        """The segment with empty batches in the place of its bad regions. Gives it, and the segments behind it that a hole of
        more than 2^31 offsets needs."""
        path = self.work.path(expected.base_offset)
        for region in regions:
            self.losses.append(self._save(path, region))
        if self.order is None:
            return []
        fresh = path + names.TEMPORARY
        rest: tuple[int, int] | None = None
        copy = self.files.open(fresh, create=True)
        try:
            copy.truncate(0)
            position = read_to = 0
            for region in regions:
                position = self._copy(path, read_to, region.start, copy, position)
                read_to = region.end
                end = region.next_offset
                if end - expected.base_offset > INT32_MAX:
                    rest, end = (region.first_offset, end), region.first_offset
                position = self._fill(copy, position, region.first_offset, end)
            self._copy(path, read_to, self._size(segment), copy, position)
            copy.sync()
        finally:
            copy.close()
        self.files.rename(fresh, path)
        self.files.sync_directory(self.work.directory)
        done = []
        if rest is not None:
            expected = expected._replace(next_offset=rest[0])
        if expected.next_offset > expected.base_offset:
            done.append(self._indexed(expected, True, segment.mark))
        while rest is not None:
            first, end = rest[0], min(rest[0] + INT32_MAX, rest[1])
            self._make_filler(first, end)
            done.append(self._indexed(Expected(first, end, 0, False), True, None))
            rest = (end, rest[1]) if end < rest[1] else None
        return done

    def _make_filler(self, first: int, end: int) -> None:
        file = self.files.open(self.work.path(first), create=True)
        try:
            file.truncate(self._fill(file, 0, first, end))
            file.sync()
        finally:
            file.close()

    def _save(self, path: str, region: Region) -> Loss:
        saved_as = None
        if self.order is not None and region.end > region.start:
            saved_as = f"{path}.dropped-{self.now_ms}-{region.start}"
            copy = self.files.open(saved_as, create=True)
            try:
                self._copy(path, region.start, region.end, copy, 0)
                copy.sync()
            finally:
                copy.close()
            self.files.sync_directory(self.work.directory)
        size = region.end - region.start
        return Loss(path, region.start, size, region.first_offset, region.next_offset, region.what, saved_as)

    def _copy(self, path: str, start: int, end: int, target: File, position: int) -> int:
        """Gives the position behind."""
        if start >= end:
            return position
        file = self.files.open(path, writable=False)
        try:
            while start < end and (window := file.read_at(min(copy_bytes, end - start), start)):
                write_whole(target, window, position)
                start += len(window)
                position += len(window)
        finally:
            file.close()
        return position

    def _fill(self, file: File, position: int, first: int, end: int) -> int:
        while first < end:
            last = min(end - 1, first + INT32_MAX - 1)
            batch = empty_batch(first, last, self._batch_epoch(first))
            write_whole(file, batch, position)
            position += len(batch)
            first = last + 1
        return position

    def _drop_behind(self, segments: Sequence[_Segment]) -> None:
        for segment in segments:
            path = self.work.path(segment.expected.base_offset)
            size = self._size(segment)
            saved_as = None
            if size and self.order is not None:
                saved_as = f"{path}.dropped-{self.now_ms}-0"
                self.files.rename(path, saved_as)
            for suffix in (names.INDEX, names.TIME_INDEX, names.TXN_INDEX):
                other = self.work.path(segment.expected.base_offset, suffix)
                if self.order is not None and self.files.exists(other):
                    self.files.remove(other)
            expected = segment.expected
            what = "it is behind what is damaged"
            self.losses.append(Loss(path, 0, size, expected.base_offset, expected.next_offset, what, saved_as))
        self.files.sync_directory(self.work.directory)

    def _indexed(self, expected: Expected, again: bool, mark: SegmentMark | None) -> Segment:
        """The segment with its indexes made of its batches; written where `again`, with new checksums."""
        segment = Segment(self.work.directory, Offset(expected.base_offset), self.now_ms)
        segment.start_indexes()
        if mark is not None:
            segment.created_ms = mark.created_ms or self.now_ms
            segment.compacted = expected.gaps
            segment.checksums = None if again else mark.checksums
        segment.aborted = self._aborted(segment, mark)
        if self.order is None:
            return segment
        with open(segment.log_path, "rb", buffering=0) as log:
            for batch in stored_batches(log):
                header = batch.header
                if not segment.size:
                    segment.first_timestamp = header.max_timestamp
                segment.note(Offset(header.last_offset), header.size, header.max_timestamp, index_interval_bytes)
        segment.next_offset = Offset(max(segment.next_offset, expected.next_offset))
        if again:
            segment.seal_time_index()
            assert segment.index is not None
            assert segment.time_index is not None
            write_file(self.files, segment.index_path, segment.index.encode())
            write_file(self.files, segment.time_index_path, segment.time_index.encode())
            self.files.sync_directory(self.work.directory)
        return segment

    def _aborted(self, segment: Segment, mark: SegmentMark | None) -> int:
        """How many entries its transaction index has, or should have: the next start makes again what is not there."""
        if self.files.exists(segment.txn_index_path):
            return self.files.size(segment.txn_index_path) // ENTRY_BYTES
        if mark is not None:
            return mark.flags & ABORTED
        return self.work.mark.active.aborted if self.work.mark.active is not None else 0

    # What is said of it

    def _epochs_of_batches(self) -> LeaderEpochs:
        """Where their file is damaged: as the good batches have them."""
        epochs = LeaderEpochs()
        for one in self.work.segments:
            bad = {region.start: region.end for region in one.regions}
            position, size = 0, self._size(one)
            path = self.work.path(one.expected.base_offset)
            while position < size:
                if position in bad:
                    position = bad[position]
                    continue
                end = min((start for start in bad if start > position), default=size)
                with open(path, "rb", buffering=0) as log:
                    for batch in stored_batches(log, position, end):
                        if batch.header.leader_epoch > epochs.latest:
                            epochs.assign(LeaderEpoch(batch.header.leader_epoch), Offset(batch.header.base_offset))
                position = end
        if self.work.mark.leader_epoch > epochs.latest:
            epochs.assign(self.work.mark.leader_epoch, self.work.mark.recovery_offset)
        path = f"{self.work.directory}/{names.LEADER_EPOCHS}"
        self.losses.append(Loss(path, 0, 0, 0, 0, "the leader epochs cannot be read: made again of the batches"))
        return epochs

    def _mark(self, segments: list[Segment], epochs: LeaderEpochs) -> PartitionMark:
        mark, active = self.work.mark, segments[-1]
        content = epochs.encode()
        if self.work.epochs is None:
            replace_file(self.files, f"{self.work.directory}/{names.LEADER_EPOCHS}", content)
        for one in segments[:-1]:
            if one.checksums is None:
                one.checksums = checksums_of(self.files, one.path, one.base_offset, dense=not one.compacted)
        return mark._replace(
            recovery_segment=active.base_offset,
            recovery_position=Position(active.size),
            segments=tuple(map(segment_mark, segments[:-1])),
            active=active_mark(active),
            file_checksums=mark.file_checksums._replace(epochs=crc32c(content)),
        )
