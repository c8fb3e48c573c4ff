"""The 61 bytes that stand before the records of a batch (magic 2). Produce and fetch read this and nothing below it.

See docs/formats/record-batch.md. The CRC-32C covers everything from the attributes (byte 21) on, so base offset and
partition leader epoch may be written after the producer has signed the batch.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

BATCH_HEADER: Final = Struct(">qiibIhiqqqhii")
HEADER_BYTES: Final = 61
assert BATCH_HEADER.size == HEADER_BYTES
OVERHEAD_BYTES: Final = 12  # base offset and length: what the length field does not count
LENGTH_POSITION: Final = 8
LEADER_EPOCH_POSITION: Final = 12
MAGIC_POSITION: Final = 16
CRC_POSITION: Final = 17
CRC_START: Final = 21
MAGIC: Final = 2

COMPRESSION_MASK: Final = 0x07
TIMESTAMP_TYPE_BIT: Final = 0x08
TRANSACTIONAL_BIT: Final = 0x10
CONTROL_BIT: Final = 0x20
DELETE_HORIZON_BIT: Final = 0x40


class BatchHeader(NamedTuple):
    base_offset: int
    length: int  # bytes after this field; the whole batch has 12 more
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int  # of the first record, not the smallest; the delete horizon where DELETE_HORIZON_BIT is set
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size(self) -> int:
        """Of the whole batch, in bytes."""
        return self.length + OVERHEAD_BYTES

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def compression(self) -> int:
        return self.attributes & COMPRESSION_MASK

    @property
    def is_log_append_time(self) -> bool:
        return bool(self.attributes & TIMESTAMP_TYPE_BIT)

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL_BIT)

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & CONTROL_BIT)


def read_header(buffer: bytes | bytearray | memoryview, position: int = 0) -> BatchHeader:
    """The header at `position`. Raises struct.error where fewer than 61 bytes are left; checks nothing else."""
    return BatchHeader._make(BATCH_HEADER.unpack_from(buffer, position))
