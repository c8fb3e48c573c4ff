"""Batches in, batches out: codecs, transactions, producers, tombstones, and what cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from riverlog.base.ids import Offset, ProducerId
from riverlog.kernels import OffsetMap
from riverlog.records.batch import check_stored_batch, records_of
from riverlog.records.builder import build_batch, end_marker
from riverlog.records.checksum import crc32c
from riverlog.records.compression import Compression
from riverlog.records.control import ControlType
from riverlog.records.header import DELETE_HORIZON_BIT, HEADER_BYTES, BatchHeader, read_header
from riverlog.records.record import NewRecord
from riverlog.state.producers import BatchMark, ProducerEntry
from riverlog.storage.compaction import Damaged, LastOfProducers, Mapping, Thinning, Transactions, bytes_needed
from riverlog.storage.format.txn_index import AbortedEntry

NOW = 10_000
RETENTION = 500


def batch(base_offset: int, *records: tuple[str | None, str | None], time: int = 1000, **more: Any) -> bytes:
    made = [
        NewRecord(time + at, None if key is None else key.encode(), None if value is None else value.encode())
        for at, (key, value) in enumerate(records)
    ]
    return bytes(build_batch(made, base_offset=base_offset, leader_epoch=2, **more))


def transactional(base_offset: int, producer_id: int, *records: tuple[str, str | None], **more: Any) -> bytes:
    return batch(
        base_offset, *records, producer_id=producer_id, producer_epoch=0, base_sequence=0, transactional=True, **more
    )


def marker(base_offset: int, producer_id: int, type_: ControlType) -> bytes:
    made = end_marker(
        type_,
        producer_id=producer_id,
        producer_epoch=0,
        coordinator_epoch=0,
        timestamp_ms=1000,
        base_offset=base_offset,
    )
    return bytes(made)


def aborted(producer_id: int, first: int, last: int) -> AbortedEntry:
    return AbortedEntry(ProducerId(producer_id), Offset(first), Offset(last), Offset(first))


def compacted(
    *log: bytes,
    start: int = 0,
    slots: int = 400,
    entries: Sequence[AbortedEntry] = (),
    producers: Sequence[ProducerEntry] = (),
    now_ms: int = NOW,
    last_offset: int = -1,
) -> tuple[list[bytes], Thinning]:
    """Both passes over a log in one window."""
    window = memoryview(b"".join(log))
    mapping = Mapping(
        OffsetMap(slots, bytes(16)), Offset(start), Transactions(one for one in entries if one.last_offset >= start)
    )
    assert mapping.feed(window) == len(window) or mapping.full
    thinning = Thinning(
        mapping.map, mapping.latest, Transactions(entries), LastOfProducers(producers),
        now_ms=now_ms, delete_retention_ms=RETENTION, index_interval_bytes=4096,
    )  # fmt: skip
    thinning.begin_group(last_offset)
    found: list[bytes] = []
    position = 0
    while position < len(window):
        done = thinning.feed(window[position:])
        assert done.taken
        position += done.taken
        data = bytes(done.data)
        while data:
            header = read_header(data)
            check_stored_batch(data[: header.size], header)
            found.append(data[: header.size])
            data = data[header.size :]
    return found, thinning


def said(batches: Sequence[bytes]) -> list[tuple[int, str | None, str | None]]:
    return [
        (one.offset, one.key and one.key.decode(), one.value and one.value.decode())
        for data in batches
        for one in records_of(data, read_header(data))
        if not read_header(data).is_control
    ]


def header_of(data: bytes) -> BatchHeader:
    return read_header(data)


class TestCodecs:
    @pytest.mark.parametrize("codec", list(Compression))
    def test_a_batch_keeps_its_codec_its_offsets_and_its_times(self, codec: Compression) -> None:
        first = batch(0, ("a", "1"), ("b", "2" * 50), ("a", "3"), time=5000, compression=codec)
        second = batch(3, ("c", "4"), ("a", "5"), time=4000, compression=codec)
        found, thinning = compacted(first, second)
        assert said(found) == [(1, "b", "2" * 50), (3, "c", "4"), (4, "a", "5")]
        assert found[1] == second
        before, after = header_of(first), header_of(found[0])
        assert after == before._replace(length=after.length, crc=after.crc, max_timestamp=5001, record_count=1)
        assert (thinning.records, thinning.kept, thinning.batches) == (5, 3, 2)

    @pytest.mark.parametrize("codec", list(Compression))
    def test_tombstones_under_a_codec(self, codec: Compression) -> None:
        log = batch(0, ("a", None), ("b", "2"), ("b", None), compression=codec)
        found, _ = compacted(log)
        (stamped,) = found
        header = header_of(stamped)
        assert said(found) == [(0, "a", None), (2, "b", None)]
        assert (header.base_timestamp, header.compression) == (NOW + RETENTION, codec)
        assert header.attributes & DELETE_HORIZON_BIT
        assert [one.timestamp_ms for one in records_of(stamped, header)] == [1000, 1002]
        assert compacted(stamped, now_ms=NOW + RETENTION - 1)[0] == [stamped]
        assert compacted(stamped, now_ms=NOW + RETENTION)[0] == []
        (left,) = compacted(stamped, now_ms=NOW + RETENTION, last_offset=2)[0]
        assert (header_of(left).record_count, header_of(left).attributes, header_of(left).last_offset) == (0, 0, 2)

    def test_null_keys_go(self) -> None:
        for codec in (Compression.NONE, Compression.ZSTD):
            assert said(compacted(batch(0, (None, "1"), ("b", "2"), compression=codec))[0]) == [(1, "b", "2")]

    def test_log_append_time_stays(self) -> None:
        log = batch(0, ("a", "1"), ("a", "2"), compression=Compression.GZIP, log_append_time_ms=7777)
        (left,) = compacted(log)[0]
        header = header_of(left)
        assert header.is_log_append_time
        assert [one.timestamp_ms for one in records_of(left, header)] == [7777]


class TestPasses:
    def test_a_full_map_leaves_what_it_did_not_reach(self) -> None:
        for codec in (Compression.NONE, Compression.LZ4):
            log = [batch(3 * at, ("a", "1"), (f"k{at}", "2"), ("z", f"{at}"), compression=codec) for at in range(4)]
            found, thinning = compacted(*log, slots=6)  # four keys
            assert thinning.latest == 6  # the record of "a" in the third batch
            assert said(found)[:2] == [(1, "k0", "2"), (4, "k1", "2")]
            assert said(found)[2:] == [(5, "z", "1"), (6, "a", "1"), *said(log)[7:]]
            again, _ = compacted(*found, start=7)
            assert [one[1] for one in said(again)] == ["k0", "k1", "k2", "a", "k3", "z"]

    def test_a_later_pass_goes_on_in_the_middle_of_a_batch(self) -> None:
        log = batch(0, ("a", "1"), ("b", "2"), ("a", "3"))
        assert said(compacted(log, start=2)[0]) == [(1, "b", "2"), (2, "a", "3")]
        assert said(compacted(log, start=3)[0]) == said([log])


class TestProducers:
    def entry(self, producer_id: int, last_offset: int = -1, epoch: int = 0) -> ProducerEntry:
        batches = (BatchMark(0, Offset(last_offset), 0),) if last_offset >= 0 else ()
        return ProducerEntry(ProducerId(producer_id), epoch, 0, batches=batches)

    @pytest.mark.parametrize("codec", [Compression.NONE, Compression.SNAPPY])
    def test_the_last_batch_of_each_stays(self, codec: Compression) -> None:
        log = [
            batch(at, ("a", "1"), producer_id=5, producer_epoch=1, base_sequence=at, compression=codec)
            for at in range(3)
        ]
        found, _ = compacted(*log, batch(3, ("a", "2")), producers=[self.entry(5, 2)])
        assert [(header_of(one).base_offset, header_of(one).record_count) for one in found] == [(2, 0), (3, 1)]
        assert header_of(found[0])[9:12] == (5, 1, 2)
        assert compacted(*found, producers=[self.entry(5, 2)])[0] == found
        assert len(compacted(*found)[0]) == 1  # it has expired

    def test_a_marker_that_alone_tells_the_epoch_stays(self) -> None:
        log = marker(0, 5, ControlType.COMMIT), batch(1, ("a", "1"))
        (stamped, _), _ = compacted(*log)
        late = NOW + RETENTION
        assert len(compacted(stamped, log[1], now_ms=late)[0]) == 1
        (kept, _), _ = compacted(stamped, log[1], now_ms=late, producers=[self.entry(5)])
        header = header_of(kept)
        assert (header.record_count, header.is_control, header.producer_id) == (0, True, 5)
        assert len(compacted(stamped, log[1], now_ms=late, producers=[self.entry(5, epoch=1)])[0]) == 1


class TestTransactions:
    def test_aborted_records_go_and_decide_nothing(self) -> None:
        log = [
            batch(0, ("a", "good")),
            transactional(1, 7, ("a", "bad"), ("b", "bad")),
            transactional(3, 8, ("b", "good")),
            marker(4, 7, ControlType.ABORT),
            marker(5, 8, ControlType.COMMIT),
        ]
        found, thinning = compacted(*log, entries=[aborted(7, 1, 4)])
        assert said(found) == [(0, "a", "good"), (3, "b", "good")]
        assert thinning.transactions.take_needed() == [aborted(7, 1, 4)]
        assert [header_of(one).base_offset for one in found] == [0, 3, 4, 5]
        assert found == [log[0], log[2], log[3], log[4]]

    def test_a_marker_goes_after_its_records_and_its_horizon(self) -> None:
        log = [transactional(0, 7, ("a", "1")), marker(1, 7, ControlType.ABORT), batch(2, ("a", "2"))]
        found, _ = compacted(*log, entries=[aborted(7, 0, 1)])
        assert found == log[1:]
        found, thinning = compacted(*found, entries=[aborted(7, 0, 1)])
        assert thinning.transactions.take_needed() == []
        stamped = header_of(found[0])
        assert (stamped.attributes & DELETE_HORIZON_BIT > 0, stamped.base_timestamp) == (True, NOW + RETENTION)
        assert [one.timestamp_ms for one in records_of(found[0], stamped)] == [1000]
        assert compacted(*found, now_ms=NOW + RETENTION - 1)[0] == found
        assert compacted(*found, now_ms=NOW + RETENTION)[0] == found[1:]

    def test_a_commit_stays_while_a_record_is_left(self) -> None:
        log = [transactional(0, 7, ("a", "1"), ("b", "1")), marker(2, 7, ControlType.COMMIT), batch(3, ("a", "2"))]
        found, _ = compacted(*log)
        assert found[1] == log[1]
        assert compacted(*found, now_ms=10**9)[0] == found

    def test_two_transactions_of_one_producer(self) -> None:
        log = [
            transactional(0, 7, ("a", "1")),
            marker(1, 7, ControlType.ABORT),
            transactional(2, 7, ("a", "2")),
            marker(3, 7, ControlType.COMMIT),
            transactional(4, 7, ("a", "3")),
            marker(5, 7, ControlType.ABORT),
        ]
        found, thinning = compacted(*log, entries=[aborted(7, 4, 5), aborted(7, 0, 1)])
        assert said(found) == [(2, "a", "2")]
        assert thinning.transactions.take_needed() == [aborted(7, 0, 1), aborted(7, 4, 5)]

    def test_a_control_batch_of_another_kind_stays(self) -> None:
        record = NewRecord(1000, b"\0\0\0\x09", b"anything")
        other = bytes(build_batch([record], control=True, producer_id=3, producer_epoch=0))
        assert compacted(other, now_ms=10**9)[0] == [other]


class TestDamage:
    def test_a_wrong_crc_is_told_with_its_place(self) -> None:
        for codec in (Compression.NONE, Compression.LZ4):
            good, bad = batch(0, ("a", "1")), bytearray(batch(1, ("b", "2"), compression=codec))
            bad[-1] ^= 1
            window = memoryview(good + bytes(bad))
            mapping = Mapping(OffsetMap(9, bytes(16)), Offset(0), Transactions())
            with pytest.raises(Damaged) as damage:
                mapping.feed(window)
            assert damage.value.position == len(good)

    def test_what_was_signed_but_cannot_be_read_is_kept_whole(self) -> None:
        for codec in (Compression.NONE, Compression.ZSTD):
            odd = bytearray(batch(0, ("a", "1"), compression=codec))
            odd[HEADER_BYTES] ^= 0x7F
            odd[17:21] = crc32c(bytes(odd[21:])).to_bytes(4, "big")
            found, thinning = compacted(bytes(odd), batch(1, ("a", "2")), batch(2, ("a", "3")))
            assert found[0] == odd
            assert said(found[1:]) == [(2, "a", "3")]
            assert thinning.unreadable == 1

    def test_a_part_of_a_batch_is_left_for_more(self) -> None:
        data = memoryview(batch(0, ("a", "1")))
        mapping = Mapping(OffsetMap(9, bytes(16)), Offset(0), Transactions())
        for count in (0, 10, HEADER_BYTES, len(data) - 1):
            assert mapping.feed(data[:count]) == 0
        assert [bytes_needed(data[:count], 0) for count in (10, 61)] == [61, len(data)]
        with pytest.raises(Damaged):
            bytes_needed(memoryview(bytes(61)), 0)

    def test_a_batch_larger_than_the_room_gets_more(self) -> None:
        many = [(f"k{at}", None) for at in range(3000)]
        found, thinning = compacted(batch(0, *many, time=2**40))
        assert len(said(found)) == 3000
        assert thinning.batches == 1
