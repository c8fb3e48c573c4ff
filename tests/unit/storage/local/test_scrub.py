"""The scrubber finds what nobody reads, in its own time."""

from __future__ import annotations

import asyncio
import logging

import pytest

from riverlog.base.units import MIB
from riverlog.records.checksum import crc32c
from riverlog.storage.format.checkpoint import Checksums
from riverlog.storage.local.scrub import Progress, Scrubber, scrub_window, wrong_files
from riverlog.storage.local.settings import LocalSettings
from riverlog.testing.conformance.log_engine import P0, P1, batch_of, fill
from riverlog.testing.local_world import LocalWorld
from tests.unit.storage.local.test_damage import FIVE, SIZE, filled, flip, read, run

QUIET = LocalSettings(sync_threads=2, read_threads=2, scrub_bytes_per_second=0)


async def until(world: LocalWorld, task: asyncio.Task[object]) -> None:
    """Lets time go by until the task has ended."""
    while not task.done():
        world.clock.advance(1_000)
        await asyncio.sleep(0)


async def scrub(world: LocalWorld, partition: object = P0, number: int = 0) -> object:
    assert world.engine is not None
    scrubber = Scrubber(world.engine)
    scrubber.bytes_per_second = MIB
    found = world.engine.partitions[partition]  # type: ignore[index]  # a PartitionId
    task: asyncio.Task[object] = asyncio.ensure_future(scrubber.scrub(found, found.segments[number]))
    await until(world, task)
    return task.result()


@pytest.mark.parametrize("byte", [0, 8, 16, 20, 60, SIZE - 1])
def test_a_bad_batch_is_found_and_stops_its_readers(byte: int) -> None:
    async def story() -> None:
        world = LocalWorld([FIVE], QUIET)
        engine = await filled(world)
        segment = engine.partitions[P0].segments[1]
        flip(world, segment.log_path, 2 * SIZE + byte)
        assert await scrub(world, P0, 1)
        assert segment.damaged_at == 2 * SIZE
        assert (await read(engine, 8)).error is not None
        assert await scrub(world, P1, 1)
        assert engine.counters.damaged_batches == 1
        assert engine.counters.scrubbed_bytes == 10 * SIZE
        await world.stop()

    run(story)


def test_the_checksum_of_the_file_finds_what_no_batch_shows(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        world = LocalWorld([FIVE], QUIET)
        engine = await filled(world)
        await engine.checkpoints.write()
        good, bad = engine.partitions[P0].segments[:2]
        for segment in (good, bad):
            log, index, times = (
                crc32c(world.files.read(segment.path + suffix)) for suffix in (".log", ".index", ".timeindex")
            )
            segment.checksums = Checksums(log, index, times)
        flip(world, bad.log_path, 4 * SIZE + 15)  # the leader epoch of the last batch, which no CRC covers
        flip(world, bad.index_path, 3)
        for number in (0, 1):
            assert await scrub(world, P0, number)
        assert (good.damaged_at, bad.damaged_at) == (None, 0)
        await world.stop()

    with caplog.at_level(logging.ERROR):
        run(story)
    assert any(".index is damaged" in one for one in caplog.messages)


def test_it_goes_round_and_round_at_its_own_pace() -> None:
    async def story() -> None:
        world = LocalWorld([FIVE], LocalSettings(sync_threads=2, read_threads=2, scrub_bytes_per_second=SIZE))
        engine = await filled(world)
        await engine.checkpoints.write()
        sealed = 2 * 2 * 5 * SIZE  # partitions, segments, batches
        counters = engine.counters
        for _ in range(61):
            world.clock.advance(1_000)
            await asyncio.sleep(0)
        passed = 0
        while counters.scrub_rounds < 2:
            world.clock.advance(1_000)
            await asyncio.sleep(0)
            passed += 1
        assert counters.scrubbed_bytes >= 2 * sealed
        assert passed >= 2 * sealed // SIZE - 5 * 2, "no faster than it is allowed to"
        assert counters.damaged_batches == 0
        await world.stop()

    run(story)


def test_what_it_brought_into_memory_leaves_it_and_what_was_there_stays() -> None:
    async def story() -> None:
        world = LocalWorld([FIVE], QUIET)
        engine = await filled(world)
        assert await scrub(world)
        assert not [one for one in world.files.advice if one.kind == "dontneed"]
        world.files.resident = False
        assert await scrub(world)
        (advice,) = [one for one in world.files.advice if one.kind == "dontneed"]
        assert (advice.path, advice.size) == (engine.partitions[P0].segments[0].log_path, 5 * SIZE)
        await world.stop()

    run(story)


def test_a_segment_that_goes_meanwhile_or_cannot_be_read_is_left_out() -> None:
    async def story() -> None:
        world = LocalWorld([FIVE], QUIET)
        engine = await filled(world)
        partition = engine.partitions[P0]
        world.files.inject("read", partition.segments[0].log_path, 5)
        assert not await scrub(world)
        segment = partition.segments[0]
        await engine.delete_topic(FIVE.topic_id)
        scrubber = Scrubber(engine)
        assert not await scrubber.scrub(partition, segment)
        assert engine.counters.damaged_batches == 0
        await world.stop()

    run(story)


def test_windows_hold_whole_batches_however_large() -> None:
    async def story() -> None:
        world = LocalWorld([FIVE], QUIET)
        engine = await world.start()
        await fill(engine, P0, ["a"], ["b" * 50_000], ["c"])
        first, large = len(batch_of("a")), len(batch_of("b" * 50_000))
        paths = [segment.log_path for segment in engine.partitions[P0].segments]
        whole = b"".join(world.files.read(path) for path in paths)
        file = world.files.open("/data/joined", create=True)
        file.write_at(whole, 0)
        progress = Progress()
        steps = []
        while progress.position < len(whole):
            window = scrub_window(file, len(whole), progress, 1_000, True)
            assert window.damage is None
            progress = window.progress
            steps.append(progress.position)
        assert steps == [first, first + large, len(whole)]
        assert progress.crc == crc32c(whole)
        file.truncate(len(whole) - 1)
        window = scrub_window(file, len(whole), Progress(first + large, 2, 0, 0), 1_000, True)
        assert window.damage is not None
        assert window.damage.position == first + large
        await world.stop()

    run(story)


def test_files_are_compared_with_their_checksums() -> None:
    world = LocalWorld([FIVE])
    world.files.make_directory("/d")
    file = world.files.open("/d/0.index", create=True)
    file.write_at(b"entries", 0)
    good = crc32c(b"entries")
    assert wrong_files(world.files, "/d/0", {".index": good, ".timeindex": None}) == []
    assert wrong_files(world.files, "/d/0", {".index": good + 1, ".timeindex": good}) == [".index", ".timeindex"]
    assert wrong_files(world.files, "/d/0", {".index": None}) == [".index"]
