"""What the journal gives back after a crash, what it must not give back, and where it shows damage."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from riverlog.base.ids import LeaderEpoch, Offset, TopicId
from riverlog.base.units import KIB
from riverlog.env.entropy import SeededEntropy
from riverlog.records.checksum import crc32c
from riverlog.records.header import read_header
from riverlog.storage.contract import Acks, Append, LogConfig, Refused, TopicLog
from riverlog.storage.format import journal as format_journal
from riverlog.storage.format.journal import BLOCK_BYTES, Entry, data_start
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.replay import skip_to
from riverlog.storage.local.settings import LocalSettings
from riverlog.testing.conformance.log_engine import P0, P1, TOPIC, append_of, settled, values_in
from riverlog.testing.fakes import Unsynced
from riverlog.testing.local_world import DIRECTORY, LocalWorld

JOURNAL = f"{DIRECTORY}/journal"


def topic(topic_id: TopicId = TOPIC.topic_id, **config: Any) -> TopicLog:
    return TopicLog(topic_id=topic_id, name=TOPIC.name, partition_count=2, config=LogConfig(**config))


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


def world_of(*topics: TopicLog) -> LocalWorld:
    settings = LocalSettings(sync_threads=2, read_threads=2, journal_bytes_max=1024 * KIB, journal_files_min=1)
    return LocalWorld(topics or [topic()], settings)


async def fill(engine: LocalEngine, *values: str) -> None:
    """Into both partitions, a commit each."""
    for value in values:
        answers = await settled(engine.append([append_of(P0, value), append_of(P1, value)], Acks.ALL))
        assert not any(isinstance(answer, Refused) for answer in answers), answers


async def holds(engine: LocalEngine, *values: str) -> None:
    for partition in (P0, P1):
        assert engine.partitions[partition].failure is None, engine.partitions[partition].failure
        assert await values_in(engine, partition) == list(values)
        marks = engine.watermarks(partition)
        assert marks.log_end == marks.durable_end == marks.high_watermark == len(values)


@pytest.mark.parametrize("unsynced", list(Unsynced))
def test_what_only_the_journal_has_comes_back_with_its_segments(unsynced: Unsynced) -> None:
    async def story() -> None:
        for seed in range(5):
            world = world_of(topic(segment_bytes=250, index_interval_bytes=50))
            engine = await world.start()
            engine.checkpoints.want = lambda: None  # type: ignore[method-assign]  # rolled segments ask for none
            await fill(engine, *"abcdefg")
            assert engine.counters.syncs == engine.counters.settled_segments == 0
            bases = engine.partitions[P0].bases
            assert len(bases) > 2
            await world.kill(unsynced, SeededEntropy(seed))
            engine = await world.start()
            await holds(engine, *"abcdefg")
            assert engine.partitions[P0].bases == bases
            assert engine.partitions[P0].synced.offset == 7
            assert engine.watermarks(P0).leader_epoch == 1
            await fill(engine, "h")
            await world.kill(unsynced, SeededEntropy(seed))
            engine = await world.start()
            await holds(engine, *"abcdefgh")
            await world.stop()

    run(story)


def test_producers_come_back_with_their_batches() -> None:
    async def story() -> None:
        world = world_of()
        engine = await world.start()
        await settled(engine.append([append_of(P0, "a", producer=(7, 0, 0))], Acks.ALL))
        await world.kill()
        engine = await world.start()
        (again,) = await settled(engine.append([append_of(P0, "a", producer=(7, 0, 0))], Acks.ALL))
        assert not isinstance(again, Refused)
        assert again.duplicate
        assert again.base_offset == 0
        await world.stop()

    run(story)


def test_a_start_that_dies_at_any_sync_leaves_all_for_the_next() -> None:
    async def story() -> None:
        for refused in range(12):
            world = world_of()
            engine = await world.start()
            await fill(engine, "a", "b", "c")
            await world.kill()
            world.files.inject("sync", DIRECTORY, errno.EIO, 1 + refused)  # the rest of the start is as after a repair
            with contextlib.suppress(OSError):
                await world.start()
            await world.kill()
            engine = await world.start()
            await holds(engine, "a", "b", "c")
            await world.stop()

    run(story)


def test_a_topic_made_again_begins_empty() -> None:
    async def story() -> None:
        world = world_of()
        engine = await world.start()
        await fill(engine, "old", "old too")
        await engine.delete_topic(TOPIC.topic_id)
        again = topic(TopicId(b"another topic id"))
        world.topics = [again]
        await engine.open_topic(again)
        await world.kill()
        engine = await world.start()
        assert all(partition.log_end == 0 for partition in engine.partitions.values())
        await world.stop()

    run(story)


def test_an_older_generation_is_not_read() -> None:
    async def story() -> None:
        world = world_of()
        engine = await world.start()
        await fill(engine, "a", "b")
        await world.stop()
        engine = await world.start()
        data = world.files.read(f"{JOURNAL}/awaited-0")
        assert format_journal.decode_file_header(data) >> 32 == engine.starts
        assert not format_journal.scan(lambda count, position: data[position : position + count], len(data)).records
        await world.kill()
        engine = await world.start()
        await holds(engine, "a", "b")
        assert engine.counters.replayed_bytes == 0
        await world.stop()

    run(story)


def flip(world: LocalWorld, position: int) -> None:
    file = world.files.open(f"{JOURNAL}/awaited-0")
    (byte,) = file.read_at(1, position)
    file.write_at(bytes([byte ^ 1]), position)
    file.sync()
    file.close()


def record_of(world: LocalWorld, sequence: int) -> format_journal.Record:
    data = world.files.read(f"{JOURNAL}/awaited-0")
    scan = format_journal.scan(lambda count, position: data[position : position + count], len(data))
    return next(record for record in scan.records if record.sequence == sequence)


@pytest.mark.parametrize("where", ["front", "bytes"])
def test_a_damaged_record_before_others_takes_whom_it_concerns_offline(where: str) -> None:
    async def story() -> None:
        world = world_of()
        engine = await world.start()
        await fill(engine, "a")
        await settled(engine.append([append_of(P0, "b")], Acks.ALL))
        await settled(engine.append([append_of(P1, "b")], Acks.ALL))
        await world.kill()
        record = record_of(world, 2)
        flip(world, record.position + (20 if where == "front" else format_journal.data_start(1) + 3))
        engine = await world.start()
        failure = engine.partitions[P0].failure
        assert failure is not None
        assert "the journal has offsets 1 to 1" in failure.message
        assert await values_in(engine, P1) == ["a", "b"]
        assert any(name.startswith("kept-") for name in world.files.list(JOURNAL))
        await world.kill()
        engine = await world.start()
        assert engine.partitions[P0].failure is not None, "it must not begin to serve without it at the next start"
        await world.stop()

    run(story)


def test_a_torn_last_record_is_ignored() -> None:
    async def story() -> None:
        world = world_of()
        engine = await world.start()
        await fill(engine, "a", "b")
        await world.kill()
        flip(world, record_of(world, 2).position + 20)
        engine = await world.start()
        await holds(engine, "a")
        await world.stop()

    run(story)


@pytest.mark.parametrize("torn", [0, 1])
def test_what_follows_a_torn_entry_in_the_last_record_is_ignored_too(torn: int) -> None:
    """Of one commit over three segments any part may be missing: nobody had an answer to it."""

    async def story() -> None:
        world = world_of(topic(segment_bytes=250))
        engine = await world.start()
        engine.checkpoints.want = lambda: None  # type: ignore[method-assign]  # rolled segments ask for none
        await fill(engine, "a")
        answers = [engine.append([append_of(P0, value * 200)], Acks.ALL) for value in "bcd"]
        for answer in answers:
            await settled(answer)
        record = record_of(world, 2)
        entries = [(entry, position) for entry, position in record.placed() if entry.partition == P0]
        assert len(entries) == 3
        await world.kill(Unsynced.LOST)
        flip(world, entries[torn][1] + 100)
        engine = await world.start()
        assert engine.partitions[P0].failure is None
        assert await values_in(engine, P0) == ["a", *(value * 200 for value in "bcd"[:torn])]
        assert await values_in(engine, P1) == ["a"]
        await world.stop()

    run(story)


def test_a_damaged_first_block_hides_nothing() -> None:
    async def story() -> None:
        world = world_of()
        engine = await world.start()
        await fill(engine, "a", "b")
        await world.kill()
        flip(world, 14)
        engine = await world.start()
        await holds(engine, "a", "b")
        await world.stop()

    run(story)


def test_a_failed_sync_of_a_segment_loses_nothing_that_the_journal_has() -> None:
    async def story() -> None:
        world = world_of(topic(segment_bytes=250))
        engine = await world.start()
        engine.checkpoints.want = lambda: None  # type: ignore[method-assign]  # rolled segments ask for none
        await fill(engine, *"abcdef")
        world.files.inject("sync", f"{TOPIC.name}-0/{0:020}.log", errno.EIO)
        with pytest.raises(Exception, match="could not be synced"):
            await engine.checkpoints.write()
        while engine.partitions[P0].failure is not None:
            await asyncio.sleep(0.001)  # a thread cuts it back
        assert engine.watermarks(P0).leader_epoch == 1
        await holds(engine, *"abcdef")
        assert engine.partitions[P0].synced.offset == 6
        await fill(engine, "g")
        await world.kill()
        engine = await world.start()
        await holds(engine, *"abcdefg")
        await world.stop()

    run(story)


def test_what_was_cut_back_does_not_come_back() -> None:
    async def story() -> None:
        world = world_of()
        engine = await world.start()
        await fill(engine, "a")
        world.files.inject("sync", "journal/awaited", errno.EIO)
        world.files.inject("sync", f"{TOPIC.name}-0/{0:020}.log", errno.EIO)
        (answer,) = await settled(engine.append([append_of(P0, "lost")], Acks.ALL))
        assert isinstance(answer, Refused)
        while engine.partitions[P0].failure is not None:
            await asyncio.sleep(0.001)  # a thread cuts it back
        await world.kill(Unsynced.KEPT)  # the record of the failed commit is in the journal, whole
        assert [entry.base_offset for entry in record_of(world, 2).entries] == [1]
        engine = await world.start()
        assert await values_in(engine, P0) == ["a"]
        await world.stop()

    run(story)


def test_the_batch_at_an_offset_is_found_in_a_run() -> None:
    first, second = (bytes(append_of(P0, value, timestamps=[1]).batch) for value in ("a", "bb"))
    second = (1).to_bytes(8, "big") + second[8:]
    assert skip_to(first + second, Offset(0)) == 0
    assert skip_to(first + second, Offset(1)) == len(first)
    assert skip_to(first + second, Offset(2)) is None
    assert skip_to(b"", Offset(0)) is None


def test_for_a_partition_that_stays_offline_only_what_it_needs_is_kept() -> None:
    async def story() -> None:
        world = world_of()
        engine = await world.start()
        await settled(engine.append([append_of(P0, "a"), append_of(P1, "a")], Acks.ALL))
        await engine.checkpoints.write()
        await settled(engine.append([append_of(P0, "b"), append_of(P1, "b")], Acks.ALL))
        await world.kill()
        log = world.files.open(f"{DIRECTORY}/topics/{TOPIC.name}-0/{0:020}.log")
        whole = log.read_at(log.size(), 0)
        log.truncate(3)
        log.sync()
        log.close()
        kept = ["kept-2-awaited-0"]
        for number in range(3):
            engine = await world.start()
            assert engine.partitions[P0].failure is not None
            assert [name for name in world.files.list(JOURNAL) if name.startswith("kept-")] == kept
            await settled(engine.append([append_of(P1, f"{number}")], Acks.ALL))
            await world.kill()
        log = world.files.open(f"{DIRECTORY}/topics/{TOPIC.name}-0/{0:020}.log")
        log.write_at(whole, 0)
        log.sync()
        log.close()
        engine = await world.start()
        assert await values_in(engine, P0) == ["a", "b"]
        assert await values_in(engine, P1) == ["a", "b", "0", "1", "2"]
        assert world.files.list(JOURNAL) == ["awaited-0"]
        await world.stop()

    run(story)


def test_what_a_client_sends_is_never_taken_for_a_record_of_the_journal() -> None:
    async def story() -> None:
        world = LocalWorld([topic()], LocalSettings(journal_bytes_max=128 * KIB, journal_files_min=1))
        engine = await world.start()
        evil = bytes(append_of(P1, "evil").batch)
        forged = bytearray(BLOCK_BYTES)
        start = data_start(1)
        forged[start : start + len(evil)] = (1).to_bytes(8, "big") + evil[8:12] + bytes(4) + evil[16:]
        entry = Entry(P1, LeaderEpoch(0), Offset(1), Offset(2), Offset(0), len(evil), len(evil), 0)
        assert format_journal.seal(forged, engine.starts, 1_000_000, [entry]) == BLOCK_BYTES
        await settled(engine.append([append_of(P0, "a"), append_of(P1, "a")], Acks.ALL))
        filler = b"x" * BLOCK_BYTES
        for padding in range(BLOCK_BYTES):  # so that it stands at the beginning of a block
            sent = append_of(P0, "p" * padding + filler.decode())
            at = bytes(sent.batch).index(filler)
            if (start + at) % BLOCK_BYTES == 0:
                break
        batch = bytearray(sent.batch)
        batch[at : at + BLOCK_BYTES] = forged
        batch[17:21] = crc32c(batch[21:]).to_bytes(4, "big")
        await settled(engine.append([Append(P0, batch, read_header(batch))], Acks.ALL))
        assert world.files.read(f"{JOURNAL}/awaited-0")[3 * BLOCK_BYTES : 4 * BLOCK_BYTES] == forged
        await engine.checkpoints.write()
        assert engine.commit.journal is not None
        engine.commit.journal.rings[0].halves[0].purge()  # it begins anew
        await settled(engine.append([append_of(P0, "b" * 5000)], Acks.ALL))
        assert record_of(world, 3).end == 3 * BLOCK_BYTES
        await world.kill()
        engine = await world.start()
        assert await values_in(engine, P1) == ["a"]
        await world.stop()

    run(story)
