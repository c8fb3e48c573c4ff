"""The scrubber: reads all sealed segments again and again, slowly, so that damage is found before somebody needs the records.

Invariants: one window is read at a time, in a turn at the disk like any cold read, and at most
`riverlog.scrub.bytes.per.second` on average; what the page cache did not have before does not stay there, what it had does;
segments go round in one order, so the one that was looked at longest ago comes next (a start begins the round elsewhere than the
one before). The active segment is not looked at: recovery and its readers do that.
Not here: what damage means for readers (`damage.py`), whole files of a stopped broker (`storage/verify.py`).
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from riverlog.base.ids import Position
from riverlog.base.units import KIB, MIB, format_bytes
from riverlog.env.files import File, Files
from riverlog.kernels import WalkEnd, check_batches
from riverlog.records.checksum import crc32c
from riverlog.records.header import OVERHEAD_BYTES
from riverlog.storage.format.checkpoint import Checksums
from riverlog.storage.format.names import INDEX, TIME_INDEX, TXN_INDEX
from riverlog.storage.local.catchup import drop
from riverlog.storage.local.damage import is_current, note_damage
from riverlog.storage.local.partition import LocalPartition
from riverlog.storage.local.reading import FILE_ENDS, Damage, Extent, bring, defect
from riverlog.storage.local.segments import Segment

if TYPE_CHECKING:
    from riverlog.storage.local.engine import LocalEngine

log = logging.getLogger(__name__)

window_bytes_max: Final = MIB
window_bytes_min: Final = 64 * KIB
rest_s: Final = 60.0  # before each round
partitions_per_step: Final = 1_000  # that are looked through before others have their turn


class Progress(NamedTuple):
    """How far a segment was looked at: the place, what may come next, the checksum so far."""

    position: int = 0
    next_offset: int = -1
    leader_epoch: int = -1
    crc: int = 0


class Window(NamedTuple):
    progress: Progress
    read: int  # bytes
    damage: Damage | None


class Scrubber:
    """Owned by the engine."""

    def __init__(self, engine: LocalEngine) -> None:
        self.engine = engine
        self.bytes_per_second = engine.settings.scrub_bytes_per_second
        self.window_bytes = min(window_bytes_max, max(window_bytes_min, self.bytes_per_second))

    async def run(self) -> None:
        clock, counters = self.engine.clock, self.engine.counters
        if not self.bytes_per_second:
            return
        await clock.sleep(rest_s)
        while True:
            started_ms, bytes_before, damaged_before = (
                clock.monotonic_ms(),
                counters.scrubbed_bytes,
                counters.damaged_batches,
            )
            segments = await self._round()
            if segments:
                counters.scrub_rounds += 1
                log.info(
                    "scrubbed %d segments, %s in %d s; damage found meanwhile: %d",
                    segments,
                    format_bytes(counters.scrubbed_bytes - bytes_before),
                    (clock.monotonic_ms() - started_ms) // 1000,
                    counters.damaged_batches - damaged_before,
                )
            await clock.sleep(rest_s)  # also after a round: little data would be read over and over

    async def _round(self) -> int:
        """Every sealed segment once; gives how many there were."""
        engine, found = self.engine, 0
        partitions = list(engine.partitions.values())
        first = engine.starts * 7_919 % len(partitions) if partitions else 0  # a prime: starts spread over all of them
        for number, partition in enumerate(partitions[first:] + partitions[:first], 1):
            for segment in partition.segments[:-1]:
                if segment.saved and segment.damaged_at is None and await self.scrub(partition, segment):
                    found += 1
            if number % partitions_per_step == 0:
                await engine.clock.sleep(0.001)
        return found

    async def scrub(self, partition: LocalPartition, segment: Segment) -> bool:
        """One segment. False: it went away meanwhile, or could not be read."""
        engine, progress = self.engine, Progress(0, segment.base_offset)
        while progress.position < segment.size:
            if engine.partitions.get(partition.id) is not partition or not is_current(partition, segment):
                return False
            try:
                window = await self._window(segment, progress)
            except OSError as error:
                log.error("%s could not be scrubbed: %s: %s", partition.name, segment.log_path, error)
                return False
            engine.counters.scrubbed_bytes += window.read
            if window.damage is not None:
                note_damage(engine, partition, segment, window.damage.position, window.damage.what)
                return True
            progress = window.progress
            await engine.clock.sleep(window.read / self.bytes_per_second)
        if segment.checksums is not None and is_current(partition, segment):
            await self._compare(partition, segment, segment.checksums, progress.crc)
        return True

    async def _window(self, segment: Segment, progress: Progress) -> Window:
        engine = self.engine
        await engine.catchup.turns.take("scrub")
        try:
            file = engine.descriptors.borrow(segment)
            try:
                work = partial(scrub_window, file, segment.size, progress, self.window_bytes, not segment.compacted)
                return await engine.catchup.executor.run(work)
            finally:
                engine.descriptors.give_back(segment)
        finally:
            engine.catchup.turns.give_back(0)

    async def _compare(self, partition: LocalPartition, segment: Segment, sums: Checksums, crc: int) -> None:
        """Every batch is good by itself: are they the ones that were written, and the indexes too?"""
        if crc != sums.log:
            what = f"every batch is good, but the file's checksum is {crc:#010x} and was {sums.log:#010x}"
            note_damage(self.engine, partition, segment, 0, what)
        expected = {INDEX: sums.offsets, TIME_INDEX: sums.times, TXN_INDEX: sums.transactions}
        work = partial(wrong_files, self.engine.files, segment.path, expected)
        for suffix in await self.engine.catchup.executor.run(work):
            if is_current(partition, segment):
                log.error(
                    "%s: %s%s is damaged; reads there are slower until riverlog repair",
                    partition.name,
                    segment.path,
                    suffix,
                )


# On a thread


def scrub_window(file: File, size: int, progress: Progress, window_bytes: int, dense: bool) -> Window:
    """The batches of the next window of a segment of `size` bytes, or the next one where it is larger. Raises OSError."""
    position = progress.position
    brought: list[Extent] = []
    view = memoryview(bytearray(min(window_bytes, size - position)))
    try:
        while True:
            read = bring(file, view, position, brought)
            checked = check_batches(view[:read], 0, progress.next_offset, progress.leader_epoch, dense)
            if checked.batches or checked.stopped is not WalkEnd.BATCH_CUT or read < len(view):
                break
            needed = OVERHEAD_BYTES + int.from_bytes(view[8:12], "big")
            if position + needed > size:
                break
            view = memoryview(bytearray(needed))
        damage = defect(view[:read], checked, Position(position), size, *progress[1:3], dense)
        if damage is None and not checked.batches:
            damage = Damage(Position(position), FILE_ENDS)
        crc = crc32c(view[: checked.end], progress.crc)
        reached = Progress(position + checked.end, checked.next_offset, checked.leader_epoch, crc)
        return Window(reached, read, damage)
    finally:
        drop(file, brought)


def wrong_files(files: Files, path: str, expected: dict[str, int | None]) -> list[str]:
    """The suffixes of those that are not what their checksums say."""
    wrong: list[str] = []
    for suffix, checksum in expected.items():
        try:
            found: int | None = crc32c(files.read(path + suffix))
        except FileNotFoundError:
            found = None
        except OSError:
            found = -1
        if found != checksum:
            wrong.append(suffix)
    return wrong
