"""The journal of the group commit: every flipped byte is found, no bytes make a walk go wrong."""

from __future__ import annotations

import random

import pytest

from riverlog.base.ids import LeaderEpoch, Offset, PartitionId, TopicId
from riverlog.records.checksum import crc32c
from riverlog.storage.format import journal
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.journal import BLOCK_BYTES, Entry, Record, Scan

TOPIC = TopicId(bytes(range(16)))


def entry(index: int, base: int, data: bytes) -> Entry:
    return Entry(
        PartitionId(TOPIC, index), LeaderEpoch(3), Offset(base), Offset(base + 2), Offset(0), base * 10, len(data), 0
    )


def record(generation: int, sequence: int, runs: list[tuple[int, int, bytes]]) -> bytes:
    entries = [entry(index, base, data) for index, base, data in runs]
    size = journal.record_bytes(len(entries), sum(len(data) for _, _, data in runs))
    buffer = bytearray(b"\xaa" * (size + 100))
    at = journal.data_start(len(entries))
    for _, _, data in runs:
        buffer[at : at + len(data)] = data
        at += len(data)
    assert journal.seal(buffer, generation, sequence, entries) == size
    assert buffer[size:] == b"\xaa" * 100
    return bytes(buffer[:size])


def scan(data: bytes | bytearray) -> Scan:
    return journal.scan(lambda count, position: bytes(data[position : position + count]), len(data))


def file_of(generation: int, *records: bytes) -> bytearray:
    return bytearray(journal.encode_file_header(generation) + b"".join(records))


def sequences(found: Scan) -> list[int]:
    return [one.sequence for one in found.records]


def test_a_record_gives_back_its_entries() -> None:
    data = record(7, 9, [(0, 5, b"hello"), (1, 8, b""), (2, 100, b"x" * 5000)])
    assert len(data) == 3 * BLOCK_BYTES - BLOCK_BYTES
    found = journal.decode_record(data)
    assert found._replace(entries=()) == Record(0, 7, 9, len(data), ())
    assert [(one.partition.index, one.base_offset, one.next_offset) for one in found.entries] == [
        (0, 5, 7),
        (1, 8, 10),
        (2, 100, 102),
    ]
    assert [data[at : at + one.length] for one, at in found.placed()] == [b"hello", b"", b"x" * 5000]
    assert [one.crc for one in found.entries] == [crc32c(b"hello"), 0, crc32c(b"x" * 5000)]
    assert journal.bad_entries(data, found) == []
    assert list(journal.defects(data, found)) == []
    assert journal.decode_end(data, len(data)) == found


def test_a_record_without_entries_is_one_block() -> None:
    data = record(1, 1, [])
    assert len(data) == BLOCK_BYTES
    assert journal.decode_record(data).entries == []


def test_every_flipped_byte_of_a_record_is_found() -> None:
    data = record(7, 9, [(0, 5, b"hello"), (2, 100, b"x" * 300)])
    for position in range(len(data)):
        for bit in (1, 128):
            flipped = bytearray(data)
            flipped[position] ^= bit
            try:
                found = journal.decode_record(flipped)
            except FormatError:
                continue
            assert list(journal.defects(flipped, found)), position


def test_every_flipped_byte_of_a_file_header_is_found() -> None:
    data = journal.encode_file_header(12)
    assert journal.decode_file_header(data) == 12
    for position in range(BLOCK_BYTES):
        flipped = bytearray(data)
        flipped[position] ^= 4
        with pytest.raises(FormatError):
            journal.decode_file_header(flipped)
    with pytest.raises(FormatError, match="no journal"):
        journal.decode_file_header(data[:100])


def test_a_walk_finds_the_records_of_its_generation() -> None:
    data = file_of(7, record(7, 3, [(0, 1, b"a" * 5000)]), record(7, 4, [(0, 3, b"b")]), record(6, 5, [(0, 5, b"c")]))
    found = scan(data)
    assert (found.generation, sequences(found), found.unread, found.unknown) == (7, [3, 4], [], 0)
    assert [one.position for one in found.records] == [BLOCK_BYTES, 3 * BLOCK_BYTES]
    assert scan(file_of(7)) == Scan(7, [], [], 0)


def test_a_walk_ends_before_what_an_earlier_turn_has_left() -> None:
    data = file_of(7, record(7, 30, [(0, 50, b"a")]), record(7, 12, [(0, 3, b"b")]))
    assert sequences(scan(data)) == [30]
    torn = file_of(7, record(7, 30, [(0, 50, b"a")]), bytes(BLOCK_BYTES), record(7, 12, [(0, 3, b"b")]))
    assert (sequences(scan(torn)), scan(torn).unread, scan(torn).unknown) == ([30], [], 0)


def test_a_damaged_front_is_told_by_the_second_table() -> None:
    middle = record(7, 4, [(0, 3, b"b" * 9000), (1, 5, b"c")])
    data = file_of(7, record(7, 3, [(0, 1, b"a")]), middle, record(7, 5, [(2, 7, b"d")]))
    data[2 * BLOCK_BYTES + 50] ^= 1
    found = scan(data)
    assert sequences(found) == [3, 5]
    assert [(one.position, one.sequence, one.length) for one in found.unread] == [(2 * BLOCK_BYTES, 4, len(middle))]
    assert [one.base_offset for one in found.unread[0].entries] == [3, 5]
    assert found.unknown == 0


def test_a_record_with_both_tables_damaged_is_counted() -> None:
    data = file_of(7, record(7, 3, []), record(7, 4, [(0, 3, b"b")]), record(7, 5, []))
    data[2 * BLOCK_BYTES + 50] ^= 1
    data[3 * BLOCK_BYTES - 50] ^= 1
    found = scan(data)
    assert (sequences(found), found.unread, found.unknown) == ([3, 5], [], 1)


def test_the_torn_first_record_of_a_turn_hides_nothing_and_accuses_nobody() -> None:
    """Its end came to the disk before its front; behind it lies what an earlier turn has left."""
    torn = bytearray(record(7, 90, [(0, 300, b"z")]))
    torn[:100] = bytes(100)
    found = scan(file_of(7, bytes(torn), record(7, 12, [(0, 3, b"b")])))
    assert (sequences(found), found.unread, found.unknown) == ([12], [], 0)


def test_any_bytes_end_a_walk() -> None:
    dice = random.Random(11)
    good = file_of(7, *[record(7, n, [(n % 3, n * 2, dice.randbytes(dice.randrange(6000)))]) for n in range(1, 9)])
    for _ in range(400):
        data = bytearray(good)
        for _ in range(dice.randrange(1, 30)):
            place = dice.randrange(len(data))
            match dice.randrange(3):
                case 0:
                    data[place] ^= 1 << dice.randrange(8)
                case 1:
                    data[place : place + 8] = dice.randbytes(8)
                case _:
                    block = place // BLOCK_BYTES * BLOCK_BYTES
                    other = dice.randrange(len(data) // BLOCK_BYTES) * BLOCK_BYTES
                    data[block : block + BLOCK_BYTES] = data[other : other + BLOCK_BYTES]
        del data[dice.randrange(len(data) // 2, len(data) + 1) :]
        try:
            found = scan(data)
        except FormatError:
            continue
        for one in found.records:
            assert one.generation == 7
            journal.bad_entries(data, one)
            list(journal.defects(data, one))


def test_garbage_is_no_record() -> None:
    dice = random.Random(5)
    for size in (0, 1, 39, 40, 4096):
        with pytest.raises(FormatError):
            journal.decode_record(dice.randbytes(size))
        with pytest.raises(FormatError):
            journal.decode_end(dice.randbytes(size), size)
