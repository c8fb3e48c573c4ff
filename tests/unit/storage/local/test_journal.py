"""The journal as commits use it: what is in it, its ring, and what happens where it cannot be written."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from riverlog.base.ids import Offset, PartitionId
from riverlog.base.units import KIB
from riverlog.storage.contract import Acks, Appended, LogConfig, TopicLog
from riverlog.storage.format import journal as format_journal
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.journal import Journal, Slot
from riverlog.storage.local.settings import LocalSettings
from riverlog.testing.conformance.log_engine import TOPIC, append_of, settled, values_in
from riverlog.testing.local_world import DIRECTORY, LocalWorld

COUNT = 6
PARTITIONS = [PartitionId(TOPIC.topic_id, index) for index in range(COUNT)]
WIDE = TopicLog(topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=COUNT, config=LogConfig())


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


def world_of(bytes_max: int = 1024 * KIB, files_min: int = 1) -> LocalWorld:
    settings = LocalSettings(sync_threads=2, read_threads=2, journal_bytes_max=bytes_max, journal_files_min=files_min)
    return LocalWorld([WIDE], settings)


async def everywhere(engine: LocalEngine, value: str, partitions: Sequence[PartitionId] = PARTITIONS) -> list[Appended]:
    answers = await settled(engine.append([append_of(one, value) for one in partitions], Acks.ALL))
    assert all(isinstance(answer, Appended) for answer in answers), answers
    return list(answers)


def records_of_file(world: LocalWorld, name: str) -> Sequence[format_journal.Record]:
    data = world.files.read(f"{DIRECTORY}/journal/{name}")
    return format_journal.scan(lambda count, position: data[position : position + count], len(data)).records


def test_a_commit_is_one_record_and_one_sync() -> None:
    async def story() -> None:
        world = world_of()
        engine = await world.start()
        assert not world.files.exists(f"{DIRECTORY}/journal")
        await everywhere(engine, "a")
        before = len(world.files.operations)
        await everywhere(engine, "b")
        done = [(one.kind, one.path) for one in world.files.operations[before:]]
        journal = f"{DIRECTORY}/journal/awaited-0"
        appends = [("write", f"{DIRECTORY}/topics/{TOPIC.name}-{index}/{0:020}.log") for index in range(COUNT)]
        assert done == [*appends, ("write", journal), ("sync", journal)]
        records = records_of_file(world, "awaited-0")
        assert [record.sequence for record in records] == [1, 2]
        assert [entry.partition for entry in records[1].entries] == PARTITIONS
        assert {(entry.base_offset, entry.next_offset, entry.segment) for entry in records[1].entries} == {(1, 2, 0)}
        assert {record.generation for record in records} == {engine.commit.journal.generation}  # type: ignore[union-attr]
        assert (engine.counters.journal_commits, engine.counters.syncs) == (2, 0)
        await world.stop()

    run(story)


def test_the_segments_alone_hold_what_a_checkpoint_speaks_of() -> None:
    async def story() -> None:
        world = world_of()
        engine = await world.start()
        await everywhere(engine, "a")
        partition = engine.partitions[PARTITIONS[0]]
        assert (partition.durable.offset, partition.synced.offset) == (1, 0)
        await engine.checkpoints.write()
        assert (partition.durable.offset, partition.synced.offset) == (1, 1)
        assert partition.mark is not None
        assert partition.mark.recovery_offset == 1
        assert engine.counters.settled_segments == COUNT
        await world.stop()

    run(story)


def test_a_full_ring_syncs_segments_and_goes_on() -> None:
    async def story() -> None:
        world = world_of(64 * KIB)
        engine = await world.start()
        await everywhere(engine, "a")
        with world.files.held_syncs():
            waiting = [engine.append([append_of(one, "held")], Acks.ALL) for one in PARTITIONS]
        for answer in waiting:
            await settled(answer)
        for at in range(40):
            await everywhere(engine, f"{at}" + "x" * 500)
        counters = engine.counters
        assert counters.settled_segments + counters.syncs > 0
        for half in [half for ring in engine.commit.journal.rings for half in ring.halves]:  # type: ignore[union-attr]
            assert half.capacity <= 32 * KIB
            assert half.position <= half.capacity
        total = sum(len(data) for data in world.files.dump(f"{DIRECTORY}/journal").values())
        assert total <= 64 * KIB
        await world.stop()
        engine = await world.start()
        assert len(await values_in(engine, PARTITIONS[3])) == 42
        await world.stop()

    run(story)


def test_a_half_grows_while_the_other_is_not_free() -> None:
    async def story() -> None:
        world = world_of(1024 * KIB)
        engine = await world.start()
        journal = engine.commit.journal
        assert journal is not None
        ring = journal.rings[0]
        ring.halves[0].capacity = ring.halves[1].capacity = 16 * KIB
        ring.halves[1].draining = True
        for at in range(10):
            await everywhere(engine, f"{at}")
        assert ring.active == 0
        assert ring.halves[0].capacity >= 44 * KIB
        assert engine.counters.journal_full == 0
        ring.halves[1].draining = False
        for at in range(100):
            await everywhere(engine, f"{at}", PARTITIONS[:1])
        assert engine.counters.journal_full == 0
        await world.stop()

    run(story)


def test_a_journal_that_cannot_be_synced_is_not_used_again_and_nothing_is_lost() -> None:
    async def story() -> None:
        world = world_of()
        engine = await world.start()
        await everywhere(engine, "a")
        world.files.inject("sync", "journal/awaited", errno.EIO)
        await everywhere(engine, "b")
        assert engine.counters.failed_journals == 1
        assert all(one.synced.offset == one.durable.offset == 2 for one in engine.partitions.values())
        await everywhere(engine, "c")
        assert engine.counters.journal_commits == 1
        assert engine.counters.unsynced_bytes == 0
        await world.kill()
        engine = await world.start()
        for partition in PARTITIONS:
            assert await values_in(engine, partition) == ["a", "b", "c"]
        await everywhere(engine, "d")
        assert engine.counters.journal_commits == 1
        await world.stop()

    run(story)


def test_a_full_disk_leaves_the_journal_as_long_as_it_is() -> None:
    async def story() -> None:
        world = world_of()
        engine = await world.start()
        await everywhere(engine, "a")
        world.files.inject("write", "journal/awaited", errno.ENOSPC)
        await everywhere(engine, "b")
        assert engine.counters.failed_journals == 0
        assert all(one.durable.offset == 2 for one in engine.partitions.values())
        await everywhere(engine, "c")
        await world.kill()
        engine = await world.start()
        for partition in PARTITIONS:
            assert await values_in(engine, partition) == ["a", "b", "c"]
        await world.stop()

    run(story)


def test_a_segment_that_cannot_be_read_back_is_synced_instead() -> None:
    async def story() -> None:
        world = world_of()
        engine = await world.start()
        await everywhere(engine, "a")
        world.files.inject("read", f"{TOPIC.name}-2/", errno.EIO)
        await everywhere(engine, "b")
        assert (engine.counters.journal_commits, engine.counters.syncs, engine.counters.journal_full) == (1, COUNT, 1)
        await world.stop()

    run(story)


def test_after_a_failed_write_the_next_commit_syncs_the_segment() -> None:
    async def story() -> None:
        world = world_of()
        engine = await world.start()
        await everywhere(engine, "a")
        world.files.inject("write", f"{TOPIC.name}-0/", errno.EIO)
        engine.append([append_of(PARTITIONS[0], "no")], Acks.ALL)
        assert engine.partitions[PARTITIONS[0]].segments_only
        await everywhere(engine, "b")
        partition = engine.partitions[PARTITIONS[0]]
        assert partition.synced.offset == partition.durable.offset == 2
        assert engine.partitions[PARTITIONS[1]].synced.offset == 0
        await everywhere(engine, "c")
        assert partition.synced.offset == 2
        await world.stop()

    run(story)


def test_the_topic_that_is_deleted_lets_a_half_go() -> None:
    async def story() -> None:
        world = world_of()
        engine = await world.start()
        await everywhere(engine, "a")
        journal = engine.commit.journal
        assert journal is not None
        half = journal.rings[0].halves[0]
        assert len(half.cover) == COUNT
        await engine.delete_topic(TOPIC.topic_id)
        assert not half.cover
        world.topics = []
        await world.stop()

    run(story)


def test_a_clean_stop_needs_nothing_of_the_journal() -> None:
    async def story() -> None:
        world = world_of()
        engine = await world.start()
        await everywhere(engine, "a")
        assert all(partition.synced.offset == Offset(0) for partition in engine.partitions.values())
        await world.stop()
        for name in world.files.list(f"{DIRECTORY}/journal"):
            world.files.remove(f"{DIRECTORY}/journal/{name}")
        engine = await world.start()
        assert engine.counters.replayed_bytes == 0
        for partition in PARTITIONS:
            assert await values_in(engine, partition) == ["a"]
        await world.stop()

    run(story)


@pytest.mark.parametrize("cut", [True, False])
def test_a_record_that_a_full_disk_tore_does_not_count(cut: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        world = world_of()
        engine = await world.start()
        await everywhere(engine, "a")
        failed = Journal.failed

        def make_room(journal: Journal, lane: int, slot: Slot, error: OSError) -> None:
            world.files.room_bytes = None
            failed(journal, lane, slot, error)

        monkeypatch.setattr(Journal, "failed", make_room)
        monkeypatch.setattr(engine.commit.settling, "go_on", lambda: None)
        torn = f"{DIRECTORY}/journal/awaited-0"
        waiting = engine.append([append_of(one, "b" * 1500) for one in PARTITIONS], Acks.ALL)
        if not cut:
            world.files.inject("truncate", torn, errno.EIO)
        world.files.room_bytes = 2 * KIB * 4  # the front of the record, not its end
        assert all(isinstance(answer, Appended) for answer in await settled(waiting))
        assert [record.sequence for record in records_of_file(world, "awaited-1")] == [3]
        assert [record.sequence for record in records_of_file(world, "awaited-0")] == ([1] if cut else [1, 2])
        file = world.files.open(torn)
        file.sync()  # as the system would by itself
        file.close()
        await world.kill()
        engine = await world.start()
        assert engine.counters.offline_partitions == 0
        for one in PARTITIONS:
            assert await values_in(engine, one) == ["a", "b" * 1500]
        await world.stop()

    run(story)
