"""No flipped bit stays hidden: a directory that engines wrote, and each byte of each file of it flipped in turn (of the
journal's padding, which must be zero, one in many)."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from riverlog.base.ids import PartitionId, TopicId, TopicName
from riverlog.env.clock import SystemClock
from riverlog.env.entropy import SeededEntropy
from riverlog.env.files import RealFiles
from riverlog.records.builder import build_batch
from riverlog.records.compression import Compression
from riverlog.records.header import read_header
from riverlog.records.record import NewRecord
from riverlog.storage.contract import Acks, Append, Appended, LogConfig, TopicLog
from riverlog.storage.format import checkpoint, journal, names
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.settings import LocalSettings
from riverlog.storage.verify import Problem, verify

SMALL_BYTES = 30  # of files up to this size every bit is flipped, else one of each byte


def topic(name: str, partition_count: int, **config: object) -> TopicLog:
    topic_id = TopicId(name.encode().ljust(16, b"\x55"))
    config = {"segment_bytes": 350, "index_interval_bytes": 100, "retention_ms": -1, **config}
    return TopicLog(
        topic_id=topic_id,
        name=TopicName(name),
        partition_count=partition_count,
        config=LogConfig(**config),  # type: ignore[arg-type]
    )


TOPICS = [topic("flights", 1), topic("codecs", 1), topic("latest", 1, cleanup_delete=False, cleanup_compact=True)]


async def append(engine: LocalEngine, batches: Sequence[tuple[PartitionId, bytearray]]) -> None:
    answer = engine.append([Append(one, batch, read_header(batch)) for one, batch in batches], Acks.ALL)
    answers = answer if isinstance(answer, list) else await answer  # type: ignore[misc]
    assert all(isinstance(one, Appended) for one in answers), answers


async def fill(engine: LocalEngine, start: int) -> None:
    flights, codecs, latest = (one.topic_id for one in TOPICS)
    clock_ms = 1_700_000_000_000 + start * 1000
    for at in range(start, start + 3):
        records = [NewRecord(clock_ms + at, b"k%d" % (at % 3), b"value %d" % at) for _ in range(2)]
        await append(
            engine,
            [
                (PartitionId(flights, 0), build_batch(records, producer_id=7, producer_epoch=0, base_sequence=at * 2)),
                (PartitionId(codecs, 0), build_batch(records * 2, compression=Compression(at % 5))),
                (PartitionId(latest, 0), build_batch(records)),
            ],
        )


async def started(directory: Path) -> LocalEngine:
    return await LocalEngine.open(
        str(directory),
        LocalSettings(journal_files_min=1, cleaner_threads=0),
        files=RealFiles(),
        clock=SystemClock(),
        entropy=SeededEntropy(7),
        topics=TOPICS,
    )


async def write(directory: Path, killed: Path) -> None:
    """Two runs: the first one ends as after `kill -9`, so there are two leader epochs; the second cleanly."""
    engine = await started(killed)
    await fill(engine, 0)
    await engine.checkpoints.write()
    await fill(engine, 3)
    shutil.copytree(killed, directory)
    await engine.close()
    engine = await started(directory)
    await fill(engine, 6)
    await engine.checkpoints.write()
    while any(one.checksums is None for each in engine.partitions.values() for one in each.segments[:-1]):
        await asyncio.sleep(0.005)
    assert await engine.compacting.run_once(engine.partitions[PartitionId(TOPICS[2].topic_id, 0)]) is not None
    await fill(engine, 9)
    await engine.close()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("every-byte")
    asyncio.run(write(root / "data", root / "killed"))
    return root / "data"


def files_of(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def live_bytes(path: Path) -> int:
    """How much of the file means anything: what lies behind the last record of a journal is free space."""
    size = path.stat().st_size
    if path.parent.name != names.JOURNAL:
        return size
    content = path.read_bytes()
    found = journal.scan(lambda count, position: content[position : position + count], size)
    return found.records[-1].end if found.records else journal.BLOCK_BYTES


def look(directory: Path, path: Path) -> list[Problem]:
    """As `riverlog verify` does; of the partitions only the one that the file is of."""
    partitions = {path.parent.name} if path.parent.parent.name == names.TOPICS else set()
    return list(verify(str(directory), partitions=partitions))


def flips(path: Path) -> Iterator[tuple[int, int]]:
    count = live_bytes(path)
    content = path.read_bytes()
    for at in range(count):
        if at % 97 and path.parent.name == names.JOURNAL and not any(content[max(0, at - 50) : at + 50]):
            continue  # padding up to the next block: one in many
        if count <= SMALL_BYTES:
            yield from ((at, 1 << bit) for bit in range(8))
        else:
            yield at, 1 << at % 8


def test_the_directory_is_what_the_test_speaks_of(directory: Path) -> None:
    assert list(verify(str(directory))) == []
    found = checkpoint.decode((directory / names.CHECKPOINT).read_bytes())
    assert found.clean
    assert any(one.flags & checkpoint.COMPACTED for mark in found.partitions for one in mark.segments)
    assert (directory / names.JOURNAL / journal.FILE_NAMES[0]).stat().st_size > journal.BLOCK_BYTES
    assert len(found.partitions) == 3
    for mark in found.partitions:
        assert len(mark.segments) >= 2
        known = [one.checksums is not None for one in mark.segments]
        assert known[0]
        assert mark.leader_epoch == 1
    assert any(not known for known in [one.checksums is not None for mark in found.partitions for one in mark.segments])
    suffixes = {path.suffix for path in files_of(directory)}
    assert suffixes >= {names.LOG, names.INDEX, names.TIME_INDEX, names.SNAPSHOT, ".json"}


def test_each_flipped_bit_is_found_and_its_file_named(directory: Path) -> None:
    count = 0
    for path in files_of(directory):
        intact = path.read_bytes()
        with open(path, "r+b", buffering=0) as file:
            for at, mask in flips(path):
                os.pwrite(file.fileno(), bytes([intact[at] ^ mask]), at)
                found = look(directory, path)
                assert any(problem.path == str(path) for problem in found), (path.name, at, mask, found)
                os.pwrite(file.fileno(), intact[at : at + 1], at)
                count += 1
        assert look(directory, path) == []
    assert count > 3_000


def test_each_missing_file_is_found(directory: Path) -> None:
    """But the lock, which has nothing in it, and the journal, which nothing needs after a clean stop."""
    for path in files_of(directory):
        if path.name == names.LOCK or path.parent.name == names.JOURNAL:
            continue
        hidden = path.with_name("hidden")
        path.rename(hidden)
        assert any(problem.path == str(path) for problem in look(directory, path)), path
        hidden.rename(path)


def test_each_shorter_and_each_longer_file_is_found(directory: Path) -> None:
    for path in files_of(directory):
        if path.name == names.LOCK or path.parent.name == names.JOURNAL:
            continue
        intact = path.read_bytes()
        for changed in (intact[:-1], intact + b"\1"):
            if changed or intact:
                path.write_bytes(changed)
                assert intact == b"" or any(problem.path == str(path) for problem in look(directory, path)), path
        path.write_bytes(intact)
