"""Lanes and overlaps of the group commit, with files whose syncs are held."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine
from typing import Any

from riverlog.base.units import MIB
from riverlog.storage.contract import Acks, Appended
from riverlog.storage.local.group_commit import gather_bytes_max, gather_seconds_max
from riverlog.storage.local.settings import LocalSettings
from riverlog.storage.local.settling import Need
from riverlog.testing.conformance.log_engine import P0, P1, P2, TOPIC, append_of, settled
from riverlog.testing.local_world import LocalWorld


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_all_appends_of_one_turn_go_into_one_commit() -> None:
    async def story() -> None:
        world = LocalWorld([TOPIC], LocalSettings(journal_bytes_max=0))
        engine = await world.start()
        answers = [engine.append([append_of(one, "a"), append_of(P2, "b")], Acks.ALL) for one in (P0, P1, P0)]
        for answer in answers:
            await settled(answer)
        assert engine.counters.commits == 1
        assert engine.counters.syncs == 3
        await world.stop()

    run(story)


def test_what_arrives_during_a_commit_goes_into_the_next() -> None:
    async def story() -> None:
        world = LocalWorld([TOPIC])
        engine = await world.start()
        with world.files.held_syncs():
            first = engine.append([append_of(P0, "a")], Acks.ALL)
            await turns()
            later = [engine.append([append_of(one, "b")], Acks.ALL) for one in (P0, P1, P0, P1)]
            await turns()
            assert engine.counters.commits == 1
        for answer in (first, *later):
            await settled(answer)
        assert engine.counters.commits == 2
        assert engine.watermarks(P0).durable_end == 3
        await world.stop()

    run(story)


def test_bulk_that_is_being_synced_delays_nobody_who_waits_for_another_partition() -> None:
    async def story() -> None:
        world = LocalWorld([TOPIC])
        engine = await world.start()
        reader = engine.subscribe([P0], lambda: None)
        with world.files.held_syncs():
            engine.append([append_of(P0, "bulk")], Acks.LEADER)
            await turns()
            waiting = engine.append([append_of(P1, "awaited")], Acks.ALL)
            both = engine.append([append_of(P0, "awaited too")], Acks.ALL)
            await turns()
            assert engine.counters.commits == 2  # one in each lane; the partition that is in one of them waits
            assert not engine.partitions[P0].committing or not both.done()  # type: ignore[union-attr]  # a future
        assert isinstance((await settled(waiting))[0], Appended)
        assert isinstance((await settled(both))[0], Appended)
        assert engine.counters.commits == 3
        reader.close()
        await world.stop()

    run(story)


def test_what_nobody_waits_for_gathers_until_a_reader_comes() -> None:
    async def story() -> None:
        world = LocalWorld([TOPIC])
        engine = await world.start()
        engine.append([append_of(P0, "one")], Acks.LEADER)
        engine.append([append_of(P0, "two")], Acks.LEADER)
        assert engine.counters.commits == 0
        woken = asyncio.Event()
        reader = engine.subscribe([P0], woken.set)
        await woken.wait()
        assert engine.watermarks(P0).high_watermark == 2
        assert engine.counters.commits == 1
        reader.close()
        await world.stop()

    run(story)


def test_what_gathers_is_committed_by_itself_within_milliseconds() -> None:
    async def story() -> None:
        world = LocalWorld([TOPIC])
        engine = await world.start()
        engine.append([append_of(P0, "one")], Acks.LEADER)
        await engine.commit.drain()
        assert engine.watermarks(P0).durable_end == 1
        engine.append([append_of(P0, "two")], Acks.LEADER)
        waited = asyncio.get_running_loop().create_future()
        engine.commit._later(2 * gather_seconds_max, lambda: waited.set_result(None))
        await waited
        await engine.commit.drain()
        assert engine.watermarks(P0).durable_end == 2
        await world.stop()

    run(story)


def test_much_of_it_is_committed_at_once() -> None:
    async def story() -> None:
        world = LocalWorld([TOPIC])
        engine = await world.start()
        for _ in range(5):
            engine.append([append_of(P0, "x" * (gather_bytes_max // 4))], Acks.LEADER)
        await turns()
        assert engine.counters.commits == 1
        await world.stop()

    run(story)


def test_a_partition_that_somebody_waits_for_changes_lanes() -> None:
    async def story() -> None:
        world = LocalWorld([TOPIC])
        engine = await world.start()
        engine.append([append_of(P0, "bulk")], Acks.LEADER)
        await settled(engine.append([append_of(P0, "awaited")], Acks.ALL))
        assert engine.counters.commits == 1
        await world.stop()

    run(story)


def test_an_impatient_waiter_takes_nothing_away() -> None:
    async def story() -> None:
        world = LocalWorld([TOPIC])
        engine = await world.start()
        with world.files.held_syncs():
            answer = engine.append([append_of(P0, "a"), append_of(P1, "b")], Acks.ALL)
            assert isinstance(answer, asyncio.Future)
            await turns()
            answer.cancel()
        await engine.commit.drain()
        assert engine.watermarks(P0).durable_end == 1
        await settled(engine.append([append_of(P0, "c")], Acks.ALL))
        await world.stop()

    run(story)


def test_drain_without_anything_to_do_returns() -> None:
    async def story() -> None:
        world = LocalWorld([TOPIC])
        engine = await world.start()
        await engine.commit.drain()
        await world.stop()

    run(story)


def test_a_failed_commit_of_a_deleted_topic_makes_room_for_others() -> None:
    async def story() -> None:
        world = LocalWorld([TOPIC], LocalSettings(unsynced_bytes_max=100, journal_files_min=1))
        engine = await world.start()
        await settled(engine.append([append_of(P0, "a")], Acks.ALL))
        with world.files.held_syncs():
            engine.append([append_of(P0, "b" * 500)], Acks.LEADER)
            engine.append([append_of(P1, "b" * 500)], Acks.ALL)
            await turns()
            room = engine.room()
            assert room is not None
            await engine.delete_topic(TOPIC.topic_id)
            world.files.inject("sync", "journal/", errno.EIO, 2)
        await room
        await engine.commit.drain()
        assert engine.counters.unsynced_bytes == 0
        await world.stop()

    run(story)


def test_a_long_run_that_is_being_settled_keeps_nobody_from_the_journal() -> None:
    async def story() -> None:
        world = LocalWorld([TOPIC], LocalSettings(journal_bytes_max=1 * MIB, journal_files_min=1))
        engine = await world.start()
        for one in (P0, P1, P2):
            await settled(engine.append([append_of(one, "a")], Acks.ALL))
        for _ in range(4):
            engine.append([append_of(P0, "x" * 500_000)], Acks.LEADER)
        partition = engine.partitions[P0]
        with world.files.held_syncs():
            engine.commit.settling.want(Need({partition: partition.log_end}, lambda: None))
            answer = engine.append([append_of(one, "b") for one in (P0, P1, P2)], Acks.ALL)
            await turns()
            assert engine.partitions[P1].committing
            assert not engine.partitions[P1].syncing
            assert not partition.committing
            assert engine.counters.journal_full == 0
        await settled(answer)
        assert partition.durable.offset == partition.log_end
        await world.stop()

    run(story)
