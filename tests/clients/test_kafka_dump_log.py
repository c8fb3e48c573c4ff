"""Apache Kafka reads what we write, and we read what it wrote: segments, indexes, snapshots."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.peers import kafka
from riverlog.base.ids import Offset, ProducerId
from riverlog.state.producers import NO_OFFSET, BatchMark, ProducerEntry
from riverlog.storage.format import names, producer_snapshot, txn_index
from riverlog.storage.format.txn_index import AbortedEntry
from riverlog.storage.inspect import dump, dump_values, verify
from tests.engine_directory import write_directory, write_transactions
from tests.partition_files import PartitionWriter

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def _java() -> None:
    """Skips by name where Kafka cannot run; fails where the environment says that it must."""
    if (missing := kafka.missing()) is not None:
        if "java" in os.environ.get("RIVERLOG_REQUIRE", ""):
            pytest.fail(missing)
        pytest.skip(missing)


def kafka_dump(*paths: Path, options: tuple[str, ...] = ()) -> str:
    """What `kafka-dump-log.sh` prints; it must neither fail nor complain."""
    done = kafka.run_tool("DumpLogSegments", ["--files", ",".join(map(str, paths)), *options])
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    # Complaints go to stderr. This one it has of every segment but the first of a log, Kafka's own too.
    complaints = re.sub(r"Non-consecutive offsets in \S+\n  -1 is followed by \d+\n", "", done.stderr)
    assert complaints == "", said
    assert "isvalid: false" not in said, said
    return done.stdout


def test_kafka_reads_our_segments_indexes_and_snapshots(tmp_path: Path) -> None:
    writer = PartitionWriter(tmp_path / "flights-0").start()
    writer.segment(40, producer_id=7)
    path = writer.segment(60, producer_id=7)
    aborted = [AbortedEntry(ProducerId(7), Offset(200), Offset(209), Offset(200))]
    path.with_suffix(names.TXN_INDEX).write_bytes(txn_index.encode(aborted))
    printed = kafka_dump(
        path,
        path.with_suffix(names.INDEX),
        path.with_suffix(names.TIME_INDEX),
        path.with_suffix(names.SNAPSHOT),
        path.with_suffix(names.TXN_INDEX),
        options=("--print-data-log", "--deep-iteration"),
    )
    assert printed.count("| offset:") == 300
    assert "baseOffset: 495 lastOffset: 499 count: 5" in printed
    assert "key: key-4 payload: " in printed
    index_entries = list(dump(str(path.with_suffix(names.INDEX))))
    assert len(index_entries) > 5
    for value in dump_values(str(path.with_suffix(names.INDEX))):
        assert f"offset: {value['offset']} position: {value['position']}" in printed
    for value in dump_values(str(path.with_suffix(names.TIME_INDEX))):
        assert f"timestamp: {value['timestamp']} offset: {value['offset']}" in printed
    assert "producerId: 7 producerEpoch: 0" in printed
    assert "firstSequence: 195 lastSequence: 199 lastOffset: 199 offsetDelta: 4" in printed
    assert "firstOffset: 200 lastOffset: 209 lastStableOffset: 200" in printed


def test_kafka_reads_what_the_local_engine_wrote(tmp_path: Path) -> None:
    write_directory(tmp_path / "data", tmp_path / "killed")
    for partition in sorted((tmp_path / "data" / names.TOPICS).iterdir()):
        logs = sorted(partition.glob("*.log"))
        printed = kafka_dump(
            *logs,
            *sorted(partition.glob("*index")),
            *sorted(partition.glob("*.snapshot")),
            options=("--print-data-log", "--deep-iteration"),
        )
        ours = [entry["offset"] for log in logs for entry in dump_values(str(log), records=True) if "offset" in entry]
        assert [int(offset) for offset in re.findall(r"^\| offset: (\d+)", printed, re.MULTILINE)] == ours
        assert ours == list(range(len(ours)))
        assert "producerId: 7 producerEpoch: 0" in printed


def test_kafka_reads_our_markers_aborted_transactions_and_open_ones(tmp_path: Path) -> None:
    write_transactions(tmp_path / "data", tmp_path / "killed")
    (partition,) = (tmp_path / "data" / names.TOPICS).iterdir()
    logs, indexes = sorted(partition.glob("*.log")), sorted(partition.glob("*.txnindex"))
    assert len(logs) > 3
    assert len(indexes) > 2
    printed = kafka_dump(
        *logs, *indexes, *sorted(partition.glob("*.snapshot")), options=("--print-data-log", "--deep-iteration")
    )
    assert printed.count("endTxnMarker: ABORT coordinatorEpoch: 1") == 21
    assert printed.count("endTxnMarker: COMMIT coordinatorEpoch: 1") == 1
    entries = [entry for index in indexes for entry in txn_index.decode(index.read_bytes())]
    assert len(entries) == 21
    for entry in entries:
        line = (
            f"version: 0 producerId: {entry.producer_id} firstOffset: {entry.first_offset} "
            f"lastOffset: {entry.last_offset} lastStableOffset: {entry.last_stable_offset}"
        )
        assert line in printed
    assert "producerId: 3 producerEpoch: 0 coordinatorEpoch: -1 currentTxnFirstOffset: OptionalLong[64]" in printed
    assert "producerId: 2 producerEpoch: 2 coordinatorEpoch: 1 currentTxnFirstOffset: OptionalLong.empty" in printed


def test_kafka_passes_over_the_earlier_batches_of_our_snapshot(tmp_path: Path) -> None:
    marks = tuple(BatchMark(at * 10, Offset(at * 10), 9) for at in range(5))
    entries = [
        ProducerEntry(ProducerId(at), 3, 1_700_000_000_000, -1, NO_OFFSET if at else Offset(0), marks)
        for at in range(3)
    ]
    path = tmp_path / names.segment_file_name(Offset(50), names.SNAPSHOT)
    path.write_bytes(producer_snapshot.encode(entries))
    printed = kafka_dump(path)
    assert printed.count("producerEpoch: 3") == 3
    assert producer_snapshot.decode(path.read_bytes()) == entries


def test_kafka_complains_about_what_verify_complains_about(tmp_path: Path) -> None:
    """The oracle tells right from wrong, and so do we."""
    writer = PartitionWriter(tmp_path / "flights-0").start()
    path = writer.segment(60)
    for suffix in (names.INDEX, names.TIME_INDEX):
        damaged = bytearray(path.with_suffix(suffix).read_bytes())
        damaged[11 if suffix == names.INDEX else 7] ^= 1  # an offset, a timestamp
        path.with_suffix(suffix).write_bytes(damaged)
        done = kafka.run_tool("DumpLogSegments", ["--files", str(path.with_suffix(suffix))])
        assert "ismatch" in done.stderr
    assert {Path(problem.path).suffix for problem in verify(str(tmp_path / "flights-0"))} == {
        names.INDEX,
        names.TIME_INDEX,
    }


@pytest.fixture(scope="module")
def kafka_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data directory of a stopped Kafka: a topic for each codec, an idempotent producer, small segments."""
    confluent = pytest.importorskip("confluent_kafka")
    from confluent_kafka.admin import AdminClient, NewTopic

    codecs = ("none", "gzip", "snappy", "lz4", "zstd")
    with kafka.Kafka(tmp_path_factory.mktemp("kafka"), settings={"log.index.interval.bytes": "1024"}) as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        config = {"segment.bytes": "1048576"}
        topics = [NewTopic(f"codec-{codec}", 1, 1, config=config) for codec in codecs]
        for future in admin.create_topics(topics).values():
            future.result(30)
        for codec in codecs:
            producer = confluent.Producer(
                {
                    "bootstrap.servers": broker.bootstrap,
                    "enable.idempotence": True,
                    "compression.type": codec,
                    "linger.ms": 5,
                    "batch.size": 16384,
                }
            )
            for at in range(3000):
                value = b"%06d " % at + os.urandom(400) + b"x" * 200
                producer.produce(f"codec-{codec}", value, b"key-%d" % at, headers=[("h", b"1")])
                producer.poll(0)
            assert producer.flush(60) == 0
        broker.stop()
        yield broker.data_directory


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_we_read_and_verify_what_kafka_wrote(kafka_directory: Path, codec: str) -> None:
    partition = kafka_directory / f"codec-{codec}-0"
    logs = sorted(partition.glob("*.log"))
    assert len(logs) > 1, "more than one segment, or the indexes of a sealed one are not looked at"
    offsets: list[object] = []
    for log in logs:
        for entry in dump_values(str(log), records=True):
            assert entry["kind"] in ("batch", "record"), entry
            if entry["kind"] == "batch":
                assert entry["crc_ok"] is True
                assert entry["codec"] == codec
            else:
                assert str(entry["key"]) == f"key-{entry['offset']}"
                offsets.append(entry["offset"])
    assert offsets == list(range(3000))
    assert list(verify(str(partition))) == []


def test_our_indexes_of_kafkas_segments_are_kafkas_own(kafka_directory: Path) -> None:
    """Every entry of every index that Kafka wrote decodes, and encodes to the same bytes again."""
    from riverlog.storage.format.offset_index import OffsetIndex
    from riverlog.storage.format.time_index import TimeIndex

    count = 0
    for path in kafka_directory.glob("codec-*/*index"):
        data = path.read_bytes()
        kind = OffsetIndex if path.suffix == names.INDEX else TimeIndex
        index = kind.decode(data, Offset(int(path.stem)))
        assert data == index.encode() or not any(data[len(index.encode()) :])
        count += len(index)
    assert count > 100


def test_we_read_kafkas_snapshots_and_checkpoints(kafka_directory: Path) -> None:
    snapshots = sorted(kafka_directory.glob("codec-*/*.snapshot"))
    assert snapshots
    producers = [entry for path in snapshots for entry in dump_values(str(path))]
    assert any(entry["kind"] == "producer" and entry["batches"] for entry in producers)
    for path in snapshots:
        entries = producer_snapshot.decode(path.read_bytes())
        kafkas = path.read_bytes()
        ours = producer_snapshot.encode(entries)
        assert ours[6 : len(kafkas)] == kafkas[6:], "the same but for our section behind"
    for name in (names.LEADER_EPOCHS, names.PARTITION_METADATA):
        for path in kafka_directory.glob(f"codec-*/{name}"):
            assert [entry["kind"] for entry in dump_values(str(path))] in (["leader-epoch"], ["partition"])


def test_a_whole_log_directory_of_kafka_has_no_problems(kafka_directory: Path) -> None:
    """The internal topics too (they are compacted, so gaps are allowed there)."""
    internal = {"__consumer_offsets", "__transaction_state", "__cluster_metadata", "__share_group_state"}
    problems = [problem for problem in verify(str(kafka_directory), compacted_topics=internal) if not problem.is_note]
    problems = [problem for problem in problems if "__cluster_metadata" not in problem.path]
    assert problems == []
