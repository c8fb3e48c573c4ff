"""The manifest of a swap: bytes in, values out, and what cannot be one."""

from __future__ import annotations

import pytest

from riverlog.base.ids import Offset, PartitionId, TopicId
from riverlog.records.checksum import crc32c
from riverlog.storage.format import swap
from riverlog.storage.format.checkpoint import Checksums, SegmentMark
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.swap import Group, Swap

ID = PartitionId(TopicId(b"sixteen bytes id"), 3)
PLAIN = SegmentMark(Offset(0), 500, Offset(99), 1_700_000_000_000, Offset(40), 1_600_000_000_000, 1, Checksums(1, 2, 3))
OTHER = SegmentMark(Offset(100), 61, Offset(2**40), -1, Offset(-1), 0, 1, Checksums(0, 0, 0, 0))
EXAMPLE = Swap(ID, (Group((Offset(0), Offset(50)), (PLAIN,)), Group((Offset(100),), (OTHER,))))


def signed(body: bytes) -> bytes:
    return body + crc32c(body).to_bytes(4, "big")


def test_comes_back() -> None:
    data = swap.encode(EXAMPLE)
    assert swap.decode(memoryview(data)) == EXAMPLE
    assert len(data) == 34 + 2 * 8 + 3 * 8 + 2 * 68 + 4
    assert swap.decode(swap.encode(Swap(ID, ()))) == Swap(ID, ())


def test_a_segment_without_checksums() -> None:
    bare = PLAIN._replace(checksums=None)
    content = Swap(ID, (Group((Offset(0),), (bare,)),))
    assert swap.decode(swap.encode(content)) == content


def test_every_flipped_bit_is_found() -> None:
    data = bytearray(swap.encode(EXAMPLE))
    for position in range(len(data)):
        data[position] ^= 4
        with pytest.raises(FormatError):
            swap.decode(data)
        data[position] ^= 4


def test_every_shorter_one_is_refused() -> None:
    data = swap.encode(EXAMPLE)
    for size in range(len(data)):
        with pytest.raises(FormatError):
            swap.decode(data[:size])
        if size >= 34:
            with pytest.raises(FormatError):
                swap.decode(signed(data[: size - 4])) if size < len(data) else None


@pytest.mark.parametrize(
    "wrong",
    [
        (Group((), (PLAIN,)),),
        (Group((Offset(0),), ()),),
        (Group((Offset(1),), (PLAIN,)),),
        (Group((Offset(0), Offset(0)), (PLAIN,)),),
        (Group((Offset(0),), (PLAIN, PLAIN)),),
        (Group((Offset(0),), (PLAIN._replace(last_offset=Offset(-1)),)),),
        (Group((Offset(0),), (PLAIN._replace(size=0),)),),
        tuple(reversed(EXAMPLE.groups)),
    ],
)
def test_groups_that_cannot_be(wrong: tuple[Group, ...]) -> None:
    with pytest.raises(FormatError):
        swap.decode(swap.encode(Swap(ID, wrong)))


def test_another_version() -> None:
    data = bytearray(swap.encode(EXAMPLE)[:-4])
    data[9] = 2
    with pytest.raises(FormatError, match="version 2"):
        swap.decode(signed(bytes(data)))
