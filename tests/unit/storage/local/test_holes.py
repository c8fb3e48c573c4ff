"""Damage and torn writes are told apart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from riverlog.base.errors import Corruption
from riverlog.base.ids import Offset
from riverlog.env.files import write_file
from riverlog.storage.contract import Acks, LogConfig, TopicLog
from riverlog.storage.format.checkpoint import SegmentMark
from riverlog.storage.local.holes import next_good, refuse_gone
from riverlog.storage.local.settings import LocalSettings
from riverlog.testing.conformance.log_engine import P0, P1, TOPIC, append_of, settled, values_in
from riverlog.testing.fakes import CrashableFiles
from riverlog.testing.local_world import DIRECTORY, LocalWorld

PARTITION = f"{DIRECTORY}/topics/{TOPIC.name}-0"


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


def batch(offset: int, value: str) -> bytes:
    return offset.to_bytes(8, "big") + bytes(append_of(P0, value).batch)[8:]


def test_the_next_good_batch_is_found_among_garbage() -> None:
    files = CrashableFiles()
    good = batch(7, "good")
    flipped = bytearray(batch(6, "bad"))
    flipped[-1] ^= 1
    write_file(files, "a", b"\x02" * 50 + flipped + b"\x02\x02" + good + b"\x02" * 30)
    file = files.open("a")
    assert next_good(file, 0, Offset(5)) == 52 + len(flipped)
    assert next_good(file, 0, Offset(8)) is None, "of an earlier offset"
    assert next_good(file, 53 + len(flipped), Offset(5)) is None
    write_file(files, "b", bytes(3 << 20) + good)
    assert next_good(files.open("b"), 1, Offset(0)) == 3 << 20


def test_a_segment_that_retention_has_not_taken_must_be_there() -> None:
    marks = [SegmentMark(Offset(base), 100, Offset(base + 9), 5) for base in (0, 10, 20)]
    refuse_gone("d", marks, [Offset(10), Offset(20)], Offset(30), Offset(10))
    with pytest.raises(Corruption, match=r"00000000000000000010\.log: the file is gone"):
        refuse_gone("d", marks, [Offset(0), Offset(20)], Offset(30), Offset(10))


async def values(world: LocalWorld) -> None:
    engine = await world.start()
    for value in "abcdef":
        await settled(engine.append([append_of(one, value) for one in (P0, P1)], Acks.ALL))
    await engine.checkpoints.write()


def damage(world: LocalWorld, name: str, position: int) -> None:
    file = world.files.open(f"{PARTITION}/{name}")
    (byte,) = file.read_at(1, position)
    file.write_at(bytes([byte ^ 1]), position)
    file.sync()
    file.close()


@pytest.mark.parametrize("segment_bytes", [200, 100_000])
def test_without_a_checkpoint_a_flipped_byte_early_in_a_log_cuts_nothing(segment_bytes: int) -> None:
    async def story() -> None:
        config = LogConfig(segment_bytes=segment_bytes)
        topic = TopicLog(topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=2, config=config)
        world = LocalWorld([topic])
        await values(world)
        await world.kill()
        world.files.remove(f"{DIRECTORY}/checkpoint")
        damage(world, f"{0:020}.log", 100)
        before = world.files.dump(PARTITION)
        engine = await world.start()
        failure = engine.partitions[P0].failure
        assert failure is not None
        assert "good batches follow" in failure.message
        logs = {name: data for name, data in before.items() if name.endswith(".log")}
        assert logs.items() <= world.files.dump(PARTITION).items()
        assert await values_in(engine, P1) == list("abcdef")
        await world.stop()

    run(story)


def test_without_a_checkpoint_a_torn_tail_is_cut() -> None:
    async def story() -> None:
        world = LocalWorld([TOPIC], LocalSettings(journal_bytes_max=0))  # else the journal has it
        await values(world)
        await world.kill()
        world.files.remove(f"{DIRECTORY}/checkpoint")
        size = world.files.size(f"{PARTITION}/{0:020}.log")
        damage(world, f"{0:020}.log", size - 1)
        engine = await world.start()
        assert await values_in(engine, P0) == list("abcde")
        await world.stop()

    run(story)


def test_a_sealed_segment_that_vanished_is_damage() -> None:
    async def story() -> None:
        config = LogConfig(segment_bytes=200)
        topic = TopicLog(topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=2, config=config)
        world = LocalWorld([topic])
        await values(world)
        engine = world.engine
        assert engine is not None
        middle = engine.partitions[P0].bases[1]
        await world.kill()
        world.files.remove(f"{PARTITION}/{middle:020}.log")
        engine = await world.start()
        failure = engine.partitions[P0].failure
        assert failure is not None
        assert "the file is gone" in failure.message
        assert await values_in(engine, P1) == list("abcdef")
        await world.stop()

    run(story)
