"""CRC-32C by the check values of RFC 3720, over every kind of buffer."""

from __future__ import annotations

import pytest

from riverlog.records.checksum import crc32c


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_check_values(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected
    assert crc32c(bytearray(data)) == expected
    assert crc32c(memoryview(bytearray(b"x" + data + b"x"))[1:-1]) == expected
    assert crc32c(data[5:], crc32c(data[:5])) == expected
