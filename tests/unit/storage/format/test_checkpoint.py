"""What is known to be synced, of all partitions."""

import pytest

from riverlog.base.ids import LeaderEpoch, Offset, PartitionId, Position, TopicId
from riverlog.records.checksum import crc32c
from riverlog.storage.format import checkpoint
from riverlog.storage.format.checkpoint import Checkpoint, PartitionMark, SegmentMark
from riverlog.storage.format.errors import FormatError


def partition(index: int, segments: int) -> PartitionMark:
    sealed = tuple(
        SegmentMark(Offset(at * 10), 1000 + at, Offset(at * 10 + 9), 1_700_000_000_000 + at) for at in range(segments)
    )
    active = Offset(segments * 10)
    place = LeaderEpoch(2), Offset(0), Offset(active + 5), active, Position(500)
    return PartitionMark(PartitionId(TopicId(bytes([index] * 16)), index), *place, sealed)


FULL = Checkpoint(True, 7, tuple(partition(index, index) for index in range(4)))


def with_crc(data: bytes) -> bytes:
    return data + crc32c(data).to_bytes(4, "big")


def test_all_of_it_comes_back() -> None:
    decoded = checkpoint.decode(checkpoint.encode(FULL))
    assert decoded._replace(partitions=tuple(decoded.partitions)) == FULL
    empty = Checkpoint(False, 0, [])
    assert checkpoint.decode(checkpoint.encode(empty)) == empty


def test_the_header_is_what_the_page_says() -> None:
    data = checkpoint.encode(Checkpoint(True, 7, [partition(0, 1)]))
    assert data[:28].hex() == b"RIVERCKP".hex() + "0001000100000000000000070000000100000001"
    assert len(data) == 28 + 60 + 36 + 4
    assert data[-4:] == crc32c(data[:-4]).to_bytes(4, "big")


@pytest.mark.parametrize("at", [0, 9, 30, 100, -1])
def test_a_flipped_bit_is_found(at: int) -> None:
    data = bytearray(checkpoint.encode(FULL))
    data[at] ^= 1
    with pytest.raises(FormatError):
        checkpoint.decode(data)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "0 bytes"),
        (checkpoint.encode(FULL)[:-1], "bytes where"),
        (with_crc(b"RIVERCKP" + bytes.fromhex("0002") + checkpoint.encode(FULL)[10:-4]), "version 2"),
        (with_crc(checkpoint.encode(Checkpoint(True, 7, [partition(0, 1)]))[:84] + bytes(40)), "1 segments of no"),
        (
            with_crc(checkpoint.encode(Checkpoint(True, 7, [partition(0, 1)]))[:84] + b"\xff" * 4 + bytes(36)),
            "cannot be",
        ),
        (with_crc(checkpoint.encode(FULL)[:28] + b"\xff" * 60 + checkpoint.encode(FULL)[88:-4]), "cannot be"),
    ],
)
def test_other_bytes_are_refused(data: bytes, what: str) -> None:
    with pytest.raises(FormatError, match=what):
        checkpoint.decode(data)
