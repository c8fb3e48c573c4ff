"""Entries ascend, lookups never skip a record, the bytes are Kafka's."""

import pytest

from riverlog.base.ids import Offset
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.time_index import TimeIndex

BASE = Offset(1000)


def index_of(*entries: tuple[int, int]) -> TimeIndex:
    index = TimeIndex(BASE)
    for timestamp_ms, offset in entries:
        index.append(timestamp_ms, Offset(offset))
    return index


def test_the_bytes_are_timestamp_and_relative_offset_big_endian() -> None:
    index = index_of((1_700_000_000_000, 1009), (1_700_000_000_001, 1300))
    assert index.encode().hex() == "0000018bcfe56800000000090000018bcfe568010000012c"
    assert index.encode(1).hex() == "0000018bcfe568010000012c"
    assert (index.encode(2), index.size) == (b"", 24)
    assert list(TimeIndex.decode(index.encode(), BASE)) == list(index)


def test_only_a_larger_timestamp_is_noted() -> None:
    index = index_of((50, 1009))
    assert not index.append(50, Offset(1020))
    assert not index.append(49, Offset(1020))
    assert not TimeIndex(BASE).append(-1, BASE)
    assert index.append(51, Offset(1020))
    assert index.last == (51, 1020)


@pytest.mark.parametrize("offset", [1008, 999, 1000 + 2**31])
def test_an_offset_that_falls_or_does_not_fit_is_refused(offset: int) -> None:
    with pytest.raises(ValueError, match="time index of 1000"):
        index_of((50, 1009)).append(60, Offset(offset))


def test_lookup_begins_where_the_last_smaller_or_equal_timestamp_was_reached() -> None:
    index = index_of((50, 1009), (60, 1019))
    assert [index.lookup(at) for at in (-1, 49, 50, 59, 60, 100)] == [1000, 1000, 1009, 1009, 1019, 1019]
    assert index_of().lookup(5) == 1000


def test_truncation_drops_what_is_at_or_behind_the_new_end() -> None:
    for end, left in ((1020, 2), (1019, 1), (1009, 0), (0, 0)):
        index = index_of((50, 1009), (60, 1019))
        index.truncate_to(Offset(end))
        assert (len(index), len(list(index))) == (left, left)


def test_kafkas_preallocated_zeros_are_left_out() -> None:
    data = index_of((50, 1009)).encode()
    assert list(TimeIndex.decode(data + bytes(1200), BASE)) == [(50, 1009)]
    assert len(TimeIndex.decode(bytes(1205), BASE)) == 0


@pytest.mark.parametrize(
    ("data", "position"),
    [
        ("000000000000003200000009000000000000003200000009", 12),
        ("000000000000003200000009000000000000003300000008", 12),
        ("ffffffffffffffff00000009", 0),
        ("0000000000000032ffffffff", 0),
        ("000000000000003200000009000000000000000000000000000000000000003300000009", 12),
        ("00000000000000320000000901", 12),
    ],
)
def test_other_bytes_are_refused_with_their_place(data: str, position: int) -> None:
    with pytest.raises(FormatError) as raised:
        TimeIndex.decode(bytes.fromhex(data), BASE)
    assert raised.value.position == position
