"""One record batch in a buffer: is it whole, is it what its header says, and what records are in it.

Two checks, both over the bytes as they are: `check_batch` for what a producer sends (strict: every offset has its
record), `check_stored_batch` for what a log holds (compaction leaves gaps, and markers are batches too). `records_of`
makes Python objects, for those who ask for records; produce and fetch never do.

Whatever looks below the header may have to unpack the batch first: call it on a thread.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import TypeAlias

from riverlog.base import limits
from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.kernels import (
    MalformedRecord,
    Spans,
    TimestampedDelta,
    first_at_or_after,
    first_null_key,
    max_timestamp,
    read_varlongs,
    record_spans,
)
from riverlog.records.checksum import crc32c
from riverlog.records.compression import compression_of, decompress
from riverlog.records.header import (
    BATCH_HEADER,
    CRC_START,
    HEADER_BYTES,
    MAGIC,
    MAGIC_POSITION,
    OVERHEAD_BYTES,
    BatchHeader,
)
from riverlog.records.record import Header, Record

Buffer: TypeAlias = bytes | bytearray | memoryview


class RecordError(RiverlogError):
    """INVALID_RECORD for one record of a batch; Produce v8 and later tell the client which."""

    def __init__(self, record_index: int, message: str) -> None:
        super().__init__(ErrorKind.INVALID_RECORD, message)
        self.record_index = record_index


def only_batch(records: Buffer) -> BatchHeader:
    """The header of the one batch that `records` consists of, Kafka's rule for a partition of a Produce request.

    Looks at the header only; follow with `check_batch`. Raises INVALID_RECORD where there is no batch, more than one,
    or one of another format; CORRUPT_MESSAGE where the batch is cut off.
    """
    size = len(records)
    if size < HEADER_BYTES:
        raise _short(records, size)
    header = BatchHeader._make(BATCH_HEADER.unpack_from(records))
    if header.magic != MAGIC:
        raise _other_magic(header.magic)
    if header.length != size - OVERHEAD_BYTES:
        raise _other_length(header.length, size)
    return header


def check_batch(batch: Buffer, header: BatchHeader) -> None:
    """Raises where `batch`, whose header is `header`, is not what a producer may send: CORRUPT_MESSAGE for a wrong
    length or CRC, INVALID_RECORD for another magic, for counts that do not add up and for what only brokers write.

    `batch` may be longer than the batch; nothing behind it is looked at. Records are not parsed.
    """
    check_stored_batch(batch, header)
    if header.record_count < 1 or header.last_offset_delta != header.record_count - 1:
        raise RiverlogError(
            ErrorKind.INVALID_RECORD,
            f"the batch says {header.record_count} records but a last offset delta of {header.last_offset_delta}; "
            "a producer numbers its records from 0 without gaps",
        )
    if header.is_control:
        raise RiverlogError(ErrorKind.INVALID_RECORD, "clients may not write control batches")
    if header.producer_id >= 0:
        if header.producer_epoch < 0 or header.base_sequence < 0:
            raise RiverlogError(
                ErrorKind.INVALID_RECORD,
                f"producer {header.producer_id} sends epoch {header.producer_epoch} and sequence {header.base_sequence}"
                "; with a producer id both must be 0 or more",
            )
    elif header.is_transactional:
        raise RiverlogError(ErrorKind.INVALID_RECORD, "a transactional batch needs a producer id")


def check_stored_batch(batch: Buffer, header: BatchHeader) -> None:
    """Raises where `batch`, whose header is `header`, is damaged or of another format: CORRUPT_MESSAGE for length and
    CRC, INVALID_RECORD for magic and impossible counts. A batch that compaction has thinned out is fine."""
    if header.magic != MAGIC:
        raise _other_magic(header.magic)
    size = header.length + OVERHEAD_BYTES
    if size < HEADER_BYTES or size > len(batch):
        raise _other_length(header.length, len(batch))
    with memoryview(batch) as view, view[CRC_START:size] as signed:
        computed = crc32c(signed)
    if computed != header.crc:
        raise RiverlogError(
            ErrorKind.CORRUPT_MESSAGE,
            f"the batch's CRC-32C is {computed:08x}, its header says {header.crc:08x}: "
            "it was damaged on the way; send it again",
        )
    if not 0 <= header.record_count <= header.last_offset_delta + 1:
        raise RiverlogError(
            ErrorKind.INVALID_RECORD,
            f"the batch says {header.record_count} records and a last offset delta of {header.last_offset_delta}",
        )


def unpacked_records(
    batch: Buffer, header: BatchHeader, size_max: int = limits.batch_decompressed_bytes_max
) -> Buffer:
    """The bytes behind the header, decompressed where they are compressed, else a view of `batch`.

    Raises UNSUPPORTED_COMPRESSION, INVALID_RECORD for damage, MESSAGE_TOO_LARGE for more than `size_max` bytes.
    """
    packed = memoryview(batch)[HEADER_BYTES : header.size]
    compression = compression_of(header.attributes)
    return decompress(compression, packed, size_max) if len(packed) else packed


def spans_of(records: Buffer, header: BatchHeader) -> Spans:
    """`record_spans` of unpacked records. Raises RecordError where a record is not what the format says."""
    try:
        return record_spans(records, header.record_count)
    except MalformedRecord as error:
        raise RecordError(error.index, str(error)) from error


def check_offset_deltas(spans: Spans) -> None:
    """Raises RecordError at the first record of a producer's batch whose offset does not count on from 0."""
    if spans.offset_deltas == array("q", range(len(spans.offset_deltas))):
        return
    for index, offset_delta in enumerate(spans.offset_deltas):
        if offset_delta != index:
            raise RecordError(index, f"record {index} has the offset delta {offset_delta}; a producer counts from 0")


def null_key_in(records: Buffer, header: BatchHeader) -> int | None:
    """The index of the first of the unpacked records that has no key, which a compacted topic refuses. Raises
    RecordError."""
    try:
        index = first_null_key(records, header.record_count)
    except MalformedRecord as error:
        raise RecordError(error.index, str(error)) from error
    return None if index < 0 else index


def first_record_at_or_after(batch: Buffer, header: BatchHeader, timestamp_ms: int) -> TimestampedDelta | None:
    """The first record of the batch with that timestamp or a later one. Under LogAppendTime all records have the
    batch's.

    Unpacks the batch. Raises as `unpacked_records`, and RecordError.
    """
    if timestamp_ms > header.max_timestamp or not header.record_count:
        return None
    records = unpacked_records(batch, header)
    try:
        if header.is_log_append_time:
            found = first_at_or_after(records, header.record_count, 0, -(2**63))
            return found and TimestampedDelta(found.offset_delta, header.max_timestamp)
        return first_at_or_after(records, header.record_count, header.base_timestamp, timestamp_ms)
    except MalformedRecord as error:
        raise RecordError(error.index, str(error)) from error


def max_timestamp_of(batch: Buffer, header: BatchHeader) -> TimestampedDelta | None:
    """The first record with the largest timestamp; None where the batch is empty. Unpacks and raises as
    `first_record_at_or_after`."""
    if header.is_log_append_time:
        return first_record_at_or_after(batch, header, header.max_timestamp)
    try:
        return max_timestamp(unpacked_records(batch, header), header.record_count, header.base_timestamp)
    except MalformedRecord as error:
        raise RecordError(error.index, str(error)) from error


def records_of(
    batch: Buffer, header: BatchHeader, size_max: int = limits.batch_decompressed_bytes_max
) -> Iterator[Record]:
    """The records of a batch as objects, keys and values copied; of a control batch too.

    All of the batch is parsed before the first record is given. Raises as `unpacked_records`, and RecordError.
    """
    records = unpacked_records(batch, header, size_max)
    spans = spans_of(records, header)
    return _records(records, header, spans)


def _records(records: Buffer, header: BatchHeader, spans: Spans) -> Iterator[Record]:
    append_time = header.max_timestamp if header.is_log_append_time else None
    data = memoryview(records)
    for (
        offset_delta,
        timestamp_delta,
        key_start,
        key_length,
        value_start,
        value_length,
        header_start,
        header_count,
        end,
    ) in zip(*spans, strict=True):
        yield Record(
            header.base_offset + offset_delta,
            header.base_timestamp + timestamp_delta if append_time is None else append_time,
            None if key_length < 0 else bytes(data[key_start : key_start + key_length]),
            None if value_length < 0 else bytes(data[value_start : value_start + value_length]),
            headers_of(bytes(data[header_start:end]), header_count) if header_count else (),
        )


def headers_of(data: bytes, count: int) -> tuple[Header, ...]:
    """The headers of one record; `data` runs from its `header_starts` to its `ends` as `spans_of` found them."""
    headers = []
    position = 0
    for _ in range(count):
        (key_length,), position = read_varlongs(data, 1, position)
        key = data[position : position + key_length].decode("utf-8", "surrogateescape")
        (value_length,), position = read_varlongs(data, 1, position + key_length)
        headers.append(Header(key, None if value_length < 0 else data[position : position + value_length]))
        position += max(value_length, 0)
    return tuple(headers)


def _short(records: Buffer, size: int) -> RiverlogError:
    if size == 0:
        return RiverlogError(ErrorKind.INVALID_RECORD, "no record batch was sent for the partition; send exactly one")
    if size > MAGIC_POSITION and records[MAGIC_POSITION] < MAGIC:
        return _other_magic(records[MAGIC_POSITION])
    return RiverlogError(ErrorKind.CORRUPT_MESSAGE, f"{size} bytes of records are fewer than a header's {HEADER_BYTES}")


def _other_magic(magic: int) -> RiverlogError:
    return RiverlogError(
        ErrorKind.INVALID_RECORD,
        f"record batches of magic {magic} are not taken; send magic {MAGIC} (Kafka 0.11 and later)",
    )


def _other_length(length: int, size: int) -> RiverlogError:
    """Of a batch that says `length` in a buffer of `size` bytes."""
    said = length + OVERHEAD_BYTES
    if HEADER_BYTES <= said < size:
        return RiverlogError(
            ErrorKind.INVALID_RECORD,
            f"the batch has {said} bytes and {size - said} follow it; send exactly one batch for a partition",
        )
    return RiverlogError(
        ErrorKind.CORRUPT_MESSAGE,
        f"the batch says that it has {said} bytes, {size} are there; it was cut off or damaged",
    )
