"""When checkpoints are written, what they make safe to drop, and what becomes of one that fails."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from riverlog.base.ids import LeaderEpoch, PartitionId, TopicId
from riverlog.storage.contract import Acks, LogConfig, TopicLog
from riverlog.storage.format import checkpoint
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.settings import LocalSettings
from riverlog.testing.conformance.log_engine import (
    P0,
    TOPIC,
    append_of,
    appended,
    fill,
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


def test_a_rolled_segment_asks_for_a_checkpoint() -> None:
    async def story() -> None:
        world = LocalWorld([topic(segment_bytes=100)])
        engine = await world.start()
        before = engine.counters.checkpoints
        await fill(engine, P0, ["a"], ["b"], ["c"])
        await until(lambda: engine.counters.checkpoints > before)
        mark = checkpoint.decode(world.files.read(f"{DIRECTORY}/checkpoint"))
        assert not mark.clean
        assert mark.partitions[0].segments
        await world.stop()
        assert checkpoint.decode(world.files.read(f"{DIRECTORY}/checkpoint")).clean

    run(story)


def test_checkpoints_come_with_the_clock() -> None:
    async def story() -> None:
        world = LocalWorld([topic()], LocalSettings(checkpoint_interval_ms=1000, sync_threads=1, read_threads=1))
        engine = await world.start()
        await fill(engine, P0, ["a"])
        await asyncio.sleep(0)
        before = engine.counters.checkpoints
        world.clock.advance(1000)
        await until(lambda: engine.counters.checkpoints > before)
        await world.kill()
        engine = await world.start()
        assert engine.counters.recovered_bytes == 0
        assert await values_in(engine, P0) == ["a"]
        await world.stop()

    run(story)


def test_a_checkpoint_that_cannot_be_written_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        world = LocalWorld([topic(segment_bytes=100)])
        engine = await world.start()
        before = engine.counters.checkpoints
        world.files.inject("rename", f"{DIRECTORY}/checkpoint", errno.ENOSPC)
        with caplog.at_level(logging.ERROR):
            await fill(engine, P0, ["a"], ["b"])
            await until(lambda: "could not be written" in caplog.text)
        await engine.checkpoints.write()
        assert engine.counters.checkpoints == before + 1
        await world.stop()
        engine = await world.start()
        assert engine.counters.recovered_bytes == 0
        await world.stop()

    run(story)


def test_old_snapshots_go_and_the_newest_stays() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        for sequence in range(3):
            await appended(engine, [append_of(P0, "a", producer=(1, 0, sequence))])
            await engine.checkpoints.write()
        assert logs(world, ".snapshot") == ["00000000000000000003.snapshot"]
        await world.stop()

    run(story)


def test_indexes_of_sealed_segments_are_let_go_and_loaded_again() -> None:
    async def story() -> None:
        settings = LocalSettings(loaded_indexes_max=2, open_files_max=3, sync_threads=1, read_threads=1)
        world = LocalWorld([topic(segment_bytes=400, index_interval_bytes=50)], settings)
        engine = await world.start()
        await fill(engine, P0, *[[f"{at:03d}"] for at in range(60)])
        await engine.checkpoints.write()
        segments = engine.partitions[P0].segments
        assert len(segments) > 6
        assert sum(segment.index is not None for segment in segments) <= 3
        assert len(engine.descriptors) <= 4
        for offset in (7, 23, 41, 58, 7):
            assert (await values_in(engine, P0, offset))[0] == f"{offset:03d}"
        assert sum(segment.index is not None for segment in segments) <= 3
        assert len(engine.descriptors) <= 4
        assert engine.counters.cold_reads > 0
        await world.stop()

    run(story)


def test_what_is_appended_while_a_checkpoint_is_written_is_in_the_next() -> None:
    async def story() -> None:
        world = LocalWorld([topic(index_interval_bytes=1)])
        engine = await world.start()
        await fill(engine, P0, ["a"], ["b"])
        running = asyncio.ensure_future(engine.checkpoints.write())
        for value in "cdefgh":
            await asyncio.sleep(0)
            engine.append([append_of(P0, value)], Acks.LEADER)
        await running
        await engine.checkpoints.write()
        await world.kill()
        engine = await world.start()
        assert engine.counters.recovered_bytes == 0
        assert await values_in(engine, P0) == list("abcdefgh")
        assert await values_in(engine, P0, 5) == list("fgh")
        await world.stop()

    run(story)


def test_a_save_that_runs_while_its_topic_is_made_again_leaves_the_new_one_alone() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        await fill(engine, P0, ["a"], ["b"])
        await appended(engine, [append_of(P0, "c", producer=(1, 0, 0))])
        partition = engine.partitions[P0]
        partition.unsaved_epochs = True
        partition.epochs.assign(LeaderEpoch(7), partition.log_end)
        run_on_thread = engine.maintenance.run
        made_again: list[LocalEngine] = []

        def run_late(work: Callable[[], Any]) -> asyncio.Future[Any]:
            async def late() -> Any:
                if not made_again:
                    made_again.append(engine)
                    await engine.delete_topic(TOPIC.topic_id)
                    await engine.open_topic(again)
                    await fill(engine, PartitionId(again.topic_id, 0), ["new"])
                    partition.failure = None  # as if the deletion had come in the middle of the save
                return await run_on_thread(work)

            return asyncio.ensure_future(late())

        again = TopicLog(topic_id=TopicId(b"again" + bytes(11)), name=TOPIC.name, partition_count=1, config=LogConfig())
        engine.maintenance.run = run_late  # type: ignore[method-assign, assignment]
        await engine.checkpoints.write()
        assert world.files.read(f"{PARTITION}/leader-epoch-checkpoint") == b"0\n1\n0 0\n"
        assert logs(world, ".snapshot") == ["00000000000000000003.snapshot"]
        await engine.checkpoints.write()
        assert logs(world, ".snapshot") == []
        assert logs(world, ".tmp") == []
        world.topics = [again]
        await world.stop()
        engine = await world.start()
        assert await values_in(engine, PartitionId(again.topic_id, 0)) == ["new"]
        await world.stop()

    run(story)


def test_the_timer_survives_whatever_a_checkpoint_raises(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        world = LocalWorld([topic()], LocalSettings(checkpoint_interval_ms=1000, sync_threads=1, read_threads=1))
        engine = await world.start()
        before = engine.counters.checkpoints

        def broken(*arguments: object) -> None:
            raise ZeroDivisionError

        await fill(engine, P0, ["a"])
        await asyncio.sleep(0)
        with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
            patch.setattr(engine.checkpoints, "_settle", broken)
            world.clock.advance(1000)
            await until(lambda: "ZeroDivisionError" in caplog.text)
        while engine.counters.checkpoints == before:
            world.clock.advance(1000)
            await asyncio.sleep(0.001)
        await world.stop()

    run(story)


def test_a_topic_that_is_deleted_meanwhile_is_no_reason_to_do_without_a_checkpoint() -> None:
    async def story() -> None:
        other = TopicLog(topic_id=TopicId(b"o" * 16), name="other", partition_count=1, config=LogConfig())
        world = LocalWorld([topic(), other], LocalSettings(journal_files_min=1))
        engine = await world.start()
        await fill(engine, P0, ["a"])
        await fill(engine, PartitionId(other.topic_id, 0), ["a"])
        with world.files.held_syncs():
            writing = asyncio.create_task(engine.checkpoints.write())
            for _ in range(20):
                await asyncio.sleep(0)
            assert not writing.done()
            await engine.delete_topic(other.topic_id)
        await writing
        mark = engine.partitions[P0].mark
        assert mark is not None
        assert mark.recovery_offset == 1
        await world.stop()

    run(story)
