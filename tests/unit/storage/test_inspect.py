"""Any file of a data directory as text and as values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from riverlog.base.ids import NodeId, Offset, ProducerId
from riverlog.records.record import NewRecord
from riverlog.storage.format import checkpoint, lock, meta, names, txn_index
from riverlog.storage.inspect import Problem, dump, dump_values, text_of, verify
from tests.partition_files import PartitionWriter, make_batch


@pytest.fixture
def partition(tmp_path: Path) -> Path:
    writer = PartitionWriter(tmp_path / "flights-0").start()
    writer.segment(20, producer_id=7)
    writer.segment(20, producer_id=7)
    return writer.directory


def test_a_segments_batches(partition: Path) -> None:
    lines = list(dump(str(partition / "00000000000000000100.log")))
    assert len(lines) == 20
    assert lines[0] == (
        "batch base_offset=100 last_offset=104 position=0 size=321 records=5 codec=none leader_epoch=0 "
        "base_timestamp=1700000000100 max_timestamp=1700000000104 timestamp_type=CreateTime producer_id=7 "
        "producer_epoch=0 base_sequence=100 transactional=no control=no crc="
        + lines[0].split("crc=")[1].split()[0]
        + " crc_ok=yes"
    )


def test_a_segments_records(tmp_path: Path) -> None:
    path = tmp_path / names.segment_file_name(Offset(0), names.LOG)
    records = [
        NewRecord(1000, b"k", b"a b", (("h", b"1"), ("n", None))),
        NewRecord(1001, None, b"\xff\x00"),
        NewRecord(1002, b"", None),
    ]
    path.write_bytes(make_batch(0, records))
    found = list(dump_values(str(path), records=True))
    assert [entry["kind"] for entry in found] == ["batch", "record", "record", "record"]
    assert found[1] == {
        "kind": "record", "offset": 0, "timestamp": 1000, "key": "k", "value": "a b", "headers": [["h", "1"], ["n", None]]
    }  # fmt: skip
    assert (found[2]["key"], found[2]["value"]) == (None, {"base64": "/wA="})
    assert (found[3]["key"], found[3]["value"]) == ("", None)
    assert json.loads(json.dumps(found)) == found
    assert text_of(found[1]) == 'record offset=0 timestamp=1000 key=k value="a b" headers=[[h, 1], [n, null]]'


def test_a_damaged_segment_gives_what_is_readable_and_says_where_it_ends(partition: Path) -> None:
    path = partition / "00000000000000000000.log"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data[:-10])
    found = list(dump_values(str(path), records=True))
    assert found[0]["crc_ok"] is False
    assert found[1]["kind"] == "batch", "records of a batch with a wrong CRC are not read"
    assert found[2]["kind"] == "record"
    assert found[-1]["kind"] == "damage"
    assert found[-1]["position"] == len(data) - 321


def test_records_that_do_not_parse_are_damage_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = tmp_path / names.segment_file_name(Offset(0), names.LOG)
    good = make_batch(0, [NewRecord(1, b"k", b"v")])
    bad = bytearray(make_batch(1, [NewRecord(1, b"k", b"v")], attributes=1))  # says gzip, is not
    path.write_bytes(good + bytes(bad) + make_batch(2, [NewRecord(1, b"k", b"v")]))
    kinds = [entry["kind"] for entry in dump_values(str(path), records=True)]
    assert kinds == ["batch", "record", "batch", "damage", "batch", "record"]


def test_every_other_file(partition: Path, tmp_path: Path) -> None:
    base = Offset(100)
    (partition / names.segment_file_name(base, names.TXN_INDEX)).write_bytes(
        txn_index.encode([txn_index.AbortedEntry(ProducerId(7), Offset(100), Offset(104), Offset(100))])
    )
    (tmp_path / names.META).write_bytes(meta.encode(meta.Meta("cluster", NodeId(1), 3)))
    (tmp_path / names.LOCK).write_bytes(lock.encode(lock.LockContent(9, {"kafka": "127.0.0.1:9092"})))
    (tmp_path / names.CHECKPOINT).write_bytes(checkpoint.encode(checkpoint.Checkpoint(True, 4, ())))
    expected = {
        partition / names.segment_file_name(base, names.INDEX): "index offset=114 position=642",
        partition / names.segment_file_name(base, names.TIME_INDEX): (
            "time timestamp=1700000000114 time=2023-11-14T22:13:20.114+00:00 offset=114"
        ),
        partition / names.segment_file_name(base, names.TXN_INDEX): (
            "aborted producer_id=7 first_offset=100 last_offset=104 last_stable_offset=100"
        ),
        partition / names.LEADER_EPOCHS: "leader-epoch epoch=0 start_offset=0",
        partition / names.PARTITION_METADATA: (
            "partition topic_id=AAECAwQFBgcICQoLDA0ODw topic_id_hex=000102030405060708090a0b0c0d0e0f"
        ),
        tmp_path / names.META: "meta cluster_id=cluster node_id=1 starts=3 format_version=1",
        tmp_path / names.LOCK: "lock pid=9 addresses={kafka=127.0.0.1:9092}",
        tmp_path / names.CHECKPOINT: "checkpoint clean=yes generation=4 partitions=0",
    }
    for path, first_line in expected.items():
        assert next(dump(str(path))) == first_line, path
    snapshot = next(dump_values(str(partition / names.segment_file_name(base, names.SNAPSHOT))))
    batches = snapshot["batches"]
    assert isinstance(batches, list)
    assert (len(batches), batches[-1]) == (
        5,
        {"base_sequence": 95, "last_sequence": 99, "base_offset": 95, "last_offset": 99},
    )


def test_a_checkpoint_of_a_partition(tmp_path: Path) -> None:
    writer = PartitionWriter(tmp_path / "a-0").start()
    writer.segment(3)
    active = writer.segment(2, keep=False)
    path = tmp_path / names.CHECKPOINT
    path.write_bytes(checkpoint.encode(checkpoint.Checkpoint(False, 1, [writer.mark(active)])))
    lines = list(dump(str(path)))
    assert lines[1].startswith(
        "partition topic_id=AAECAwQFBgcICQoLDA0ODw partition=0 leader_epoch=0 log_start=0 recovery"
    )
    known = "max_timestamp=1700000000014 max_timestamp_offset=-1 created_ms=0 compacted=no checksums=null"
    assert lines[2] == f"segment base_offset=0 size=963 last_offset=14 {known}"


def test_damage_in_a_small_file_is_an_entry(partition: Path) -> None:
    path = partition / names.LEADER_EPOCHS
    path.write_bytes(b"0\n2\n0 0\n")
    assert list(dump(str(path))) == ["damage position=2 what=\"count b'2' before 1 leader epochs\""]


def test_files_that_wait_for_their_removal_and_cut_off_tails_are_read_too(partition: Path) -> None:
    path = partition / "00000000000000000000.log"
    expected = list(dump(str(path)))
    for name in (path.name + names.DELETED, names.cut_name(Offset(0), 1_700_000_000_000)):
        path = path.rename(partition / name)
        assert list(dump(str(path))) == expected


def test_other_names_are_refused_at_the_call(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a file of a data directory"):
        dump(str(tmp_path / "notes.txt"))


def test_verify_is_given_from_here_too(partition: Path) -> None:
    assert list(verify(str(partition))) == []
    assert Problem("a", 1, "what").is_note is False
