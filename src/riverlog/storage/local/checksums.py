"""Checksums of sealed segments: CRC-32C over each whole file, computed once, for the checkpoint.

Invariants: a segment gets its checksums after it was sealed and its files were synced; while its log is read, its batches'
own CRCs and offsets are checked, so that no checksum is given to damage; a window at a time, so that a checkpoint never waits
long for the thread. What was sealed just now is in the page cache. What a start finds without checksums is read in the
background, at a bounded rate, and does not stay in the page cache.
Not here: who looks at checksums (`storage/verify.py`), the page of the format (docs/formats/checkpoint.md).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from riverlog.base.errors import Corruption
from riverlog.base.ids import Offset
from riverlog.base.units import MIB
from riverlog.env.files import File, Files
from riverlog.kernels import Checked, WalkEnd, check_batches
from riverlog.records.checksum import crc32c
from riverlog.records.header import HEADER_BYTES, OVERHEAD_BYTES
from riverlog.storage.format import names
from riverlog.storage.format.checkpoint import Checksums, PartitionMark
from riverlog.storage.local.damage import note_damage
from riverlog.storage.local.partition import LocalPartition
from riverlog.storage.local.segments import Segment

if TYPE_CHECKING:
    from riverlog.storage.local.engine import LocalEngine

log = logging.getLogger(__name__)

window_bytes: Final = 4 * MIB
backlog_bytes_per_second: Final = 32 * MIB


class SegmentSum:
    """One segment's files, a window at a time. `path` is without a suffix."""

    def __init__(self, files: Files, file: File, path: str, base_offset: Offset, size: int, dense: bool) -> None:
        self._files = files
        self._file = file
        self._path = path
        self._size = size
        self._dense = dense  # no offset is missing: compaction has not been here
        self._position = 0
        self._crc = 0
        self._next_offset: int = base_offset
        self._leader_epoch = -1
        self.keep_pages = True

    def step(self) -> Checksums | None:
        """On a thread. None: there is more to do. Raises Corruption where a batch is bad, OSError."""
        if self._position < self._size:
            self._window()
            return None
        sums = [self._whole(self._path + suffix) for suffix in (names.INDEX, names.TIME_INDEX, names.TXN_INDEX)]
        return Checksums(self._crc, *sums)

    def _window(self) -> None:
        position, left = self._position, self._size - self._position
        count = min(window_bytes, left)
        drop = not self.keep_pages and not self._file.resident(position, count)
        window = self._file.read_at(count, position)
        checked = check_batches(window, 0, self._next_offset, self._leader_epoch, self._dense)
        if not checked.end and checked.stopped is WalkEnd.BATCH_CUT and count < left:
            count = min(int.from_bytes(window[8:12], "big") + OVERHEAD_BYTES, left)
            window = self._file.read_at(count, position)
            checked = check_batches(window, 0, self._next_offset, self._leader_epoch, self._dense)
        ended = checked.stopped in (WalkEnd.BATCH_CUT, WalkEnd.HEADER_CUT) and position + len(window) < self._size
        if not checked.end or (checked.stopped is not WalkEnd.END and not ended):
            raise Corruption(self._path + names.LOG, position + checked.end, self._what(checked))
        self._next_offset, self._leader_epoch = checked.next_offset, checked.leader_epoch
        self._crc = crc32c(memoryview(window)[: checked.end], self._crc)
        self._position = position + checked.end
        if drop:
            self._file.advise_dontneed(position, checked.end)

    def _what(self, checked: Checked) -> str:
        if checked.stopped is WalkEnd.CRC:
            return "the CRC of a batch is not that of its bytes"
        if checked.stopped is WalkEnd.HEADER:
            offset, epoch = (
                (checked.next_offset, checked.leader_epoch)
                if checked.batches
                else (self._next_offset, self._leader_epoch)
            )
            return f"an offset or an epoch that cannot be where {offset} of {epoch} is next"
        return "no whole batch"

    def _whole(self, path: str) -> int | None:
        try:
            file = self._files.open(path, writable=False)
        except FileNotFoundError:
            return None
        try:
            crc = position = 0
            while window := file.read_at(window_bytes, position):
                crc = crc32c(window, crc)
                position += len(window)
            return crc
        finally:
            file.close()


def checksums_of(files: Files, path: str, base_offset: Offset, *, dense: bool) -> Checksums:
    """Of a whole segment at once, on a thread. `path` is without a suffix. Raises Corruption, OSError."""
    file = files.open(path + names.LOG, writable=False)
    try:
        work = SegmentSum(files, file, path, base_offset, file.size(), dense)
        while (sums := work.step()) is None:
            pass
        return sums
    finally:
        file.close()


class Checksumming:
    """Owned by the checkpoints. `changed`: partitions whose mark does not have all checksums that are known."""

    def __init__(self, engine: LocalEngine) -> None:
        self.engine = engine
        self.changed: dict[LocalPartition, None] = {}
        self._waiting: dict[Segment, tuple[LocalPartition, bool]] = {}
        self._wanted = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, partition: LocalPartition, segment: Segment, *, backlog: bool = False) -> None:
        """A sealed segment whose files are synced, and that has no checksums."""
        self._waiting[segment] = partition, backlog
        self._wanted.set()

    def find(self) -> None:
        """All sealed segments that a start found without."""
        for partition in self.engine.partitions.values():
            for segment in partition.segments[:-1]:
                if segment.saved and segment.checksums is None:
                    self.add(partition, segment, backlog=True)

    async def run(self) -> None:
        self.find()
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._waiting:
                segment, (partition, backlog) = next(reversed(self._waiting.items()))  # the newest is in memory
                del self._waiting[segment]
                try:
                    await self._one(partition, segment, backlog)
                except OSError as error:
                    if self._alive(partition, segment):
                        log.warning("%s got no checksum: %s", segment.log_path, error)
                except Exception:
                    log.exception("%s got no checksum", segment.log_path)

    def _alive(self, partition: LocalPartition, segment: Segment) -> bool:
        return (
            not segment.doomed
            and segment.damaged_at is None
            and partition.failure is None
            and self.engine.partitions.get(partition.id) is partition
        )

    async def _one(self, partition: LocalPartition, segment: Segment, backlog: bool) -> None:
        engine = self.engine
        if not self._alive(partition, segment) or segment.checksums is not None:
            return
        file = engine.descriptors.borrow(segment)
        try:
            dense = not segment.compacted
            work = SegmentSum(engine.files, file, segment.path, segment.base_offset, segment.size, dense)
            work.keep_pages = not backlog
            while True:
                try:
                    sums = await engine.maintenance.run(work.step)
                except Corruption as error:
                    if self._alive(partition, segment):
                        note_damage(engine, partition, segment, error.position, error.what)
                    return
                if sums is not None or not self._alive(partition, segment):
                    break
                if backlog:
                    await engine.clock.sleep(window_bytes / backlog_bytes_per_second)
        finally:
            engine.descriptors.give_back(segment)
        if sums is not None and self._alive(partition, segment):
            segment.checksums = sums
            self.changed[partition] = None

    def marks(self) -> None:
        """Into the marks of the partitions with what is known now."""
        changed, self.changed = self.changed, {}
        for partition in changed:
            if partition.mark is not None:
                partition.mark = with_checksums(partition.mark, partition.segments)


def with_checksums(mark: PartitionMark, segments: list[Segment]) -> PartitionMark:
    """The mark with the checksums of those of its segments that have them by now."""
    known = {(segment.base_offset, segment.size): segment.checksums for segment in segments}
    return mark._replace(
        segments=tuple(
            one
            if (sums := known.get((one.base_offset, one.size))) is None or one.checksums == sums
            else one._replace(checksums=sums)
            for one in mark.segments
        )
    )


assert window_bytes > HEADER_BYTES
