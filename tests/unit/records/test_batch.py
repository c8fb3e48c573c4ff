"""What is taken as a batch, what is refused, and with which words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.records.batch import (
    RecordError,
    check_batch,
    check_offset_deltas,
    check_stored_batch,
    first_record_at_or_after,
    max_timestamp_of,
    null_key_in,
    only_batch,
    records_of,
    spans_of,
    unpacked_records,
)
from riverlog.records.builder import assembled, build_batch, end_marker, rebuilt, stamp_log_append_time
from riverlog.records.compression import Compression
from riverlog.records.control import ControlType
from riverlog.records.header import BatchHeader, read_header
from riverlog.records.record import Header, NewRecord, Record

# One record (key "k", value "v", header "h" = null, timestamp 1000), as kafka-python writes it, at offset 5, epoch 2.
GOLDEN = bytes.fromhex(
    "0000000000000005 0000003d 00000002 02 57869249 0000 00000000 00000000000003e8 00000000000003e8"
    "ffffffffffffffff ffff ffffffff 00000001 16 00 00 00 02 6b 02 76 02 02 68 01".replace(" ", "")
)
RECORDS = [NewRecord(1000 + n % 3, b"k%d" % n, b"v" * n) for n in range(10)]


def kind_of(call: Callable[[], object]) -> tuple[ErrorKind, str]:
    with pytest.raises(RiverlogError) as caught:
        call()
    return caught.value.kind, caught.value.message


def changed(**fields: int) -> bytearray:
    """A batch whose header says otherwise, with a right CRC."""
    batch = build_batch(RECORDS)
    header = read_header(batch)
    return assembled(header._replace(**fields), unpacked_records(batch, header))


class TestOnlyBatch:
    def test_one(self) -> None:
        header = only_batch(GOLDEN)
        check_batch(GOLDEN, header)
        assert (header.base_offset, header.record_count, header.leader_epoch) == (5, 1, 2)
        assert only_batch(memoryview(bytearray(GOLDEN))) == header

    @pytest.mark.parametrize(
        ("records", "kind", "words"),
        [
            (b"", ErrorKind.INVALID_RECORD, "exactly one"),
            (GOLDEN + GOLDEN, ErrorKind.INVALID_RECORD, "73 follow it"),
            (GOLDEN + b"\0", ErrorKind.INVALID_RECORD, "1 follow it"),
            (GOLDEN[:60], ErrorKind.CORRUPT_MESSAGE, "60 bytes"),
            (GOLDEN[:10], ErrorKind.CORRUPT_MESSAGE, "10 bytes"),
            (GOLDEN[:-1], ErrorKind.CORRUPT_MESSAGE, "73 bytes, 72 are there"),
            (GOLDEN[:8] + b"\xff\xff\xff\xff" + GOLDEN[12:], ErrorKind.CORRUPT_MESSAGE, "11 bytes"),
            (GOLDEN[:8] + b"\0\0\0\x30" + GOLDEN[12:], ErrorKind.CORRUPT_MESSAGE, "60 bytes"),
            (GOLDEN[:16] + b"\x01" + GOLDEN[17:], ErrorKind.INVALID_RECORD, "magic 1"),
            (GOLDEN[:16] + b"\x00" + GOLDEN[17:34], ErrorKind.INVALID_RECORD, "magic 0"),
            (GOLDEN[:16] + b"\x03" + GOLDEN[17:], ErrorKind.INVALID_RECORD, "magic 3"),
        ],
    )
    def test_refused(self, records: bytes, kind: ErrorKind, words: str) -> None:
        found, message = kind_of(lambda: only_batch(records))
        assert found is kind
        assert words in message


class TestCheckBatch:
    def test_every_bit_behind_the_epoch_is_guarded(self) -> None:
        for bit in range(16 * 8, len(GOLDEN) * 8):
            damaged = bytearray(GOLDEN)
            damaged[bit // 8] ^= 1 << bit % 8
            with pytest.raises(RiverlogError) as caught:
                check_batch(damaged, read_header(damaged))
            kind = caught.value.kind
            assert kind is (ErrorKind.INVALID_RECORD if bit // 8 == 16 else ErrorKind.CORRUPT_MESSAGE)

    def test_base_offset_and_epoch_are_the_logs(self) -> None:
        batch = b"\x7f" * 8 + GOLDEN[8:12] + b"\x01" * 4 + GOLDEN[16:]
        check_batch(batch, read_header(batch))

    def test_what_follows_is_not_looked_at(self) -> None:
        check_batch(GOLDEN + b"anything", read_header(GOLDEN))

    def test_cut_off(self) -> None:
        assert kind_of(lambda: check_batch(GOLDEN[:-1], read_header(GOLDEN)))[0] is ErrorKind.CORRUPT_MESSAGE

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"record_count": 0}, "0 records"),
            ({"record_count": 0, "last_offset_delta": -1}, "0 records"),
            ({"record_count": -1, "last_offset_delta": -2}, "-1 records"),
            ({"record_count": 9}, "last offset delta of 9"),
            ({"record_count": 11}, "11 records"),
            ({"last_offset_delta": 2**31 - 1}, "2147483647"),
            ({"attributes": 0x20}, "control"),
            ({"attributes": 0x10}, "transactional batch needs a producer id"),
            ({"producer_id": 5, "producer_epoch": 0}, "sequence -1"),
            ({"producer_id": 5, "base_sequence": 0}, "epoch -1"),
        ],
    )
    def test_what_a_producer_may_not_send(self, fields: dict[str, int], words: str) -> None:
        batch = changed(**fields)
        kind, message = kind_of(lambda: check_batch(batch, only_batch(batch)))
        assert kind is ErrorKind.INVALID_RECORD
        assert words in message

    def test_what_a_producer_may_send(self) -> None:
        batch = changed(producer_id=5, producer_epoch=0, base_sequence=0, attributes=0x10)
        check_batch(batch, only_batch(batch))


class TestCheckStoredBatch:
    def test_compaction_and_markers(self) -> None:
        header = read_header(GOLDEN)
        marker = end_marker(ControlType.ABORT, producer_id=1, producer_epoch=0, coordinator_epoch=0, timestamp_ms=0)
        for batch in (rebuilt(header, []), rebuilt(read_header(build_batch(RECORDS)), []), marker):
            check_stored_batch(batch, read_header(batch))

    @pytest.mark.parametrize("fields", [{"record_count": 11}, {"record_count": -1}, {"last_offset_delta": -1}])
    def test_impossible_counts(self, fields: dict[str, int]) -> None:
        batch = changed(**fields)
        assert kind_of(lambda: check_stored_batch(batch, read_header(batch)))[0] is ErrorKind.INVALID_RECORD


class TestRecords:
    def test_golden(self) -> None:
        records = list(records_of(GOLDEN, read_header(GOLDEN)))
        assert records == [Record(5, 1000, b"k", b"v", (Header("h", None),))]

    @pytest.mark.parametrize("compression", list(Compression))
    def test_every_codec(self, compression: Compression) -> None:
        batch = build_batch(RECORDS, compression=compression, base_offset=100)
        records = list(records_of(memoryview(batch), read_header(batch)))
        assert [record[1:4] for record in records] == [record[:3] for record in RECORDS]
        assert [record.offset for record in records] == list(range(100, 110))

    def test_header_keys_that_are_not_utf8_survive(self) -> None:
        section = bytes([20, 0, 0, 0, 1, 1, 2, 4, 0xFF, 0x41, 1])
        header = read_header(GOLDEN)
        batch = assembled(header, section)
        (record,) = records_of(batch, read_header(batch))
        assert record.headers == (("\udcffA", None),)
        again = rebuilt(read_header(batch), [record])
        assert again == batch

    def test_log_append_time_is_every_records(self) -> None:
        batch = build_batch(RECORDS)
        header = stamp_log_append_time(batch, read_header(batch), 77)
        assert {record.timestamp_ms for record in records_of(batch, header)} == {77}

    def test_malformed_records_are_named(self) -> None:
        batch = assembled(read_header(GOLDEN)._replace(record_count=3), b"\x0c\0\0\0\x01\x01\0" * 2 + b"\x01")
        with pytest.raises(RecordError) as caught:
            records_of(batch, read_header(batch))
        assert (caught.value.kind, caught.value.record_index) == (ErrorKind.INVALID_RECORD, 2)
        with pytest.raises(RecordError, match="record 2"):
            null_key_in(b"\x0c\0\0\0\0\x01\0" * 2 + b"\x01", read_header(batch))

    def test_unknown_codec(self) -> None:
        batch = changed()
        header = read_header(batch)._replace(attributes=5)
        assert kind_of(lambda: unpacked_records(batch, header))[0] is ErrorKind.UNSUPPORTED_COMPRESSION

    def test_offsets_that_do_not_add_up(self) -> None:
        batch = build_batch(RECORDS)
        kept = [record for record in records_of(batch, read_header(batch)) if record.offset != 4]
        gap = rebuilt(read_header(batch), kept)
        header = read_header(gap)
        with pytest.raises(RecordError) as caught:
            check_offset_deltas(spans_of(unpacked_records(gap, header), header))
        assert caught.value.record_index == 4
        check_offset_deltas(spans_of(unpacked_records(batch, read_header(batch)), read_header(batch)))

    def test_null_keys(self) -> None:
        batch = build_batch([*RECORDS, NewRecord(0)])
        header = read_header(batch)
        assert null_key_in(unpacked_records(batch, header), header) == 10
        batch = build_batch(RECORDS)
        assert null_key_in(unpacked_records(batch, read_header(batch)), read_header(batch)) is None

    def test_empty_batches_of_any_codec(self) -> None:
        for compression in Compression:
            full = build_batch(RECORDS, compression=compression)
            empty = rebuilt(read_header(full), [])
            assert len(empty) == 61
            header = read_header(empty)
            assert (header.compression, header.last_offset_delta) == (compression, 9)
            assert list(records_of(empty, header)) == []
            assert first_record_at_or_after(empty, header, 0) is None
            assert max_timestamp_of(empty, header) is None


class TestTimestamps:
    BATCH = build_batch(RECORDS, compression=Compression.ZSTD)  # 1000, 1001, 1002, 1000 …

    @pytest.mark.parametrize(
        ("timestamp", "found"), [(0, (0, 1000)), (1001, (1, 1001)), (1002, (2, 1002)), (1003, None)]
    )
    def test_first_at_or_after(self, timestamp: int, found: tuple[int, int] | None) -> None:
        assert first_record_at_or_after(self.BATCH, read_header(self.BATCH), timestamp) == found

    def test_largest(self) -> None:
        assert max_timestamp_of(self.BATCH, read_header(self.BATCH)) == (2, 1002)

    def test_log_append_time(self) -> None:
        batch = build_batch(RECORDS)
        header: BatchHeader = stamp_log_append_time(batch, read_header(batch), 5)
        assert first_record_at_or_after(batch, header, 5) == (0, 5)
        assert first_record_at_or_after(batch, header, 6) is None
        assert max_timestamp_of(batch, header) == (0, 5)

    def test_malformed(self) -> None:
        batch = assembled(read_header(GOLDEN), b"\x01")
        header = read_header(batch)
        for look in (lambda: max_timestamp_of(batch, header), lambda: first_record_at_or_after(batch, header, 0)):
            with pytest.raises(RecordError):
                look()
