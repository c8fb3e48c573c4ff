"""Lives of two partitions in which everything happens: retention by time and size, deleted records, other configurations, disks
that refuse, power loss, kill, torn writes, clean stops. What was acknowledged or seen is there again, or below a log start that
never falls; leader epochs rise; no partition is offline after a start on a healthy disk."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os

import pytest

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import Offset, PartitionId
from riverlog.base.units import KIB, MIB
from riverlog.env.entropy import SeededEntropy
from riverlog.records.batch import records_of
from riverlog.storage.contract import Acks, Appended, LogConfig, TopicLog
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.settings import LocalSettings
from riverlog.testing.conformance.log_engine import P0, P1, TOPIC, append_of, fetched_one, records_in, settled
from riverlog.testing.fakes import Unsynced
from riverlog.testing.local_world import DIRECTORY, LocalWorld

SEEDS = range(int(os.environ.get("RIVERLOG_LIVES", "40")))
LIVES = 6
REFUSALS = ("sync", "write", "truncate", "sync-directory", "rename")


class Lives:
    def __init__(self, seed: int) -> None:
        self.dice = SeededEntropy(seed)
        self.faulty = bool(seed % 2)
        topic = TopicLog(topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=2, config=self.config())
        self.world = LocalWorld([topic], self.settings(seed))
        self.known: dict[PartitionId, dict[int, str]] = {
            P0: {},
            P1: {},
        }  # acknowledged with acks=all, or seen by a reader
        self.starts = {P0: 0, P1: 0}
        self.epochs = {P0: -1, P1: -1}
        self.count = 0

    def settings(self, seed: int) -> LocalSettings:
        """Every way of a commit: what its plan says, always the journal (one that is large, one that is soon full), never."""
        files_min, bytes_max = ((3, 64 * KIB), (1, 64 * MIB), (1, 64 * KIB), (1, 0))[seed // 2 % 4]
        return LocalSettings(sync_threads=2, read_threads=2, journal_files_min=files_min, journal_bytes_max=bytes_max)

    def config(self) -> LogConfig:
        below = self.dice.below
        return LogConfig(
            segment_bytes=300,
            index_interval_bytes=100,
            retention_ms=(-1, 5000)[below(2)],
            retention_bytes=(-1, 600)[below(2)],
            file_delete_delay_ms=0,
            segment_ms=3000,
        )

    async def live(self) -> None:
        engine = await self.world.start()
        for partition in (P0, P1):
            await self.check(engine, partition)
        for _ in range(self.dice.below(25)):
            await self.step(engine)
        await self.end(engine)

    async def check(self, engine: LocalEngine, partition: PartitionId) -> None:
        failure = engine.partitions[partition].failure
        assert failure is None, failure
        marks = engine.watermarks(partition)
        assert marks.leader_epoch > self.epochs[partition]
        assert marks.log_start >= self.starts[partition]
        while True:
            marks = engine.watermarks(partition)
            try:
                records = await records_in(engine, partition, marks.log_start)
                break
            except AssertionError:
                assert engine.watermarks(partition).log_start > marks.log_start  # retention took some meanwhile
        there = {record.offset: (record.value or b"").decode() for record in records}
        for offset, value in self.known[partition].items():
            assert offset < marks.log_start or there.get(offset) == value, (partition, offset, value)

    async def step(self, engine: LocalEngine) -> None:
        below, world = self.dice.below, self.world
        partition = (P0, P1)[below(2)]
        world.clock.advance(below(3000))
        if self.faulty and not below(5):
            world.files.inject(REFUSALS[below(5)], DIRECTORY, errno.EIO, 1 + below(2))
        if self.faulty and not below(5):
            world.files.room_bytes = None if below(2) else below(300)
        await self.append(engine, partition)
        if not below(5):
            engine.upkeep.retain()
        if not below(8):
            with contextlib.suppress(OSError, RiverlogError):
                await engine.checkpoints.write()
        if not below(15) and engine.partitions[partition].failure is None:
            with contextlib.suppress(OSError, RiverlogError):
                high = engine.watermarks(partition).high_watermark
                start = await engine.delete_before(partition, Offset(below(high + 1)))
                self.starts[partition] = max(self.starts[partition], start)
        if not below(15):
            engine.configure(TOPIC.topic_id, self.config())

    async def append(self, engine: LocalEngine, partition: PartitionId) -> None:
        self.count += 1
        value = f"{self.count}" + "-" * self.dice.below(60)
        acks = Acks.ALL if self.dice.below(3) else Acks.LEADER
        answer = engine.append([append_of(partition, value, timestamps=[self.world.clock.now_ms()])], acks)
        if acks is Acks.ALL and self.dice.below(3):
            (outcome,) = await settled(answer)
            if isinstance(outcome, Appended):
                self.known[partition][outcome.base_offset] = value
            await self.look(engine, partition)

    async def look(self, engine: LocalEngine, partition: PartitionId) -> None:
        """Reads to the end, and remembers: what was seen never becomes something else."""
        offset = engine.partitions[partition].log_start
        while engine.partitions[partition].failure is None:
            answer, batches = await fetched_one(engine, partition, offset)
            if answer.error is not None or not batches:
                return
            for header, data in batches:
                for record in records_of(data, header):
                    value = (record.value or b"").decode()
                    assert self.known[partition].setdefault(record.offset, value) == value
                offset = Offset(header.next_offset)

    async def end(self, engine: LocalEngine) -> None:
        clean = not self.faulty and not self.dice.below(4)
        for partition in (P0, P1):
            epoch = engine.partitions[partition].leader_epoch
            self.epochs[partition] = max(self.epochs[partition], epoch - 1)
        if clean:
            await self.world.stop()
        else:
            await self.world.kill(tuple(Unsynced)[self.dice.below(3)], self.dice)
        self.world.files.room_bytes = None


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_known_is_lost_and_nothing_deleted_comes_back(seed: int) -> None:
    async def story() -> None:
        lives = Lives(seed)
        for _ in range(LIVES):
            await lives.live()

    asyncio.run(asyncio.wait_for(story(), 60))
