"""Entries ascend, lookups find the floor, the bytes are Kafka's."""

import pytest

from riverlog.base.ids import Offset, Position
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.offset_index import OffsetIndex

BASE = Offset(1000)


def index_of(*entries: tuple[int, int]) -> OffsetIndex:
    index = OffsetIndex(BASE)
    for offset, position in entries:
        index.append(Offset(offset), Position(position))
    return index


def test_the_bytes_are_relative_offset_and_position_big_endian() -> None:
    index = index_of((1009, 4096), (1300, 70000))
    assert index.encode().hex() == "00000009000010000000012c00011170"
    assert index.encode(1).hex() == "0000012c00011170"
    assert index.size == 16
    assert list(OffsetIndex.decode(index.encode(), BASE)) == [(1009, 4096), (1300, 70000)]


def test_lookup_gives_the_place_of_the_last_entry_at_or_before() -> None:
    index = index_of((1009, 4096), (1019, 8192))
    assert [index.lookup(Offset(offset)) for offset in (0, 1000, 1008, 1009, 1018, 1019, 5000)] == [
        *[0, 0, 0, 4096, 4096, 8192, 8192]
    ]
    assert [index.position_after(Offset(offset)) for offset in (1000, 1009, 1010, 1019, 1020)] == [
        *[4096, 4096, 8192, 8192, None]
    ]


def test_an_empty_index_points_at_the_segments_start() -> None:
    index = index_of()
    assert (index.lookup(BASE), index.position_after(BASE), index.last, len(index), index.encode()) == (
        0,
        None,
        None,
        0,
        b"",
    )


@pytest.mark.parametrize(
    "entry", [(1009, 5000), (1010, 4096), (1008, 5000), (999, 5000), (1000 + 2**31, 5000), (1010, 2**31)]
)
def test_what_does_not_ascend_or_fit_is_refused(entry: tuple[int, int]) -> None:
    index = index_of((1009, 4096))
    with pytest.raises(ValueError, match="of 1000"):
        index.append(Offset(entry[0]), Position(entry[1]))
    assert len(index) == 1


def test_the_largest_entry_fits() -> None:
    index = index_of((1000 + 2**31 - 1, 2**31 - 1))
    assert index.accepts(Offset(1000 + 2**31 - 1))
    assert not index.accepts(Offset(1000 + 2**31))
    assert list(OffsetIndex.decode(index.encode(), BASE)) == [(1000 + 2**31 - 1, 2**31 - 1)]
    assert index.lookup(Offset(2**62)) == 2**31 - 1


def test_truncation_drops_what_is_at_or_behind_the_new_end() -> None:
    entries = [(1009, 4096), (1019, 8192), (1029, 12288)]
    for end, left in ((1030, 3), (1029, 2), (1020, 2), (1019, 1), (1000, 0), (0, 0)):
        index = index_of(*entries)
        index.truncate_to(Offset(end))
        assert len(index) == left
    for size, left in ((12289, 3), (12288, 2), (1, 0), (0, 0)):
        index = index_of(*entries)
        index.truncate_to_position(Position(size))
        assert len(index) == left


def test_kafkas_preallocated_zeros_are_left_out() -> None:
    data = index_of((1009, 4096)).encode()
    assert list(OffsetIndex.decode(data + bytes(8 * 100), BASE)) == [(1009, 4096)]
    assert list(OffsetIndex.decode(data + bytes(3), BASE)) == [(1009, 4096)]
    assert len(OffsetIndex.decode(bytes(800), BASE)) == 0


@pytest.mark.parametrize(
    ("data", "position"),
    [
        ("00000009000010000000000900001001", 8),
        ("00000009000010000000000a00001000", 8),
        ("ffffffff00001000", 0),
        ("00000009ffffffff", 0),
        ("000000090000100000000000000000000000000a00001001", 8),
        ("000000090000100001", 8),
    ],
)
def test_other_bytes_are_refused_with_their_place(data: str, position: int) -> None:
    with pytest.raises(FormatError) as raised:
        OffsetIndex.decode(bytes.fromhex(data), BASE)
    assert raised.value.position == position


def test_an_offset_behind_all_batches_before_a_place() -> None:
    index = index_of((1002, 200), (1007, 300))
    assert [index.offset_behind(at) for at in (0, 199, 200, 201, 300)] == [1003, 1003, 1003, 1008, 1008]
    assert index.offset_behind(301) is None
    assert index_of().offset_behind(0) is None
