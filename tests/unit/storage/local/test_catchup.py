"""Turns at the disk: fair, limited, ahead of readers, and clean behind them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from riverlog.base.ids import Offset
from riverlog.base.units import MIB
from riverlog.env.entropy import SeededEntropy
from riverlog.storage.contract import Isolation, LogConfig, Read
from riverlog.storage.local import catchup
from riverlog.storage.local.catchup import Turns, chunk_bytes, drop
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.reading import Extent
from riverlog.storage.local.settings import LocalSettings
from riverlog.testing.clock import ManualClock
from riverlog.testing.conformance.log_engine import P0, P1, batches_in, content, fill, settled
from riverlog.testing.local_world import LocalWorld
from tests.unit.storage.local.test_damage import FIVE, SIZE, offsets, read, run
from tests.unit.storage.local.test_reading import ColdFiles

SETTINGS = LocalSettings(sync_threads=2, read_threads=2, scrub_bytes_per_second=0)
UNCOMMITTED = Isolation.READ_UNCOMMITTED


async def turns_of(loop: int = 5) -> None:
    for _ in range(loop):
        await asyncio.sleep(0)


def test_lines_are_served_in_turn() -> None:
    async def story() -> None:
        world = LocalWorld([FIVE], SETTINGS)
        turns = Turns(await world.start(), 1, 0)
        served: list[str] = []

        async def one(key: str, name: str) -> None:
            await turns.take(key)
            served.append(name)

        await turns.take("first")
        assert not turns.is_idle
        assert not turns.try_take()
        waiting = [asyncio.ensure_future(one(name[0], name)) for name in ("a1", "a2", "a3", "b1", "b2", "c1")]
        await turns_of()
        assert served == []
        waiting[1].cancel()
        await turns_of()
        for _ in range(6):
            turns.give_back(0)
            await turns_of()
        assert served == ["a1", "b1", "c1", "a3", "b2"]
        assert turns.is_idle
        assert turns.try_take()
        await world.stop()

    run(story)


def test_one_who_goes_as_his_turn_comes_gives_it_on() -> None:
    async def story() -> None:
        world = LocalWorld([FIVE], SETTINGS)
        turns = Turns(await world.start(), 1, 0)
        await turns.take("a")
        first, second = (asyncio.ensure_future(turns.take(key)) for key in "bc")
        await turns_of()
        turns.give_back(0)
        first.cancel()
        await turns_of()
        assert first.cancelled()
        assert second.done()
        await world.stop()

    run(story)


def test_bytes_of_a_second_are_limited() -> None:
    async def story() -> None:
        world = LocalWorld([FIVE], SETTINGS)
        turns = Turns(await world.start(), 2, 1_000)
        await turns.take("a")
        turns.give_back(3_000)
        waiting = asyncio.ensure_future(turns.take("a"))
        await turns_of()
        assert not turns.try_take()
        world.clock.advance(2_999 - catchup.credit_ms)
        await turns_of()
        assert not waiting.done()
        world.clock.advance(1)
        await turns_of()
        assert waiting.done()
        turns.give_back(500)
        world.clock.advance(500)
        await asyncio.wait_for(turns.take("b"), 1)
        await world.stop()

    run(story)


def test_chunks_are_small_where_bytes_are_limited() -> None:
    assert chunk_bytes(0) == 4 * MIB
    assert chunk_bytes(1 << 40) == 4 * MIB
    assert chunk_bytes(4 * MIB) == MIB
    assert chunk_bytes(1) == catchup.chunk_bytes_min


def test_an_engine_that_is_closed_lets_nobody_wait_for_his_bytes() -> None:
    async def story() -> None:
        world = LocalWorld([FIVE], replace(SETTINGS, catchup_bytes_per_second=1))
        engine = await world.start()
        await fill(engine, P0, ["a"], ["b"])
        world.files.resident = False
        assert offsets(await read(engine, 0)) == [0, 1]
        waiting = asyncio.ensure_future(read(engine, 1))
        await turns_of()
        assert not waiting.done()
        await world.stop()
        await waiting

    run(story)


async def ahead_of(engine: LocalEngine) -> list[int]:
    """The offsets for which something was read ahead, once it is there."""
    found = dict(engine.catchup.ahead)
    await asyncio.gather(*(ahead.reading for ahead in found.values()))
    return [int(offset) for _, offset in found]


def test_who_reads_on_and_on_finds_the_next_chunk_read() -> None:
    async def story() -> None:
        world = LocalWorld([FIVE], SETTINGS)
        engine = await world.start()
        await fill(engine, P0, *[[f"{at:02d}"] for at in range(12)])
        world.files.resident = False
        assert offsets(await read(engine, 0, 2 * SIZE)) == [0, 1]
        assert await ahead_of(engine) == [], "one read may be the only one"
        assert offsets(await read(engine, 2, 2 * SIZE)) == [2, 3]
        assert await ahead_of(engine) == [4]
        assert offsets(await read(engine, 4, 2 * SIZE)) == [4]
        assert engine.counters.ahead_reads == 1
        assert await ahead_of(engine) == [5], "in the next segment"
        for offset, there in ((5, [5, 6]), (7, [7, 8]), (9, [9]), (10, [10, 11])):
            assert offsets(await read(engine, offset, 2 * SIZE)) == there
            await ahead_of(engine)
        assert engine.counters.ahead_reads == 5
        assert await ahead_of(engine) == [], "nothing is left to be read"
        assert all(segment.users == 0 for segment in engine.partitions[P0].segments)
        await world.stop()

    run(story)


def test_what_was_read_ahead_is_not_given_where_it_does_not_fit() -> None:
    async def story() -> None:
        world = LocalWorld([FIVE], SETTINGS)
        engine = await world.start()
        await fill(engine, P0, *[[f"{at:02d}"] for at in range(12)])
        world.files.resident = False
        for offset in (0, 2):
            await read(engine, offset, 2 * SIZE)
        assert await ahead_of(engine) == [4]
        await read(engine, 5, 2 * SIZE)
        await read(engine, 7, 2 * SIZE)
        assert await ahead_of(engine) == [4, 9]
        assert offsets(await read(engine, 9, 10)) == [9], "less was asked for than was read"
        world.files.inject("read", ".log", 5)
        assert offsets(await read(engine, 4, 2 * SIZE)) == [4]
        assert engine.counters.ahead_reads == 1
        await world.stop()

    run(story)


def test_a_failed_read_ahead_is_tried_again_by_who_asks() -> None:
    async def story() -> None:
        world = LocalWorld([FIVE], SETTINGS)
        engine = await world.start()
        await fill(engine, P0, *[[f"{at:02d}"] for at in range(12)])
        world.files.resident = False
        await read(engine, 0, 2 * SIZE)
        answer = await settled(engine.read([Read(P0, Offset(2), 2 * SIZE)], 2 * SIZE, UNCOMMITTED))
        (ahead,) = engine.catchup.ahead.values()
        answer.close()
        segment = engine.partitions[P0].segments[0]
        await asyncio.wait([ahead.reading])
        engine.catchup._forget_ahead(next(iter(engine.catchup.ahead)))
        world.files.inject("read", segment.log_path, 5)
        assert engine.catchup.turns.try_take()
        failing = engine.catchup._launch(catchup.make_cold(segment, segment.size, Offset(4), SIZE, True))
        await asyncio.wait([failing])
        assert isinstance(failing.exception(), OSError)
        engine.catchup.ahead[(P0, Offset(4))] = catchup.Ahead(segment, SIZE, failing)
        assert offsets(await read(engine, 4)) == [4]
        assert segment.users == 0
        await world.stop()

    run(story)


def test_readers_who_went_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was read for them leaves the page cache."""
    monkeypatch.setattr(catchup, "ahead_bytes_max", 4 * SIZE)
    monkeypatch.setattr(catchup, "drop_lag_bytes", 0)
    monkeypatch.setattr(catchup, "tail_kept_bytes", 2 * SIZE)

    async def story() -> None:
        world = LocalWorld([FIVE], SETTINGS)
        engine = await world.start()
        await fill(engine, P0, *[[f"{at:02d}"] for at in range(40)])
        world.files.resident = False
        for offset in (0, 2, 10, 12, 20, 22):
            await read(engine, offset, 2 * SIZE)
            await ahead_of(engine)
        assert await ahead_of(engine) == [4, 14], "for a third one there is no room"
        world.clock.advance(catchup.ahead_ms_max)
        dropped = engine.counters.dropped_bytes
        await read(engine, 24, 2 * SIZE)
        assert await ahead_of(engine) == [25]
        assert engine.counters.dropped_bytes == dropped + 2 * SIZE
        assert offsets(await read(engine, 25, 2 * SIZE)) == [25, 26]
        assert engine.counters.ahead_reads == 1
        await world.stop()

    run(story)


def test_the_disk_is_no_ones_for_ever() -> None:
    """Eight readers of two partitions, of whom each gets everything."""

    async def story() -> None:
        world = LocalWorld([FIVE], replace(SETTINGS, catchup_threads=1))
        engine = await world.start()
        for partition in (P0, P1):
            await fill(engine, partition, *[[f"{at:02d}"] for at in range(30)])
        world.files.resident = False

        async def reader(partition: Any) -> list[int]:
            seen: list[int] = []
            while len(seen) < 30:
                seen += offsets(await read(engine, len(seen), 3 * SIZE, partition))
            return seen

        found = await asyncio.gather(*(reader(partition) for partition in [P0] * 6 + [P1] * 2))
        assert found == [list(range(30))] * 8
        await ahead_of(engine)
        assert engine.catchup.turns.is_idle
        await world.stop()

    run(story)


def test_a_reader_loses_nothing_to_segments_that_go_while_he_reads() -> None:
    async def story() -> None:
        world = LocalWorld([FIVE], SETTINGS)
        engine = await world.start()
        await fill(engine, P0, *[[f"{at:02d}"] for at in range(18)])
        partition = engine.partitions[P0]
        world.files.resident = False
        reading = asyncio.ensure_future(read(engine, 3, 100 * SIZE))
        await turns_of(1)
        gone = partition.drop_first(1)
        engine.descriptors.doom(gone[0])
        found = await reading
        assert found.error is not None or offsets(found) == [3, 4]
        assert offsets(await read(engine, 5, 2 * SIZE)) == [5, 6]
        await world.stop()

    run(story)


def test_a_segment_that_was_replaced_while_its_end_was_looked_for_is_asked_again() -> None:
    """Where an offset lies behind the last batch of a segment that compaction replaces meanwhile, nothing is passed over."""

    async def story() -> None:
        world = LocalWorld([FIVE], SETTINGS)
        engine = await world.start()
        await fill(engine, P0, *[[f"{at:02d}"] for at in range(12)])
        partition = engine.partitions[P0]
        old = partition.segments[0]
        world.files.resident = False
        index, size = old.index, old.size
        old.index = None
        old.size = 3 * SIZE  # as if its last two batches had been compacted away
        reading = asyncio.ensure_future(read(engine, 4, SIZE))
        await turns_of(1)
        fresh = type(old)(partition.directory, old.base_offset, 0)
        fresh.next_offset, fresh.size, fresh.index = old.next_offset, size, index
        partition.segments[0] = fresh
        engine.descriptors.doom(old)
        assert offsets(await reading) == [4]
        await world.stop()

    run(story)


def test_old_pages_leave_memory_behind_their_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catchup, "drop_lag_bytes", 0)
    monkeypatch.setattr(catchup, "tail_kept_bytes", 2 * SIZE)

    async def story() -> None:
        engine = await LocalEngine.open(
            str(tmp_path / "d"),
            SETTINGS,
            files=ColdFiles(),
            clock=ManualClock(),
            entropy=SeededEntropy(0),
            topics=[replace(FIVE, config=LogConfig(segment_bytes=5 * SIZE, index_interval_bytes=SIZE))],
        )
        await fill(engine, P0, *[[f"{at:02d}"] for at in range(12)])
        dropped = 0
        for offset, count in ((0, 5), (5, 5), (10, 2)):
            fetched = await settled(engine.read([Read(P0, Offset(offset), 100 * SIZE)], 100 * SIZE, UNCOMMITTED))
            assert len(batches_in(content(fetched.partitions[0].slices))) == count
            assert engine.counters.dropped_bytes == dropped, "not before it was sent"
            fetched.close()
            dropped += 0 if offset == 10 else count * SIZE
            assert engine.counters.dropped_bytes == dropped, "and not the end"
        await engine.close()

    run(story)


def test_pages_stay_for_a_reader_who_is_close_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catchup, "drop_lag_bytes", 0)
    monkeypatch.setattr(catchup, "tail_kept_bytes", 0)

    async def story() -> None:
        world = LocalWorld([FIVE], SETTINGS)
        engine = await world.start()
        await fill(engine, P0, *[[f"{at:02d}"] for at in range(12)])
        world.files.resident = False
        (await read(engine, 0, SIZE)).slices.close()  # the slower one goes on at 1
        dropped = engine.counters.dropped_bytes
        (await read(engine, 2, 2 * SIZE)).slices.close()
        assert engine.counters.dropped_bytes == dropped
        (await read(engine, 5, 2 * SIZE)).slices.close()
        assert engine.counters.dropped_bytes == dropped + 2 * SIZE, "in another segment nobody is behind"
        await world.stop()

    run(story)


def test_extents_are_dropped_one_by_one() -> None:
    world = LocalWorld([FIVE])
    world.files.make_directory("/d")
    file = world.files.open("/d/a", create=True)
    drop(file, [Extent(0, 10), Extent(20, 5)])
    assert [(one.position, one.size) for one in world.files.advice] == [(0, 10), (20, 5)]
