"""What is known to be synced, of all partitions."""

import pytest

from riverlog.base.ids import LeaderEpoch, Offset, PartitionId, Position, TopicId
from riverlog.records.checksum import crc32c
from riverlog.storage.format import checkpoint
from riverlog.storage.format.checkpoint import (
    COMPACTED,
    ActiveMark,
    Checkpoint,
    Checksums,
    FileChecksums,
    PartitionMark,
    SegmentMark,
)
from riverlog.storage.format.errors import FormatError

SUMS = [None, Checksums(0xFFFFFFFF, 1, 2, 3), Checksums(7, 0, 9, None), Checksums(0, None, None, None)]


def segment(at: int) -> SegmentMark:
    time = 1_700_000_000_000 + at
    flags = COMPACTED if at % 2 else 0
    return SegmentMark(
        Offset(at * 10), 1000 + at, Offset(at * 10 + 9), time, Offset(at * 10 + 4), 5, flags, SUMS[at % 4]
    )


def partition(index: int, segments: int) -> PartitionMark:
    active = Offset(segments * 10)
    place = LeaderEpoch(2), Offset(0), Offset(active + 5), active, Position(500)
    return PartitionMark(
        PartitionId(TopicId(bytes([index] * 16)), index),
        *place,
        tuple(segment(at) for at in range(segments)),
        Offset(3),
        ActiveMark(1, 2, 3, Offset(active + 4), 77) if index % 2 else None,
        index == 2,
        [FileChecksums(), FileChecksums(0, 1, 2), FileChecksums(1), FileChecksums(None, 0xFFFFFFFF)][index % 4],
    )


FULL = Checkpoint(True, 7, tuple(partition(index, index + 1) for index in range(5)))
VERSION_1 = bytes.fromhex(
    "5249564552434b50" "0001" "0001" "0000000000000007" "00000001" "00000001"  # the header
    + "01" * 16 + "00000003" "00000002" "0000000000000004" "000000000000000f" "000000000000000a" "00000000000001f4"
    "00000001"
    "0000000000000000" "00000000000003e8" "0000000000000009" "0000018bcfe56800" "00000000"
)  # fmt: skip


def with_crc(data: bytes) -> bytes:
    return data + crc32c(data).to_bytes(4, "big")


def test_all_of_it_comes_back() -> None:
    decoded = checkpoint.decode(checkpoint.encode(FULL))
    assert decoded._replace(partitions=tuple(decoded.partitions)) == FULL
    empty = Checkpoint(False, 0, [])
    assert checkpoint.decode(checkpoint.encode(empty)) == empty


def test_the_header_is_what_the_page_says() -> None:
    data = checkpoint.encode(Checkpoint(True, 7, [partition(0, 1)]))
    assert data[:28].hex() == b"RIVERCKP".hex() + "0002000100000000000000070000000100000001"
    assert len(data) == 28 + 124 + 68 + 4
    assert data[-4:] == crc32c(data[:-4]).to_bytes(4, "big")


def test_a_segment_is_what_the_page_says() -> None:
    mark = partition(0, 3)
    data = checkpoint.encode(Checkpoint(False, 1, [mark]))
    assert data[28 + 124 + 68 : 28 + 124 + 2 * 68].hex() == (
        "000000000000000a" "00000000000003e9" "0000000000000013" "0000018bcfe56801" "000000000000000e"
        "0000000000000005" "0001" "000f" "ffffffff" "00000001" "00000002" "00000003"
    )  # fmt: skip


def test_version_1_is_read_for_good() -> None:
    decoded = checkpoint.decode(with_crc(VERSION_1))
    assert decoded == Checkpoint(
        True,
        7,
        [
            PartitionMark(
                PartitionId(TopicId(b"\1" * 16), 3),
                LeaderEpoch(2),
                Offset(4),
                Offset(15),
                Offset(10),
                Position(500),
                (SegmentMark(Offset(0), 1000, Offset(9), 1_700_000_000_000),),
            )
        ],
        1,
    )
    mark = decoded.partitions[0]
    assert (mark.cleaned_offset, mark.active, mark.has_snapshot, mark.file_checksums) == (0, None, False, (None,) * 3)
    sealed = mark.segments[0]
    assert (sealed.max_timestamp_offset, sealed.created_ms, sealed.flags, sealed.checksums) == (-1, 0, 0, None)


@pytest.mark.parametrize("at", [0, 9, 30, 100, -1])
def test_a_flipped_bit_is_found(at: int) -> None:
    data = bytearray(checkpoint.encode(FULL))
    data[at] ^= 1
    with pytest.raises(FormatError):
        checkpoint.decode(data)


ONE = checkpoint.encode(Checkpoint(True, 7, [partition(0, 1)]))
COUNT_AT = 28 + 64  # of the first partition's segments


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "0 bytes"),
        (checkpoint.encode(FULL)[:-1], "bytes where"),
        (with_crc(b"RIVERCKP" + bytes.fromhex("0003") + checkpoint.encode(FULL)[10:-4]), "version 3"),
        (with_crc(b"RIVERCKP" + bytes.fromhex("0000") + checkpoint.encode(FULL)[10:-4]), "version 0"),
        (with_crc(ONE[:COUNT_AT] + bytes(4) + ONE[COUNT_AT + 4 : -4]), "1 segments of no"),
        (with_crc(ONE[:COUNT_AT] + b"\xff" * 4 + ONE[COUNT_AT + 4 : -4]), "cannot be"),
        (with_crc(checkpoint.encode(FULL)[:28] + b"\xff" * 124 + checkpoint.encode(FULL)[152:-4]), "cannot be"),
        (with_crc(VERSION_1[:-40] + bytes(4) + VERSION_1[-36:]), "1 segments of no"),
        (with_crc(VERSION_1[:-40] + b"\0\0\0\2" + VERSION_1[-36:]), "cannot be"),
    ],
)
def test_other_bytes_are_refused(data: bytes, what: str) -> None:
    with pytest.raises(FormatError, match=what):
        checkpoint.decode(data)


def test_the_count_of_aborted_transactions_stands_above_the_flags() -> None:
    one = partition(1, 0)
    assert one.active is not None
    for count in (0, 1, 2**24 - 1):
        mark = one._replace(active=one.active._replace(aborted=count))
        data = checkpoint.encode(Checkpoint(True, 7, [mark]))
        assert int.from_bytes(data[28 + 68 : 28 + 72], "big") >> 8 == count
        assert checkpoint.decode(data).partitions == [mark]
