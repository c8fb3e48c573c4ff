"""The engine as a whole: what is written and synced before an answer, and what it does when the disk refuses."""

from __future__ import annotations

import asyncio
import errno
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from riverlog.base.errors import ErrorKind
from riverlog.base.ids import Offset
from riverlog.storage.contract import Acks, Appended, Durability, LogConfig, Read, Refused, TopicLog
from riverlog.storage.local.settings import LocalSettings
from riverlog.testing.conformance.log_engine import (
    BYTES_MAX,
    P0,
    P1,
    P2,
    TOPIC,
    UNCOMMITTED,
    append_of,
    appended,
    batch_of,
    fetched_one,
    fill,
    settled,
    values_in,
)
from riverlog.testing.fakes import Unsynced
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


# Write, sync, answer


def test_acks_all_is_answered_after_write_and_sync_of_file_and_names() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        world.files.operations.clear()
        await fill(engine, P0, ["a"])
        noted = [(one.kind, one.path) for one in world.files.operations]
        steps = [
            ("write", LOG),
            ("sync", LOG),
            ("sync", f"{PARTITION}/partition.metadata"),
            ("sync-directory", PARTITION),
            ("sync-directory", f"{DIRECTORY}/topics"),
        ]
        places = [noted.index(step) for step in steps]
        assert places == sorted(places)
        world.files.operations.clear()
        await fill(engine, P0, ["b"])
        assert [(one.kind, one.path) for one in world.files.operations] == [("write", LOG), ("sync", LOG)]
        await world.stop()

    run(story)


def test_nothing_is_answered_or_seen_while_the_sync_runs() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        woken: list[str] = []
        subscription = engine.subscribe([P0], lambda: woken.append("woken"))
        with world.files.held_syncs():
            at_once = engine.append([append_of(P0, "a")], Acks.LEADER)
            assert at_once == [Appended(Offset(0), Offset(1), Offset(0))]
            later = engine.append([append_of(P0, "b")], Acks.ALL)
            assert isinstance(later, asyncio.Future)
            cut = asyncio.ensure_future(engine.cut([P0], UNCOMMITTED))
            await turns()
            assert not later.done()
            assert not cut.done()
            marks = engine.watermarks(P0)
            assert (marks.log_end, marks.durable_end, marks.high_watermark) == (2, 0, 0)
            assert (await fetched_one(engine, P0, 0))[1] == []
            assert woken == []
        assert await later == [Appended(Offset(1), Offset(2), Offset(0))]
        assert await cut == {P0: 2}
        await turns()
        assert woken
        subscription.close()
        await world.stop()

    run(story)


def test_a_duplicate_waits_until_its_original_is_durable() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        with world.files.held_syncs():
            first = engine.append([append_of(P0, "a", producer=(1, 0, 0))], Acks.ALL)
            again = engine.append([append_of(P0, "a", producer=(1, 0, 0))], Acks.ALL)
            await turns()
            assert isinstance(again, asyncio.Future)
            assert not again.done()
        assert await settled(again) == [Appended(Offset(0), Offset(1), Offset(0), True)]
        assert (await settled(first))[0] == Appended(Offset(0), Offset(1), Offset(0))
        await world.stop()

    run(story)


def test_page_cache_topics_are_answered_and_read_at_once() -> None:
    async def story() -> None:
        world = LocalWorld([topic(durability=Durability.PAGE_CACHE)])
        engine = await world.start()
        with world.files.held_syncs():
            answer = engine.append([append_of(P0, "a")], Acks.ALL)
            assert answer == [Appended(Offset(0), Offset(1), Offset(0))]
            assert await values_in(engine, P0) == ["a"]
            marks = engine.watermarks(P0)
            assert (marks.high_watermark, marks.durable_end) == (1, 0)
        await world.kill(Unsynced.KEPT)
        engine = await world.start()
        assert await values_in(engine, P0) == ["a"]
        await world.stop()

    run(story)


def test_flush_settings_bound_what_page_cache_topics_leave_unsynced() -> None:
    async def story() -> None:
        world = LocalWorld([topic(durability=Durability.PAGE_CACHE, flush_messages=3, flush_ms=5000)])
        engine = await world.start()
        engine.append([append_of(P0, "a", "b")], Acks.LEADER)
        await turns()
        assert engine.counters.commits == 0
        engine.append([append_of(P0, "c")], Acks.LEADER)
        await engine.commit.drain()
        assert engine.watermarks(P0).durable_end == 3
        engine.append([append_of(P0, "d")], Acks.LEADER)
        await turns()
        assert engine.watermarks(P0).durable_end == 3
        world.clock.advance(5000)
        await turns()
        await engine.commit.drain()
        assert engine.watermarks(P0).durable_end == 4
        await world.stop()

    run(story)


def test_what_recovery_kept_is_synced_before_it_is_served() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        with world.files.held_syncs():
            engine.append([append_of(P0, "a")], Acks.LEADER)
            await turns()
            await world.kill(Unsynced.KEPT)
        engine = await world.start()
        assert await values_in(engine, P0) == ["a"]
        await world.kill(Unsynced.LOST)
        engine = await world.start()
        assert await values_in(engine, P0) == ["a"]
        await world.stop()

    run(story)


def test_a_checkpoint_waits_for_the_commit_of_what_it_speaks_of() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        with world.files.held_syncs():
            engine.append([append_of(P0, "a")], Acks.LEADER)
            checkpoint = asyncio.ensure_future(engine.checkpoints.write())
            before = world.files.read(f"{DIRECTORY}/checkpoint")
            await turns(50)
            assert not checkpoint.done()
            assert world.files.read(f"{DIRECTORY}/checkpoint") == before
        await checkpoint
        await world.kill()
        engine = await world.start()
        assert await values_in(engine, P0) == ["a"]
        await world.stop()

    run(story)


# Room


def test_too_much_unsynced_asks_to_wait() -> None:
    async def story() -> None:
        world = LocalWorld([topic()], LocalSettings(unsynced_bytes_max=500, sync_threads=1, read_threads=1))
        engine = await world.start()
        with world.files.held_syncs():
            assert engine.room() is None
            engine.append([append_of(P0, "x" * 600)], Acks.LEADER)
            room = engine.room()
            assert inspect.isawaitable(room)
            waiting = asyncio.ensure_future(room)
            await turns()
            assert not waiting.done()
        await waiting
        assert engine.room() is None
        assert engine.counters.unsynced_bytes == 0
        await world.stop()

    run(story)


# Disks that refuse


@pytest.mark.parametrize("room_bytes", [0, 30])
def test_a_full_disk_refuses_one_partition_and_is_over_when_there_is_room(room_bytes: int) -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        await fill(engine, P0, ["a"])
        await fill(engine, P1, ["b"])
        size = world.files.size(LOG)
        world.files.room_bytes = room_bytes
        (refused,) = await appended(engine, [append_of(P0, "c", producer=(1, 0, 0))])
        assert isinstance(refused, Refused)
        assert refused.error.kind is ErrorKind.STORAGE
        assert "make room" in refused.error.message
        assert world.files.size(LOG) == size
        assert await values_in(engine, P0) == ["a"]
        world.files.room_bytes = None
        (answer,) = await appended(engine, [append_of(P0, "c", producer=(1, 0, 0))])
        assert answer == Appended(Offset(1), Offset(2), Offset(0))
        await world.stop()
        engine = await world.start()
        assert engine.counters.cut_bytes == 0
        assert await values_in(engine, P0) == ["a", "c"]
        await world.stop()

    run(story)


def test_a_partial_write_that_cannot_be_cut_off_is_cut_before_the_next() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        await fill(engine, P0, ["a"])
        world.files.room_bytes = 30
        world.files.inject("truncate", LOG, errno.EIO)
        (refused,) = await appended(engine, [append_of(P0, "lost" * 50)])
        assert isinstance(refused, Refused)
        assert world.files.size(LOG) > len(batch_of("a"))
        world.files.room_bytes = None
        await fill(engine, P0, ["b"])
        assert world.files.size(LOG) == 2 * len(batch_of("a"))
        assert await values_in(engine, P0) == ["a", "b"]
        await world.stop()

    run(story)


def test_one_partition_of_a_request_may_fail_alone() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        world.files.inject("write", "rivers-1/0", errno.EIO)
        answers = await appended(engine, [append_of(P0, "a"), append_of(P1, "b"), append_of(P2, "c")])
        assert [type(answer) for answer in answers] == [Appended, Refused, Appended]
        assert engine.counters.failed_writes == 1
        await world.stop()

    run(story)


def test_a_damaged_batch_is_not_given_to_a_cold_reader() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        await fill(engine, P0, ["a"], ["b"], ["c"])
        size = len(batch_of("a"))
        world.files.open(LOG).write_at(b"\xff", size + size - 2)
        world.files.resident = False
        answer, batches = await fetched_one(engine, P0, 0)
        assert [header.base_offset for header, _ in batches] == [0]
        answer, batches = await fetched_one(engine, P0, 1)
        assert batches == []
        assert answer.error is not None
        assert answer.error.kind is ErrorKind.STORAGE
        await world.stop()

    run(story)


def test_cold_reads_do_not_happen_on_the_loop() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        await fill(engine, P0, ["a"])
        world.files.resident = False
        answer = engine.read([Read(P0, Offset(0), BYTES_MAX)], BYTES_MAX, UNCOMMITTED)
        assert inspect.isawaitable(answer)
        (await answer).close()
        assert engine.counters.cold_reads == 1
        await world.stop()

    run(story)


def test_deleting_a_topic_fails_those_who_wait_and_removes_its_files() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        await fill(engine, P1, ["b"])
        with world.files.held_syncs():
            waiting = engine.append([append_of(P0, "a")], Acks.ALL)
            await turns()
            await engine.delete_topic(TOPIC.topic_id)
            (refused,) = await settled(waiting)
            assert isinstance(refused, Refused)
            assert refused.error.kind is ErrorKind.UNKNOWN_TOPIC
        world.topics = []
        await world.stop()  # perhaps before the files are gone: then the next start removes them
        assert engine.counters.unsynced_bytes == 0
        engine = await world.start()
        while engine.upkeep.removal.waiting:
            await asyncio.sleep(0.001)  # a thread does it
        await world.stop()
        assert world.files.list(f"{DIRECTORY}/topics") == []
        assert not world.files.exists(f"{DIRECTORY}/orphans")

    run(story)


def test_what_was_unsynced_when_a_topic_asks_for_fsync_is_synced_at_once() -> None:
    async def story() -> None:
        world = LocalWorld([topic(durability=Durability.PAGE_CACHE)])
        engine = await world.start()
        engine.append([append_of(P0, "a")], Acks.ALL)
        engine.configure(TOPIC.topic_id, LogConfig(durability=Durability.FSYNC))
        await engine.commit.drain()
        marks = engine.watermarks(P0)
        assert (marks.durable_end, marks.high_watermark) == (1, 1)
        await world.kill()
        engine = await world.start()
        assert await values_in(engine, P0) == ["a"]
        await world.stop()

    run(story)


def test_a_deleted_topic_gives_its_room_to_those_who_wait() -> None:
    async def story() -> None:
        world = LocalWorld([topic()], LocalSettings(unsynced_bytes_max=500, sync_threads=1, read_threads=1))
        engine = await world.start()
        engine.append([append_of(P0, "x" * 600)], Acks.LEADER)
        room = engine.room()
        assert room is not None
        await engine.delete_topic(TOPIC.topic_id)
        await asyncio.wait_for(room, 5)
        await world.stop()

    run(story)


def test_a_closed_engine_writes_nothing_and_leaves_nobody_waiting() -> None:
    async def story() -> None:
        world = LocalWorld([topic()], LocalSettings(unsynced_bytes_max=1, sync_threads=1, read_threads=1))
        engine = await world.start()
        engine.append([append_of(P0, "a")], Acks.ALL)
        room = engine.room()
        await world.stop()
        assert room is not None
        await asyncio.wait_for(room, 5)
        before = world.files.dump(DIRECTORY)
        (refused,) = await appended(engine, [append_of(P0, "late")])
        assert isinstance(refused, Refused)
        assert world.files.dump(DIRECTORY) == before

    run(story)
