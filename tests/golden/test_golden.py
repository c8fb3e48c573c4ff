"""Files that earlier releases wrote, read as they are. See README.md beside."""

from __future__ import annotations

import asyncio
import tarfile
from pathlib import Path

from riverlog.base.ids import LeaderEpoch, NodeId, Offset, PartitionId, Position, ProducerId, TopicId, TopicName
from riverlog.env.clock import SystemClock
from riverlog.env.entropy import SeededEntropy
from riverlog.env.files import RealFiles
from riverlog.records.batch import records_of
from riverlog.records.header import read_header
from riverlog.state.producers import BatchMark, ProducerEntry
from riverlog.storage.contract import LogConfig, TopicLog
from riverlog.storage.format import (
    checkpoint,
    journal,
    leader_epochs,
    lock,
    meta,
    partition_metadata,
    producer_snapshot,
    swap,
    txn_index,
)
from riverlog.storage.format.checkpoint import ActiveMark, Checksums, FileChecksums, PartitionMark, SegmentMark
from riverlog.storage.format.offset_index import OffsetIndex
from riverlog.storage.format.time_index import TimeIndex
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.settings import LocalSettings
from riverlog.storage.verify import verify
from riverlog.storage.windows import stored_batches
from riverlog.testing.conformance.log_engine import records_in

HERE = Path(__file__).parent
TOPIC = TopicId(bytes(range(16)))


def content(name: str) -> bytes:
    return (HERE / name).read_bytes()


def test_checkpoint_1() -> None:
    found = checkpoint.decode(content("checkpoint-1"))
    assert (found.clean, found.generation, found.version) == (True, 7, 1)
    (mark,) = found.partitions
    assert mark == PartitionMark(
        PartitionId(TopicId(b"\1" * 16), 3),
        LeaderEpoch(2),
        Offset(4),
        Offset(15),
        Offset(10),
        Position(500),
        (SegmentMark(Offset(0), 1000, Offset(9), 1_700_000_000_000),),
    )


NEW = SegmentMark(
    Offset(0), 1000, Offset(9), 1_700_000_000_000, Offset(7), 1_699_999_999_000, 1, Checksums(1, 2, 3, None)
)


def test_checkpoint_2() -> None:
    found = checkpoint.decode(content("checkpoint-2"))
    assert (found.clean, found.generation, found.version) == (True, 7, 2)
    full, empty = found.partitions
    assert full == PartitionMark(
        PartitionId(TOPIC, 3),
        LeaderEpoch(2),
        Offset(4),
        Offset(25),
        Offset(20),
        Position(500),
        (NEW, SegmentMark(Offset(10), 2000, Offset(19), 1_700_000_000_001, Offset(19), 1_700_000_000_000)),
        Offset(10),
        ActiveMark(5, 6, 7, Offset(24), 77),
        True,
        FileChecksums(8, None, 9),
    )
    assert empty == PartitionMark(PartitionId(TOPIC, 4), LeaderEpoch(-1), Offset(0), Offset(0), Offset(0), Position(0))


def test_journal_1() -> None:
    data = content("journal-1")
    found = journal.scan(lambda count, position: data[position : position + count], len(data))
    assert (found.generation, found.unread, found.unknown) == (4, [], 0)
    assert [record.sequence for record in found.records] == [8, 9]
    assert all(not list(journal.defects(data, record)) for record in found.records)
    placed = [(entry, data[at : at + entry.length]) for record in found.records for entry, at in record.placed()]
    assert [one for _, one in placed] == [b"first", b"second", b"third"]
    first = placed[1][0]
    assert first[:7] == (PartitionId(TOPIC, 1), 1, 6, 10, 0, 70, 6)


def test_swap_1() -> None:
    found = swap.decode(content("swap-1"))
    assert found.partition == PartitionId(TOPIC, 3)
    (group,) = found.groups
    assert list(group.replaced) == [0, 10]
    assert list(group.fresh) == [NEW._replace(last_offset=Offset(19))]


def test_meta_and_lock() -> None:
    expected = meta.Meta("sBq9yE0sT1e4gEhcUzjYxA", NodeId(0), 3)
    assert meta.decode(content("meta-1.json")) == expected
    assert meta.decode(content("meta-1-checksum.json")) == expected
    assert lock.decode(content("riverlog.lock")) == lock.LockContent(4711, {"kafka": "127.0.0.1:9092"})


def test_kafkas_text_files() -> None:
    assert partition_metadata.decode(content("partition.metadata")) == TOPIC
    epochs = leader_epochs.LeaderEpochs.decode(content("leader-epoch-checkpoint"))
    assert epochs.entries == [(0, 0), (3, 1000)]


def test_a_segment_with_every_codec() -> None:
    records = [(1_700_000_000_000 + at, b"key-%d" % at, b"value-%d" % at, [("h", b"x")]) for at in range(3)]
    with open(HERE / "segment-batches", "rb", buffering=0) as file:
        headers = []
        for batch in stored_batches(file):
            assert batch.crc_ok
            headers.append(batch.header)
            found = [
                (one.timestamp_ms, one.key, one.value, list(one.headers))
                for one in records_of(batch.data, batch.header)
            ]
            assert found == (records if batch.header.record_count else [])
    assert [header.compression for header in headers] == [0, 1, 2, 3, 4, 0, 0]
    assert [header.base_offset for header in headers] == [0, 3, 6, 9, 12, 15, 18]
    assert {header.leader_epoch for header in headers} == {1}
    assert (headers[5].producer_id, headers[5].producer_epoch, headers[5].base_sequence) == (7, 2, 5)
    assert (headers[6].last_offset, headers[6].record_count, headers[6].max_timestamp) == (27, 0, -1)
    index = OffsetIndex.decode(content("segment.index"), Offset(0))
    positions = [entry.position for entry in index]
    assert [entry.offset for entry in index] == [5, 8, 11, 14]
    assert [read_header(content("segment-batches"), at).base_offset for at in positions] == [3, 6, 9, 12]
    assert list(TimeIndex.decode(content("segment.timeindex"), Offset(0))) == [(1_700_000_000_002, 2)]


def test_producers_and_aborted_transactions() -> None:
    marks = (BatchMark(0, Offset(10), 4), BatchMark(5, Offset(15), 2))
    assert producer_snapshot.decode(content("producers.snapshot")) == [
        ProducerEntry(ProducerId(7), 2, 1_700_000_000_000, -1, Offset(-1), marks)
    ]
    assert txn_index.decode(content("segment.txnindex")) == [(7, 3, 9, 3), (8, 5, 12, 5)]


def topic(name: str, first: int, partition_count: int, **config: bool) -> TopicLog:
    return TopicLog(
        topic_id=TopicId(bytes(range(first, first + 16))),
        name=TopicName(name),
        partition_count=partition_count,
        config=LogConfig(retention_ms=-1, **config),  # type: ignore[arg-type]
    )


TOPICS = [topic("flights", 0, 2), topic("latest", 16, 1, cleanup_delete=False, cleanup_compact=True)]


async def values(engine: LocalEngine, topic_id: TopicId, index: int) -> list[tuple[int, bytes | None, bytes | None]]:
    """Offset, key and value of every record."""
    return [(one.offset, one.key, one.value) for one in await records_in(engine, PartitionId(topic_id, index))]


def unpacked(directory: Path, name: str) -> None:
    with tarfile.open(HERE / name) as archive:
        archive.extractall(directory, filter="data")


def test_directory_2_is_sound_and_gives_its_records(tmp_path: Path) -> None:
    unpacked(tmp_path, "directory-2.tar.gz")
    assert list(verify(str(tmp_path))) == []
    every = [(at, b"k%d" % (at % 4), b"v%d" % at) for at in range(20)]

    async def read() -> None:
        engine = await LocalEngine.open(
            str(tmp_path),
            LocalSettings(cleaner_threads=0),
            files=RealFiles(),
            clock=SystemClock(),
            entropy=SeededEntropy(7),
            topics=TOPICS,
        )
        flights, latest = (one.topic_id for one in TOPICS)
        assert engine.counters.recovered_bytes == 0
        assert engine.starts == 2
        assert [await values(engine, flights, index) for index in range(2)] == [every, every]
        kept = await values(engine, latest, 0)
        assert set(kept) < set(every)
        assert {key: value for _, key, value in kept} == {key: value for _, key, value in every}
        assert engine.watermarks(PartitionId(latest, 0)).log_end == 20
        (producer,) = engine.producers(PartitionId(flights, 0))
        assert (producer.producer_id, producer.last_sequence) == (7, 19)
        await engine.close()

    asyncio.run(read())
    assert list(verify(str(tmp_path))) == []
