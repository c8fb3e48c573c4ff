"""After a failed sync: cut back, or offline."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import Offset, PartitionId, TopicId
from riverlog.base.units import DAY_MS
from riverlog.storage.contract import Acks, Appended, Durability, EpochEnd, LogConfig, Refused, TopicLog
from riverlog.storage.local import cutting
from riverlog.storage.local.cutting import sync_failed
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.settings import LocalSettings
from riverlog.storage.local.settling import unopened
from riverlog.testing.conformance.log_engine import (
    P0,
    P1,
    TOPIC,
    append_of,
    appended,
    fetched_one,
    fill,
    settled,
    values_in,
)
from riverlog.testing.local_world import DIRECTORY, LocalWorld

PARTITION = f"{DIRECTORY}/topics/rivers-0"
LOG = f"{PARTITION}/00000000000000000000.log"


def topic(**config: Any) -> TopicLog:
    return TopicLog(topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=3, config=LogConfig(**config))


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("durability", list(Durability))
def test_after_a_failed_sync_a_partition_is_cut_back_and_its_epoch_rises(durability: Durability) -> None:
    async def story() -> None:
        world = LocalWorld([topic(durability=durability, segment_bytes=200)], LocalSettings(journal_bytes_max=0))
        engine = await world.start()
        await fill(engine, P0, ["a"], ["b"])
        await engine.checkpoints.write()
        world.files.inject("sync", PARTITION, errno.EIO)
        if durability is Durability.FSYNC:
            answers = [
                engine.append([append_of(P0, value, producer=(3, 0, at))], Acks.ALL) for at, value in enumerate("cde")
            ]
            other = await appended(engine, [append_of(P1, "other")])
            for answer in answers:
                (refused,) = await settled(answer)
                assert isinstance(refused, Refused)
                assert refused.error.kind is ErrorKind.STORAGE
            assert isinstance(other[0], Appended)
        else:
            for at, value in enumerate("cde"):
                engine.append([append_of(P0, value, producer=(3, 0, at))], Acks.ALL)
            with pytest.raises(Exception, match="could not be synced"):
                await engine.checkpoints.write()
        for _ in range(1000):
            if engine.partitions[P0].failure is None:
                break
            await asyncio.sleep(0.001)  # threads cut it back
        marks = engine.watermarks(P0)
        assert (marks.log_end, marks.durable_end, marks.leader_epoch) == (2, 2, 1)
        assert engine.epoch_end(P0, 0) == EpochEnd(0, Offset(2))
        assert await values_in(engine, P0) == ["a", "b"]
        (again,) = await appended(engine, [append_of(P0, "c", producer=(3, 0, 0))])
        assert again == Appended(Offset(2), Offset(3), Offset(0))
        assert engine.counters.failed_syncs == 1
        await world.stop()
        engine = await world.start()
        assert engine.watermarks(P0).leader_epoch == 1
        assert await values_in(engine, P0) == ["a", "b", "c"]
        assert engine.counters.unsynced_bytes == 0
        await world.stop()

    run(story)


def test_a_disk_that_fails_the_repair_too_takes_the_partition_offline() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        await fill(engine, P0, ["a"])
        world.files.inject("sync", PARTITION, errno.EIO, 1000)
        (refused,) = await appended(engine, [append_of(P0, "b")])
        assert isinstance(refused, Refused)
        while not engine.counters.offline_partitions:
            await asyncio.sleep(0.001)  # a thread tries
        (refused,) = await appended(engine, [append_of(P0, "c")])
        assert isinstance(refused, Refused)
        assert "offline" in refused.error.message
        answer, _ = await fetched_one(engine, P0, 0)
        assert answer.error is not None
        assert answer.error.kind is ErrorKind.STORAGE
        await fill(engine, P1, ["other"])
        world.files.faults.clear()
        await world.stop()
        engine = await world.start()
        assert (await values_in(engine, P0))[0] == "a"
        await world.stop()

    run(story)


async def cut_back(engine: LocalEngine) -> None:
    """Threads have cut the partition back."""
    while (failure := engine.partitions[P0].failure) is not None:
        assert not engine.counters.offline_partitions, failure.message
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("durability", list(Durability))
@pytest.mark.parametrize("removed", [False, True])
def test_a_cut_brings_nothing_back_that_retention_took(durability: Durability, removed: bool) -> None:
    async def story() -> None:
        world = LocalWorld([topic(durability=durability, segment_bytes=200, retention_ms=1000, file_delete_delay_ms=0)])
        world.clock.advance(DAY_MS)
        engine = await world.start()
        for value in "abcde":
            await appended(engine, [append_of(P0, value, timestamps=[5])])
        await engine.checkpoints.write()
        world.files.inject("sync", f"{PARTITION}/{5:020d}.log", errno.EIO)
        engine.upkeep.retain()
        if removed:
            while f"{4:020d}.log" in world.files.list(PARTITION):
                await asyncio.sleep(0.001)  # threads rename and remove
        answer = engine.append([append_of(P0, "lost", timestamps=[6])], Acks.ALL)
        if durability is Durability.FSYNC:
            assert isinstance((await settled(answer))[0], Refused)
        else:
            with contextlib.suppress(RiverlogError):
                await engine.checkpoints.write()
            await turns()
        await cut_back(engine)
        marks = engine.watermarks(P0)
        assert (marks.log_start, marks.log_end) == (5, 5)
        while any(name.startswith(f"{4:020d}") for name in world.files.list(PARTITION)):
            world.clock.advance(10_000)
            await asyncio.sleep(0.001)
        await appended(engine, [append_of(P0, "next", timestamps=[DAY_MS])])
        assert await values_in(engine, P0, 5) == ["next"]
        await world.stop()
        engine = await world.start()
        assert engine.watermarks(P0).log_start == 5
        assert await values_in(engine, P0, 5) == ["next"]
        await world.stop()

    run(story)


def test_a_cut_removes_nothing_by_a_log_start_that_no_checkpoint_has() -> None:
    async def story() -> None:
        world = LocalWorld([topic(segment_bytes=200, retention_ms=1000)])
        world.clock.advance(DAY_MS)
        engine = await world.start()
        for value in "ab":
            await appended(engine, [append_of(P0, value, timestamps=[5])])
        await engine.checkpoints.write()
        engine.upkeep.retain()
        world.files.inject("rename", f"{DIRECTORY}/checkpoint", errno.EIO)
        with pytest.raises(OSError):
            await engine.checkpoints.write()
        world.files.inject("rename", f"{DIRECTORY}/checkpoint", errno.EIO, 100)
        world.files.inject("sync", f"{PARTITION}/{2:020d}.log", errno.EIO)
        assert isinstance((await appended(engine, [append_of(P0, "lost", timestamps=[6])]))[0], Refused)
        await cut_back(engine)
        assert engine.watermarks(P0).log_start == 2
        await world.kill()
        engine = await world.start()
        assert engine.watermarks(P0).log_end == 2
        await world.stop()

    run(story)


def fail_sync(engine: LocalEngine) -> None:
    sync_failed(engine, unopened(engine.partitions[P0], OSError(errno.EIO, "the disk is bad")))


@pytest.mark.parametrize("lost", ["b", "longer"])
def test_a_cut_restores_nothing_of_a_commit_that_was_cut_back_before(lost: str) -> None:
    async def story() -> None:
        world = LocalWorld([topic()], LocalSettings(journal_files_min=1))
        engine = await world.start()
        partition = engine.partitions[P0]
        await fill(engine, P0, ["a"])
        with world.files.held_syncs():
            answer = engine.append([append_of(P0, lost)], Acks.ALL)
            await turns()
            assert partition.committing
            fail_sync(engine)
        assert isinstance((await settled(answer))[0], Refused)
        await cut_back(engine)
        while partition.committing:
            await asyncio.sleep(0.001)  # its record in the journal is whole now
        await fill(engine, P0, ["c"])
        assert (partition.synced.offset, partition.durable.offset) == (1, 2)
        fail_sync(engine)
        await cut_back(engine)
        assert await values_in(engine, P0) == ["a", "c"]
        await world.kill()
        engine = await world.start()
        assert await values_in(engine, P0) == ["a", "c"]
        await world.stop()

    run(story)


def test_a_topic_that_is_made_again_waits_for_the_cut_of_the_deleted_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        world = LocalWorld([topic()], LocalSettings(journal_files_min=1))
        engine = await world.start()
        partition = engine.partitions[P0]
        await fill(engine, P0, ["a"])
        entered, go_on, read_journal = threading.Event(), threading.Event(), cutting.read_journal

        def held(*arguments: Any) -> Any:
            entered.set()
            go_on.wait()
            return read_journal(*arguments)

        monkeypatch.setattr(cutting, "read_journal", held)
        fail_sync(engine)
        while not entered.is_set():
            await asyncio.sleep(0.001)  # a thread begins
        fresh = TopicLog(topic_id=TopicId(b"n" * 16), name=TOPIC.name, partition_count=1, config=LogConfig())
        deletion = asyncio.create_task(engine.delete_topic(TOPIC.topic_id))
        await turns()
        making = asyncio.create_task(engine.open_topic(fresh))
        await turns()
        assert not deletion.done()
        assert not making.done()
        go_on.set()
        await deletion
        await making
        for value in "xyz":
            await fill(engine, PartitionId(fresh.topic_id, 0), [value])
        assert await values_in(engine, PartitionId(fresh.topic_id, 0)) == ["x", "y", "z"]
        assert partition.failure is not None
        assert (engine.counters.offline_partitions, engine.counters.orphans) == (0, 0)
        await world.stop()

    run(story)


def test_a_deletion_of_records_that_failed_leaves_no_log_start_behind_the_log_end() -> None:
    async def story() -> None:
        world = LocalWorld([topic(durability=Durability.PAGE_CACHE)])
        engine = await world.start()
        await fill(engine, P0, ["a"], ["b"])
        world.files.inject("sync", PARTITION, errno.EIO)
        with pytest.raises(RiverlogError):
            await engine.delete_before(P0, Offset(2))
        await cut_back(engine)
        await fill(engine, P0, ["c"])
        assert (engine.watermarks(P0).log_start, engine.watermarks(P0).log_end) == (0, 1)
        assert await values_in(engine, P0) == ["c"]
        await world.stop()

    run(story)


def test_a_cut_that_the_last_checkpoint_begins_ends_with_the_engine(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        world = LocalWorld([topic()], LocalSettings(journal_files_min=1))
        engine = await world.start()
        await fill(engine, P0, ["a"])
        await fill(engine, P1, ["a"])
        assert engine.partitions[P0].synced.offset == 0
        world.files.inject("sync", PARTITION, errno.EIO)
        await world.stop()
        assert not engine.tasks.running
        assert not any("failed" in record.message for record in caplog.records)
        engine = await world.start()
        assert await values_in(engine, P0) == await values_in(engine, P1) == ["a"]
        await world.stop()

    run(story)
