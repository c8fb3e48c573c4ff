"""What the kernels of compaction do, on both twins."""

from __future__ import annotations

from array import array
from types import ModuleType
from typing import Any

import pytest

from riverlog.kernels.results import Fault, IndexState, MalformedRecord, WindowEnd
from riverlog.records.batch import check_stored_batch, records_of
from riverlog.records.builder import build_batch, end_marker
from riverlog.records.compression import Compression
from riverlog.records.control import ControlType
from riverlog.records.header import DELETE_HORIZON_BIT, HEADER_BYTES, read_header
from riverlog.records.record import NewRecord

SECRET = bytes(range(16))


@pytest.fixture(params=["thinning", "compiled"])
def kernels(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = pytest.importorskip(f"riverlog.kernels.{request.param}")
    return module


def batch_of(base_offset: int, *records: tuple[str | None, str | None], time: int = 1000, **more: Any) -> bytes:
    made = [
        NewRecord(time + at, None if key is None else key.encode(), None if value is None else value.encode())
        for at, (key, value) in enumerate(records)
    ]
    return bytes(build_batch(made, base_offset=base_offset, leader_epoch=3, **more))


def section(batch: bytes) -> bytes:
    return batch[HEADER_BYTES:]


def thin(
    kernels: ModuleType,
    offset_map: Any,
    window: bytes,
    latest: int,
    *,
    keep: tuple[int, ...] = (),
    now: int = 5000,
    **more: Any,
) -> tuple[Any, bytes]:
    out = bytearray(more.pop("room", 4 * len(window) + 1000))
    done = kernels.thin_window(
        offset_map, window, more.pop("position", 0), out, latest, array("q", keep), now, now + 100,
        more.pop("interval", 4096), more.pop("index", IndexState()),
    )  # fmt: skip
    assert not more
    return done, bytes(out[: done.written])


def content(data: bytes) -> list[tuple[int, str | None, str | None, int]]:
    """Offset, key, value, timestamp of every record; each batch is checked."""
    found = []
    position = 0
    while position < len(data):
        header = read_header(data, position)
        batch = data[position : position + header.size]
        check_stored_batch(batch, header)
        for record in records_of(batch, header):
            key = None if record.key is None else record.key.decode()
            value = None if record.value is None else record.value.decode()
            found.append((record.offset, key, value, record.timestamp_ms))
        position += header.size
    return found


class TestMapping:
    def test_records_from_an_offset_on(self, kernels: ModuleType) -> None:
        known = kernels.OffsetMap(100, SECRET)
        records = section(batch_of(0, ("a", "1"), (None, "2"), ("b", None), ("a", "3")))
        mapped = kernels.map_records(known, records, 4, 3, 10, 11)
        assert mapped == (4, WindowEnd.END, 13, 4)
        assert (known.get(b"a"), known.get(b"b"), len(known)) == (13, 12, 2)

    def test_tells_how_far_it_came_where_the_map_is_full(self, kernels: ModuleType) -> None:
        known = kernels.OffsetMap(2, SECRET)
        records = section(batch_of(0, ("a", "1"), ("a", "2"), ("b", "3"), ("a", "4")))
        assert kernels.map_records(known, records, 4, 3, 10, 0) == (2, WindowEnd.FULL, 11, 2)
        assert kernels.map_records(known, records, 4, 3, 10, 12) == (2, WindowEnd.FULL, -1, 2)

    def test_a_window(self, kernels: ModuleType) -> None:
        known = kernels.OffsetMap(100, SECRET)
        first, second = batch_of(0, ("a", "1"), ("b", "2")), batch_of(2, ("a", "3"))
        window = first + second + batch_of(3, ("c", "4"))[:-1]
        mapped = kernels.map_window(known, window, 0, 1)
        assert mapped == (len(first + second), WindowEnd.END, 2, 3)
        assert [known.get(key) for key in (b"a", b"b", b"c")] == [2, 1, -1]
        assert kernels.map_window(known, window, len(first), 9) == (len(first + second), WindowEnd.END, -1, 0)

    @pytest.mark.parametrize(
        "other",
        [
            batch_of(5, ("a", "1"), compression=Compression.LZ4),
            batch_of(5, ("a", "1"), producer_id=1, producer_epoch=0, base_sequence=0, transactional=True),
            bytes(end_marker(ControlType.ABORT, producer_id=1, producer_epoch=0, coordinator_epoch=0, timestamp_ms=0)),
        ],
    )
    def test_stops_at_what_is_not_for_it(self, kernels: ModuleType, other: bytes) -> None:
        plain = batch_of(0, ("a", "1"))
        known = kernels.OffsetMap(100, SECRET)
        assert kernels.map_window(known, plain + other, 0, 0)[:2] == (len(plain), WindowEnd.OTHER)
        done, data = thin(kernels, known, plain + other, 10)
        assert (done.position, done.stopped, data) == (len(plain), WindowEnd.OTHER, plain)

    def test_stops_at_damage(self, kernels: ModuleType) -> None:
        good = batch_of(0, ("a", "1"))
        known = kernels.OffsetMap(100, SECRET)
        for place in (*range(8, 12), *range(16, len(good))):
            bad = bytearray(batch_of(1, ("b", "1")))
            bad[place] ^= 0x80
            found = kernels.map_window(known, good + bytes(bad), 0, 0)
            if place == 8 or found.stopped is WindowEnd.END:  # its length grew: more of it may come
                assert found.position == len(good)
                continue
            assert (found.position, found.stopped) == (len(good), WindowEnd.DAMAGE)
            assert thin(kernels, known, good + bytes(bad), 9)[0].stopped is WindowEnd.DAMAGE

    def test_a_position_outside(self, kernels: ModuleType) -> None:
        known = kernels.OffsetMap(100, SECRET)
        for position in (-1, 5):
            with pytest.raises(ValueError):
                kernels.map_window(known, b"abcd", position, 0)
            with pytest.raises(ValueError):
                thin(kernels, known, b"abcd", 0, position=position)


class TestMalformed:
    @pytest.mark.parametrize(
        ("records", "count", "fault"),
        [
            (b"", 1, Fault.NUMBER_CUT),
            (b"\x0e", 1, Fault.LENGTH),
            (bytes([14, 0, 0, 4, 2, 107, 1, 0]), 1, Fault.OFFSET),
            (bytes([14, 0, 0, 1, 2, 107, 1, 0]), 1, Fault.OFFSET),
            (bytes([14, 0, 0, 0, 40, 107, 1, 0]), 1, Fault.KEY),
            (bytes([14, 0, 0, 0, 2, 107, 40, 0]), 1, Fault.VALUE),
            (bytes([14, 0, 0, 0, 2, 107, 1, 0, 0]), 1, Fault.TRAILING),
            (b"", -1, Fault.COUNT),
        ],
    )
    def test_faults(self, kernels: ModuleType, records: bytes, count: int, fault: Fault) -> None:
        known = kernels.OffsetMap(100, SECRET)
        with pytest.raises(MalformedRecord) as mapped:
            kernels.map_records(known, records, count, 1, 0, 0)
        with pytest.raises(MalformedRecord) as thinned:
            kernels.thin_records(known, records, count, 1, 0, 0, 9, False)
        assert mapped.value.fault is thinned.value.fault is fault

    def test_a_time_that_does_not_fit(self, kernels: ModuleType) -> None:
        records = section(batch_of(0, ("a", "1"), ("b", "2")))
        with pytest.raises(MalformedRecord) as thinned:
            kernels.thin_records(kernels.OffsetMap(9, SECRET), records, 2, 1, 0, 2**63 - 1, 9, False)
        assert (thinned.value.index, thinned.value.fault) == (1, Fault.TIMESTAMP)
        for base, fresh in ((2**63 - 1, 0), (0, -(2**63)), (-10, 2**63 - 1)):
            with pytest.raises(MalformedRecord) as rebased:
                kernels.rebase_records(records, 2, base, fresh)
            assert rebased.value.fault is Fault.TIMESTAMP

    def test_a_batch_that_cannot_be_read_is_not_passed(self, kernels: ModuleType) -> None:
        good = batch_of(0, ("a", "1"))
        bad = bytearray(batch_of(1, ("b", "2")))
        bad[HEADER_BYTES] = 0x7E
        bad[17:21] = kernels.checksum(bytes(bad[21:])).to_bytes(4, "big")
        known = kernels.OffsetMap(100, SECRET)
        assert kernels.map_window(known, good + bytes(bad), 0, 0)[:2] == (len(good), WindowEnd.MALFORMED)
        done, data = thin(kernels, known, good + bytes(bad), 9)
        assert (done.position, done.stopped, data) == (len(good), WindowEnd.MALFORMED, good)


class TestThinning:
    def known(self, kernels: ModuleType, **offsets: int) -> Any:
        known = kernels.OffsetMap(100, SECRET)
        for key, offset in offsets.items():
            known.put(key.encode(), offset)
        return known

    def test_a_batch_of_which_nothing_goes_stays_byte_for_byte(self, kernels: ModuleType) -> None:
        window = batch_of(0, ("a", "1"), ("b", "2")) + batch_of(
            2, ("c", "3"), producer_id=9, producer_epoch=1, base_sequence=4
        )
        done, data = thin(kernels, self.known(kernels, a=0, b=1, c=2), window, 2)
        assert data == window
        assert (done.position, done.stopped, done.first_offset) == (len(window), WindowEnd.END, 0)
        assert (done.batches, done.records, done.kept) == (2, 3, 3)

    def test_the_last_of_each_key_stays_and_its_batch_keeps_its_numbers(self, kernels: ModuleType) -> None:
        window = batch_of(
            10, ("a", "1"), ("b", "2"), ("a", "3"), (None, "4"), producer_id=9, producer_epoch=1, base_sequence=4
        )
        done, data = thin(kernels, self.known(kernels, a=20, b=11), window, 20)
        assert content(data) == [(11, "b", "2", 1001)]
        before, after = read_header(window), read_header(data)
        assert after == before._replace(length=after.length, crc=after.crc, max_timestamp=1001, record_count=1)
        assert (done.records, done.kept, done.batches) == (4, 1, 1)

    def test_what_lies_behind_the_map_stays(self, kernels: ModuleType) -> None:
        window = batch_of(10, ("a", "1"), ("a", "2"), (None, "3"), ("a", None))
        assert thin(kernels, self.known(kernels, a=30), window, 10)[1] != window
        assert content(thin(kernels, self.known(kernels, a=30), window, 10)[1])[0][:2] == (11, "a")
        assert len(content(thin(kernels, self.known(kernels, a=30), window, 10)[1])) == 3

    def test_an_emptied_batch_goes_or_stays_as_a_header(self, kernels: ModuleType) -> None:
        window = batch_of(10, ("a", "1"), ("a", "2"), producer_id=9, producer_epoch=1, base_sequence=4)
        assert thin(kernels, self.known(kernels, a=30), window, 40)[1] == b""
        _, data = thin(kernels, self.known(kernels, a=30), window, 40, keep=(3, 11, 50))
        before, after = read_header(window), read_header(data)
        assert after == before._replace(length=49, crc=after.crc, base_timestamp=-1, record_count=0)
        check_stored_batch(data, after)
        assert thin(kernels, self.known(kernels, a=30), data, 40, keep=(11,))[1] == data
        assert thin(kernels, self.known(kernels, a=30), data, 40)[1] == b""

    def test_a_tombstone_gets_its_horizon_and_goes_after_it(self, kernels: ModuleType) -> None:
        window = batch_of(10, ("a", None), ("b", "x"), ("c", "y"), time=2000)
        known = self.known(kernels, a=10, b=11, c=30)
        _, data = thin(kernels, known, window, 12, now=5000)
        header = read_header(data)
        assert header.attributes == DELETE_HORIZON_BIT
        assert (header.base_timestamp, header.max_timestamp, header.record_count) == (5100, 2001, 2)
        assert content(data) == [(10, "a", None, 2000), (11, "b", "x", 2001)]
        assert thin(kernels, known, data, 12, now=5099)[1] == data
        _, later = thin(kernels, known, data, 12, now=5100)
        assert content(later) == [(11, "b", "x", 2001)]
        assert read_header(later).attributes == DELETE_HORIZON_BIT

    def test_log_append_time_stays(self, kernels: ModuleType) -> None:
        window = batch_of(10, ("a", None), ("b", "x"), ("c", "y"), time=2000, log_append_time_ms=9000)
        _, data = thin(kernels, self.known(kernels, a=10, b=30, c=12), window, 12)
        assert content(data) == [(10, "a", None, 9000), (12, "c", "y", 9000)]
        assert read_header(data).max_timestamp == 9000

    def test_stops_where_the_room_ends_and_goes_on(self, kernels: ModuleType) -> None:
        first, second = batch_of(0, ("a", "1" * 100)), batch_of(1, ("b", "2" * 100))
        known = self.known(kernels, a=0, b=1)
        done, data = thin(kernels, known, first + second, 9, room=2 * len(first) + 40)
        assert (done.stopped, done.position, data) == (WindowEnd.ROOM, len(first), first)
        done, data = thin(kernels, known, first + second, 9, position=done.position)
        assert (done.stopped, data) == (WindowEnd.END, second)

    def test_index_entries_as_a_segment_makes_them(self, kernels: ModuleType) -> None:
        window = b"".join(batch_of(at, (f"k{at}", "v"), time=(5000, 7000, 6000, 8000, 8000)[at]) for at in range(5))
        size = len(window) // 5
        known = self.known(kernels, **{f"k{at}": at for at in range(5)})
        done, _ = thin(kernels, known, window, 9, interval=size)
        assert list(done.entries) == [2 * size, 2, 7000, 1, 4 * size, 4, 8000, 3]
        assert done.state == IndexState(size, 8000, 3)
        done, _ = thin(kernels, known, window[:size], 9, interval=size, index=IndexState(size + 1, 100, -1))
        assert list(done.entries) == [0, 0, 5000, 0]

    def test_rebased_records_say_the_same(self, kernels: ModuleType) -> None:
        batch = batch_of(0, ("a", "1"), ("b", None), ("c", "3"))
        moved = kernels.rebase_records(section(batch), 3, 1000, 2**40)
        back = kernels.rebase_records(moved, 3, 2**40, 1000)
        assert back == section(batch)
        assert len(moved) > len(back)
