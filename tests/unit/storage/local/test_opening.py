"""Taking a data directory: the lock, directories that nobody knows, directories that are gone, Kafka's own files."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import PartitionId, TopicId
from riverlog.env.files import write_file
from riverlog.storage.contract import Acks, LogConfig, Refused, TopicLog
from riverlog.storage.format import partition_metadata
from riverlog.storage.local.settings import LocalSettings
from riverlog.testing.conformance.log_engine import P0, P1, TOPIC, append_of, appended, fill, settled, values_in
from riverlog.testing.fakes import Unsynced
from riverlog.testing.local_world import DIRECTORY, LocalWorld

PARTITION = f"{DIRECTORY}/topics/rivers-0"
METADATA = f"{PARTITION}/partition.metadata"


def topic(**config: Any) -> TopicLog:
    return TopicLog(topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=3, config=LogConfig(**config))


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


def torn(world: LocalWorld, left: bytes | None) -> None:
    """What a crash left of the metadata of the first partition; None: not even its name."""
    if world.files.exists(METADATA):
        world.files.remove(METADATA)
    if left is not None:
        write_file(world.files, METADATA, left)
    world.files.sync_directory(PARTITION)


def test_a_directory_that_vanished_is_not_begun_anew() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        await fill(engine, P0, ["a"])
        await world.stop()
        world.files.remove_tree(f"{DIRECTORY}/topics/rivers-0")
        engine = await world.start()
        with pytest.raises(RiverlogError, match="is gone"):
            engine.watermarks(P0)
        await world.stop()

    run(story)


def test_directories_of_unknown_topics_become_orphans() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        await fill(engine, P0, ["a"])
        await world.stop()
        known, world.topics = world.topics, []
        engine = await world.start()
        assert engine.counters.orphans == 1
        await world.stop()
        assert "rivers-0/00000000000000000000.log" in world.files.dump(f"{DIRECTORY}/orphans")
        assert world.files.list(f"{DIRECTORY}/topics") == []
        del known

    run(story)


def test_a_directory_of_another_topic_of_the_same_name_becomes_an_orphan() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        await fill(await world.start(), P0, ["old"])
        await world.stop()
        again = TopicLog(topic_id=TopicId(b"a later topic id"), name=TOPIC.name, partition_count=1)
        world.topics = [again]
        engine = await world.start()
        fresh = PartitionId(again.topic_id, 0)
        assert engine.watermarks(fresh).log_end == 0
        assert engine.counters.orphans == 1
        await fill(engine, fresh, ["new"])
        assert await values_in(engine, fresh) == ["new"]
        await world.stop()

    run(story)


@pytest.mark.parametrize("left", [None, b"", b"version: 0\ntopic"])
def test_records_beside_torn_metadata_are_not_taken_for_those_of_a_later_topic(left: bytes | None) -> None:
    """The rename of a deleted topic's directory was not durable, nor was anything in it synced."""

    async def story() -> None:
        world = LocalWorld([topic()])
        await fill(await world.start(), P0, ["old"])
        await world.kill(Unsynced.KEPT)
        torn(world, left)
        again = TopicLog(topic_id=TopicId(b"a later topic id"), name=TOPIC.name, partition_count=1)
        world.topics = [again]
        engine = await world.start()
        fresh = PartitionId(again.topic_id, 0)
        assert engine.watermarks(fresh).log_end == 0
        assert engine.counters.orphans == 1
        assert "rivers-0/00000000000000000000.log" in world.files.dump(f"{DIRECTORY}/orphans")
        await fill(engine, fresh, ["new"])
        await world.kill(Unsynced.LOST)
        assert await values_in(await world.start(), fresh) == ["new"]
        await world.stop()

    run(story)


@pytest.mark.parametrize("left", [None, b"", b"version: 0\ntopic"])
def test_what_only_the_journal_made_durable_survives_torn_metadata(left: bytes | None) -> None:
    async def story() -> None:
        world = LocalWorld([topic()], LocalSettings(sync_threads=2, read_threads=2, journal_files_min=1))
        engine = await world.start()
        await fill(engine, P0, ["a"], ["b"])
        assert engine.partitions[P0].synced.offset == 0
        await world.kill(Unsynced.KEPT)
        torn(world, left)
        engine = await world.start()
        assert engine.counters.orphans == 1
        assert await values_in(engine, P0) == ["a", "b"]
        await world.stop()

    run(story)


@pytest.mark.parametrize("left", [None, b"", b"version: 0\ntopic"])
@pytest.mark.parametrize("checkpoint", [True, False])
def test_damaged_metadata_beside_records_that_were_synced_is_made_again(left: bytes | None, checkpoint: bool) -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        await fill(engine, P0, ["a"])
        await engine.checkpoints.write()
        await world.kill(Unsynced.LOST)
        whole = world.files.read(METADATA)
        torn(world, left)
        if not checkpoint:
            world.files.remove(f"{DIRECTORY}/checkpoint")
        engine = await world.start()
        assert engine.counters.orphans == 0
        await world.kill(Unsynced.LOST)
        assert world.files.read(METADATA) == whole
        assert await values_in(await world.start(), P0) == ["a"]
        await world.stop()

    run(story)


@pytest.mark.parametrize("clean", [True, False])
def test_a_directory_without_records_is_synced_with_its_first_one(clean: bool) -> None:
    """It was made, nothing came into it, and a checkpoint tells of its empty segment."""

    async def story() -> None:
        world = LocalWorld([topic()], LocalSettings(sync_threads=2, read_threads=2, journal_bytes_max=0))
        engine = await world.start()
        engine.partitions[P0].roll(world.clock.now_ms())
        await engine.checkpoints.write()
        if clean:
            await world.stop()
        else:
            await world.kill(Unsynced.KEPT)
        engine = await world.start()
        assert engine.partitions[P0].made
        await fill(engine, P0, ["a"])
        await world.kill(Unsynced.LOST)
        engine = await world.start()
        assert engine.counters.orphans == 0
        assert await values_in(engine, P0) == ["a"]
        await world.stop()

    run(story)


def test_a_directory_that_has_only_metadata_takes_its_first_record() -> None:
    """The process was killed before it had made the other files."""

    async def story() -> None:
        world = LocalWorld([topic()], LocalSettings(sync_threads=2, read_threads=2, journal_bytes_max=0))
        await world.start()
        world.files.make_directory(PARTITION)
        torn(world, partition_metadata.encode(TOPIC.topic_id))
        await world.kill(Unsynced.KEPT)
        engine = await world.start()
        await fill(engine, P0, ["a"])
        assert engine.counters.failed_syncs == 0
        await world.kill(Unsynced.LOST)
        assert await values_in(await world.start(), P0) == ["a"]
        await world.stop()

    run(story)


def test_metadata_whose_sync_failed_is_written_again_before_a_record_is_durable() -> None:
    async def story() -> None:
        world = LocalWorld([topic()], LocalSettings(sync_threads=2, read_threads=2, journal_bytes_max=0))
        engine = await world.start()
        world.files.inject("sync", METADATA, errno.EIO)
        (refused,) = await settled(engine.append([append_of(P0, "a")], Acks.ALL))
        assert isinstance(refused, Refused)
        for _ in range(1000):
            if engine.partitions[P0].failure is None:
                break
            await asyncio.sleep(0.001)  # threads cut it back
        await fill(engine, P0, ["b"])
        await world.kill(Unsynced.LOST)
        engine = await world.start()
        assert engine.counters.orphans == 0
        assert await values_in(engine, P0) == ["b"]
        await world.stop()

    run(story)


def test_a_second_process_is_told_who_has_the_directory() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        engine.announce({"kafka": "127.0.0.1:9092"})
        other = LocalWorld([topic()])
        other.files = world.files
        with pytest.raises(RiverlogError, match=r"process \d+ \(kafka on 127.0.0.1:9092\)"):
            await other.start()
        await world.stop()
        await other.start()
        await other.stop()

    run(story)


def test_identity_and_starts_are_kept() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        first = await world.start()
        await world.kill()
        second = await world.start()
        assert (second.cluster_id, second.node_id) == (first.cluster_id, first.node_id)
        assert (first.starts, second.starts) == (1, 2)
        assert json.loads(world.files.read(f"{DIRECTORY}/meta.json"))["starts"] == 2
        await world.stop()

    run(story)


def test_a_directory_of_a_later_format_is_refused_and_unlocked() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        await world.start()
        await world.stop()
        meta = json.loads(world.files.read(f"{DIRECTORY}/meta.json"))
        file = world.files.open(f"{DIRECTORY}/meta.json")
        file.truncate(0)
        file.write_at(json.dumps(meta | {"format_version": 9}).encode(), 0)
        with pytest.raises(RiverlogError, match="format 9"):
            await world.start()
        assert world.files.locks == {}

    run(story)


def test_the_topics_may_be_asked_for_once_the_directory_is_locked() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        asked: list[bool] = []

        async def topics() -> list[TopicLog]:
            asked.append(bool(world.files.locks))
            return [topic()]

        world.topics_function = topics
        engine = await world.start()
        assert asked == [True]
        await fill(engine, P0, ["a"])
        await world.stop()

    run(story)


def test_a_failed_open_leaves_no_lock_and_no_thread() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        world.files.inject("rename", "meta.json", errno.EIO)
        with pytest.raises(OSError, match="Input/output"):
            await world.start()
        assert world.files.locks == {}
        await world.start()
        await world.stop()

    run(story)


def test_a_thousand_partitions_without_records_make_no_file() -> None:
    async def story() -> None:
        many = TopicLog(topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=1000)
        world = LocalWorld([many])
        engine = await world.start()
        await fill(engine, PartitionId(many.topic_id, 700), ["a"])
        assert world.files.list(f"{DIRECTORY}/topics") == ["rivers-700"]
        await world.kill(Unsynced.LOST)
        engine = await world.start()
        assert engine.watermarks(P1).leader_epoch == 1
        assert await values_in(engine, PartitionId(many.topic_id, 700)) == ["a"]
        await world.stop()

    run(story)


def test_an_open_topic_does_not_adopt_a_directory_that_lies_there() -> None:
    async def story() -> None:
        world = LocalWorld([])
        engine = await world.start()
        world.files.make_directory(f"{DIRECTORY}/topics/rivers-0")
        await engine.open_topic(topic())
        assert engine.counters.orphans == 1
        (answer,) = await appended(engine, [append_of(P0, "a")])
        assert answer.log_start_offset == 0
        await world.stop()

    run(story)
