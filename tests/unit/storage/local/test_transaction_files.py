"""What a start makes of transaction indexes that are whole, gone, short, or of something else; and of open transactions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from riverlog.base.ids import Offset
from riverlog.env.entropy import SeededEntropy
from riverlog.storage.contract import LogConfig, TopicLog
from riverlog.storage.format import names, txn_index
from riverlog.storage.local import transaction_files
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.segments import Segment
from riverlog.storage.local.transaction_files import cut_file, place_of
from riverlog.testing.conformance.log_engine import P0, TOPIC, fill
from riverlog.testing.conformance.log_transactions import committed_in, ended, marker_of, written
from riverlog.testing.fakes import CrashableFiles, Unsynced
from riverlog.testing.local_world import DIRECTORY, LocalWorld

PARTITION = f"{DIRECTORY}/{names.TOPICS}/{TOPIC.name}-0"


def run(story: Callable[[LocalWorld], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        config = LogConfig(retention_ms=-1, segment_bytes=700)
        world = LocalWorld([TopicLog(topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=1, config=config)])
        await story(world)
        await world.stop()

    asyncio.run(asyncio.wait_for(whole(), 60))


async def fill_with_transactions(engine: LocalEngine) -> list[str]:
    """Aborted ones in several segments, one that reaches over some, one that is open. Gives what is committed."""
    await written(engine, P0, "long", producer=(2, 0, 0))
    values = []
    for at in range(12):
        await written(engine, P0, f"aborted {at}", producer=(1, 0, at))
        await ended(engine, marker_of(P0, 1, 0, committed=False))
        await fill(engine, P0, [f"plain {at}"])
        values.append(f"plain {at}")
    await ended(engine, marker_of(P0, 2, 1, committed=False))
    await written(engine, P0, "open", producer=(3, 0, 0))
    await fill(engine, P0, ["behind"])
    return values


def indexes_of(world: LocalWorld) -> dict[str, list[txn_index.AbortedEntry]]:
    there = sorted(name for name in world.files.list(PARTITION) if name.endswith(names.TXN_INDEX))
    return {name: txn_index.decode(world.files.read(f"{PARTITION}/{name}")) for name in there}


def entries_of(engine: LocalEngine) -> list[txn_index.AbortedEntry]:
    transactions = engine.partitions[P0].transactions
    return transactions.aborted.between(Offset(0), Offset(1000)) if transactions is not None else []


def test_a_clean_start_reads_them() -> None:
    async def story(world: LocalWorld) -> None:
        engine = await world.start()
        values = await fill_with_transactions(engine)
        entries = entries_of(engine)
        assert len(entries) == 13
        await world.stop()
        files = indexes_of(world)
        assert len(files) > 2
        assert [entry for one in files.values() for entry in one] == entries
        engine = await world.start()
        assert engine.counters.recovered_partitions == 0
        assert entries_of(engine) == entries
        assert await committed_in(engine, P0) == values
        await ended(engine, marker_of(P0, 3, 1))
        assert await committed_in(engine, P0) == [*values, "open", "behind"]

    run(story)


@pytest.mark.parametrize("unsynced", list(Unsynced))
def test_after_a_crash_what_the_checkpoint_has_is_read_and_the_rest_made_again(unsynced: Unsynced) -> None:
    async def story(world: LocalWorld) -> None:
        engine = await world.start()
        values = await fill_with_transactions(engine)
        await engine.checkpoints.write()
        for at in range(12, 15):
            await written(engine, P0, f"aborted {at}", producer=(1, 0, at))
            await ended(engine, marker_of(P0, 1, 0, committed=False))
        entries = entries_of(engine)
        await world.kill(unsynced, SeededEntropy(1))
        engine = await world.start()
        assert entries_of(engine) == entries
        assert await committed_in(engine, P0) == values
        await ended(engine, marker_of(P0, 3, 1, committed=False))
        assert await committed_in(engine, P0) == [*values, "behind"]
        entries = entries_of(engine)
        await world.stop()
        assert [entry for one in indexes_of(world).values() for entry in one] == entries

    run(story)


@pytest.mark.parametrize("what", ["gone", "short", "other", "empty"])
@pytest.mark.parametrize("at", [0, 1, -1])
def test_a_damaged_one_is_made_again(what: str, at: int, caplog: pytest.LogCaptureFixture) -> None:
    async def story(world: LocalWorld) -> None:
        engine = await world.start()
        values = await fill_with_transactions(engine)
        entries = entries_of(engine)
        await world.stop()
        files = indexes_of(world)
        path = f"{PARTITION}/{list(files)[at]}"
        if what == "gone":
            world.files.remove(path)
        else:
            file = world.files.open(path)
            if what == "other":
                file.write_at(b"\xff", 0)
            else:
                file.truncate(0 if what == "empty" else file.size() - 1)
            file.close()
        engine = await world.start()
        assert "a transaction index is damaged" in caplog.text
        assert entries_of(engine) == entries
        assert await committed_in(engine, P0) == values
        assert indexes_of(world) == files, "as they were, at once"
        await world.kill(Unsynced.LOST)
        engine = await world.start()
        assert entries_of(engine) == entries

    run(story)


def test_without_a_checkpoint_everything_is_read() -> None:
    async def story(world: LocalWorld) -> None:
        engine = await world.start()
        values = await fill_with_transactions(engine)
        entries = entries_of(engine)
        await world.stop()
        world.files.remove(f"{DIRECTORY}/{names.CHECKPOINT}")
        engine = await world.start()
        assert entries_of(engine) == entries
        assert await committed_in(engine, P0) == values
        await world.stop()
        assert [entry for one in indexes_of(world).values() for entry in one] == entries

    run(story)


def test_producers_that_cannot_be_read_are_read_from_the_markers() -> None:
    async def story(world: LocalWorld) -> None:
        engine = await world.start()
        await fill_with_transactions(engine)
        before = engine.producers(P0)
        await world.stop()
        (name,) = [name for name in world.files.list(PARTITION) if name.endswith(names.SNAPSHOT)]
        file = world.files.open(f"{PARTITION}/{name}")
        file.write_at(b"\xff", 8)
        file.close()
        engine = await world.start()
        assert [one._replace(last_timestamp_ms=0) for one in engine.producers(P0)] == [
            one._replace(last_timestamp_ms=0) for one in sorted(before, key=lambda one: (2, 1, 3).index(one.producer_id))
        ]

    run(story)


def test_a_partition_without_any_costs_no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: LocalWorld) -> None:
        engine = await world.start()
        await fill(engine, P0, *[["x" * 100]] * 20)
        await world.stop()
        read: list[str] = []
        real = CrashableFiles.read

        def spy(self: CrashableFiles, path: str) -> bytes:
            read.append(path)
            return real(self, path)

        monkeypatch.setattr(CrashableFiles, "read", spy)
        engine = await world.start()
        assert engine.counters.recovered_partitions == 0
        assert not [path for path in read if path.endswith(names.TXN_INDEX)]
        assert engine.partitions[P0].transactions is None

    run(story)


def test_what_is_behind_the_synced_part_is_cut_off() -> None:
    files = CrashableFiles()
    files.make_directory("/p")
    segment = Segment("/p", Offset(0), 0)
    assert cut_file(files, segment) is None
    files.open(segment.txn_index_path, create=True).write_at(bytes(100), 0)
    segment.saved_aborted = 2
    assert cut_file(files, segment) == segment.txn_index_path
    assert files.size(segment.txn_index_path) == 68
    assert cut_file(files, segment) is None
    segment.saved_aborted = 0
    assert cut_file(files, segment) is None
    assert not files.exists(segment.txn_index_path)


def test_a_place_that_cannot_be_seen_is_the_beginning_of_its_segment() -> None:
    files = CrashableFiles()
    files.make_directory("/p")
    file = files.open("/p/log", create=True)
    file.write_at(bytes(200), 0)
    assert place_of(file, 0, 200, Offset(3)) == 0
    assert place_of(file, 0, 0, Offset(3)) == 0


def test_walking_needs_no_large_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction_files, "scan_bytes", 100)

    async def story(world: LocalWorld) -> None:
        engine = await world.start()
        await fill_with_transactions(engine)
        entries = entries_of(engine)
        await world.stop()
        world.files.remove(f"{PARTITION}/{next(iter(indexes_of(world)))}")
        engine = await world.start()
        assert entries_of(engine) == entries

    run(story)
