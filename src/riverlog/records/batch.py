"""One record batch in a buffer: is it whole, is it what its header says, and what records are in it.

Two checks, both over the bytes as they are: `check_batch` for what a producer sends (strict: every offset has its
record), `check_stored_batch` for what a log holds (compaction leaves gaps, and markers are batches too). `records_of`
makes Python objects, for those who ask for records; produce and fetch never do.
"""

from __future__ import annotations

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.records.checksum import crc32c
from riverlog.records.header import (
    BATCH_HEADER,
    CRC_START,
    HEADER_BYTES,
    MAGIC,
    MAGIC_POSITION,
    OVERHEAD_BYTES,
    BatchHeader,
)

Buffer = bytes | bytearray | memoryview


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
    if computed != header.crc & 0xFFFFFFFF:
        raise RiverlogError(
            ErrorKind.CORRUPT_MESSAGE,
            f"the batch's CRC-32C is {computed:08x}, its header says {header.crc & 0xFFFFFFFF:08x}: "
            "it was damaged on the way; send it again",
        )
    if not 0 <= header.record_count <= header.last_offset_delta + 1:
        raise RiverlogError(
            ErrorKind.INVALID_RECORD,
            f"the batch says {header.record_count} records and a last offset delta of {header.last_offset_delta}",
        )


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
