"""Kafka's snapshot, and our section behind it."""

import pytest

from riverlog.base.ids import Offset, ProducerId
from riverlog.records.checksum import crc32c
from riverlog.state.producers import NO_OFFSET, BatchMark, ProducerEntry
from riverlog.storage.format import producer_snapshot
from riverlog.storage.format.errors import FormatError


def mark(sequence: int, offset: int, delta: int = 9) -> BatchMark:
    return BatchMark(sequence, Offset(offset), delta)


ENTRY = ProducerEntry(
    ProducerId(7), 2, 1_700_000_000_000, 5, Offset(30), tuple(mark(at * 10, at * 10) for at in range(5))
)


def with_crc(data: bytes) -> bytes:
    return data[:2] + crc32c(data[6:]).to_bytes(4, "big") + data[6:]


def test_the_entries_are_kafkas_46_bytes() -> None:
    data = producer_snapshot.encode([ENTRY])
    assert data[:2].hex() == "0001"
    assert data[2:6] == crc32c(data[6:]).to_bytes(4, "big")
    assert data[6:10].hex() == "00000001"
    assert data[10:56].hex() == (
        "00000000000000070002000000310000000000000031000000090000018bcfe5680000000005000000000000001e"
    )
    assert data[56:61] == b"RVB1\x04"
    assert len(data) == 61 + 4 * 16


def test_all_five_batches_come_back() -> None:
    fresh = ProducerEntry(ProducerId(8), 0, 0, -1, NO_OFFSET, ())
    one = ProducerEntry(ProducerId(9), 0, 0, -1, NO_OFFSET, (mark(2**31 - 5, 100),))
    assert producer_snapshot.decode(producer_snapshot.encode([ENTRY, fresh, one])) == [ENTRY, fresh, one]
    assert producer_snapshot.decode(producer_snapshot.encode([])) == []


def test_a_snapshot_of_kafkas_own_restores_the_last_batch() -> None:
    kafkas = with_crc(producer_snapshot.encode([ENTRY])[:56])
    assert producer_snapshot.decode(kafkas) == [ENTRY._replace(batches=(mark(40, 40),))]


def test_a_sequence_that_wrapped_in_its_last_batch() -> None:
    entry = ENTRY._replace(batches=(mark(2**31 - 5, 100),))
    data = producer_snapshot.encode([entry])
    assert data[20:24].hex() == "00000004", "the last sequence began again at 0"
    assert producer_snapshot.decode(data) == [entry]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "0 bytes"),
        (b"\x00\x02" + producer_snapshot.encode([ENTRY])[2:], "version 2"),
        (producer_snapshot.encode([ENTRY])[:-1] + b"\x00", "CRC"),
        (with_crc(producer_snapshot.encode([ENTRY])[:55]), "1 producers"),
        (with_crc(producer_snapshot.encode([ENTRY])[:60]), "cut off"),
        (with_crc(producer_snapshot.encode([ENTRY])[:-1]), "cut off"),
        (with_crc(producer_snapshot.encode([ENTRY]) + b"\x00"), "unknown bytes"),
        (with_crc(producer_snapshot.encode([ENTRY])[:56] + b"XXXX"), "unknown bytes"),
        (with_crc(bytes.fromhex("000100000000ffffffff")), "-1 producers"),
    ],
)
def test_other_bytes_are_refused(data: bytes, what: str) -> None:
    with pytest.raises(FormatError, match=what):
        producer_snapshot.decode(data)
