"""The 61 bytes before the records."""

from __future__ import annotations

import struct

import pytest

from riverlog.records.header import (
    CONTROL_BIT,
    CRC_POSITION,
    CRC_START,
    LEADER_EPOCH_POSITION,
    LENGTH_POSITION,
    MAGIC_POSITION,
    TIMESTAMP_TYPE_BIT,
    TRANSACTIONAL_BIT,
    read_header,
)

BYTES = bytes.fromhex(
    "0000000000000007 00000031 00000003 02 fffffffe 003b 00000004 0000000000000009"
    "000000000000000a 000000000000000b 000c 0000000d 00000005"
)


def test_fields_in_order() -> None:
    header = read_header(b"xx" + BYTES, 2)
    assert header == (7, 49, 3, 2, 0xFFFFFFFE, 0x3B, 4, 9, 10, 11, 12, 13, 5)
    assert (header.size, header.last_offset, header.next_offset) == (61, 11, 12)
    assert (header.compression, header.is_log_append_time) == (3, True)
    assert (header.is_transactional, header.is_control) == (True, True)
    assert TIMESTAMP_TYPE_BIT | TRANSACTIONAL_BIT | CONTROL_BIT == 0x38


def test_positions() -> None:
    assert BYTES[LENGTH_POSITION:][:4] == b"\0\0\0\x31"
    assert BYTES[LEADER_EPOCH_POSITION:][:4] == b"\0\0\0\x03"
    assert BYTES[MAGIC_POSITION] == 2
    assert BYTES[CRC_POSITION:CRC_START] == b"\xff\xff\xff\xfe"
    assert BYTES[CRC_START:][:2] == b"\0\x3b"


def test_too_short() -> None:
    with pytest.raises(struct.error):
        read_header(BYTES[:-1])
