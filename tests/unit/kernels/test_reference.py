"""What every kernel does, on both twins: `reference` always runs, `compiled` where it was built."""

from __future__ import annotations

import struct
from types import ModuleType

import pytest

from riverlog.kernels.results import Fault, MalformedRecord, TimestampedDelta, WalkEnd


@pytest.fixture(params=["reference", "compiled"])
def kernels(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = pytest.importorskip(f"riverlog.kernels.{request.param}")
    return module


# One record by hand: length 19 (zigzag 38), attributes 0, timestamp delta 5, offset delta 0, key "k", value "hello",
# one header "h" = null, another "i" = "j".
RECORD = b"\x26\x00\x0a\x00\x02k\x0ahello\x04\x02h\x01\x02i\x02j"
NULLS = bytes([12, 0, 1, 2, 1, 1, 0])  # timestamp delta -1, offset delta 1, key and value null, no headers


def header(length: int = 49, magic: int = 2, base_offset: int = 7) -> bytes:
    return struct.pack(">qiibIhiqqqhii", base_offset, length, 3, magic, 0xFFFFFFFE, 0x10, 4, -9, 10, 11, 12, 13, 5)


class TestWalkBatches:
    def test_columns_of_a_batch(self, kernels: ModuleType) -> None:
        batches = kernels.walk_batches(header())
        assert [list(column) for column in batches[2:]] == [
            [0], [61], [7], [4], [3], [0xFFFFFFFE], [0x10], [-9], [10], [11], [12], [13], [5],
        ]  # fmt: skip
        assert batches.positions == batches[2]
        assert batches.record_counts == batches[-1]
        assert (batches.end, batches.stopped) == (61, WalkEnd.END)

    def test_many_batches_from_a_position(self, kernels: ModuleType) -> None:
        data = b"".join(header(49 + 3, base_offset=n) + b"abc" for n in range(200))
        batches = kernels.walk_batches(memoryview(data), 64)
        assert list(batches.base_offsets) == list(range(1, 200))
        assert list(batches.positions) == list(range(64, 200 * 64, 64))
        assert set(batches.sizes) == {64}
        assert batches.end == len(data)
        assert batches.stopped is WalkEnd.END

    @pytest.mark.parametrize(
        ("tail", "stopped"),
        [
            (b"", WalkEnd.END),
            (b"\0", WalkEnd.HEADER_CUT),
            (header()[:-1], WalkEnd.HEADER_CUT),
            (header(50), WalkEnd.BATCH_CUT),
            (header(2**31 - 1), WalkEnd.BATCH_CUT),
            (header(48), WalkEnd.LENGTH),
            (header(-1), WalkEnd.LENGTH),
            (header(magic=1), WalkEnd.MAGIC),
            (header(magic=-1), WalkEnd.MAGIC),
            (bytes(200), WalkEnd.LENGTH),
        ],
    )
    @pytest.mark.parametrize("before", [0, 1, 63, 64, 65])
    def test_stops_where_it_cannot_go_on(
        self, kernels: ModuleType, tail: bytes, stopped: WalkEnd, before: int
    ) -> None:
        batches = kernels.walk_batches(header() * before + tail)
        assert len(batches.positions) == before
        assert batches.end == before * 61
        assert batches.stopped is stopped

    @pytest.mark.parametrize("position", [-1, 62])
    def test_position_outside(self, kernels: ModuleType, position: int) -> None:
        with pytest.raises(ValueError, match="outside a buffer of 61 bytes"):
            kernels.walk_batches(header(), position)


class TestRecordSpans:
    def test_by_hand(self, kernels: ModuleType) -> None:
        assert len(RECORD) == 20
        spans = kernels.record_spans(RECORD + NULLS, 2)
        assert [list(column) for column in spans] == [
            [0, 1], [5, -1], [5, 25], [1, -1], [7, 26], [5, -1], [13, 27], [2, 0], [20, 27],
        ]  # fmt: skip
        assert (RECORD + NULLS)[spans.value_starts[0] :][: spans.value_lengths[0]] == b"hello"

    def test_no_records(self, kernels: ModuleType) -> None:
        assert [list(column) for column in kernels.record_spans(b"", 0)] == [[]] * 9

    @pytest.mark.parametrize(
        ("record", "fault"),
        [
            ([], Fault.NUMBER_CUT),
            ([0x80], Fault.NUMBER_CUT),
            ([0x80, 0x80, 0x80, 0x80, 0x80, 0x00], Fault.NUMBER_LONG),
            ([0x80, 0x80, 0x80, 0x80, 0x10], Fault.NUMBER_LONG),
            ([0xFE, 0xFF, 0xFF, 0xFF, 0x0F], Fault.LENGTH),  # 2**31 - 1
            ([1], Fault.LENGTH),  # -1
            ([14, 0, 1, 2, 1, 1, 0], Fault.LENGTH),  # a byte more than there is
            ([0], Fault.NUMBER_CUT),
            ([4, 0, 0x80, 0], Fault.NUMBER_CUT),  # a number that runs over the end of its record
            ([4, 0, 0, 0, 0], Fault.NUMBER_CUT),
            ([24, 0] + [0xFF] * 9 + [2, 0, 1], Fault.NUMBER_LONG),  # a timestamp delta of 65 bits
            ([12, 0, 0, 0, 8, 1, 0], Fault.KEY),
            ([12, 0, 0, 0, 1, 4, 0], Fault.VALUE),
            ([12, 0, 0, 0, 1, 1, 1], Fault.HEADER_COUNT),
            ([12, 0, 0, 0, 1, 1, 2], Fault.HEADER_COUNT),
            ([16, 0, 0, 0, 1, 1, 2, 1, 1], Fault.HEADER_KEY),  # null
            ([16, 0, 0, 0, 1, 1, 2, 4, 1], Fault.HEADER_KEY),
            ([16, 0, 0, 0, 1, 1, 2, 0, 2], Fault.HEADER_VALUE),
            ([14, 0, 0, 0, 1, 1, 0, 0], Fault.LEFT_OVER),
            ([12, 0, 0, 0, 1, 1, 0, 0], Fault.TRAILING),
        ],
    )
    @pytest.mark.parametrize("before", [0, 3])
    def test_faults_name_the_record(
        self, kernels: ModuleType, record: list[int], fault: Fault, before: int
    ) -> None:
        with pytest.raises(MalformedRecord) as caught:
            kernels.record_spans(RECORD * before + bytes(record), before + 1)
        assert (caught.value.index, caught.value.fault) == (before + (fault is Fault.TRAILING), fault)
        assert f"record {caught.value.index}: " in str(caught.value)

    def test_negative_lengths_are_null(self, kernels: ModuleType) -> None:
        spans = kernels.record_spans(bytes([20, 0, 0, 0, 3, 5, 4, 0, 1, 0, 7]), 1)
        assert (spans.key_lengths[0], spans.value_lengths[0], spans.header_counts[0]) == (-1, -1, 2)

    @pytest.mark.parametrize("count", [5, 2**31 - 1])
    def test_more_records_promised_than_there_are(self, kernels: ModuleType, count: int) -> None:
        with pytest.raises(MalformedRecord) as caught:
            kernels.record_spans(NULLS * 4, count)
        assert (caught.value.index, caught.value.fault) == (4, Fault.NUMBER_CUT)

    def test_negative_count(self, kernels: ModuleType) -> None:
        for function in (kernels.record_spans, kernels.first_null_key):
            with pytest.raises(MalformedRecord, match="negative"):
                function(NULLS, -1)

    def test_large_buffers_take_the_path_without_the_interpreter_lock(self, kernels: ModuleType) -> None:
        spans = kernels.record_spans(NULLS * 20_000, 20_000)
        assert spans.ends[-1] == 140_000
        with pytest.raises(MalformedRecord, match="record 20000: "):
            kernels.record_spans(NULLS * 20_000 + b"\0", 20_001)

    def test_any_contiguous_buffer(self, kernels: ModuleType) -> None:
        expected = kernels.record_spans(RECORD, 1)
        wider = bytearray(b"\xff" * 9 + RECORD + b"\xff" * 9)
        assert kernels.record_spans(bytearray(RECORD), 1) == expected
        assert kernels.record_spans(memoryview(wider)[9:-9], 1) == expected
        wider.append(0)  # not locked any more


class TestTimestamps:
    def records(self, kernels: ModuleType, *timestamp_deltas: int) -> bytes:
        encoded: bytes = kernels.encode_records([(delta, b"k", b"v" * 70, ()) for delta in timestamp_deltas])
        return encoded

    def test_first_at_or_after(self, kernels: ModuleType) -> None:
        records = self.records(kernels, 0, 5, 3, 9)
        found = [kernels.first_at_or_after(records, 4, 1000, timestamp) for timestamp in (0, 1000, 1001, 1006, 1010)]
        assert found == [(0, 1000), (0, 1000), (1, 1005), (3, 1009), None]
        assert isinstance(found[0], TimestampedDelta)

    def test_max_timestamp_is_the_first_of_equals(self, kernels: ModuleType) -> None:
        assert kernels.max_timestamp(self.records(kernels, -5, 3, 3, -9), 4, 100) == (1, 103)
        assert kernels.max_timestamp(self.records(kernels, -5), 1, -100) == (0, -105)
        assert kernels.max_timestamp(b"", 0, 100) is None

    @pytest.mark.parametrize("base", [2**63 - 1, -(2**63)])
    def test_timestamps_outside_64_bits(self, kernels: ModuleType, base: int) -> None:
        sign = 1 if base > 0 else -1
        records = self.records(kernels, 0, -sign, sign)
        for call in (lambda: kernels.max_timestamp(records, 3, base), lambda: kernels.max_timestamp(records, 3, base)):
            with pytest.raises(MalformedRecord) as caught:
                call()
            assert (caught.value.index, caught.value.fault) == (2, Fault.TIMESTAMP)
        assert kernels.max_timestamp(self.records(kernels, 0, -sign), 2, base).timestamp == max(base, base - sign)

    def test_looks_at_no_record_behind_the_one_it_gives(self, kernels: ModuleType) -> None:
        assert kernels.first_at_or_after(RECORD + b"\xff", 2, 0, 5) == (0, 5)
        with pytest.raises(MalformedRecord, match="record 1: "):
            kernels.first_at_or_after(RECORD + b"\xff", 2, 0, 6)


def test_first_null_key(kernels: ModuleType) -> None:
    keyed = (0, b"", b"v", ())
    assert kernels.first_null_key(kernels.encode_records([keyed] * 3), 3) == -1
    assert kernels.first_null_key(kernels.encode_records([keyed, keyed, (0, None, b"v", ()), keyed]), 4) == 2
    assert kernels.first_null_key(b"", 0) == -1
    with pytest.raises(MalformedRecord) as caught:
        kernels.first_null_key(bytes([12, 0, 0, 0, 8, 1, 0]), 1)
    assert caught.value.fault is Fault.KEY


class TestVarlongs:
    GOLDEN = (
        (0, b"\x00"), (-1, b"\x01"), (1, b"\x02"), (63, b"\x7e"), (-64, b"\x7f"), (64, b"\x80\x01"),
        (2**63 - 1, b"\xfe" + b"\xff" * 8 + b"\x01"), (-(2**63), b"\xff" * 9 + b"\x01"),
    )  # fmt: skip

    def test_golden(self, kernels: ModuleType) -> None:
        run = b"".join(encoded for _, encoded in self.GOLDEN)
        values = [value for value, _ in self.GOLDEN]
        assert kernels.write_varlongs(values) == run
        assert kernels.write_varlongs([]) == b""
        read, end = kernels.read_varlongs(b"\xff" + run + b"\xff", len(values), 1)
        assert (list(read), end) == (values, len(run) + 1)

    @pytest.mark.parametrize("data", [b"", b"\x80", b"\x80" * 10 + b"\0", b"\xff" * 9 + b"\x02"])
    def test_bad_numbers(self, kernels: ModuleType, data: bytes) -> None:
        with pytest.raises(ValueError, match="number 1 of 2"):
            kernels.read_varlongs(b"\0" + data, 2)

    @pytest.mark.parametrize(("count", "position"), [(-1, 0), (1, -1), (0, 4)])
    def test_bad_arguments(self, kernels: ModuleType, count: int, position: int) -> None:
        with pytest.raises(ValueError, match="cannot read"):
            kernels.read_varlongs(b"abc", count, position)

    @pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
    def test_too_large(self, kernels: ModuleType, value: int) -> None:
        with pytest.raises(OverflowError):
            kernels.write_varlongs([0, value])


class TestEncode:
    def test_golden(self, kernels: ModuleType) -> None:
        records = [(5, b"k", b"hello", [(b"h", None), (b"i", b"j")]), (-1, None, None, ())]
        assert kernels.encode_records(records) == RECORD + NULLS
        assert kernels.encode_records([]) == b""

    def test_given_offsets_and_other_buffers(self, kernels: ModuleType) -> None:
        records = [(0, bytearray(b"k"), memoryview(b"value")[1:], [(memoryview(b"h"), bytearray(b"i"))])]
        encoded = kernels.encode_records(records, [2**31 - 1])
        assert encoded == kernels.encode_records([(0, b"k", b"alue", [(b"h", b"i")])], [2**31 - 1])
        assert list(kernels.record_spans(encoded, 1).offset_deltas) == [2**31 - 1]

    def test_refuses(self, kernels: ModuleType) -> None:
        with pytest.raises(ValueError, match="1 offset deltas for 2 records"):
            kernels.encode_records([(0, None, None, ())] * 2, [0])
        for record, offset_delta in [((2**63, None, None, ()), 0), ((0, None, None, ()), 2**31)]:
            with pytest.raises(OverflowError):
                kernels.encode_records([record], [offset_delta])
        for record in [(0, "k", None, ()), (0, None, 5, ()), (0, None, None, [(None, b"")]), (0, None, None, None)]:
            with pytest.raises(TypeError):
                kernels.encode_records([record])


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
        (b"", 275646681),
    ],
)
def test_murmur2_is_that_of_java(kernels: ModuleType, key: bytes, hashed: int) -> None:
    assert kernels.murmur2(key) == hashed
    assert kernels.murmur2(memoryview(b"x" + key + b"y")[1:-1]) == hashed
    assert kernels.partition_for_key(key, 7) == (hashed & 0x7FFFFFFF) % 7


@pytest.mark.parametrize("partitions", [0, -1])
def test_a_topic_has_a_partition(kernels: ModuleType, partitions: int) -> None:
    with pytest.raises(ValueError, match="at least one partition"):
        kernels.partition_for_key(b"k", partitions)
