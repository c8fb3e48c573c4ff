"""Walks over batches: where they stop, and why."""

import pytest

from riverlog.base.ids import Offset, Position
from riverlog.records.header import read_header
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.segment import Found, ReadOn, Stop, find_offset, find_timestamp, is_zero, scan
from tests.partition_files import make_batch, simple_records


def batch(base_offset: int, count: int = 5, *, timestamp_ms: int = 1000, leader_epoch: int = 0) -> bytes:
    return make_batch(base_offset, simple_records(count, timestamp_ms), leader_epoch=leader_epoch)


LOG = b"".join(batch(at * 5, timestamp_ms=at * 100) for at in range(10))
SIZE = len(batch(0))
START = Position(0)


def test_a_whole_log_is_scanned_to_its_end() -> None:
    found = scan(LOG, expected_next_offset=Offset(0))
    assert (found.stop, found.what, found.position, found.next_offset) == (Stop.END, "", len(LOG), 50)
    assert [scanned.position for scanned in found.batches] == [at * SIZE for at in range(10)]
    assert found.batches[3].header == read_header(LOG, 3 * SIZE)


def test_an_empty_window_has_no_batches() -> None:
    assert scan(b"", Position(7), Offset(3)) == ([], 7, Stop.END, "", 3, -1, 61)


@pytest.mark.parametrize("cut", [1, 60, 61, SIZE - 1])
def test_a_cut_batch_is_torn_and_says_what_it_needs(cut: int) -> None:
    found = scan(LOG[: 2 * SIZE + cut], Position(1000), Offset(0))
    assert (found.stop, found.position, len(found.batches), found.next_offset) == (Stop.TORN, 1000 + 2 * SIZE, 2, 10)
    assert found.bytes_needed == (SIZE if cut >= 61 else 61)


def test_windows_of_any_size_find_the_same_batches() -> None:
    whole = scan(LOG, expected_next_offset=Offset(0))
    for window_size in (61, 100, SIZE, SIZE + 1, 3 * SIZE - 1):
        position, expected, epoch, needed = START, Offset(0), -1, 0
        batches = []
        while position < len(LOG):
            found = scan(LOG[position : position + max(window_size, needed)], position, expected, leader_epoch=epoch)
            batches += found.batches
            assert found.next_offset is not None
            position, expected, epoch = found.position, found.next_offset, found.leader_epoch
            needed = found.bytes_needed
        assert batches == whole.batches


def test_a_flipped_bit_in_the_records_stops_at_its_batch() -> None:
    damaged = bytearray(LOG)
    damaged[2 * SIZE + 70] ^= 1
    found = scan(damaged, expected_next_offset=Offset(0))
    assert (found.stop, found.position, found.next_offset) == (Stop.CRC, 2 * SIZE, 10)
    assert scan(damaged, expected_next_offset=Offset(0), check_crc=False).stop is Stop.END


@pytest.mark.parametrize(
    ("more", "stop"),
    [
        (batch(11), Stop.GAP),
        (batch(9), Stop.OFFSET),
        (batch(10, leader_epoch=1)[:16] + b"\x01" + bytes(60), Stop.MAGIC),
        (bytes(100), Stop.LENGTH),
        (b"\xff" * 100, Stop.LENGTH),
        (batch(10)[:57] + b"\x00\x00\x00\x06" + batch(10)[61:], Stop.COUNT),
        (batch(10)[:23] + b"\xff\xff\xff\xff" + batch(10)[27:], Stop.OFFSET),
    ],
)
def test_what_does_not_follow_stops_the_scan(more: bytes, stop: Stop) -> None:
    found = scan(LOG[: 2 * SIZE] + more, expected_next_offset=Offset(0))
    assert (found.stop, found.position, found.next_offset) == (stop, 2 * SIZE, 10)
    assert found.what


def test_leader_epochs_never_fall() -> None:
    log = batch(0, leader_epoch=3) + batch(5, leader_epoch=3) + batch(10, leader_epoch=2)
    assert scan(log).stop is Stop.EPOCH
    assert scan(log[:SIZE], leader_epoch=4).stop is Stop.EPOCH


def test_gaps_are_allowed_where_compaction_was() -> None:
    found = scan(batch(0) + batch(11), expected_next_offset=Offset(0), allow_gaps=True)
    assert (found.stop, found.next_offset) == (Stop.END, 16)
    assert scan(batch(11), expected_next_offset=None).stop is Stop.END


def test_a_length_over_the_limit_is_damage_and_no_reason_to_read_on() -> None:
    assert scan(LOG, batch_bytes_max=SIZE - 1).stop is Stop.LENGTH


def test_an_offset_is_found_by_walking_headers() -> None:
    assert find_offset(LOG, START, Offset(0)) == Found(START, Position(SIZE), Offset(0), Offset(4))
    assert find_offset(LOG, START, Offset(17)) == (3 * SIZE, 4 * SIZE, 15, 19)
    window = LOG[2 * SIZE : 4 * SIZE]
    assert find_offset(window, Position(2 * SIZE), Offset(17)) == (3 * SIZE, 4 * SIZE, 15, 19)
    assert find_offset(LOG, START, Offset(17), Position(3 * SIZE)) == (3 * SIZE, 4 * SIZE, 15, 19)


def test_a_window_without_the_answer_says_where_to_read_on() -> None:
    assert find_offset(LOG, START, Offset(50)) == ReadOn(Position(len(LOG)))
    assert find_offset(LOG[: SIZE + 61], START, Offset(9)) == (SIZE, 2 * SIZE, 5, 9), "a header is enough"
    assert find_offset(LOG[: SIZE + 60], START, Offset(9)) == ReadOn(Position(SIZE))
    assert find_offset(LOG[:61], START, Offset(9)) == ReadOn(Position(SIZE)), "behind the window's end"
    assert find_offset(LOG[SIZE : SIZE + 61], Position(SIZE), Offset(9)) == (SIZE, 2 * SIZE, 5, 9)


def test_no_batch_is_an_error_with_the_files_position() -> None:
    for bad in (bytes(100), b"\xff" * 100):
        with pytest.raises(FormatError) as raised:
            find_offset(LOG[:SIZE] + bad, Position(500), Offset(9))
        assert raised.value.position == 500 + SIZE
        with pytest.raises(FormatError):
            find_timestamp(bad, START, 0)


def test_a_time_is_found_by_the_largest_timestamp_of_a_batch() -> None:
    assert find_timestamp(LOG, START, 304) == (3 * SIZE, 4 * SIZE, 15, 19)
    assert find_timestamp(LOG, START, 305) == (4 * SIZE, 5 * SIZE, 20, 24)
    assert find_timestamp(LOG, START, 0, Offset(7)) == (SIZE, 2 * SIZE, 5, 9)
    assert find_timestamp(LOG, START, 1000) == ReadOn(Position(len(LOG)))


def test_zeros_are_told_from_data() -> None:
    assert is_zero(bytes(1000))
    assert is_zero(memoryview(bytes(3)))
    assert not is_zero(bytes(1000) + b"\x01")
