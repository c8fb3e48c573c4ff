"""Files that go: segments that retention let go of, directories of topics that were deleted. In the background, in order.

Invariants: a segment is renamed only once the log start behind it is in a checkpoint, and unlinked `file.delete.delay.ms`
later; one checkpoint serves all that wait; directories go one at a time, on a thread of their own; there are two tasks,
however much there is to remove. After a clean stop no file is left that no mark names. Not here: what goes (`upkeep.py`).
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Sequence
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import TopicId
from riverlog.env.executor import Executor
from riverlog.env.files import Files
from riverlog.storage.format import names
from riverlog.storage.local.checkpoints import remove_quietly, timer
from riverlog.storage.local.partition import LocalPartition
from riverlog.storage.local.segments import Segment

if TYPE_CHECKING:
    from riverlog.storage.local.engine import LocalEngine

log = logging.getLogger(__name__)

retry_ms: Final = 10_000  # of a checkpoint that removals wait for
renamed_at_a_time: Final = 100  # segments or directories that one job on a thread renames


class Doomed(NamedTuple):
    """Segments that left their partition, from the oldest on."""

    partition: LocalPartition
    segments: Sequence[Segment]


class Removal:
    """Owned by the engine's upkeep; its tasks are the engine's. `remover` is a thread for directories alone."""

    def __init__(self, engine: LocalEngine, remover: Executor) -> None:
        self.engine = engine
        self._remover = remover
        self._doomed: list[Doomed] = []
        self._renamed: list[tuple[int, int, Sequence[str]]] = []  # due, number, paths
        self._number = count()
        self._wanted = asyncio.Event()
        self._retry_due_ms = 0
        self._directories: deque[str] = deque()
        self._directories_wanted = asyncio.Event()
        self.moving = asyncio.Lock()  # while directories move out of the way nobody makes new ones of their names

    @property
    def waiting(self) -> int:
        """Segments and directories that are still to go."""
        return sum(len(one.segments) for one in self._doomed) + len(self._renamed) + len(self._directories)

    def start(self) -> list[asyncio.Task[None]]:
        tasks = self.engine.tasks
        return [
            tasks.start(self._run(), name="removal of segments"),
            tasks.start(self._run_directories(), name="removal of topics"),
        ]

    # Segments

    def segments(self, partition: LocalPartition, doomed: Sequence[Segment]) -> None:
        self._doomed.append(Doomed(partition, doomed))
        self._wanted.set()

    def files(self, paths: Sequence[str], delay_ms: int) -> None:
        """They have names already that mark them for removal."""
        if paths:
            heapq.heappush(self._renamed, (self.engine.clock.monotonic_ms() + delay_ms, next(self._number), paths))
            self._wanted.set()

    async def _run(self) -> None:
        clock = self.engine.clock
        while True:
            due_ms = self._due_ms()
            if due_ms is None:
                await self._wanted.wait()
            elif (wait_ms := due_ms - clock.monotonic_ms()) > 0:
                await timer(clock, wait_ms, self._wanted)
            self._wanted.clear()
            await self.step()

    def _due_ms(self) -> int | None:
        due_ms = [self._renamed[0][0]] if self._renamed else []
        if self._doomed:
            due_ms.append(self._retry_due_ms)
        return min(due_ms, default=None)

    async def step(self) -> None:
        """What is due now."""
        if self._doomed and self.engine.clock.monotonic_ms() >= self._retry_due_ms:
            await self._rename_doomed()
        now_ms = self.engine.clock.monotonic_ms()
        while self._renamed and self._renamed[0][0] <= now_ms:
            paths = self._renamed[0][2]
            await self.engine.maintenance.run(partial(remove_quietly, self.engine.files, paths))
            heapq.heappop(self._renamed)

    async def _rename_doomed(self) -> None:
        """The new log starts are durable first: else some segments might come back after a crash, and leave a hole."""
        engine = self.engine
        asked = {id(one) for one in self._doomed}  # what comes while it is written is the next one's
        try:
            await engine.checkpoints.write()
        except (OSError, RiverlogError) as error:
            log.error("the checkpoint could not be written: %s; nothing is removed before it is", error)
        self._drop_gone()
        ready = [one for one in self._doomed if self._is_covered(one)]
        while ready:
            share, ready = ready[:renamed_at_a_time], ready[renamed_at_a_time:]
            await self._rename(share)
        if self._doomed and all(id(one) in asked for one in self._doomed):
            self._retry_due_ms = engine.clock.monotonic_ms() + retry_ms
            log.error(
                "%s and %d more: nothing is removed before its log start is in a checkpoint",
                self._doomed[0].partition.name,
                len(self._doomed) - 1,
            )

    def _drop_gone(self) -> None:
        """Of a topic that was deleted the whole directory goes."""
        partitions = self.engine.partitions
        self._doomed = [one for one in self._doomed if partitions.get(one.partition.id) is one.partition]

    def _is_covered(self, doomed: Doomed) -> bool:
        """A checkpoint leaves out a partition that fails: it is waited for too."""
        checkpoints, id = self.engine.checkpoints, doomed.partition.id
        last = doomed.segments[-1]
        needed = checkpoints.recovery_segments.get(id, 0) <= last.base_offset
        return checkpoints.log_starts.get(id, 0) >= last.next_offset and not needed

    async def _rename(self, share: Sequence[Doomed]) -> None:
        files, maintenance = self.engine.files, self.engine.maintenance
        jobs = [[segment.path for segment in one.segments] for one in share]
        now_ms = self.engine.clock.monotonic_ms()
        renamed = await maintenance.run(lambda: [rename_segments(files, paths) for paths in jobs])
        for one, paths in zip(share, renamed, strict=True):
            due_ms = now_ms + one.partition.config.file_delete_delay_ms
            heapq.heappush(self._renamed, (due_ms, next(self._number), paths))
        done = {id(one) for one in share}
        self._doomed = [one for one in self._doomed if id(one) not in done]

    async def finish(self) -> None:
        """At the end of a clean stop, the last checkpoint written: nobody reads any more, so nothing waits."""
        self._drop_gone()
        paths = [path for _, _, renamed in self._renamed for path in renamed]
        for one in self._doomed:
            if self._is_covered(one):
                for segment in one.segments:
                    paths += [segment.path + suffix for suffix in names.SEGMENT_SUFFIXES]
                    paths += [segment.path + suffix + names.DELETED for suffix in names.SEGMENT_SUFFIXES]
        self._doomed, self._renamed = [], []
        if paths:
            await self.engine.maintenance.run(partial(remove_quietly, self.engine.files, paths))

    # Directories

    async def topic(self, topic_id: TopicId, doomed: Sequence[LocalPartition]) -> None:
        """Moves the directories out of the way, so that the name is free; they go later."""
        files, parent = self.engine.files, self.engine.topics_directory
        async with self.moving:
            for one in doomed:
                await self.engine.compacting.let_go(one)
            moves = [
                (one.directory, f"{parent}/{names.deleted_directory_name(topic_id, one.id.index)}")
                for one in doomed
                if one.made
            ]
            if not moves:
                return
            for first in range(0, len(moves), renamed_at_a_time):
                share = moves[first : first + renamed_at_a_time]
                await self.engine.maintenance.run(partial(rename_all, files, share))
        await self.engine.maintenance.run(partial(files.sync_directory, parent))
        for _, path in moves:
            self.directory(path)

    def directory(self, path: str) -> None:
        self._directories.append(path)
        self._directories_wanted.set()

    async def _run_directories(self) -> None:
        while True:
            await self._directories_wanted.wait()
            self._directories_wanted.clear()
            while self._directories:
                path = self._directories[0]
                try:
                    await self._remover.run(partial(self.engine.files.remove_tree, path))
                except OSError as error:
                    log.warning("%s could not be removed: %s", path, error)
                self._directories.popleft()


# On a thread


def rename_all(files: Files, moves: Sequence[tuple[str, str]]) -> None:
    for old, new in moves:
        files.rename(old, new)


def rename_segments(files: Files, paths: Sequence[str]) -> list[str]:
    """All files of the segments get the suffix that marks them for removal; gives their new names."""
    renamed: list[str] = []
    for path in paths:
        for suffix in names.SEGMENT_SUFFIXES:
            try:
                files.rename(path + suffix, path + suffix + names.DELETED)
            except FileNotFoundError:
                continue
            except OSError as error:
                log.warning("%s could not be renamed: %s", path + suffix, error)
                continue
            renamed.append(path + suffix + names.DELETED)
    return renamed
