"""The load of the compaction benchmark, and how it knows that a topic is clean."""

from __future__ import annotations

from pathlib import Path

from benchmarks.macro import cleaning
from riverlog.records.batch import records_of
from riverlog.records.header import BATCH_HEADER, BatchHeader


def test_every_key_comes_once_a_pass() -> None:
    keys = 64
    bodies = list(cleaning.requests(2 * keys * (cleaning.value_bytes + 32), keys))
    assert len(bodies) == 2 * keys // cleaning.batch_records
    found: list[bytes] = []
    for body, count in bodies:
        assert count == 1
        at = body.index(cleaning.TOPIC.encode()) + len(cleaning.TOPIC) + 4 + 8
        header = BatchHeader._make(BATCH_HEADER.unpack_from(body, at))
        assert header.record_count == cleaning.batch_records
        found += [bytes(record.key or b"") for record in records_of(memoryview(body)[at:], header)]
    assert sorted(found[:keys]) == sorted(found[keys:]) == [b"key-%012d" % key for key in range(keys)]
    assert found[:keys] != found[keys:]


def test_only_segments_of_the_topic_count(tmp_path: Path) -> None:
    (tmp_path / "compacted-0").mkdir()
    (tmp_path / "compacted-0" / "0.log").write_bytes(b"12345")
    (tmp_path / "compacted-0" / "0.log.deleted").write_bytes(b"1234567")
    (tmp_path / "beside-0").mkdir()
    (tmp_path / "beside-0" / "0.log").write_bytes(b"123")
    assert cleaning.log_bytes(tmp_path) == 5
