"""Checkpoints: what is synced of all partitions, in one file that is replaced whole.

Invariants: a checkpoint is written after everything it speaks of was synced, one at a time, and never while a partition
is being cut back (`busy`). Also here, because a checkpoint is what makes them safe to drop: which indexes of sealed
segments stay in memory. Not here: the file's format (`storage/format/checkpoint.py`), what a start makes of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import Offset, PartitionId, Position
from riverlog.env.clock import Clock
from riverlog.env.files import Files, replace_file
from riverlog.records.checksum import crc32c
from riverlog.storage.format import checkpoint, names, txn_index
from riverlog.storage.format.checkpoint import Checkpoint, PartitionMark
from riverlog.storage.format.offset_index import OffsetIndex
from riverlog.storage.local.checksums import Checksumming
from riverlog.storage.local.marks import active_mark, empty_mark, file_checksums, segment_mark
from riverlog.storage.local.partition import LocalPartition
from riverlog.storage.local.saving import Saving, save_all, sync_directories
from riverlog.storage.local.segments import Segment
from riverlog.storage.local.transactions import aborted_of

if TYPE_CHECKING:
    from riverlog.storage.local.engine import LocalEngine

log = logging.getLogger(__name__)

looked_at_once: Final = 128  # partitions that one turn of the loop looks at
spacing_s: Final = 1.0  # between two checkpoints that rolled segments ask for


class Checkpoints:
    """Owned by the engine."""

    def __init__(self, engine: LocalEngine) -> None:
        self.engine = engine
        self.generation = 0
        self.busy = asyncio.Lock()  # a checkpoint, or a cut
        self.log_starts: Mapping[PartitionId, Offset] = {}  # that the file tells; a partition's mark may be ahead of it
        self.recovery_segments: Mapping[
            PartitionId, Offset
        ] = {}  # likewise: the segments that the next start must find
        self.checksums = Checksumming(engine)
        self._leftovers: list[str] = []  # files that a thread wrote for a partition that was deleted meanwhile
        self._wanted = asyncio.Event()  # a segment was rolled
        self._loaded: dict[Segment, None] = {}

    def want(self) -> None:
        """A segment was rolled: do not wait for the timer."""
        self._wanted.set()

    async def run(self) -> None:
        self.engine.tasks.start(self.checksums.run(), name="checksums")
        clock, interval_ms = self.engine.clock, self.engine.settings.checkpoint_interval_ms
        while True:
            await timer(clock, interval_ms, self._wanted)
            self._wanted.clear()
            try:
                await self.write()
            except (OSError, RiverlogError) as error:
                log.error("the checkpoint could not be written: %s; it is tried again", error)
            except Exception:
                log.exception("the checkpoint could not be written; it is tried again")
            await clock.sleep(spacing_s)

    async def write_first(self, marks: Mapping[PartitionId, PartitionMark]) -> None:
        """At the end of recovery: no longer clean, the new leader epochs are in it, and what was recovered is saved."""
        for partition in self.engine.partitions.values():
            if (mark := marks.get(partition.id)) is not None:
                partition.mark = mark
        await self.write(epochs_changed=True)

    async def write_last(self) -> None:
        """Of a clean stop. Where it cannot be written the next start is as after a crash, which is safe."""
        for _ in range(2):  # the second time without the partition that could not be synced
            try:
                await self.write(clean=True)
                return
            except (OSError, RiverlogError) as error:
                log.error("the last checkpoint could not be written: %s", error)

    async def write(self, *, clean: bool = False, epochs_changed: bool = False) -> None:
        """Raises OSError, or RiverlogError where a sync failed on the way; the old checkpoint is good then."""
        async with self.busy:
            engine = self.engine
            savings: list[Saving] = []
            async for partitions in self._slices():
                savings += [
                    self._capture(partition)
                    for partition in partitions
                    if partition.failure is None and self._is_behind(partition)
                ]
            await self._synced(savings)
            savings = [saving for saving in savings if saving.partition.failure is None]
            if savings:
                renamed = await engine.maintenance.run(partial(save_all, engine.files, engine.directory, savings))
                savings = self._alive(savings)
                renamed += await self._rename_epochs(savings)
                if renamed:
                    await engine.maintenance.run(partial(sync_directories, engine.files, renamed))
                    savings = self._alive(savings)
            old = self._settle(savings) + self._leftovers
            self._leftovers = []
            self.checksums.marks()
            marks: list[PartitionMark] = []
            async for partitions in self._slices():
                for partition in partitions:
                    if partition.mark is not None:
                        if partition.mark.leader_epoch != partition.leader_epoch:
                            partition.mark = partition.mark._replace(leader_epoch=partition.leader_epoch)
                        marks.append(partition.mark)
                    elif epochs_changed or clean or partition.leader_epoch:
                        marks.append(empty_mark(partition))
            self.generation += 1
            # of one that is offline the journal may hold what its segments do not: the next start has to look
            clean = clean and all(partition.failure is None for partition in engine.partitions.values())
            await engine.maintenance.run(partial(self._replace, Checkpoint(clean, self.generation, marks)))
            engine.counters.checkpoints += 1
            self.log_starts = {mark.partition: mark.log_start for mark in marks}
            self.recovery_segments = {mark.partition: mark.recovery_segment for mark in marks}
            if old:
                await engine.maintenance.run(partial(remove_quietly, engine.files, old))
            for saving in savings:
                saving.partition.swapped = False

    async def _slices(self) -> AsyncIterator[Sequence[LocalPartition]]:
        """All partitions, some at a time, each of which is one of the engine's: everything else that is due comes between."""
        partitions = list(self.engine.partitions.values())
        for first in range(0, len(partitions), looked_at_once):
            if first:
                await turn()
            known = self.engine.partitions
            yield [one for one in partitions[first : first + looked_at_once] if known.get(one.id) is one]

    def _replace(self, content: Checkpoint) -> None:
        """On a thread."""
        replace_file(self.engine.files, f"{self.engine.directory}/{names.CHECKPOINT}", checkpoint.encode(content))

    def _alive(self, savings: Sequence[Saving]) -> list[Saving]:
        """Those whose partitions were not deleted meanwhile, and have not failed."""
        alive: list[Saving] = []
        partitions = self.engine.partitions
        for saving in savings:
            if partitions.get(saving.partition.id) is not saving.partition:
                self._after_deletion(saving)
            elif saving.partition.failure is None:
                alive.append(saving)
        return alive

    def _after_deletion(self, saving: Saving) -> None:
        """The thread may have written into the directory of a new topic of the same name: parts of an index, which are written
        from the front before anybody reads them, and a snapshot, which goes with the next checkpoint."""
        directory = saving.partition.directory
        if saving.epochs is not None:
            self._leftovers.append(saving.fresh_epochs_path)
        for partition in self.engine.partitions.values():
            if partition.directory == directory and saving.mark.recovery_offset not in partition.snapshot_offsets:
                partition.snapshot_offsets.append(saving.mark.recovery_offset)

    async def _rename_epochs(self, savings: Sequence[Saving]) -> list[str]:
        """On the loop, so that a deletion comes before or after. Gives the directories that are to be synced."""
        renamed: list[str] = []
        for saving in savings:
            if saving.epochs is None:
                continue
            if renamed and len(renamed) % looked_at_once == 0:
                await turn()
            partition = saving.partition
            if partition.failure is None and self.engine.partitions.get(partition.id) is partition:
                directory = partition.directory
                self.engine.files.rename(saving.fresh_epochs_path, f"{directory}/{names.LEADER_EPOCHS}")
                renamed.append(directory)
        return renamed

    @staticmethod
    def _is_behind(partition: LocalPartition) -> bool:
        if (mark := partition.mark) is None:
            return bool(partition.segments)
        active = partition.bases[-1] if partition.bases else partition.log_end
        return (mark.recovery_offset, mark.log_start, mark.recovery_segment) != (
            partition.log_end,
            partition.log_start,
            active,
        ) or (partition.unsaved_epochs or partition.swapped or mark.cleaned_offset != partition.cleaned_offset)

    def _capture(self, partition: LocalPartition) -> Saving:
        """What is true of the partition now: the new parts of its indexes, its producers, its end."""
        indexes: list[tuple[Segment, str, bytes, int]] = []
        entries: list[tuple[Segment, int, int, int]] = []
        for segment in partition.segments:
            if segment.saved or segment.index is None or segment.time_index is None:
                continue
            segment.seal_time_index()  # an entry for now: the largest timestamp is found again
            index, times = segment.index, segment.time_index
            count, time_count = len(index), len(times)
            if count > segment.saved_entries or not segment.saved_entries:
                data = index.encode(segment.saved_entries)
                indexes.append((segment, segment.index_path, data, segment.saved_entries * 8))
            if time_count > segment.saved_times or not segment.saved_times:
                data = times.encode(segment.saved_times)
                indexes.append((segment, segment.time_index_path, data, segment.saved_times * 12))
            if segment.aborted > segment.saved_aborted:
                data = txn_index.encode(aborted_of(partition, segment)[segment.saved_aborted :])
                indexes.append((segment, segment.txn_index_path, data, segment.saved_aborted * txn_index.ENTRY_BYTES))
            entries.append((segment, count, time_count, segment.aborted))
        active = partition.segments[-1] if partition.segments else None
        epochs = self._epochs_to_write(partition)
        producers = list(partition.producers.entries())
        mark = PartitionMark(
            partition.id,
            partition.leader_epoch,
            partition.log_start,
            partition.log_end,
            active.base_offset if active is not None else partition.log_end,
            Position(active.size if active is not None else 0),
            tuple(map(segment_mark, partition.segments[:-1])),
            partition.cleaned_offset,
            active_mark(active) if active is not None else None,
            bool(producers),
            file_checksums(partition, epochs),
        )
        return Saving(
            partition=partition,
            mark=mark,
            indexes=indexes,
            entries=entries,
            epochs=epochs,
            producers=producers,
        )

    @staticmethod
    def _epochs_to_write(partition: LocalPartition) -> bytes | None:
        """Their file as it has to be, where it is not known to be so."""
        content = partition.epochs.encode()
        if partition.unsaved_epochs or partition.mark is None:
            return content
        return content if partition.mark.file_checksums.epochs != crc32c(content) else None

    async def _synced(self, savings: Sequence[Saving]) -> None:
        """Until the segments of every partition are synced up to what was captured of it: the journal is not enough."""
        partitions = self.engine.partitions
        while True:
            there = [one for one in savings if partitions.get(one.partition.id) is one.partition]
            try:
                await self.engine.commit.settling.synced({one.partition: one.mark.recovery_offset for one in there})
                return
            except RiverlogError:
                if all(partitions.get(one.partition.id) is one.partition for one in there):
                    raise  # else topics were deleted meanwhile, which is no reason to do without a checkpoint

    def _settle(self, savings: Sequence[Saving]) -> list[str]:
        """Notes what is saved. Gives the snapshots that nobody needs once the checkpoint stands."""
        old: list[str] = []
        for saving in savings:
            partition, mark = saving.partition, saving.mark
            for segment, count, time_count, aborted_count in saving.entries:
                segment.saved_entries, segment.saved_times = count, time_count
                segment.saved_aborted = aborted_count
                if segment is not partition.segments[-1] and segment.base_offset != mark.recovery_segment:
                    segment.saved = True
                    self._loaded[segment] = None
                    if segment.checksums is None:
                        self.checksums.add(partition, segment)
            if saving.epochs == partition.epochs.encode():
                partition.unsaved_epochs = False
            partition.mark = mark
            offset = mark.recovery_offset
            for other in partition.snapshot_offsets:
                if other != offset or not saving.producers:
                    name = names.segment_file_name(Offset(other), names.SNAPSHOT)
                    old.append(f"{partition.directory}/{name}")
            partition.snapshot_offsets = [offset] if saving.producers else []
            if partition.swapped:  # the checkpoint will name the new segments
                old.append(f"{partition.directory}/{names.SWAP}")
        self._evict()
        return old

    # Indexes of sealed segments

    def loaded(self, segment: Segment, index: OffsetIndex) -> None:
        """A sealed segment's index was read for somebody: the next reader finds it, while it is among the last used."""
        segment.index = index
        self._loaded[segment] = None
        self._evict()

    def forget(self, segment: Segment) -> None:
        self._loaded.pop(segment, None)

    def _evict(self) -> None:
        while len(self._loaded) > self.engine.settings.loaded_indexes_max:
            oldest = next(iter(self._loaded))
            del self._loaded[oldest]
            if oldest.saved or oldest.time_index is None:  # else somebody appends to it again: it is the active one
                oldest.index = oldest.time_index = None


async def turn() -> None:
    """Everything else that is due comes first."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    loop.call_soon(lambda: None if done.done() else done.set_result(None))
    await done


async def timer(clock: Clock, interval_ms: int, event: asyncio.Event) -> None:
    """Until the time is over or the event is set."""
    sleeping = asyncio.get_running_loop().create_task(clock.sleep(interval_ms / 1000))
    waiting = asyncio.get_running_loop().create_task(event.wait())
    try:
        await asyncio.wait((sleeping, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        sleeping.cancel()
        waiting.cancel()


def remove_quietly(files: Files, paths: Sequence[str]) -> None:
    for path in paths:
        try:
            files.remove(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("%s could not be removed: %s", path, error)
