"""One partition: its segments, its ends, who waits for them.

Invariants, at every turn of the loop: segments ascend and do not overlap; log_start <= high_watermark <= log_end and
durable_end <= log_end; under durability fsync the high watermark is the durable end; the last segment alone is written.
Only the loop's thread changes a partition, and an append is one system call.
Not here: threads and tasks (`engine.py`), when bytes become durable (`group_commit.py`), reading (`reading.py`).
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from contextlib import suppress
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import LeaderEpoch, Offset, PartitionId
from riverlog.base.units import INT32_MAX, format_bytes
from riverlog.env.clock import Clock
from riverlog.env.entropy import Entropy
from riverlog.env.files import Files, write_file
from riverlog.records.header import HEADER_BYTES, TRANSACTIONAL_BIT, BatchHeader
from riverlog.state.producers import Duplicate, Producers
from riverlog.storage.contract import (
    Appended,
    Buffer,
    Durability,
    EpochEnd,
    LogConfig,
    LogSize,
    Refused,
    TopicLog,
    Watermarks,
)
from riverlog.storage.format import names, partition_metadata
from riverlog.storage.format.checkpoint import PartitionMark
from riverlog.storage.format.leader_epochs import LeaderEpochs
from riverlog.storage.local.counters import Counters
from riverlog.storage.local.segments import Descriptors, Segment, jitter_ms
from riverlog.storage.local.transactions import Transactions, began
from riverlog.storage.local.waiting import Awaited, Waiter, answer_reached
from riverlog.storage.local.waking import wake

if TYPE_CHECKING:
    from riverlog.storage.local.subscriptions import Subscribed

HEAD: Final = Struct(">qii")  # base offset, length, leader epoch: the first 16 bytes of a batch
HEAD_BYTES: Final = 16


class World(NamedTuple):
    """What all partitions of an engine share."""

    files: Files
    clock: Clock
    descriptors: Descriptors
    counters: Counters
    moved: Callable[[LocalPartition], None]  # the high watermark moved: wake the subscribers
    begun: Callable[[LocalPartition, Segment], None]
    sealed: Callable[[LocalPartition, Segment], None]  # its indexes are to be written
    late: Callable[[LocalPartition, int], None]  # a batch older than the retention was appended
    unindexed: Callable[[LocalPartition, Segment], None]  # its indexes are damaged: they are to be made again
    entropy: Entropy


class Place(NamedTuple):
    """An offset and where it is: byte `position` of `segment` (None: the partition has no segment)."""

    offset: Offset
    segment: Segment | None
    position: int


class LocalPartition:
    """Made empty, or filled in by recovery before anybody sees it."""

    __slots__ = (
        "__weakref__",
        "awaited",
        "bases",
        "cleaned_offset",
        "committing",
        "config",
        "directory",
        "durable",
        "epochs",
        "failure",
        "high",
        "id",
        "leader_epoch",
        "log_end",
        "log_start",
        "made",
        "mark",
        "name",
        "producers",
        "segment_bytes",
        "segments",
        "segments_only",
        "snapshot_offsets",
        "subscribers",
        "swapped",
        "synced",
        "syncing",
        "tail",
        "transactions",
        "unsaved_epochs",
        "unsynced_bytes",
        "unsynced_messages",
        "unsynced_names",
        "unsynced_segments",
        "world",
    )

    def __init__(self, world: World, topic: TopicLog, index: int, topics_directory: str) -> None:
        self.world = world
        self.id = PartitionId(topic.topic_id, index)
        self.name = f"{topic.name}-{index}"
        self.directory = f"{topics_directory}/{names.partition_directory_name(topic.name, index)}"
        self.made = False  # the directory is there
        self.failure: RiverlogError | None = None  # offline, or gone: what everybody gets
        self.segments: list[Segment] = []
        self.bases: list[int] = []  # their base offsets
        self.log_start = Offset(0)
        self.log_end = Offset(0)
        nowhere = Place(Offset(0), None, 0)
        self.durable = nowhere  # what survives
        self.synced = nowhere  # what the segments alone hold: the rest of `durable` is in the journal
        self.high = nowhere  # the high watermark
        self.tail = nowhere  # where the high watermark was before: where most reads begin
        self.cleaned_offset = Offset(0)  # compaction has been through everything before it
        self.swapped = False  # its compacted segments are in place, and no checkpoint names them yet
        self.mark: PartitionMark | None = None  # what the last checkpoint says
        self.leader_epoch = LeaderEpoch(0)
        self.epochs = LeaderEpochs()
        self.unsaved_epochs = False  # their file is behind
        self.producers = Producers()
        self.transactions: Transactions | None = None
        self.snapshot_offsets: list[int] = []  # of the snapshot files that are there
        self.committing = False
        self.syncing = False  # its segments are
        self.segments_only = False  # the next commit has to sync them: something that was written is cut off
        self.unsynced_bytes = 0
        self.unsynced_messages = 0
        self.unsynced_segments: list[Segment] = []
        self.unsynced_names = 0  # 1: files were made in the directory; 2: the directory too
        self.awaited: list[Awaited] | None = None
        self.subscribers: dict[Subscribed, None] | None = None
        self.configure(topic.config)

    def configure(self, config: LogConfig) -> None:
        self.config = config
        self.segment_bytes = min(config.segment_bytes, INT32_MAX)

    def __repr__(self) -> str:
        return f"<LocalPartition {self.name} {self.log_start}..{self.high.offset}..{self.log_end}>"

    # Appending

    def append(self, batch: Buffer, header: BatchHeader, now_ms: int) -> Appended | Refused:
        """Writes the batch at the log end. Refuses: STORAGE (offline, disk full, I/O error) and what `Producers.check` says."""
        if self.failure is not None:
            return Refused(self.failure, self.log_start)
        if header.producer_id >= 0 and (verdict := self.producers.check(header)) is not None:
            if isinstance(verdict, Duplicate):
                self.world.counters.duplicate_batches += 1
                return Appended(verdict.base_offset, verdict.next_offset, self.log_start, True)
            return Refused(verdict, self.log_start)
        size = len(batch)
        base_offset = self.log_end
        last_offset = base_offset + header.last_offset_delta
        try:
            segment = self.segments[-1] if self.segments else self.roll(now_ms)
            if segment.time_index is None and not wake(self.world.files, segment):
                segment = self.roll(now_ms)
            if segment.size and self._must_roll(segment, size, last_offset, header.max_timestamp, now_ms):
                segment = self.roll(now_ms)
            file = segment.file or self.world.descriptors.file(segment)
            segment.used = True
            if segment.overhang:
                file.truncate(segment.size)
                segment.overhang = False
            if isinstance(batch, bytes) or (isinstance(batch, memoryview) and batch.readonly):
                head = HEAD.pack(base_offset, header.length, self.leader_epoch)
                written = file.write_parts_at((head, memoryview(batch)[HEAD_BYTES:]), segment.size)
            else:
                HEAD.pack_into(batch, 0, base_offset, header.length, self.leader_epoch)
                written = file.write_at(batch, segment.size)
            if written != size:
                segment.overhang = True
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            return Refused(self._write_failed(error, size), self.log_start)
        segment.note(Offset(last_offset), size, header.max_timestamp, self.config.index_interval_bytes)
        self._appended(segment, header, base_offset, size, now_ms)
        return Appended(base_offset, self.log_end, self.log_start)

    def _must_roll(self, segment: Segment, size: int, last_offset: int, max_timestamp: int, now_ms: int) -> bool:
        if segment.size + size > self.segment_bytes or last_offset - segment.base_offset > INT32_MAX:
            return True
        if segment.first_timestamp >= 0:
            waited_ms = max_timestamp - segment.first_timestamp
        else:
            waited_ms = now_ms - segment.created_ms
        if waited_ms > self.config.segment_ms - jitter_ms(segment, self.config, self.world.entropy):
            return True
        index = segment.index
        assert index is not None
        return len(index) * 8 + 8 > self.config.segment_index_bytes

    def _appended(self, segment: Segment, header: BatchHeader, base_offset: Offset, size: int, now_ms: int) -> None:
        """The batch stands in the file: into the books with it."""
        world = self.world
        self.log_end = segment.next_offset
        if header.producer_id >= 0:
            self.producers.apply(header, base_offset, now_ms)
            if header.attributes & TRANSACTIONAL_BIT:
                began(self, base_offset, segment.size - size)
        self._note_unsynced(segment)
        self.unsynced_bytes += size
        self.unsynced_messages += header.last_offset_delta + 1
        counters = world.counters
        counters.unsynced_bytes += size
        counters.appended_bytes += size
        counters.appended_batches += 1
        config = self.config
        max_timestamp = header.max_timestamp
        if 0 <= config.retention_ms < now_ms - max_timestamp and max_timestamp >= 0 and config.cleanup_delete:
            world.late(self, max_timestamp)
        if config.durability is Durability.PAGE_CACHE:
            self.move_high(Place(self.log_end, segment, segment.size))

    def _note_unsynced(self, segment: Segment) -> None:
        if not segment.unsynced:
            segment.unsynced = True
            self.unsynced_segments.append(segment)

    def _write_failed(self, error: OSError, size: int) -> RiverlogError:
        """Nothing of the batch is in the log. What was written is cut off: now, or before the next write."""
        self.world.counters.failed_writes += 1
        if self.segments and (segment := self.segments[-1]).file is not None:
            segment.overhang = True
            self.segments_only = True
            self._note_unsynced(segment)  # so that what is cut off cannot come back once more was acknowledged
            with suppress(OSError):  # it is tried again before the next write; readers stop at `size`, recovery at the bad batch
                segment.file.truncate(segment.size)
                segment.overhang = False
        return RiverlogError(
            ErrorKind.STORAGE,
            f"{self.name}: a batch of {format_bytes(size)} could not be written to {self.directory}: {error.strerror or error}; "
            "make room on the disk and send it again",
        )

    def roll(self, now_ms: int) -> Segment:
        """Ends the active segment and begins one at the log end. Raises OSError, then nothing has changed."""
        world = self.world
        before = self.segments[-1] if self.segments else None
        if before is not None and before.time_index is None and not wake(world.files, before):
            world.unindexed(self, before)
        if before is not None and before.overhang:
            world.descriptors.file(before).truncate(before.size)
            before.overhang = False
        if not self.made:
            self._make_directory()
        fresh = Segment(self.directory, self.log_end, now_ms)
        file = world.descriptors.file(fresh, create=True)
        try:
            if file.size():
                self.segments_only = True
                file.truncate(0)  # of a failed write, or of a segment that a failed sync cut off
        except OSError:
            world.descriptors.doom(fresh)
            raise
        fresh.start_indexes()
        self.unsynced_names = max(self.unsynced_names, 1)
        self.segments.append(fresh)
        self.bases.append(fresh.base_offset)
        if before is not None:
            before.seal_time_index()
            world.counters.rolled_segments += 1
            world.sealed(self, before)
        world.begun(self, fresh)
        return fresh

    def _make_directory(self) -> None:
        files = self.world.files
        files.make_directory(self.directory)
        write_file(
            files,
            f"{self.directory}/{names.PARTITION_METADATA}",
            partition_metadata.encode(self.id.topic_id),
            sync=False,
        )
        self.epochs.assign(self.leader_epoch, self.log_end)
        write_file(files, f"{self.directory}/{names.LEADER_EPOCHS}", self.epochs.encode(), sync=False)
        self.made = True
        self.unsynced_names = 2

    # Durability

    def wait(self, offset: Offset, waiter: Waiter, number: int) -> None:
        """`waiter.reached(number)` is called once everything before `offset` is durable."""
        if self.awaited is None:
            self.awaited = []
        self.awaited.append(Awaited(offset, waiter, number))

    def answer(self, end: Offset) -> None:
        """Those who waited for `end` or less. Telling them only resolves futures: nobody comes to wait meanwhile."""
        if self.awaited:
            self.awaited = answer_reached(self.awaited, end) or None

    def fail_waiters(self, error: RiverlogError) -> None:
        awaited, self.awaited = self.awaited, None
        for one in awaited or ():
            one.waiter.failed(one.number, error)

    def move_high(self, place: Place) -> None:
        self.tail = self.high
        self.high = place
        if self.subscribers:
            self.world.moved(self)

    def kept(self, durable: Place) -> Place:
        """A durable end in what retention has removed is one at the beginning of what is left: a cut may go no further back."""
        if not self.segments:
            return durable
        first = self.segments[0]
        return durable if durable.offset > first.base_offset else Place(first.base_offset, first, 0)

    def set_durability(self, durability: Durability) -> None:
        """After the topic's configuration was changed. The high watermark never falls."""
        if durability is Durability.PAGE_CACHE and self.segments and self.log_end > self.high.offset:
            last = self.segments[-1]
            self.move_high(Place(self.log_end, last, last.size))

    def drop_first(self, count: int) -> list[Segment]:
        """Lets go of the first segments, for retention; what is left begins at the log start."""
        doomed = self.segments[:count]
        del self.segments[:count], self.bases[:count]
        self.log_start = max(self.log_start, Offset(self.bases[0]))
        self.epochs.truncate_before(self.log_start)
        if self.transactions is not None:
            self.transactions.aborted.drop_before(self.segments[0].base_offset)
        self.durable, self.synced = self.kept(self.durable), self.kept(self.synced)
        return doomed

    def adopt(self, fresh: LocalPartition, epoch: LeaderEpoch) -> None:
        """After a cut: goes on with what was read again from the disk. Segments that retention took, whose removal is under
        way, do not come back, and the log start does not fall."""
        gone = bisect_left(fresh.bases, self.bases[0]) if self.bases else 0
        self.segments, self.bases = fresh.segments[gone:], fresh.bases[gone:]
        self.log_end = fresh.log_end
        self.log_start = min(max(self.log_start, fresh.log_start), fresh.log_end)  # a deletion may have failed with it
        self.durable, self.high, self.tail = fresh.durable, fresh.high, fresh.tail
        self.synced = fresh.synced
        self.cleaned_offset, self.swapped = fresh.cleaned_offset, self.swapped or fresh.swapped
        self.epochs, self.leader_epoch = fresh.epochs, epoch
        self.producers, self.snapshot_offsets = fresh.producers, fresh.snapshot_offsets
        self.transactions = fresh.transactions
        self.unsynced_bytes = self.unsynced_messages = 0
        self.unsynced_names = 2  # perhaps none of them was ever synced
        self.unsynced_segments = []
        self.failure = None

    # Looking

    def segment_at(self, offset: Offset) -> int:
        """The index of the segment that holds `offset`; offsets before the first segment give the first."""
        return max(0, bisect_right(self.bases, offset) - 1)

    def visible_bytes(self, segment: Segment, end: Place | None = None) -> int:
        """How much of a segment readers may see, up to `end` or the high watermark."""
        end = end or self.high
        if segment is end.segment:
            return end.position
        return segment.size if segment.next_offset <= end.offset else 0

    def stable_offset(self) -> Offset:
        """The last stable offset, which does not stay behind where the log begins."""
        high = self.high.offset
        return high if self.transactions is None else max(self.producers.last_stable_offset(high), self.log_start)

    def watermarks(self) -> Watermarks:
        high, stable = self.high.offset, self.stable_offset()
        return Watermarks(self.log_start, self.log_end, self.durable.offset, high, stable, self.leader_epoch)

    def epoch_end(self, leader_epoch: int) -> EpochEnd:
        if leader_epoch == self.leader_epoch:
            return EpochEnd(leader_epoch, self.log_end)
        epoch, end = self.epochs.end_of(leader_epoch, self.log_end)
        return EpochEnd(epoch, end)

    def log_size(self) -> LogSize:
        return LogSize(sum(segment.size for segment in self.segments), len(self.segments), self.log_start, self.log_end)


assert HEAD.size == HEAD_BYTES < HEADER_BYTES
