"""Makes record batches, and changes what may be changed in one that was made.

`build_batch` is for what we write ourselves (tables, tests, the command line, markers). The `stamp` functions write
into a batch in place, where it lies: base offset and leader epoch lie before the CRC's start and leave it as it is;
LogAppendTime lies behind it and signs the batch anew. `recompressed` and `rebuilt` make another batch with the same
offsets.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final, TypeAlias

from riverlog.base import limits
from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.units import INT32_MAX
from riverlog.kernels import encode_records
from riverlog.records.batch import unpacked_records
from riverlog.records.checksum import crc32c
from riverlog.records.compression import Compression, compress
from riverlog.records.control import ControlType, marker_key, marker_value
from riverlog.records.header import (
    BATCH_HEADER,
    COMPRESSION_MASK,
    CONTROL_BIT,
    CRC_POSITION,
    CRC_START,
    HEADER_BYTES,
    LEADER_EPOCH_POSITION,
    MAGIC,
    OVERHEAD_BYTES,
    TIMESTAMP_TYPE_BIT,
    TRANSACTIONAL_BIT,
    BatchHeader,
)
from riverlog.records.record import NewRecord, Record

Writable: TypeAlias = bytearray | memoryview
Buffer: TypeAlias = bytes | bytearray | memoryview

BASE_OFFSET: Final = Struct(">q")
LEADER_EPOCH: Final = Struct(">i")
CRC: Final = Struct(">I")
ATTRIBUTES: Final = Struct(">h")
MAX_TIMESTAMP: Final = Struct(">q")
MAX_TIMESTAMP_POSITION: Final = 35

assert BATCH_HEADER.size == HEADER_BYTES
assert CRC_START + ATTRIBUTES.size + 4 + 8 == MAX_TIMESTAMP_POSITION


def build_batch(
    records: Sequence[NewRecord],
    *,
    base_offset: int = 0,
    leader_epoch: int = -1,
    compression: Compression = Compression.NONE,
    level: int | None = None,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    transactional: bool = False,
    control: bool = False,
    log_append_time_ms: int | None = None,
) -> bytearray:
    """A batch of the records, in order, at offsets that count from `base_offset`.

    Raises INVALID_RECORD where there is no record, INVALID_CONFIG for a level that the codec has not.
    """
    if not records:
        raise RiverlogError(ErrorKind.INVALID_RECORD, "a batch has at least one record")
    base_timestamp = records[0].timestamp_ms
    section = encode_records(
        [(record.timestamp_ms - base_timestamp, record.key, record.value, _headers(record)) for record in records]
    )
    attributes = TRANSACTIONAL_BIT if transactional else 0
    if control:
        attributes |= CONTROL_BIT
    if log_append_time_ms is not None:
        attributes |= TIMESTAMP_TYPE_BIT
        highest = log_append_time_ms
    else:
        highest = max(record.timestamp_ms for record in records)
    header = BatchHeader(
        base_offset=base_offset,
        length=0,
        leader_epoch=leader_epoch,
        magic=MAGIC,
        crc=0,
        attributes=attributes,
        last_offset_delta=len(records) - 1,
        base_timestamp=base_timestamp,
        max_timestamp=highest,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        record_count=len(records),
    )
    return assembled(header, section, compression, level)


def rebuilt(header: BatchHeader, records: Sequence[Record], level: int | None = None) -> bytearray:
    """The batch of `header` with only these of its records, as compaction keeps it: base offset, last offset,
    producer and codec stay, so that offsets and sequences stay what they were. Fewer records, or none, are fine.

    Raises ValueError where a record's offset is none of the batch's.
    """
    for record in records:
        if not header.base_offset <= record.offset <= header.last_offset:
            raise ValueError(f"offset {record.offset} is not one of {header.base_offset} to {header.last_offset}")
    base_timestamp = header.base_timestamp
    section = encode_records(
        [(record.timestamp_ms - base_timestamp, record.key, record.value, _headers(record)) for record in records],
        [record.offset - header.base_offset for record in records],
    )
    highest = header.max_timestamp
    if records and not header.is_log_append_time:
        highest = max(record.timestamp_ms for record in records)
    kept = header._replace(record_count=len(records), max_timestamp=highest)
    return assembled(kept, section, Compression(header.compression), level)


def recompressed(
    batch: Buffer,
    header: BatchHeader,
    compression: Compression,
    level: int | None = None,
    size_max: int = limits.batch_decompressed_bytes_max,
) -> bytearray:
    """The same batch under another codec. Unpacks it: call it on a thread. Raises as `unpacked_records` and
    `compress`."""
    return assembled(header, unpacked_records(batch, header, size_max), compression, level)


def end_marker(
    type_: ControlType,
    *,
    producer_id: int,
    producer_epoch: int,
    coordinator_epoch: int,
    timestamp_ms: int,
    base_offset: int = 0,
    leader_epoch: int = -1,
) -> bytearray:
    """The control batch that ends a producer's transaction in one partition."""
    record = NewRecord(timestamp_ms, marker_key(type_), marker_value(coordinator_epoch))
    return build_batch(
        [record],
        base_offset=base_offset,
        leader_epoch=leader_epoch,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        transactional=True,
        control=True,
    )


def empty_batch(first_offset: int, last_offset: int, leader_epoch: int) -> bytes:
    """A batch without records that takes up these offsets; clients step over it."""
    header = BatchHeader(
        base_offset=first_offset,
        length=0,
        leader_epoch=leader_epoch,
        magic=MAGIC,
        crc=0,
        attributes=0,
        last_offset_delta=last_offset - first_offset,
        base_timestamp=-1,
        max_timestamp=-1,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        record_count=0,
    )
    return bytes(assembled(header, b""))


def assembled(
    header: BatchHeader, section: Buffer, compression: Compression = Compression.NONE, level: int | None = None
) -> bytearray:
    """`header` before the packed records section, with the length, codec and CRC that come of it."""
    packed = compress(compression, section, level) if len(section) else b""  # Kafka writes empty batches so too
    if len(packed) > INT32_MAX - HEADER_BYTES:
        raise RiverlogError(ErrorKind.MESSAGE_TOO_LARGE, f"a batch cannot hold {len(packed)} bytes of records")
    batch = bytearray(HEADER_BYTES)
    batch += packed
    finished = header._replace(
        length=HEADER_BYTES - OVERHEAD_BYTES + len(packed),
        magic=MAGIC,
        crc=0,
        attributes=header.attributes & ~COMPRESSION_MASK | compression,
    )
    BATCH_HEADER.pack_into(batch, 0, *finished)
    _sign(batch)
    return batch


def stamp(batch: Writable, base_offset: int, leader_epoch: int) -> None:
    """Writes the two numbers that a log gives to a batch, in place. The CRC does not cover them."""
    BASE_OFFSET.pack_into(batch, 0, base_offset)
    LEADER_EPOCH.pack_into(batch, LEADER_EPOCH_POSITION, leader_epoch)


def stamp_log_append_time(batch: Writable, header: BatchHeader, timestamp_ms: int) -> BatchHeader:
    """Gives all records of the batch the time of their arrival, in place, and signs it anew; gives the new header.

    `batch` may be longer than the batch. The records keep their own timestamps in their bytes; nobody is shown them.
    """
    attributes = header.attributes | TIMESTAMP_TYPE_BIT
    ATTRIBUTES.pack_into(batch, CRC_START, attributes)
    MAX_TIMESTAMP.pack_into(batch, MAX_TIMESTAMP_POSITION, timestamp_ms)
    with memoryview(batch) as view, view[: header.size] as whole:
        crc = _sign(whole)
    return header._replace(attributes=attributes, max_timestamp=timestamp_ms, crc=crc)


def _sign(batch: Writable) -> int:
    """Writes the CRC of a whole batch; gives it as `read_header` would."""
    with memoryview(batch) as view, view[CRC_START:] as signed:
        crc = crc32c(signed)
    CRC.pack_into(batch, CRC_POSITION, crc)
    return crc


def _headers(record: NewRecord | Record) -> list[tuple[bytes, Buffer | None]]:
    return [(key.encode("utf-8", "surrogateescape"), value) for key, value in record.headers]
