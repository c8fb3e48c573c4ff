"""Compaction in a running engine: which partition and when, and what its clients notice."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from riverlog.base.errors import ErrorKind
from riverlog.base.ids import Offset
from riverlog.base.units import DAY_MS
from riverlog.storage.contract import Isolation, Read
from riverlog.storage.format.names import INDEX, LOG, TIME_INDEX
from riverlog.storage.format.offset_index import OffsetIndex
from riverlog.storage.format.time_index import TimeIndex
from riverlog.storage.local import compaction_run
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.settings import LocalSettings
from riverlog.testing.conformance.log_engine import P0, P1, content, fetched_one, settled
from riverlog.testing.conformance.log_engine import fill as fill_any
from riverlog.testing.fakes import Unsynced
from riverlog.testing.local_world import LocalWorld
from tests.compacted import (
    PARTITION,
    batches_of,
    compact,
    compacted_topic,
    files_of,
    last_values,
    put,
    records_in_log,
)

NO_CLEANER = LocalSettings(sync_threads=2, read_threads=2, cleaner_enable=False)


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def world_of(**config: Any) -> LocalWorld:
    return LocalWorld([compacted_topic(**config)], NO_CLEANER)


async def fill(engine: LocalEngine, rounds: int, keys: int = 3, value: str = "v" * 30) -> None:
    for number in range(rounds):
        await put(engine, (f"k{number % keys}", f"{value}{number}"))


def test_the_last_of_each_key_stays_at_its_offset() -> None:
    async def story() -> None:
        world = world_of()
        engine = await world.start()
        await fill(engine, 40)
        before = await records_in_log(engine)
        done = await compact(world)
        assert done is not None
        active = engine.partitions[P0].bases[-1]
        assert (done.cleaned_offset, done.passes) == (active, 1)
        after = await records_in_log(engine)
        assert after == [one for one in before if one in after]
        kept = {record.offset: record for record in before}
        assert all(kept[record.offset] == record for record in after)
        assert last_values(after) == last_values(before)
        clean = [record for record in after if record.offset < active]
        assert len(clean) == len({record.key for record in clean}) == 3
        assert engine.partitions[P0].cleaned_offset == active
        assert (engine.counters.compactions, engine.counters.compacted_records_in) == (1, active)
        assert engine.counters.compacted_bytes_out < engine.counters.compacted_bytes_in
        marks = engine.watermarks(P0)
        assert (marks.log_start, marks.log_end) == (0, 40)
        assert await compact(world) is None  # nothing is dirty
        await world.stop()

    run(story)


def test_segments_become_fewer_and_their_files_are_whole() -> None:
    async def story() -> None:
        world = world_of(file_delete_delay_ms=1000)
        engine = await world.start()
        await fill(engine, 40)
        many = engine.size(P0).segments
        engine.configure(P0.topic_id, replace(engine.partitions[P0].config, segment_bytes=2000))
        await compact(world)
        partition = engine.partitions[P0]
        assert engine.size(P0).segments < many
        assert partition.bases == [segment.base_offset for segment in partition.segments]
        first = partition.segments[0]
        assert (first.base_offset, first.compacted, first.saved) == (0, True, True)
        assert all(one.next_offset == other.base_offset for one, other in pairwise(partition.segments))
        log = world.files.read(first.path + LOG)
        assert len(log) == first.size
        OffsetIndex.decode(world.files.read(first.path + INDEX), first.base_offset)
        times = TimeIndex.decode(world.files.read(first.path + TIME_INDEX), first.base_offset)
        assert times.last is not None
        assert times.last.timestamp_ms == first.max_timestamp
        assert not [name for name in files_of(world) if name.endswith((".cleaned", ".tmp")) or name == "swap"]
        world.clock.advance(1000)
        await until(lambda: not [name for name in files_of(world) if name.endswith(".deleted")])
        await world.stop()
        again = await world.start()
        assert last_values(await records_in_log(again)).keys() == {b"k0", b"k1", b"k2"}
        assert again.partitions[P0].segments[0].compacted
        assert again.partitions[P0].cleaned_offset > 0
        await world.stop()

    run(story)


def test_a_large_run_swaps_many_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction_run, "swap_bytes_min", 500)

    async def story() -> None:
        world = world_of()
        engine = await world.start()
        await fill(engine, 40)
        before = last_values(await records_in_log(engine))
        renamed = sum(one.kind == "rename" and one.path.endswith("/swap") for one in world.files.operations)
        assert await compact(world) is not None
        assert sum(one.kind == "rename" and one.path.endswith("/swap") for one in world.files.operations) > renamed + 3
        assert last_values(await records_in_log(engine)) == before
        await world.kill(Unsynced.LOST)
        engine = await world.start()
        assert last_values(await records_in_log(engine)) == before
        assert not [name for name in files_of(world) if name == "swap"]
        await world.stop()

    run(story)


def test_tombstones_go_after_their_horizon() -> None:
    async def story() -> None:
        world = world_of(delete_retention_ms=1000, file_delete_delay_ms=0)
        engine = await world.start()
        await put(engine, ("gone", "x" * 50))
        await put(engine, ("gone", None), ("stays", "1"))
        await fill(engine, 20)
        await compact(world)
        records = await records_in_log(engine)
        assert [(one.offset, one.key, one.value) for one in records[:2]] == [(1, b"gone", None), (2, b"stays", b"1")]
        world.clock.advance(999)
        await fill(engine, 20)
        await compact(world)
        assert (await records_in_log(engine))[0].key == b"gone"
        world.clock.advance(1)
        await fill(engine, 20)
        await compact(world)
        assert (await records_in_log(engine))[0].key == b"stays"
        await world.stop()

    run(story)


def test_a_reader_of_an_old_segment_goes_on() -> None:
    async def story() -> None:
        world = world_of()
        engine = await world.start()
        await fill(engine, 40)
        old = (await fetched_one(engine, P0, 0))[1]
        held = await settled(engine.read([Read(P0, Offset(0), 300)], 300, Isolation.READ_UNCOMMITTED))
        await compact(world)
        assert content(held.partitions[0].slices)[:100] == old[0][1][:100]
        held.close()
        for offset in range(40):  # wherever somebody was, the next that is left is what they get
            _, batches = await fetched_one(engine, P0, offset, 10)
            assert batches[0][0].last_offset >= offset
        await world.stop()

    run(story)


def test_a_search_by_time_that_compaction_overtakes_begins_again() -> None:
    async def story() -> None:
        world = world_of()
        engine = await world.start()
        for number in range(40):
            await put(engine, (f"k{number % 3}", "v" * 60), time=1000 + number)
        threads, overtaken = engine.readers, []

        class Overtaking:
            def run(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
                return asyncio.ensure_future(self._run(work))

            async def _run(self, work: Callable[[], Any]) -> Any:
                found = await threads.run(work)
                if not overtaken:
                    overtaken.append(await compact(world))
                return found

            def close(self) -> None:
                threads.close()

        engine.readers = Overtaking()
        found = await engine.offset_for_time(P0, 1000)
        assert overtaken[0] is not None
        records = await records_in_log(engine)
        assert found is not None
        assert (found.offset, found.timestamp_ms) == (records[0].offset, records[0].timestamp_ms)
        newest = await engine.offset_of_max_timestamp(P0)
        assert newest is not None
        assert newest.offset == 39
        await world.stop()

    run(story)


def test_more_keys_than_memory_take_more_passes() -> None:
    async def story() -> None:
        settings = replace(NO_CLEANER, cleaner_dedupe_bytes_max=12 * 24)  # 6 keys
        world = LocalWorld([compacted_topic()], settings)
        engine = await world.start()
        await fill(engine, 60, keys=20)
        before = await records_in_log(engine)
        done = await compact(world)
        assert done.passes > 2
        after = await records_in_log(engine)
        assert last_values(after) == last_values(before)
        clean = [record.key for record in after if record.offset < done.cleaned_offset]
        assert len(clean) == len(set(clean)) == 20
        await world.stop()

    run(story)


def test_the_worker_compacts_what_is_dirty_enough() -> None:
    async def story() -> None:
        world = LocalWorld([compacted_topic(min_cleanable_dirty_ratio=0.5)])
        engine = await world.start()
        await fill(engine, 40)
        await engine.checkpoints.write()
        world.clock.advance(15_000)
        await until(lambda: engine.counters.compactions == 1)
        await fill(engine, 3)
        await engine.checkpoints.write()
        world.clock.advance(15_000)
        await until(lambda: 0 < engine.counters.dirty_ratio_max < 0.5)
        assert engine.counters.compactions == 1
        await world.stop()

    run(story)


def test_what_is_dirty_for_too_long_is_compacted_also_after_a_restart() -> None:
    async def story() -> None:
        topic = compacted_topic(min_cleanable_dirty_ratio=1.0, max_compaction_lag_ms=DAY_MS, segment_ms=DAY_MS)
        world = LocalWorld([topic])
        engine = await world.start()
        for number in range(12):
            await put(engine, ("k", "v" * 60 + str(number)), time=world.clock.now_ms())
        await world.stop()
        engine = await world.start()
        await fill(engine, 3)
        await engine.checkpoints.write()
        world.clock.advance(DAY_MS + 1)
        await until(lambda: engine.counters.compactions == 1)
        await world.stop()

    run(story)


def test_too_young_records_are_left_alone() -> None:
    async def story() -> None:
        world = world_of(min_compaction_lag_ms=10_000)
        engine = await world.start()
        for number in range(20):
            await put(engine, ("k", "v" * 60 + str(number)), time=world.clock.now_ms())
        assert await compact(world) is None
        world.clock.advance(10_000)
        assert await compact(world) is not None
        await world.stop()

    run(story)


@pytest.mark.parametrize("what", ["delete", "configure", "retain", "close"])
def test_a_run_gives_up_where_its_partition_changes(what: str) -> None:
    async def story() -> None:
        world = world_of(file_delete_delay_ms=0)
        engine = await world.start()
        await fill(engine, 40)
        await engine.checkpoints.write()
        before = await records_in_log(engine)
        partition = engine.partitions[P0]
        running = asyncio.ensure_future(engine.compacting.run_once(partition))
        await asyncio.sleep(0)
        if what == "delete":
            await engine.delete_topic(P0.topic_id)
        elif what == "configure":
            engine.configure(P0.topic_id, replace(partition.config, cleanup_compact=False))
        elif what == "retain":
            start = partition.bases[1]
            await engine.delete_before(P0, Offset(start))
            engine.upkeep.retain()
        else:
            await world.stop()
        assert await running is None
        if what != "delete":
            assert not [name for name in files_of(world) if name.endswith(".cleaned")]
        if what == "configure":
            assert await records_in_log(engine) == before
        if what == "retain":
            assert last_values(await records_in_log(engine)) == last_values(before)
        await world.stop()

    run(story)


def test_a_bad_batch_stops_it_and_is_said() -> None:
    async def story() -> None:
        world = world_of()
        engine = await world.start()
        await fill(engine, 40)
        await engine.checkpoints.write()
        partition = engine.partitions[P0]
        second = partition.segments[1]
        file = world.files.open(second.log_path)
        byte = file.read_at(1, 30)[0]
        file.write_at(bytes([byte ^ 1]), 30)
        assert await engine.compacting.run_once(partition) is None
        assert second.damaged_at == 0
        assert (engine.counters.failed_compactions, engine.counters.damaged_batches) == (1, 1)
        assert await engine.compacting.run_once(partition) is None
        assert engine.counters.failed_compactions == 1
        answer, _ = await fetched_one(engine, P0, second.base_offset)
        assert answer.error is not None
        assert answer.error.kind is ErrorKind.STORAGE
        await world.kill(Unsynced.KEPT)

    run(story)


def test_a_partition_that_cannot_be_compacted_lets_others_come_first() -> None:
    async def story() -> None:
        world = LocalWorld([compacted_topic()], replace(NO_CLEANER, cleaner_enable=True, cleaner_threads=1))
        engine = await world.start()
        for key in ("a", "b"):
            for partition in (P0, P1):
                await fill_any(engine, partition, *[[key]] * 20)
        world.files.inject("read", f"{PARTITION}/", errno.EIO, times=1000)
        await engine.checkpoints.write()
        for _ in range(2):
            failed = engine.counters.failed_compactions
            while engine.counters.failed_compactions == failed:
                world.clock.advance(1000)
                await asyncio.sleep(0.001)
        await until(lambda: engine.partitions[P1].cleaned_offset > 0)
        assert engine.partitions[P0].cleaned_offset == 0
        world.files.faults.clear()
        while not engine.partitions[P0].cleaned_offset:
            world.clock.advance(1000)
            await asyncio.sleep(0.001)
        await world.stop()

    run(story)


def test_the_rate_is_kept() -> None:
    async def story() -> None:
        settings = replace(NO_CLEANER, cleaner_io_bytes_per_second_max=1000.0)
        world = LocalWorld([compacted_topic()], settings)
        engine = await world.start()
        await fill(engine, 40)
        await engine.checkpoints.write()
        started_ms = world.clock.monotonic_ms()
        running = asyncio.ensure_future(engine.compacting.run_once(engine.partitions[P0]))
        while not running.done():
            world.clock.advance(50)
            await asyncio.sleep(0.001)
        done = running.result()
        assert done is not None
        assert world.clock.monotonic_ms() - started_ms >= (2 * done.bytes_in + done.bytes_out) / 1.0 - 2000
        await world.stop()

    run(story)


def test_the_last_batch_of_a_producer_stays_as_a_header() -> None:
    async def story() -> None:
        world = world_of()
        engine = await world.start()
        await put(engine, ("k", "1"), producer_id=7, producer_epoch=2, base_sequence=0)
        last = await put(engine, ("k", "2"), ("k", "3"), producer_id=7, producer_epoch=2, base_sequence=1)
        await fill(engine, 20, keys=1)
        await put(engine, ("k", "last"))
        await fill(engine, 20, keys=1)
        await compact(world)
        headers = {header.base_offset: header for header, _ in await batches_of(engine)}
        assert 0 not in headers
        assert (headers[last].record_count, headers[last].base_sequence, headers[last].last_offset_delta) == (0, 1, 1)
        await world.kill(Unsynced.LOST)
        world.files.remove("/data/checkpoint")
        for name in world.files.list(PARTITION):
            if name.endswith(".snapshot"):
                world.files.remove(f"{PARTITION}/{name}")
        engine = await world.start()
        (state,) = engine.producers(P0)
        assert (state.producer_id, state.producer_epoch, state.last_sequence) == (7, 2, 2)
        await world.stop()

    run(story)
