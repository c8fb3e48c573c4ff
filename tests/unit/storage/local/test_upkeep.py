"""Checkpoints, retention and removal, as they happen beside the clients."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import Offset, PartitionId
from riverlog.base.units import DAY_MS
from riverlog.env.entropy import SeededEntropy
from riverlog.storage.contract import Acks, Appended, Durability, Isolation, LogConfig, Read, Refused, TopicLog
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.partition import LocalPartition
from riverlog.storage.local.settings import LocalSettings
from riverlog.storage.local.upkeep import looked_at_once
from riverlog.testing.conformance.log_engine import (
    P0,
    P1,
    TOPIC,
    append_of,
    appended,
    batch_of,
    content,
    fetched_one,
    fill,
    settled,
    values_in,
)
from riverlog.testing.local_world import DIRECTORY, LocalWorld

PARTITION = f"{DIRECTORY}/topics/rivers-0"


def topic(**config: Any) -> TopicLog:
    return TopicLog(topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=3, config=LogConfig(**config))


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


async def until(condition: Callable[[], bool]) -> None:
    """Threads have done their work."""
    while not condition():
        await asyncio.sleep(0.001)


def logs(world: LocalWorld, suffix: str = ".log") -> list[str]:
    return [name for name in world.files.list(PARTITION) if name.endswith(suffix)]


async def fill_at(engine: LocalEngine, *times: int) -> None:
    for time in times:
        await appended(engine, [append_of(P0, str(time), timestamps=[time])])


def test_segments_roll_by_size_and_their_indexes_are_kafkas() -> None:
    async def story() -> None:
        world = LocalWorld([topic(segment_bytes=3 * len(batch_of("0")), index_interval_bytes=1)])
        engine = await world.start()
        await fill(engine, P0, *[[str(at)] for at in range(8)])
        assert logs(world) == [f"{base:020d}.log" for base in (0, 3, 6)]
        assert engine.counters.rolled_segments == 2
        await world.stop()
        assert logs(world, ".index") == [f"{base:020d}.index" for base in (0, 3, 6)]
        size = len(batch_of("0"))
        index = world.files.read(f"{PARTITION}/00000000000000000003.index")
        assert index == b"".join(at.to_bytes(4, "big") + (size * at).to_bytes(4, "big") for at in (1, 2))
        assert len(world.files.read(f"{PARTITION}/00000000000000000003.timeindex")) == 12

    run(story)


def test_segments_roll_by_time_of_their_records() -> None:
    async def story() -> None:
        world = LocalWorld([topic(segment_ms=1000, retention_ms=-1)])
        engine = await world.start()
        await fill_at(engine, 5000, 5900, 6000, 6001, 8000)
        assert engine.size(P0).segments == 3
        assert [header.base_offset for header, _ in (await fetched_one(engine, P0, 0))[1]] == [0, 1, 2]
        await world.stop()

    run(story)


def test_old_segments_are_renamed_then_removed_after_a_delay() -> None:
    async def story() -> None:
        world = LocalWorld([topic(segment_bytes=100, file_delete_delay_ms=60_000)])
        engine = await world.start()
        now_ms = world.clock.now_ms()
        await fill_at(engine, now_ms - 8 * DAY_MS, now_ms - 8 * DAY_MS, now_ms)
        held = await settled(engine.read([Read(P0, Offset(0), 1000)], 1000, Isolation.READ_UNCOMMITTED))
        engine.upkeep.retain()
        assert engine.watermarks(P0).log_start == 2
        assert await values_in(engine, P0, 2) == [str(now_ms)]
        await until(lambda: len(logs(world, ".log.deleted")) == 2)
        assert logs(world) == ["00000000000000000002.log"]
        assert len(content(held.partitions[0].slices)) > 0
        held.close()
        while logs(world, ".deleted"):
            world.clock.advance(60_000)
            await asyncio.sleep(0.001)  # a thread removes them
        assert (engine.counters.deleted_segments, engine.counters.deleted_bytes > 0) == (2, True)
        await world.stop()

    run(story)


def test_the_active_segment_rolls_when_its_records_are_too_old() -> None:
    async def story() -> None:
        world = LocalWorld([topic(retention_ms=1000, file_delete_delay_ms=0)])
        engine = await world.start()
        now_ms = world.clock.now_ms()
        await fill_at(engine, now_ms, now_ms)
        world.clock.advance(1500)
        engine.upkeep.retain()
        marks = engine.watermarks(P0)
        assert (marks.log_start, marks.log_end) == (2, 2)
        assert engine.size(P0).bytes == 0
        await fill_at(engine, world.clock.now_ms())
        assert await values_in(engine, P0, 2) == [str(world.clock.now_ms())]
        await until(lambda: logs(world) == ["00000000000000000002.log"])
        await world.kill()
        engine = await world.start()
        assert engine.watermarks(P0).log_start == 2
        assert engine.watermarks(P0).log_end == 3
        await world.stop()

    run(story)


def test_an_emptied_log_keeps_its_offsets_over_restarts() -> None:
    async def story() -> None:
        world = LocalWorld([topic(retention_ms=1000, file_delete_delay_ms=0)])
        engine = await world.start()
        await fill_at(engine, world.clock.now_ms())
        world.clock.advance(1500)
        engine.upkeep.retain()
        await world.stop()  # before the files were renamed: the next start removes them
        engine = await world.start()
        assert logs(world) == ["00000000000000000001.log"]
        marks = engine.watermarks(P0)
        assert (marks.log_start, marks.log_end) == (1, 1)
        assert engine.counters.recovered_bytes == 0
        await world.kill()
        engine = await world.start()
        marks = engine.watermarks(P0)
        assert (marks.log_start, marks.log_end) == (1, 1)
        await world.stop()

    run(story)


def test_retention_by_size_comes_with_the_clock_and_with_a_new_configuration() -> None:
    async def story() -> None:
        settings = LocalSettings(retention_check_interval_ms=1000, sync_threads=1, read_threads=1)
        world = LocalWorld([topic(segment_bytes=100, retention_bytes=200)], settings)
        engine = await world.start()
        await fill(engine, P0, *[[str(at)] for at in range(6)])
        await asyncio.sleep(0)
        world.clock.advance(1000)
        await until(lambda: engine.size(P0).log_start > 0)
        assert engine.size(P0).bytes >= 200
        engine.configure(TOPIC.topic_id, LogConfig(segment_bytes=100, retention_bytes=0))
        await until(lambda: engine.size(P0).bytes == 0)
        await world.stop()

    run(story)


def test_records_that_are_too_old_when_they_come_are_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        old_ms = world.clock.now_ms() - 4000 * DAY_MS
        with caplog.at_level(logging.WARNING):
            for partition in (P0, P0, P1):
                await appended(engine, [append_of(partition, "a", timestamps=[old_ms])])
            await fill(engine, P0, ["no timestamp to speak of"])
        told = [record.getMessage() for record in caplog.records if "retention.ms=-1" in record.getMessage()]
        assert len(told) == 1
        assert "topic rivers gets records that are 4000 days old and keeps them for 7" in told[0]
        assert engine.counters.late_batches == 3
        await world.stop()

    run(story)


def test_idle_producers_are_forgotten() -> None:
    async def story() -> None:
        world = LocalWorld([topic()], LocalSettings(producer_id_expiration_ms=1000, sync_threads=1, read_threads=1))
        engine = await world.start()
        await appended(engine, [append_of(P0, "a", producer=(1, 0, 0))])
        world.clock.advance(999)
        engine.upkeep.retain()
        assert len(engine.producers(P0)) == 1
        world.clock.advance(2)
        engine.upkeep.retain()
        assert engine.producers(P0) == []
        await world.stop()
        await world.start()
        await world.stop()
        assert logs(world, ".snapshot") == []

    run(story)


def test_a_cut_tail_of_a_segment_that_retention_removed_stops_no_commit() -> None:
    async def story() -> None:
        world = LocalWorld([topic(retention_ms=1000, file_delete_delay_ms=0)])
        world.clock.advance(DAY_MS)
        engine = await world.start()
        await fill_at(engine, 1)
        await engine.checkpoints.write()
        world.files.room_bytes = 30
        (refused,) = await appended(engine, [append_of(P0, "too much for this disk", timestamps=[2])])
        assert isinstance(refused, Refused)  # a part was written, and cut off: the segment is to be synced
        world.files.room_bytes = None
        engine.upkeep.retain()
        await until(lambda: f"{0:020d}.log" not in world.files.list(PARTITION))
        both = [append_of(P0, "next", timestamps=[3]), append_of(P1, "other", timestamps=[3])]
        answers = await asyncio.wait_for(settled(engine.append(both, Acks.ALL)), 5)
        assert all(isinstance(answer, Appended) for answer in answers)
        await world.stop()

    run(story)


def test_retention_takes_nothing_before_it_is_synced_and_stops_no_commit() -> None:
    async def story() -> None:
        world = LocalWorld([topic(retention_ms=1000, file_delete_delay_ms=0, durability=Durability.PAGE_CACHE)])
        world.clock.advance(DAY_MS)
        engine = await world.start()
        await fill_at(engine, 1, 2)
        engine.upkeep.retain()
        assert engine.watermarks(P0).log_start == 0
        await engine.checkpoints.write()
        engine.upkeep.retain()
        await until(lambda: f"{0:020d}.log" not in world.files.list(PARTITION))
        await fill_at(engine, 3)
        await engine.checkpoints.write()
        marks = engine.watermarks(P0)
        assert (marks.log_start, marks.durable_end, marks.log_end) == (2, 3, 3)
        await world.stop()

    run(story)


def test_records_are_deleted_also_while_another_partition_fails() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        await fill(engine, P1, ["a", "b"])
        world.files.inject("sync", PARTITION, errno.EIO)
        engine.append([append_of(P0, "lost")], Acks.LEADER)
        assert await engine.delete_before(P1, Offset(1)) == 1
        await world.kill()
        engine = await world.start()
        assert engine.watermarks(P1).log_start == 1
        await world.stop()

    run(story)


def test_nothing_is_removed_of_a_partition_that_checkpoints_leave_out() -> None:
    async def story() -> None:
        world = LocalWorld([topic(retention_ms=1000, file_delete_delay_ms=0)])
        world.clock.advance(DAY_MS)
        engine = await world.start()
        await fill_at(engine, 1, 2)
        await engine.checkpoints.write()
        engine.upkeep.retain()
        engine.partitions[P0].failure = RiverlogError(ErrorKind.STORAGE, "its disk fails")
        checkpoints = engine.counters.checkpoints
        await until(lambda: engine.counters.checkpoints > checkpoints)
        for _ in range(50):
            await asyncio.sleep(0.001)  # a thread would rename
        assert f"{0:020d}.log" in world.files.list(PARTITION)
        await world.kill()
        engine = await world.start()
        assert engine.watermarks(P0).log_end == 2
        await world.stop()

    run(story)


def test_the_segment_that_a_checkpoint_begins_with_is_not_removed_also_where_its_records_were_deleted() -> None:
    async def story() -> None:
        world = LocalWorld([topic(retention_ms=1000, file_delete_delay_ms=0)])
        world.clock.advance(DAY_MS)
        engine = await world.start()
        await fill_at(engine, 1, 2)
        await engine.checkpoints.write()
        assert await engine.delete_before(P0, Offset(2)) == 2
        engine.upkeep.retain()
        engine.partitions[P0].failure = RiverlogError(ErrorKind.STORAGE, "its disk fails")
        checkpoints = engine.counters.checkpoints
        await until(lambda: engine.counters.checkpoints > checkpoints)
        for _ in range(50):
            await asyncio.sleep(0.001)  # a thread would rename
        assert f"{0:020d}.log" in world.files.list(PARTITION)
        await world.kill()
        engine = await world.start()
        assert engine.watermarks(P0).log_end == 2
        await world.stop()

    run(story)


def test_future_timestamps_are_kept_and_told_of_seldom(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        world = LocalWorld([topic(retention_ms=1000, segment_bytes=100)])
        engine = await world.start()
        now_ms = world.clock.now_ms()
        await fill_at(engine, now_ms + 2 * DAY_MS, now_ms)
        world.clock.advance(60_000)
        with caplog.at_level(logging.WARNING):
            for _ in range(5):
                engine.upkeep.retain()
                world.clock.advance(60_000)
        assert engine.watermarks(P0).log_start == 0
        told = [record.getMessage() for record in caplog.records if "ahead of this machine" in record.getMessage()]
        assert len(told) == 1
        assert "rivers-0: its oldest segment has a timestamp 172740 s ahead" in told[0]
        world.clock.advance(2 * DAY_MS)
        engine.upkeep.retain()
        assert engine.watermarks(P0).log_start == 2
        await world.stop()

    run(story)


def test_segments_of_many_partitions_roll_at_times_of_their_own() -> None:
    async def story(seed: int) -> list[int]:
        config = LogConfig(segment_ms=1000, segment_jitter_ms=1000, retention_ms=-1)
        world = LocalWorld([TopicLog(topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=20, config=config)])
        world.entropy = SeededEntropy(seed)
        engine = await world.start()
        rolled: list[int] = []
        for index in range(20):
            partition = PartitionId(TOPIC.topic_id, index)
            time = 5000
            while engine.partitions[partition].log_end == 0 or engine.size(partition).segments == 1:
                await appended(engine, [append_of(partition, "a", timestamps=[time])])
                time += 20
            rolled.append(time - 20 - 5000)
        await world.stop()
        return rolled

    times = asyncio.run(asyncio.wait_for(story(1), 60))
    assert all(0 < time <= 1020 for time in times)
    assert len(set(times)) > 10
    assert asyncio.run(asyncio.wait_for(story(1), 60)) == times, "one seed, one history"
    assert asyncio.run(asyncio.wait_for(story(2), 60)) != times


def test_deleting_records_of_many_partitions_costs_two_checkpoints() -> None:
    async def story() -> None:
        partitions = [PartitionId(TOPIC.topic_id, index) for index in range(50)]
        world = LocalWorld([TopicLog(topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=50)])
        engine = await world.start()
        for partition in partitions:
            await fill(engine, partition, ["a", "b"])
        before = engine.counters.checkpoints
        starts = await asyncio.gather(*(engine.delete_before(partition, Offset(1)) for partition in partitions))
        assert starts == [1] * 50
        assert engine.counters.checkpoints - before <= 2
        await world.kill()
        engine = await world.start()
        assert [engine.watermarks(partition).log_start for partition in partitions] == [1] * 50
        await world.stop()

    run(story)


def test_a_look_at_many_partitions_lets_the_loop_have_its_turns() -> None:
    async def story() -> None:
        world = LocalWorld(
            [TopicLog(topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=5 * looked_at_once)],
            LocalSettings(retention_check_interval_ms=1000, sync_threads=1, read_threads=1),
        )
        engine = await world.start()
        looks: list[int] = []
        turns = 0
        look = engine.upkeep._look

        def counted(partition: LocalPartition) -> bool:
            looks.append(turns)
            return look(partition)

        engine.upkeep._look = counted  # type: ignore[method-assign]
        engine.upkeep.hurry()
        while len(looks) < 5 * looked_at_once:
            await asyncio.sleep(0)
            turns += 1
        assert [looks.count(turn) for turn in sorted(set(looks))] == [looked_at_once] * 5, "a turn between any two slices"
        await world.stop()

    run(story)
