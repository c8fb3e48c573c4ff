"""What is left after a crash, and what the engine makes of it. The crashable files forget what was not synced."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import Offset, ProducerId
from riverlog.env.entropy import SeededEntropy
from riverlog.env.files import write_file
from riverlog.records.batch import records_of
from riverlog.storage.contract import Acks, Appended, Durability, EpochEnd, LogConfig, Refused, TopicLog
from riverlog.storage.local.engine import LocalEngine
from riverlog.testing.conformance.log_engine import (
    P0,
    P1,
    TOPIC,
    UNCOMMITTED,
    append_of,
    appended,
    batch_of,
    fetched_one,
    fill,
    records_in,
    settled,
    values_in,
)
from riverlog.testing.fakes import Unsynced
from riverlog.testing.local_world import DIRECTORY, LocalWorld

LOG = f"{DIRECTORY}/topics/rivers-0/00000000000000000000.log"


def topic(**config: Any) -> TopicLog:
    return TopicLog(topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=3, config=LogConfig(**config))


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


def overwrite(world: LocalWorld, path: str, position: int, data: bytes) -> None:
    """Damages a file on the disk itself."""
    file = world.files.open(path)
    file.write_at(data, position)
    file.sync()
    file.close()


def test_a_clean_stop_is_followed_by_a_start_that_reads_no_segment() -> None:
    async def story() -> None:
        world = LocalWorld([topic(segment_bytes=200)])
        engine = await world.start()
        await fill(engine, P0, *[[f"{at}"] for at in range(10)])
        await appended(engine, [append_of(P0, "p", producer=(5, 0, 0))])
        segments = engine.size(P0).segments
        assert segments > 2
        await world.stop()
        engine = await world.start()
        assert engine.counters.recovered_bytes == 0
        assert engine.counters.recovered_partitions == 0
        assert engine.size(P0).segments == segments
        marks = engine.watermarks(P0)
        assert (marks.log_end, marks.high_watermark, marks.durable_end, marks.leader_epoch) == (11, 11, 11, 0)
        (again,) = await appended(engine, [append_of(P0, "p", producer=(5, 0, 0))])
        assert again == Appended(Offset(10), Offset(11), Offset(0), True)
        await fill(engine, P0, ["more"])
        assert await values_in(engine, P0) == [*map(str, range(10)), "p", "more"]
        await world.stop()

    run(story)


@pytest.mark.parametrize("unsynced", list(Unsynced))
def test_what_was_acknowledged_survives_and_the_leader_epoch_rises(unsynced: Unsynced) -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        await fill(engine, P0, ["a", "b"], ["c"])
        with world.files.held_syncs():
            engine.append([append_of(P0, "unsynced")], Acks.LEADER)
            await world.kill(unsynced, SeededEntropy(3))
        engine = await world.start()
        marks = engine.watermarks(P0)
        assert marks.leader_epoch == 1
        assert marks.log_end in (3, 4)
        assert (await values_in(engine, P0))[:3] == ["a", "b", "c"]
        assert engine.epoch_end(P0, 0) == EpochEnd(0, marks.log_end)
        await fill(engine, P0, ["d"])
        assert engine.epoch_end(P0, 1) == EpochEnd(1, Offset(marks.log_end + 1))
        await world.kill()
        engine = await world.start()
        assert engine.watermarks(P0).leader_epoch == 2
        assert engine.watermarks(P1).leader_epoch == 2
        assert (await values_in(engine, P0))[-1] == "d"
        assert engine.epoch_end(P0, 0) == EpochEnd(0, marks.log_end)
        await world.stop()

    run(story)


def test_a_torn_batch_is_saved_counted_and_cut() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        await fill(engine, P0, ["a"], ["b"])
        await world.kill(Unsynced.KEPT)
        torn = bytes(batch_of("torn"))[:-3]
        size = world.files.size(LOG)
        overwrite(world, LOG, size, torn)
        engine = await world.start()
        assert await values_in(engine, P0) == ["a", "b"]
        assert engine.counters.cut_bytes == len(torn)
        assert world.files.size(LOG) == size
        (saved,) = [name for name in world.files.list(f"{DIRECTORY}/topics/rivers-0") if ".cut-" in name]
        assert world.files.read(f"{DIRECTORY}/topics/rivers-0/{saved}") == torn
        await fill(engine, P0, ["c"])
        assert await values_in(engine, P0) == ["a", "b", "c"]
        await world.stop()

    run(story)


def test_segments_behind_a_cut_count_no_more_but_are_kept() -> None:
    async def story() -> None:
        world = LocalWorld([topic(segment_bytes=100)])
        engine = await world.start()
        engine.checkpoints.want = lambda: None  # type: ignore[method-assign]  # all of it is behind the recovery point
        await fill(engine, P0, ["a"], ["b"], ["c"], ["d"])
        await world.kill(Unsynced.KEPT)
        directory = f"{DIRECTORY}/topics/rivers-0"
        overwrite(world, f"{directory}/00000000000000000001.log", 30, b"damage")
        engine = await world.start()
        assert await values_in(engine, P0) == ["a"]
        assert len([name for name in world.files.list(directory) if ".cut-" in name]) == 3
        await fill(engine, P0, ["again"])
        assert await values_in(engine, P0) == ["a", "again"]
        await world.stop()
        engine = await world.start()
        assert await values_in(engine, P0) == ["a", "again"]
        await world.stop()

    run(story)


@pytest.mark.parametrize("stale", [False, True])
def test_a_segment_whose_offsets_are_in_the_one_before_it_does_not_count(stale: bool) -> None:
    """Its removal was not durable: it came back, empty or as it was."""

    async def story() -> None:
        world = LocalWorld([topic(segment_bytes=500)])
        engine = await world.start()
        engine.checkpoints.want = lambda: None  # type: ignore[method-assign]  # all of it is behind the recovery point
        values = [[f"{at}" * 50] for at in range(9)]
        await fill(engine, P0, *values)
        assert (bases := engine.partitions[P0].bases)[1] > 1
        assert len(bases) > 2
        await world.kill(Unsynced.KEPT)
        directory = f"{DIRECTORY}/topics/rivers-0"
        content = (1).to_bytes(8, "big") + batch_of("stale")[8:] if stale else b""
        write_file(world.files, f"{directory}/{1:020}.log", content)
        world.files.sync_directory(directory)
        for _ in range(2):
            engine = await world.start()
            assert engine.partitions[P0].bases == bases
            assert engine.watermarks(P0).log_end == 9
            assert await values_in(engine, P0) == [value for (value,) in values]
            await world.kill(Unsynced.LOST)
        assert f"{1:020}.log" not in world.files.list(directory)
        assert stale == any(".cut-" in name for name in world.files.list(directory))

    run(story)


def test_an_empty_segment_that_a_start_removes_does_not_come_back() -> None:
    async def story() -> None:
        world = LocalWorld([topic(segment_bytes=100)])
        engine = await world.start()
        await fill(engine, P0, ["a"])
        await engine.checkpoints.write()
        engine.checkpoints.want = lambda: None  # type: ignore[method-assign]
        await fill(engine, P0, ["b"])
        await world.kill(Unsynced.KEPT)
        second = f"{DIRECTORY}/topics/rivers-0/00000000000000000001.log"
        overwrite(world, second, 30, b"damage")
        engine = await world.start()
        assert engine.partitions[P0].bases == [0]
        await world.kill(Unsynced.LOST)
        assert not world.files.exists(second)

    run(story)


def test_damage_below_the_recovery_point_takes_one_partition_offline() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        await fill(engine, P0, ["a"], ["b"])
        await fill(engine, P1, ["other"])
        await world.stop()
        file = world.files.open(LOG)
        file.truncate(40)
        file.sync()
        engine = await world.start()
        assert engine.counters.offline_partitions == 1
        (refused,) = await appended(engine, [append_of(P0, "x")])
        assert isinstance(refused, Refused)
        assert refused.error.kind is ErrorKind.STORAGE
        assert LOG in refused.error.message
        with pytest.raises(RiverlogError, match="offline"):
            engine.watermarks(P0)
        await fill(engine, P1, ["more"])
        assert await values_in(engine, P1) == ["other", "more"]
        assert world.files.size(LOG) == 40
        await world.stop()

    run(story)


def test_recovery_begins_at_the_checkpoint() -> None:
    async def story() -> None:
        world = LocalWorld([topic(index_interval_bytes=100)])
        engine = await world.start()
        await fill(engine, P0, *[[f"{at}", "-" * 50] for at in range(20)])
        await engine.checkpoints.write()
        await fill(engine, P0, ["after"])
        size = world.files.size(LOG)
        await world.kill()
        engine = await world.start()
        assert 0 < engine.counters.recovered_bytes < size / 10
        assert len(await values_in(engine, P0)) == 41
        assert len(await values_in(engine, P0, 17)) == 24
        await world.stop()

    run(story)


@pytest.mark.parametrize("suffix", ["index", "timeindex"])
def test_a_damaged_index_of_the_last_segment_is_made_again(suffix: str) -> None:
    async def story() -> None:
        world = LocalWorld([topic(index_interval_bytes=50)])
        engine = await world.start()
        await fill(engine, P0, *[[f"{at}"] for at in range(10)])
        await engine.checkpoints.write()
        await world.kill()
        path = LOG.replace(".log", f".{suffix}")
        overwrite(world, path, 0, b"\xff" * world.files.size(path))
        engine = await world.start()
        assert engine.counters.recovered_bytes == world.files.size(LOG)
        assert await values_in(engine, P0, 5) == ["5", "6", "7", "8", "9"]
        await fill(engine, P0, ["10"])
        await world.stop()
        engine = await world.start()
        assert engine.counters.recovered_bytes == 0
        assert await values_in(engine, P0, 8) == ["8", "9", "10"]
        await world.stop()

    run(story)


def test_a_damaged_producer_snapshot_is_made_again_from_the_segments() -> None:
    async def story() -> None:
        world = LocalWorld([topic(segment_bytes=150)])
        engine = await world.start()
        for sequence in range(5):
            await appended(engine, [append_of(P0, "p", producer=(5, 0, sequence))])
        await world.stop()
        directory = f"{DIRECTORY}/topics/rivers-0"
        (snapshot,) = [name for name in world.files.list(directory) if name.endswith(".snapshot")]
        overwrite(world, f"{directory}/{snapshot}", 8, b"\xff\xff")
        engine = await world.start()
        (again,) = await appended(engine, [append_of(P0, "p", producer=(5, 0, 1))])
        assert again == Appended(Offset(1), Offset(2), Offset(0), True)
        await world.stop()

    run(story)


def test_producers_are_restored_after_a_crash() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        await appended(engine, [append_of(P0, "0", producer=(5, 0, 0))])
        await engine.checkpoints.write()
        await appended(engine, [append_of(P0, "1", producer=(5, 0, 1))])
        await world.kill()
        engine = await world.start()
        for sequence in (0, 1):
            (again,) = await appended(engine, [append_of(P0, str(sequence), producer=(5, 0, sequence))])
            assert again == Appended(Offset(sequence), Offset(sequence + 1), Offset(0), True)
        (refused,) = await appended(engine, [append_of(P0, "3", producer=(5, 0, 3))])
        assert isinstance(refused, Refused)
        await appended(engine, [append_of(P0, "2", producer=(5, 0, 2))])
        assert await values_in(engine, P0) == ["0", "1", "2"]
        await world.stop()

    run(story)


def test_deleted_records_stay_deleted() -> None:
    async def story() -> None:
        world = LocalWorld([topic(segment_bytes=100)])
        engine = await world.start()
        await fill(engine, P0, ["a"], ["b"], ["c"])
        await engine.delete_before(P0, Offset(2))
        await world.kill()
        engine = await world.start()
        assert engine.watermarks(P0).log_start == 2
        assert await values_in(engine, P0, 2) == ["c"]
        await world.stop()

    run(story)


def test_a_damaged_checkpoint_means_that_everything_is_read() -> None:
    async def story() -> None:
        world = LocalWorld([topic(segment_bytes=100)])
        engine = await world.start()
        await fill(engine, P0, ["a"], ["b"], ["c"])
        await world.stop()
        overwrite(world, f"{DIRECTORY}/checkpoint", 30, b"\xff\xff\xff")
        engine = await world.start()
        assert engine.watermarks(P0).leader_epoch == 1
        assert await values_in(engine, P0) == ["a", "b", "c"]
        await world.stop()

    run(story)


async def lives(
    world: LocalWorld, entropy: SeededEntropy, *, faults: bool, kills: Sequence[Unsynced] = tuple(Unsynced)
) -> None:
    """Some lives of one machine: random appends, with `faults` on a disk that now and then refuses, then a crash in the
    middle. What was acknowledged must be there, and nobody may have seen a record that is gone or another one."""
    acknowledged: dict[int, str] = {}
    seen: dict[int, str] = {}
    sequences: dict[int, int] = {}
    deleted = [0]
    epoch, number = -1, 0
    for _ in range(6):
        engine = await world.start()
        assert engine.partitions[P0].failure is None
        marks = engine.watermarks(P0)
        assert marks.leader_epoch > epoch
        assert marks.log_start >= deleted[0], "deleted records came back"
        now = {
            record.offset: (record.value or b"").decode() for record in await records_in(engine, P0, marks.log_start)
        }
        for offset, value in (acknowledged | seen).items():
            assert now.get(offset, value) == value
            assert offset in now or offset < marks.log_start, f"{value} at {offset} is lost"
        if acknowledged and (last := max(acknowledged)) == marks.log_end - 1:
            again = append_of(P0, acknowledged[last], producer=(9, 0, sequences[last]))
            assert await appended(engine, [again]) == [Appended(Offset(last), Offset(last + 1), marks.log_start, True)]
        for _ in range(entropy.below(12)):
            number += 1
            if faults and not entropy.below(4):
                kind = ("sync", "write", "truncate", "sync-directory", "rename")[entropy.below(5)]
                world.files.inject(kind, DIRECTORY, errno.EIO, 1 + entropy.below(2))
            if faults and not entropy.below(4):
                world.files.room_bytes = None if entropy.below(2) else entropy.below(300)
            value = f"{number}" + "-" * entropy.below(60)
            await one_step(engine, entropy, value, acknowledged, seen, sequences)
            if not entropy.below(15) and engine.partitions[P0].failure is None:
                with contextlib.suppress(OSError, RiverlogError):
                    high = engine.watermarks(P0).high_watermark
                    deleted.append(await engine.delete_before(P0, Offset(entropy.below(high + 1))))
                    deleted[:] = [max(deleted)]
        epoch = max(marks.leader_epoch, engine.partitions[P0].leader_epoch)
        if entropy.below(2):
            with world.files.held_syncs():
                for _ in range(entropy.below(4)):
                    engine.append([append_of(P0, "late" + "-" * entropy.below(90))], Acks.ALL)
                await world.kill(kills[-1], entropy)
        else:
            await world.kill(kills[entropy.below(len(kills))], entropy)
        world.files.room_bytes = None


async def one_step(
    engine: LocalEngine,
    entropy: SeededEntropy,
    value: str,
    acknowledged: dict[int, str],
    seen: dict[int, str],
    sequences: dict[int, int],
) -> None:
    acks = Acks.ALL if entropy.below(3) else Acks.LEADER
    known = engine.partitions[P0].producers.get(ProducerId(9))
    sequence = known.batches[-1].last_sequence + 1 if known is not None and known.batches else 0
    answer = engine.append([append_of(P0, value, producer=(9, 0, sequence))], acks)
    if entropy.below(3) and acks is Acks.ALL:
        (one,) = await settled(answer)
        if isinstance(one, Appended):
            acknowledged[one.base_offset] = value
            sequences[one.base_offset] = sequence
        if engine.partitions[P0].failure is None:
            await remember(engine, seen)
    if not entropy.below(6):
        with contextlib.suppress(OSError, RiverlogError):
            await engine.checkpoints.write()


async def remember(engine: LocalEngine, seen: dict[int, str]) -> None:
    """What a reader sees now, as far as it gets: the partition may be cut back meanwhile."""
    offset = engine.partitions[P0].log_start
    while True:
        answer, batches = await fetched_one(engine, P0, offset)
        if not batches:
            assert answer.error is None or answer.error.kind is ErrorKind.STORAGE
            return
        for header, data in batches:
            for record in records_of(data, header):
                assert seen.setdefault(record.offset, (record.value or b"").decode()) == (record.value or b"").decode()
            offset = Offset(header.next_offset)


SEEDS = [
    *range(60),
    105,
    111,
    247,
    353,
    355,
    404,
    455,
    461,
    767,
    873,
    883,
    1036,
    1193,
    1345,
    1624,
]  # the last ones have found something


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_that_was_acknowledged_or_seen_is_lost(seed: int) -> None:
    async def story() -> None:
        world = LocalWorld([topic(segment_bytes=300 if seed % 2 else 1 << 20, index_interval_bytes=100)])
        await lives(world, SeededEntropy(seed), faults=seed >= 25)

    run(story)


@pytest.mark.parametrize("seed", range(15))
def test_page_cache_topics_lose_nothing_to_a_killed_process(seed: int) -> None:
    async def story() -> None:
        world = LocalWorld([topic(durability=Durability.PAGE_CACHE, segment_bytes=400, index_interval_bytes=100)])
        await lives(world, SeededEntropy(seed), faults=False, kills=[Unsynced.KEPT])

    run(story)


def test_a_disk_that_cannot_be_read_takes_its_partition_offline() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        await fill(engine, P0, ["a"])
        await fill(engine, P1, ["b"])
        await world.kill()
        world.files.inject("read", "rivers-0/00000000000000000000.log", errno.EIO, 100)
        engine = await world.start()
        with pytest.raises(RiverlogError, match="offline"):
            engine.watermarks(P0)
        assert await engine.cut([P1], UNCOMMITTED) == {P1: 1}
        await world.stop()

    run(story)


def test_a_sealed_segment_that_is_written_again_saves_its_indexes_again() -> None:
    async def story() -> None:
        world = LocalWorld([topic(segment_bytes=400, index_interval_bytes=1)])
        engine = await world.start()
        for time in (1000, 2000):
            await appended(engine, [append_of(P0, "a", timestamps=[time])])
        world.files.room_bytes = 0
        (refused,) = await appended(engine, [append_of(P0, "x" * 300, timestamps=[3000])])
        assert isinstance(refused, Refused)  # for want of room, but a segment was begun for it
        world.files.room_bytes = None
        await engine.checkpoints.write()
        await world.kill()
        overwrite(world, LOG.replace("00.log", "02.log"), 0, b"what a crash left of a batch")
        engine = await world.start()
        await appended(engine, [append_of(P0, "b", timestamps=[9000])])
        await world.stop()
        engine = await world.start()
        found = await engine.offset_for_time(P0, 5000)
        assert found is not None
        assert (found.offset, found.timestamp_ms) == (2, 9000)
        await world.stop()

    run(story)
