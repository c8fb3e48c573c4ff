"""A swap of segments that is interrupted anywhere: the next start has the old or the new, whole, and everybody's last value."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from riverlog.base.errors import Corruption, RiverlogError
from riverlog.base.ids import LeaderEpoch, Offset, PartitionId, Position
from riverlog.env.entropy import SeededEntropy
from riverlog.storage.format import swap
from riverlog.storage.format.checkpoint import PartitionMark, SegmentMark
from riverlog.storage.format.swap import Group, Swap
from riverlog.storage.local import swaps
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.settings import LocalSettings
from riverlog.testing.conformance.log_engine import P0, P1
from riverlog.testing.fakes import CrashableFiles, Operation, Unsynced
from riverlog.testing.local_world import LocalWorld
from tests.compacted import PARTITION, compact, compacted_topic, files_of, last_values, put, records_in_log

NO_CLEANER = LocalSettings(sync_threads=1, read_threads=1, cleaner_enable=False)


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


async def filled() -> tuple[LocalWorld, LocalEngine]:
    world = LocalWorld([compacted_topic(segment_bytes=700)], NO_CLEANER)
    engine = await world.start()
    for number in range(14):
        await put(engine, (f"k{number % 3}", f"{number}" + "v" * 60), (f"once{number}", "w" * 20))
    await engine.checkpoints.write()
    return world, engine


def refuse_from(files: CrashableFiles, number: int) -> list[str]:
    """The `number`-th operation from now on, and all after it, do not happen: the machine is as good as gone. What is given
    back names them."""
    done = len(files.operations)
    operate = files.operate
    refused: list[str] = []

    def refusing(kind: str, path: str, position: int = 0, size: int = 0) -> None:
        if len(files.operations) - done >= number:
            refused.append(path)
            raise OSError(errno.EIO, "gone", path)
        operate(kind, path, position, size)

    files.operate = refusing  # type: ignore[method-assign]
    return refused


def operations_of_a_compaction() -> list[Operation]:
    found: list[Operation] = []

    async def story() -> None:
        world, _ = await filled()
        before = len(world.files.operations)
        assert await compact(world) is not None
        found.extend(world.files.operations[before:])
        await world.stop()

    run(story)
    return found


OPERATIONS = operations_of_a_compaction()


def test_the_operations_come_in_their_order() -> None:
    """New files are synced before the manifest, names change after it, and it goes after the checkpoint."""
    said = [(one.kind, one.path.rpartition("/")[2]) for one in OPERATIONS]
    manifest = said.index(("rename", "swap"))
    written = [at for at, (kind, name) in enumerate(said) if kind == "write" and name.endswith(".cleaned")]
    synced = [at for at, (kind, name) in enumerate(said) if kind == "sync" and name.endswith(".cleaned")]
    assert written
    assert max(written) < max(synced) < manifest
    placed = [at for at, (kind, name) in enumerate(said) if kind == "rename" and name.endswith((".log", ".index"))]
    assert min(placed) > manifest
    checkpoint = max(at for at, one in enumerate(said) if one == ("rename", "checkpoint"))
    assert max(placed) < checkpoint < said.index(("remove", "swap"))


@pytest.mark.parametrize("unsynced", list(Unsynced))
@pytest.mark.parametrize("number", range(len(OPERATIONS) + 1))
def test_a_crash_at_every_operation(number: int, unsynced: Unsynced) -> None:
    async def story() -> None:
        world, engine = await filled()
        before = await records_in_log(engine)
        operate = world.files.operate
        refused = refuse_from(world.files, number)
        running = asyncio.ensure_future(attempt(engine))
        while not refused and not running.done():
            await asyncio.sleep(0.0001)
        await world.kill(unsynced, SeededEntropy(number))
        world.files.operate = operate  # type: ignore[method-assign]
        engine = await world.start()
        partition = engine.partitions[P0]
        assert partition.failure is None, partition.failure
        after = await records_in_log(engine)
        assert after == [one for one in before if one in after]
        assert last_values(after) == last_values(before)
        assert partition.log_end == 28
        assert not [name for name in files_of(world) if name.endswith((".cleaned", ".tmp")) or name == "swap"]
        await put(engine, ("k0", "after"))
        assert await compact(world) is not None or partition.cleaned_offset > 0
        assert last_values(await records_in_log(engine)) == last_values(before) | {b"k0": b"after"}
        await world.kill(Unsynced.LOST)
        engine = await world.start()
        assert last_values(await records_in_log(engine)) == last_values(before) | {b"k0": b"after"}
        await world.stop()

    async def attempt(engine: LocalEngine) -> None:
        try:
            await engine.compacting.run_once(engine.partitions[P0])
        except (OSError, RiverlogError):
            pass

    run(story)


@pytest.mark.parametrize("kind", ["write", "sync", "create", "rename", "sync-directory", "remove"])
def test_a_disk_that_refuses_once_costs_nothing(kind: str) -> None:
    async def story() -> None:
        for path in (".cleaned", "swap", ".log", "rivers-0"):
            world, engine = await filled()
            before = last_values(await records_in_log(engine))
            world.files.inject(kind, path, errno.EIO)
            try:
                await engine.compacting.run_once(engine.partitions[P0])
            except (OSError, RiverlogError):
                pass
            world.files.faults.clear()
            assert last_values(await records_in_log(engine)) == before
            await world.stop()
            engine = await world.start()
            assert engine.partitions[P0].failure is None
            assert last_values(await records_in_log(engine)) == before
            assert not [name for name in files_of(world) if name == "swap"]
            await world.stop()

    run(story)


@pytest.mark.parametrize("step", ["begin_swap", "put_in_place"])
def test_a_run_that_is_cancelled_takes_nothing_back_that_counts(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a stop is given up: several segments become one, and the next start finishes it."""

    async def story() -> None:
        world, engine = await filled()
        engine.configure(P0.topic_id, compacted_topic(segment_bytes=5000).config)
        before = last_values(await records_in_log(engine))
        loop, work = asyncio.get_running_loop(), getattr(swaps, step)

        def cancelling(*arguments: Any) -> Any:
            done, cancelled = work(*arguments), threading.Event()
            loop.call_soon_threadsafe(lambda: (running.cancel(), cancelled.set()))
            assert cancelled.wait(10)
            return done

        monkeypatch.setattr(swaps, step, cancelling)
        running = asyncio.ensure_future(engine.compacting.run_once(engine.partitions[P0]))
        await asyncio.wait([running])
        monkeypatch.undo()
        assert running.cancelled()
        assert "swap" in files_of(world)
        assert last_values(await records_in_log(engine)) == before
        assert await compact(world) is None, "not before the next start"
        await world.kill(Unsynced.KEPT)
        engine = await world.start()
        assert engine.partitions[P0].failure is None
        assert last_values(await records_in_log(engine)) == before
        assert await compact(world) is not None
        assert last_values(await records_in_log(engine)) == before
        await world.stop()

    run(story)


def test_new_files_are_not_taken_for_those_of_a_manifest_that_stayed() -> None:
    async def story() -> None:
        world, engine = await filled()
        world.files.inject("remove", "/swap", errno.EIO, times=2)
        with pytest.raises(OSError, match="swap"):
            await compact(world)
        assert "swap" in files_of(world)
        for number in range(14):
            await put(engine, (f"k{number % 3}", f"{number}" + "w" * 60))
        await engine.checkpoints.write()
        before = last_values(await records_in_log(engine))
        world.files.inject("write", ".log.cleaned", errno.EIO)
        world.files.inject("remove", ".cleaned", errno.EIO, times=10)
        with pytest.raises(OSError, match="cleaned"):
            await engine.compacting.run_once(engine.partitions[P0])
        world.files.faults.clear()
        await world.kill(Unsynced.KEPT)
        engine = await world.start()
        assert engine.partitions[P0].failure is None
        assert last_values(await records_in_log(engine)) == before
        await world.stop()

    run(story)


def test_a_clean_start_finishes_a_swap_whatever_the_policy_is_now() -> None:
    async def story() -> None:
        world, engine = await filled()
        before = last_values(await records_in_log(engine))
        world.files.inject("rename", ".log", errno.EIO, times=100)
        with pytest.raises(OSError, match="log"):
            await engine.compacting.run_once(engine.partitions[P0])
        world.files.faults.clear()
        topic = compacted_topic(segment_bytes=700, cleanup_compact=False, cleanup_delete=True)
        engine.configure(P0.topic_id, topic.config)
        await put(engine, ("after", "x"))  # so that the last checkpoint names the new segments
        await world.stop()
        world.topics = [topic]
        engine = await world.start()
        assert last_values(await records_in_log(engine)) == before | {b"after": b"x"}
        assert not [name for name in files_of(world) if name.endswith(".cleaned")]
        await world.stop()

    run(story)


def mark_of(*bases: int) -> PartitionMark:
    segments = tuple(SegmentMark(Offset(base), 100, Offset(base + 9), 0) for base in bases)
    return PartitionMark(P0, LeaderEpoch(0), Offset(0), Offset(99), Offset(99), Position(0), segments)


FRESH = SegmentMark(Offset(10), 50, Offset(29), 0, flags=1)
GROUPS = [Group([Offset(10), Offset(20)], [FRESH])]


def test_the_mark_gets_the_new_segments_where_it_has_old_ones() -> None:
    once = swaps.swapped(mark_of(0, 10, 20, 30), GROUPS)
    assert [(one.base_offset, one.size) for one in once.segments] == [(0, 100), (10, 50), (30, 100)]
    assert swaps.swapped(once, GROUPS) == once
    assert swaps.swapped(mark_of(30), GROUPS) == mark_of(30)  # retention took them


def test_a_manifest_of_another_topic_is_removed_and_a_damaged_one_is_damage() -> None:
    files = CrashableFiles()
    files.make_directory("/p")
    file = files.open("/p/swap", create=True)
    content = swap.encode(Swap(PartitionId(P0.topic_id, 0), GROUPS))
    file.write_at(content, 0)
    assert swaps.finish_swaps(files, "/p", mark_of(10, 20), P1) == mark_of(10, 20)
    assert files.list("/p") == []
    file = files.open("/p/swap", create=True)
    file.write_at(content[:-1] + b"x", 0)
    with pytest.raises(Corruption):
        swaps.finish_swaps(files, "/p", mark_of(10, 20), P0)


def test_what_is_of_a_compaction() -> None:
    assert swaps.is_cleaned("00000000000000000000.log.cleaned")
    assert not swaps.is_cleaned("00000000000000000000.log")
    assert not swaps.is_cleaned("something.cleaned")
    assert PARTITION
