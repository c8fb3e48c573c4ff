"""Lives of a partition with transactions: plain, idempotent and transactional batches of several producers, markers (bumped or
not, told again), small segments, checkpoints, retention, deleted records, compaction, disks that refuse to sync, power loss,
kill, torn writes, clean stops, damaged transaction indexes. A small model, which is the list of what stands in the log, says what
readers of what is committed see, which transactions are open, and what is known of each producer."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from typing import NamedTuple

import pytest

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import Offset
from riverlog.env.entropy import SeededEntropy
from riverlog.storage.contract import Acks, EndMarker, Isolation, LogConfig, TopicLog
from riverlog.storage.format import names
from riverlog.storage.format.txn_index import ENTRY_BYTES
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.settings import LocalSettings
from riverlog.testing.conformance.log_engine import P0, TOPIC, settled
from riverlog.testing.conformance.log_transactions import committed_in, keyed_write_of, marker_of
from riverlog.testing.fakes import Unsynced
from riverlog.testing.local_world import DIRECTORY, LocalWorld

SEEDS = range(int(os.environ.get("RIVERLOG_LIVES", "40")))
LIVES = 5
PRODUCERS = (1, 2, 3)


class Stood(NamedTuple):
    """One batch of the log."""

    base: int
    next: int
    producer_id: int = -1
    epoch: int = -1
    transactional: bool = False
    committed: bool | None = None  # a marker's
    coordinator: int = -1
    values: tuple[str, ...] = ()


class Known(NamedTuple):
    epoch: int
    next_sequence: int
    first_offset: int
    coordinator: int


class Model:
    def __init__(self) -> None:
        self.log: list[Stood] = []

    def add(self, one: Stood) -> None:
        self.cut(one.base)
        self.log.append(one)

    def cut(self, end: int) -> None:
        self.log = [one for one in self.log if one.next <= end]

    def producers(self) -> dict[int, Known]:
        known: dict[int, Known] = {}
        for one in self.log:
            if one.producer_id < 0:
                continue
            before = known.get(one.producer_id, Known(one.epoch, 0, -1, -1))
            if before.epoch != one.epoch:
                before = before._replace(epoch=one.epoch, next_sequence=0)
            if one.committed is not None:
                coordinator = max(before.coordinator, one.coordinator)
                known[one.producer_id] = before._replace(first_offset=-1, coordinator=coordinator)
                continue
            first = before.first_offset
            if one.transactional and first < 0:
                first = one.base
            sequence = before.next_sequence + len(one.values)
            known[one.producer_id] = before._replace(next_sequence=sequence, first_offset=first)
        return known

    def stable_offset(self, high: int) -> int:
        return min([high, *(one.first_offset for one in self.producers().values() if one.first_offset >= 0)])

    def committed(self, start: int, high: int) -> list[str]:
        stable, values = self.stable_offset(high), []
        for at, one in enumerate(self.log):
            if one.base >= stable:
                break
            if one.transactional and one.committed is None:
                marker = next(
                    other
                    for other in self.log[at:]
                    if other.producer_id == one.producer_id and other.committed is not None
                )
                if not marker.committed:
                    continue
            values += [value for offset, value in enumerate(one.values, one.base) if offset >= start]
        return values


class Lives:
    def __init__(self, seed: int) -> None:
        self.dice = SeededEntropy(seed)
        self.faulty = seed % 3 == 1
        self.compacted = seed % 4 == 3
        self.model = Model()
        self.count = 0
        self.coordinator = 1
        self.starts = 0
        config = LogConfig(
            segment_bytes=(300, 700, 5000)[self.dice.below(3)],
            index_interval_bytes=100,
            retention_ms=-1,
            retention_bytes=-1 if self.compacted or self.dice.below(2) else 2000,
            cleanup_compact=self.compacted,
            cleanup_delete=not self.compacted,
            min_cleanable_dirty_ratio=0.0,
            delete_retention_ms=self.dice.below(2) * 5000,
            file_delete_delay_ms=0,
        )
        settings = LocalSettings(
            sync_threads=2, read_threads=2, cleaner_enable=False, journal_files_min=(3, 1)[self.dice.below(2)]
        )
        topic = TopicLog(topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=1, config=config)
        self.world = LocalWorld([topic], settings)

    async def live(self) -> None:
        self.world.files.resident = bool(self.dice.below(3))
        engine = await self.world.start()
        self.coordinator += self.dice.below(2)
        await self.check(engine)
        for _ in range(self.dice.below(40)):
            await self.step(engine)
        if self.dice.below(2):
            await self.check(engine)
        await self.end(engine)

    async def healthy(self, engine: LocalEngine) -> bool:
        """Once a cut is over. A disk that refuses that too leaves the partition offline until the next start."""
        partition = engine.partitions[P0]
        for _ in range(2000):
            if partition.failure is None or "offline" in partition.failure.message:
                break
            await asyncio.sleep(0.001)
        return partition.failure is None

    async def check(self, engine: LocalEngine) -> None:
        self.world.files.faults.clear()
        if not await self.healthy(engine):
            return
        with contextlib.suppress(RiverlogError):
            await engine.cut([P0], Isolation.READ_UNCOMMITTED)
        if not await self.healthy(engine):
            return
        marks = engine.watermarks(P0)
        self.model.cut(marks.log_end)
        assert marks.high_watermark == marks.log_end
        start = marks.log_start
        known = self.model.producers()
        found = {
            one.producer_id: Known(
                one.producer_epoch,
                one.last_sequence + 1,
                one.current_transaction_first_offset,
                one.coordinator_epoch,
            )
            for one in engine.producers(P0)
        }
        assert found == known
        assert marks.last_stable_offset == max(self.model.stable_offset(marks.log_end), start)
        values: list[str] | None = None
        while values is None:
            try:
                values = await committed_in(engine, P0, start, 150 + self.dice.below(600))
            except AssertionError:
                assert engine.watermarks(P0).log_start > start  # retention took some meanwhile
                start = engine.watermarks(P0).log_start
        expected = self.model.committed(start, marks.log_end)
        if self.compacted:
            assert last_values(values) == last_values(expected)
        else:
            assert values == expected

    async def step(self, engine: LocalEngine) -> None:
        below = self.dice.below
        self.world.clock.advance(below(2000))
        if self.faulty and not below(12):
            self.world.files.inject("sync", DIRECTORY, errno.EIO, 1)
        if engine.partitions[P0].failure is not None and not await self.healthy(engine):
            return
        if below(3):
            await self.append(engine)
        else:
            await self.mark(engine)
        if not below(8):
            with contextlib.suppress(OSError, RiverlogError):
                await engine.checkpoints.write()
        if not below(8) and engine.partitions[P0].failure is None:
            before = engine.watermarks(P0)
            engine.upkeep.retain()
            start = engine.partitions[P0].log_start
            assert start <= max(before.log_start, before.last_stable_offset), "what is open stays"
        if not below(25) and not self.compacted and engine.partitions[P0].failure is None:
            with contextlib.suppress(OSError, RiverlogError):
                await engine.delete_before(P0, Offset(below(engine.watermarks(P0).high_watermark + 1)))
        if self.compacted and not below(12):
            with contextlib.suppress(OSError, RiverlogError):
                await engine.checkpoints.write()
                await engine.compacting.run_once(engine.partitions[P0])

    def noted(self, engine: LocalEngine, end: int, one: Stood) -> None:
        """What was asked for stands in the log, or was refused."""
        if engine.partitions[P0].log_end == one.next and end == one.base:
            self.model.add(one)

    async def append(self, engine: LocalEngine) -> None:
        below = self.dice.below
        self.model.cut(end := engine.partitions[P0].log_end)
        self.count += 1
        values = tuple(f"k{below(4)}={self.count}.{at}" for at in range(1 + below(2)))
        producer_id = below(5)
        if producer_id not in PRODUCERS:
            batch = keyed_write_of(P0, *values)
            one = Stood(end, end + len(values), values=values)
        else:
            known = self.model.producers().get(producer_id, Known(0, 0, -1, -1))
            transactional = known.first_offset >= 0 or below(3) > 0
            producer = (producer_id, known.epoch, known.next_sequence)
            batch = keyed_write_of(P0, *values, producer=producer, transactional=transactional)
            one = Stood(end, end + len(values), producer_id, known.epoch, transactional, values=values)
        answer = engine.append([batch], Acks.ALL if below(2) else Acks.LEADER)
        self.noted(engine, end, one)
        if not below(3):
            await settled(answer)

    async def mark(self, engine: LocalEngine) -> None:
        below = self.dice.below
        self.model.cut(end := engine.partitions[P0].log_end)
        producer_id = PRODUCERS[below(3)]
        known = self.model.producers().get(producer_id, Known(0, 0, -1, -1))
        epoch, committed = known.epoch + below(2), bool(below(2))
        marker = marker_of(P0, producer_id, epoch, committed=committed, coordinator=self.coordinator)
        told: list[EndMarker] = [marker] * (1 + below(2))
        answer = asyncio.ensure_future(engine.end_transactions(told))
        one = Stood(end, end + 1, producer_id, epoch, True, committed, self.coordinator)
        self.noted(engine, end, one)
        if not below(3):
            await asyncio.wait_for(answer, 10)

    async def end(self, engine: LocalEngine) -> None:
        self.world.files.faults.clear()
        if self.dice.below(3):
            await self.healthy(engine)
            await self.world.kill(tuple(Unsynced)[self.dice.below(3)], self.dice)
            return
        whole = await self.healthy(engine)
        await self.world.stop()
        if whole and not self.compacted and not self.dice.below(3):
            self.damage()

    def damage(self) -> None:
        """Of one transaction index, on the disk."""
        files, directory = self.world.files, f"{DIRECTORY}/{names.TOPICS}/{TOPIC.name}-0"
        if not files.exists(directory):
            return
        there = [name for name in sorted(files.list(directory)) if name.endswith(names.TXN_INDEX)]
        if not there:
            return
        path = f"{directory}/{there[self.dice.below(len(there))]}"
        if self.dice.below(2):
            files.remove(path)
            return
        file = files.open(path)
        if self.dice.below(2):
            file.truncate(self.dice.below(file.size()))
        else:
            file.write_at(b"\xff\xff", self.dice.below(file.size() // ENTRY_BYTES) * ENTRY_BYTES)
        file.close()


def last_values(values: list[str]) -> dict[str, str]:
    return {key: value for key, _, value in (one.partition("=") for one in values)}


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_committed_is_seen_and_nothing_else(seed: int) -> None:
    async def story() -> None:
        lives = Lives(seed)
        for _ in range(LIVES):
            await lives.live()

    asyncio.run(asyncio.wait_for(story(), 60))
