"""What a start makes of a clean stop: nothing is read that was sealed, and whatever is not as the mark says is found out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import Offset
from riverlog.storage.contract import EpochEnd, LogConfig, TopicLog
from riverlog.storage.format import checkpoint
from riverlog.storage.local.partition import LocalPartition
from riverlog.testing.conformance.log_engine import P0, P1, TOPIC, append_of, appended, fill, settled, values_in
from riverlog.testing.fakes import CrashableFiles
from riverlog.testing.local_world import DIRECTORY, LocalWorld

PARTITION = f"{DIRECTORY}/topics/rivers-0"
FIRST_LOG = f"{PARTITION}/00000000000000000000.log"


def topic(**config: Any) -> TopicLog:
    return TopicLog(topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=3, config=LogConfig(**config))


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


async def stopped(world: LocalWorld, records: int = 10) -> int:
    """A partition with several segments after a clean stop; how many."""
    engine = await world.start()
    await fill(engine, P0, *[[f"{at}"] for at in range(records)])
    await fill(engine, P1, ["other"])
    segments = engine.size(P0).segments
    await world.stop()
    return segments


def facts(partition: LocalPartition) -> list[tuple[int, ...]]:
    """What is known of every segment; of the active one also what only matters to it."""
    known = [
        (one.base_offset, one.size, one.next_offset, one.max_timestamp, one.max_timestamp_offset, one.created_ms)
        for one in partition.segments
    ]
    active = partition.segments[-1]
    return [*known, (active.first_timestamp, active.bytes_since_entry)]


def test_no_file_of_a_partition_is_opened_and_no_directory_listed() -> None:
    async def story() -> None:
        world = LocalWorld([topic(segment_bytes=200)])
        segments = await stopped(world)
        assert segments > 2
        touched: list[str] = []

        class Watched(CrashableFiles):
            pass

        for name in ("open", "read", "list"):
            plain = getattr(CrashableFiles, name)

            def watched(self: CrashableFiles, path: str, *args: Any, plain: Any = plain, **named: Any) -> Any:
                touched.append(path)
                return plain(self, path, *args, **named)

            setattr(Watched, name, watched)
        world.files.__class__ = Watched
        engine = await world.start()
        at_start = [path for path in touched if path.startswith(PARTITION)]
        assert at_start == []
        assert engine.size(P0).segments == segments
        active = engine.partitions[P0].segments[-1]
        assert active.index is active.time_index is None
        await fill(engine, P0, ["more"])
        assert active.time_index is not None
        assert await values_in(engine, P0) == [*map(str, range(10)), "more"]
        await world.stop()

    run(story)


def test_ends_times_and_epochs_are_those_of_before() -> None:
    async def story() -> None:
        world = LocalWorld([topic(segment_bytes=200)])
        await stopped(world)
        for kill in (True, False):  # a crash makes a second leader epoch
            engine = await world.start()
            await fill(engine, P0, ["kept"])
            before = engine.partitions[P0]
            seen = facts(before)
            ends, epochs = engine.watermarks(P0), list(before.epochs.entries)
            await (world.kill() if kill else world.stop())
        engine = await world.start()
        after = engine.partitions[P0]
        assert facts(after) == seen
        assert engine.watermarks(P0) == ends
        assert after.epochs.entries == epochs
        assert len(epochs) == 2
        assert engine.epoch_end(P0, 0) == EpochEnd(0, Offset(11))
        assert all(one.saved for one in after.segments[:-1])
        await world.stop()

    run(story)


@pytest.mark.parametrize("which", [0, -1])
def test_a_shorter_file_takes_its_partition_offline(which: int) -> None:
    async def story() -> None:
        world = LocalWorld([topic(segment_bytes=200)])
        await stopped(world)
        log = [name for name in world.files.list(PARTITION) if name.endswith(".log")][which]
        file = world.files.open(f"{PARTITION}/{log}")
        file.truncate(file.size() - 1)
        file.sync()
        engine = await world.start()
        assert engine.counters.offline_partitions == 1
        with pytest.raises(RiverlogError, match=log):
            engine.watermarks(P0)
        assert await values_in(engine, P1) == ["other"]
        await world.stop()

    run(story)


def test_an_active_segment_that_is_gone_takes_its_partition_offline() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        await stopped(world)
        world.files.remove(FIRST_LOG)
        engine = await world.start()
        with pytest.raises(RiverlogError, match="is gone"):
            engine.watermarks(P0)
        await world.stop()

    run(story)


@pytest.mark.parametrize("name", ["leader-epoch-checkpoint", "partition.metadata"])
def test_small_files_that_are_gone_or_damaged_do_no_harm(name: str) -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        await stopped(world)
        await world.start()
        await world.kill()  # more than one leader epoch: the file is read
        await world.start()
        await world.stop()
        world.files.remove(f"{PARTITION}/{name}")
        engine = await world.start()
        await fill(engine, P0, ["more"])
        assert await values_in(engine, P0) == [*map(str, range(10)), "more"]
        assert engine.watermarks(P0).leader_epoch == 1
        await world.stop()

    run(story)


def test_a_checkpoint_of_the_first_version_goes_through_recovery() -> None:
    async def story() -> None:
        world = LocalWorld([topic(segment_bytes=200)])
        segments = await stopped(world)
        path = f"{DIRECTORY}/checkpoint"
        known = checkpoint.decode(world.files.read(path))
        poor = [mark._replace(active=None, has_snapshot=False) for mark in known.partitions]
        file = world.files.open(path)
        file.truncate(0)
        file.write_at(checkpoint.encode(known._replace(partitions=poor)), 0)
        file.sync()
        engine = await world.start()
        assert engine.size(P0).segments == segments
        assert engine.partitions[P0].segments[-1].time_index is not None
        assert engine.counters.recovered_partitions == 0
        await fill(engine, P0, ["more"])
        assert await values_in(engine, P0) == [*map(str, range(10)), "more"]
        await world.stop()

    run(story)


def test_producers_come_from_their_snapshot_and_from_the_batches_where_it_is_damaged() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        await appended(engine, [append_of(P0, "p", producer=(5, 0, 0))])
        for damaged in (False, True):
            await world.stop()
            snapshots = [name for name in world.files.list(PARTITION) if name.endswith(".snapshot")]
            assert len(snapshots) == 1
            if damaged:
                file = world.files.open(f"{PARTITION}/{snapshots[0]}")
                file.write_at(b"\xff" * 8, 0)
                file.sync()
            engine = await world.start()
            assert [state.producer_id for state in engine.producers(P0)] == [5]
        await world.stop()

    run(story)


def test_what_an_earlier_start_left_of_removed_segments_goes_after_the_start() -> None:
    async def story() -> None:
        world = LocalWorld([topic(segment_bytes=200, retention_bytes=250)])
        engine = await world.start()
        await fill(engine, P0, *[[f"{at}"] for at in range(10)])
        await engine.checkpoints.write()
        await settled(engine.upkeep.retain())
        first = engine.partitions[P0].bases[0]
        assert first > 0
        await world.stop()
        before = set(world.files.list(PARTITION))
        left = {"00000000000000000000.index", "00000000000000000000.log", "00000000000000000001.log.deleted"}
        for name in left:
            world.files.open(f"{PARTITION}/{name}", create=True).close()
        engine = await world.start()
        for task in list(engine.tasks.running):
            if "retention left" in task.get_name():
                await task
        assert set(world.files.list(PARTITION)) == before
        assert engine.partitions[P0].bases[0] == first
        assert len(await values_in(engine, P0, first)) == 10 - first
        await world.stop()

    run(story)
