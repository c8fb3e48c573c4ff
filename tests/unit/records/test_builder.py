"""Batches that we make, and what is changed in one in place."""

from __future__ import annotations

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.records.batch import check_batch, check_stored_batch, only_batch, records_of, unpacked_records
from riverlog.records.builder import build_batch, end_marker, rebuilt, recompressed, stamp, stamp_log_append_time
from riverlog.records.compression import Compression
from riverlog.records.control import ControlType, Marker, parse_marker
from riverlog.records.header import read_header
from riverlog.records.record import NewRecord

RECORDS = [NewRecord(1005 - n, None, b"v" * n, [("n", b"%d" % n)]) for n in range(5)]


def test_every_field() -> None:
    batch = build_batch(
        RECORDS,
        base_offset=9,
        leader_epoch=4,
        producer_id=7,
        producer_epoch=3,
        base_sequence=100,
        transactional=True,
        compression=Compression.ZSTD,
        level=1,
    )
    header = only_batch(batch)
    check_batch(batch, header)
    assert header._replace(length=0, crc=0) == (9, 0, 4, 2, 0, 0x14, 4, 1005, 1005, 7, 3, 100, 5)
    assert [record.timestamp_ms for record in records_of(batch, header)] == [1005, 1004, 1003, 1002, 1001]


def test_without_a_producer() -> None:
    header = read_header(build_batch(RECORDS))
    assert (header.producer_id, header.producer_epoch, header.base_sequence, header.leader_epoch) == (-1, -1, -1, -1)


def test_needs_a_record() -> None:
    with pytest.raises(RiverlogError, match="at least one"):
        build_batch([])


def test_log_append_time_when_built() -> None:
    batch = build_batch(RECORDS, log_append_time_ms=9)
    header = read_header(batch)
    assert (header.is_log_append_time, header.max_timestamp) == (True, 9)


def test_stamp_in_place() -> None:
    wider = bytearray(b"<") + build_batch(RECORDS) + b">"
    view = memoryview(wider)[1:-1]
    before = read_header(view)
    stamp(view, 2**63 - 1, 5)
    after = read_header(view)
    assert after == before._replace(base_offset=2**63 - 1, leader_epoch=5)
    check_batch(view, after)
    assert (wider[:1], wider[-1:]) == (b"<", b">")


def test_stamp_log_append_time_in_place() -> None:
    batch = build_batch(RECORDS, compression=Compression.LZ4)
    size = len(batch)
    batch += b"the next batch"
    header = stamp_log_append_time(batch, read_header(batch), 123)
    assert read_header(batch) == header
    assert header.compression == Compression.LZ4
    check_batch(batch, header)
    assert batch[size:] == b"the next batch"
    assert {record.timestamp_ms for record in records_of(batch, header)} == {123}


@pytest.mark.parametrize("compression", list(Compression))
def test_recompressed(compression: Compression) -> None:
    batch = build_batch(RECORDS, base_offset=3, compression=Compression.SNAPPY, producer_id=1, producer_epoch=2, base_sequence=3)
    header = read_header(batch)
    other = recompressed(memoryview(batch), header, compression)
    found = only_batch(other)
    check_batch(other, found)
    assert found.compression == compression
    assert unpacked_records(other, found) == unpacked_records(batch, header)
    assert found._replace(length=0, crc=0, attributes=0) == header._replace(length=0, crc=0, attributes=0)


class TestRebuilt:
    BATCH = build_batch(RECORDS, base_offset=50, compression=Compression.GZIP, producer_id=1, producer_epoch=2, base_sequence=3)

    def test_offsets_and_sequences_stay(self) -> None:
        header = read_header(self.BATCH)
        records = list(records_of(self.BATCH, header))
        kept = records[1:4:2]
        batch = rebuilt(header, kept)
        found = read_header(batch)
        check_stored_batch(batch, found)
        assert list(records_of(batch, found)) == kept
        assert (found.base_offset, found.last_offset, found.base_sequence) == (50, 54, 3)
        assert (found.record_count, found.max_timestamp, found.compression) == (2, 1004, Compression.GZIP)

    def test_other_offsets_are_refused(self) -> None:
        header = read_header(self.BATCH)
        (record, *_) = records_of(self.BATCH, header)
        for offset in (49, 55):
            with pytest.raises(ValueError, match="not one of 50 to 54"):
                rebuilt(header, [record._replace(offset=offset)])


@pytest.mark.parametrize("type_", list(ControlType))
def test_end_marker(type_: ControlType) -> None:
    batch = end_marker(
        type_, producer_id=5, producer_epoch=1, coordinator_epoch=3, timestamp_ms=77, base_offset=8, leader_epoch=2
    )
    header = only_batch(batch)
    check_stored_batch(batch, header)
    assert header.is_control
    assert header.is_transactional
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (5, 1, -1)
    (record,) = records_of(batch, header)
    assert (record.offset, record.timestamp_ms) == (8, 77)
    assert parse_marker(record.key, record.value) == Marker(type_, 3)
    with pytest.raises(RiverlogError) as caught:
        check_batch(batch, header)
    assert caught.value.kind is ErrorKind.INVALID_RECORD
