"""One compaction of one partition: passes over its segments, and the swaps that put what stays into their place.

Invariants: whatever ends a run, files that it wrote and that do not count are removed; `cleaned_offset` rises once every
swap of a pass is done. What the disk has after each step is told in docs/formats/swap.md.
Not here: which partition and when, limits of speed (`compacting.py`), work on bytes (`cleaner.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import Offset
from riverlog.base.units import MIB
from riverlog.env.files import File
from riverlog.kernels import OffsetMap
from riverlog.storage.compaction import KEY_SLOT_BYTES, LastOfProducers, Mapping, Thinning, Transactions
from riverlog.storage.compaction_plan import SegmentFacts, group_segments
from riverlog.storage.format.swap import Group, Swap
from riverlog.storage.format.txn_index import AbortedEntry
from riverlog.storage.local import swaps
from riverlog.storage.local.cleaner import (
    Fresh,
    Windows,
    Writer,
    map_slice,
    open_cleaned,
    slice_bytes,
    thin_slice,
)
from riverlog.storage.local.segments import Segment
from riverlog.storage.local.transactions import aborted_from, exchange_aborted

if TYPE_CHECKING:
    from riverlog.storage.local.compacting import Compacting
    from riverlog.storage.local.partition import LocalPartition

log = logging.getLogger(__name__)

swap_bytes_min: Final = 64 * MIB  # of replaced segments: small ones are swapped many at a time
swap_segments_max: Final = 64  # new ones of one swap: their files stay open until they have their names
retry_s: Final = 10.0


class Abandoned(Exception):
    """The run ends, and what it has not swapped yet is as it was."""


class Compacted(NamedTuple):
    """What a run did. Bytes: of what was replaced, and of what replaced it."""

    cleaned_offset: Offset
    passes: int
    bytes_in: int
    bytes_out: int
    records_in: int
    records_out: int
    duration_ms: int


class Replaced(NamedTuple):
    """A group: segments, and what they became."""

    old: Sequence[Segment]
    fresh: Sequence[Fresh]


class CompactionRun:
    def __init__(self, compacting: Compacting, partition: LocalPartition) -> None:
        self.compacting = compacting
        self.engine = compacting.engine
        self.partition = partition
        self._buffer = bytearray()
        self._written: dict[Offset, None] = {}  # bases of new files that do not count yet
        self._writer: Writer | None = None
        self._fresh: list[Segment] = []  # in memory, whose files have not got their names yet
        self._bytes_in = self._bytes_out = self._records_in = self._records_out = 0

    async def run(self) -> Compacted | None:
        """Raises Abandoned, OSError, RiverlogError."""
        clock, partition = self.engine.clock, self.partition
        started_ms = clock.monotonic_ms()
        if partition.swapped:
            await self._settle()
        await self._forget_manifest()
        passes, full = 0, True
        while full:
            plan = self.compacting.plan(partition)
            segments = self.compacting.candidates(partition)[: plan.segments]
            if not plan.dirty_bytes:
                break
            mapping, aborted = await self._map(segments, plan.first_dirty, plan.end)
            full = mapping.full
            latest = mapping.latest if full else Offset(max(mapping.latest, plan.end - 1))
            if latest < plan.first_dirty:
                raise Abandoned("the map has no room for a single key")
            reached = [segment for segment in segments if segment.base_offset <= latest]
            await self._thin(reached, mapping.map, latest, aborted)
            partition.cleaned_offset = Offset(max(partition.cleaned_offset, latest + 1))
            passes += 1
        if not passes:
            return None
        self.engine.checkpoints.want()
        return Compacted(
            partition.cleaned_offset,
            passes,
            self._bytes_in,
            self._bytes_out,
            self._records_in,
            self._records_out,
            clock.monotonic_ms() - started_ms,
        )

    async def tidy(self) -> None:
        """Whatever has happened: removes what does not count."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
            self._written |= dict.fromkeys(writer.bases)
        if self._written:
            bases, self._written = list(self._written), {}
            remove = partial(swaps.remove_cleaned, self.engine.files, self.partition.directory, bases)
            await self.compacting.on_thread(remove)

    def _check(self, segments: Sequence[Segment] = ()) -> None:
        """Raises Abandoned where the partition is no longer what it was at the start."""
        partition = self.partition
        if self.compacting.closing.is_set():
            raise Abandoned("the engine is closed")
        if self.engine.partitions.get(partition.id) is not partition:
            raise Abandoned("its topic was deleted")
        if partition.failure is not None:
            raise Abandoned(partition.failure.message)
        if not partition.config.cleanup_compact:
            raise Abandoned("its topic is not compacted any more")
        if any(segment.doomed or segment.damaged_at is not None for segment in segments):
            raise Abandoned("segments were removed meanwhile")

    # The passes

    async def _map(
        self, segments: Sequence[Segment], start: Offset, end: Offset
    ) -> tuple[Mapping, Sequence[AbortedEntry]]:
        """The last offset of each key from `start` on, as far as memory reaches; and all aborted transactions from the first
        segment on, also those whose markers are behind the last."""
        self._check(segments)
        settings, partition, on_thread = self.engine.settings, self.partition, self.compacting.on_thread
        memory = settings.cleaner_dedupe_bytes_max // max(1, settings.cleaner_threads) * 2 // 3  # it grows by doubling
        slots = max(2, min(memory // KEY_SLOT_BYTES, (end - start) * 4 // 3 + 2))
        offset_map = OffsetMap(slots, partition.world.entropy.token_bytes(16))
        aborted = aborted_from(partition, segments[0].base_offset)
        mapping = Mapping(offset_map, start, Transactions(one for one in aborted if one.last_offset >= start))
        for segment in segments:
            if segment.next_offset <= start:
                continue
            windows = self._windows(segment)
            try:
                while not windows.ended and not mapping.full:
                    keep = windows.is_resident(slice_bytes)
                    done = await on_thread(partial(map_slice, windows, mapping, keep))
                    self._check(segments)
                    await self.compacting.pay(done.moved_bytes)
            finally:
                self.engine.descriptors.give_back(segment)
            if mapping.full:
                break
        return mapping, aborted

    def _windows(self, segment: Segment) -> Windows:
        """Of a segment that is borrowed by this. Raises OSError."""
        file = self.engine.descriptors.borrow(segment)
        return Windows(file, segment.log_path, segment.size, self._buffer)

    async def _thin(
        self, segments: Sequence[Segment], offset_map: OffsetMap, latest: Offset, aborted: Sequence[AbortedEntry]
    ) -> None:
        partition, config = self.partition, self.partition.config
        thinning = Thinning(
            offset_map,
            latest,
            Transactions(aborted),
            LastOfProducers(partition.producers.entries()),
            now_ms=self.engine.clock.now_ms(),
            delete_retention_ms=config.delete_retention_ms,
            index_interval_bytes=config.index_interval_bytes,
        )
        pending: list[Replaced] = []
        first = size = count = 0  # `first`: of the segments that are not swapped yet
        for group in group_segments([facts_of(segment) for segment in segments], config):
            replaced = await self._thin_group(segments[group.start : group.stop], segments[first:], thinning)
            if replaced is None:
                continue
            pending.append(replaced)
            size += sum(segment.size for segment in replaced.old)
            count += len(replaced.fresh)
            if size >= swap_bytes_min or count >= swap_segments_max:
                await self._swap(pending)
                pending, first, size, count = [], group.stop, 0, 0
        if pending:
            await self._swap(pending)
        self._records_in += thinning.records
        self._records_out += thinning.kept
        if thinning.unreadable:
            log.warning(
                "%s: %d batches cannot be read, though their CRCs are right: they are kept as they are",
                partition.name,
                thinning.unreadable,
            )

    async def _thin_group(
        self, group: Sequence[Segment], left: Sequence[Segment], thinning: Thinning
    ) -> Replaced | None:
        """Writes what stays of a group. None: it is a segment of which nothing goes. `left` are those that must stay as they
        are meanwhile."""
        partition, on_thread = self.partition, self.compacting.on_thread
        last_offset = Offset(group[-1].next_offset - 1)
        thinning.begin_group(last_offset)
        thinning.begin_segment()
        created_ms = max(segment.created_ms for segment in group)
        self._written[group[0].base_offset] = None
        make = partial(Writer, self.engine.files, partition.directory, group[0].base_offset, created_ms)
        kept_slices = slices = 0
        writer = self._writer = await on_thread(make)
        for segment in group:
            windows = self._windows(segment)
            try:
                while not windows.ended:
                    keep = windows.is_resident(slice_bytes)
                    kept_slices, slices = kept_slices + keep, slices + 1
                    done = await on_thread(partial(thin_slice, windows, thinning, writer, keep))
                    self._check(left)
                    await self.compacting.pay(done.moved_bytes)
            finally:
                self.engine.descriptors.give_back(segment)
        writer.keep_pages = 2 * kept_slices >= slices
        fresh = await on_thread(partial(writer.finish, last_offset, thinning.transactions.take_needed()))
        self._check(left)
        self._written |= dict.fromkeys(writer.bases)
        self._writer = None
        if len(group) == len(fresh) == 1 and is_same(group[0], fresh[0]):
            await self.tidy_of(fresh)
            return None
        return Replaced(group, fresh)

    async def tidy_of(self, fresh: Sequence[Fresh]) -> None:
        bases = [one.mark.base_offset for one in fresh]
        remove = partial(swaps.remove_cleaned, self.engine.files, self.partition.directory, bases)
        await self.compacting.on_thread(remove)
        for base_offset in bases:
            self._written.pop(base_offset, None)

    # The swap

    async def _swap(self, replaced: Sequence[Replaced]) -> None:
        compacting, engine, partition = self.compacting, self.engine, self.partition
        groups = [
            Group([segment.base_offset for segment in one.old], [fresh.mark for fresh in one.fresh]) for one in replaced
        ]
        content = Swap(partition.id, groups)
        async with engine.checkpoints.busy:
            self._check([segment for one in replaced for segment in one.old])
            done = compacting.swapping[partition.id] = asyncio.get_running_loop().create_future()
            try:
                await self._begin_swap(content, replaced)
                doomed = await self._put_in_place(groups)
            finally:
                del compacting.swapping[partition.id]
                done.set_result(None)
        engine.upkeep.removal.files(doomed, partition.config.file_delete_delay_ms)
        counters = engine.counters
        bytes_in = sum(segment.size for one in replaced for segment in one.old)
        bytes_out = sum(fresh.mark.size for one in replaced for fresh in one.fresh)
        self._bytes_in += bytes_in
        self._bytes_out += bytes_out
        counters.compacted_bytes_in += bytes_in
        counters.compacted_bytes_out += bytes_out
        await self._settle()

    async def _begin_swap(self, content: Swap, replaced: Sequence[Replaced]) -> None:
        """The manifest, then the segments in memory."""
        engine, partition, on_thread = self.engine, self.partition, self.compacting.on_thread
        files, directory = engine.files, partition.directory
        fresh = [one for group in replaced for one in group.fresh]
        opened = await on_thread(partial(open_cleaned, self.engine.files, directory, fresh))
        self._written.clear()  # from here on they may count, whatever ends the run
        try:
            await on_thread(partial(swaps.begin_swap, files, directory, content))
        except asyncio.CancelledError:
            self.compacting.stick(partition)  # the manifest is there: the next start finishes it
            for file in opened:
                file.close()
            raise
        except OSError:
            for file in opened:
                file.close()
            try:
                await on_thread(partial(swaps.take_back, files, directory, content))
            except OSError as error:
                self.compacting.stick(partition)  # whichever of the two counts is whole: the next start will see
                log.error("%s is not compacted before the next start: %s", partition.name, error)
            raise
        if engine.partitions.get(partition.id) is not partition:
            for file in opened:
                file.close()
            raise Abandoned("its topic was deleted")
        self._replace(replaced, iter(opened))

    def _replace(self, replaced: Sequence[Replaced], opened: Iterator[File]) -> None:
        """In memory, in one turn of the loop. The new segments' files have other names until they are in place: they stay
        open, and their indexes stay in memory."""
        engine, partition = self.engine, self.partition
        self._fresh = []
        for group in replaced:
            fresh: list[Segment] = []
            for one in group.fresh:
                segment = made_segment(partition.directory, one)
                segment.first_timestamp = group.old[0].first_timestamp
                engine.descriptors.adopt(segment, next(opened))
                fresh.append(segment)
            at = partition.segments.index(group.old[0])
            assert partition.segments[at : at + len(group.old)] == list(group.old)
            partition.segments[at : at + len(group.old)] = fresh
            exchange_aborted(partition, group.old, [entry for one in group.fresh for entry in one.aborted])
            partition.bases[at : at + len(group.old)] = [segment.base_offset for segment in fresh]
            for segment in group.old:
                engine.checkpoints.forget(segment)
                engine.descriptors.doom(segment)
            self._fresh += fresh

    async def _put_in_place(self, groups: Sequence[Group]) -> list[str]:
        """Until it is done, or the partition is gone, or the engine closes: then the next start does it."""
        engine, partition = self.engine, self.partition
        put = partial(swaps.put_in_place, engine.files, partition.directory, groups)
        try:
            doomed = await self.compacting.on_thread(put)
        except asyncio.CancelledError:
            self.compacting.stick(partition)
            raise
        except OSError as error:
            log.error(
                "%s: compacted segments could not get their names: %s; the next start does it", partition.name, error
            )
            self.compacting.stick(partition)  # they are read by the files that are open
            raise
        partition.swapped = True
        for segment in self._fresh:
            engine.descriptors.give_back(segment)
            if segment.index is not None and not segment.doomed:
                engine.checkpoints.loaded(segment, segment.index)
        return doomed

    async def _settle(self) -> None:
        """Until a checkpoint names the new segments and the manifest is gone. Raises Abandoned."""
        while self.partition.swapped:
            try:
                await self.engine.checkpoints.write()
            except (OSError, RiverlogError) as error:
                log.error("the checkpoint could not be written: %s; compaction goes on once it is", error)
            if self.partition.swapped:
                self._check()
                await self.engine.clock.sleep(retry_s)
                self._check()
        await self._forget_manifest()

    async def _forget_manifest(self) -> None:
        """It is removed, durably: it must not come back and take new files, which have the old ones' names, for its own. One
        is here still where it could not be removed, or where a clean start had no need of it. Raises OSError, Abandoned."""
        if self.engine.partitions.get(self.partition.id) is not self.partition:
            raise Abandoned("its topic was deleted")
        await self.compacting.on_thread(partial(swaps.forget_manifest, self.engine.files, self.partition.directory))


def facts_of(segment: Segment) -> SegmentFacts:
    newest_ms = segment.max_timestamp if segment.max_timestamp >= 0 else segment.created_ms
    return SegmentFacts(segment.base_offset, segment.next_offset, segment.size, newest_ms, segment.first_timestamp)


def made_segment(directory: str, fresh: Fresh) -> Segment:
    mark = fresh.mark
    segment = Segment(directory, mark.base_offset, mark.created_ms)
    segment.next_offset = Offset(mark.last_offset + 1)
    segment.size = mark.size
    segment.max_timestamp = mark.max_timestamp_ms
    segment.max_timestamp_offset = mark.max_timestamp_offset if mark.max_timestamp_offset >= 0 else mark.last_offset
    segment.index, segment.time_index = fresh.offsets, fresh.times
    segment.saved_entries, segment.saved_times = len(fresh.offsets), len(fresh.times)
    segment.aborted = segment.saved_aborted = len(fresh.aborted)
    segment.saved = segment.compacted = True
    segment.checksums = mark.checksums
    return segment


def is_same(old: Segment, fresh: Fresh) -> bool:
    """Nothing went, by its size and checksum."""
    sums, before = fresh.mark.checksums, old.checksums
    return sums is not None and before is not None and old.size == fresh.mark.size and sums.log == before.log
