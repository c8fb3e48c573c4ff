"""The kernels in plain Python: the specification that `compiled.pyx` must agree with, and what runs where nothing was
built.

Invariant: every function takes any contiguous buffer and reads nothing outside it; whatever the bytes are, it ends
with a result or with the error that its docstring names. Loops spell out the one-byte numbers, which most are, for
speed. Not here: checksums, compression, anything that knows what a topic is.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Final, TypeAlias

from riverlog.kernels.results import Batches, Fault, MalformedRecord, Spans, TimestampedDelta, WalkEnd

Buffer: TypeAlias = bytes | bytearray | memoryview
Header: TypeAlias = tuple[Buffer, Buffer | None]
NewRecord: TypeAlias = tuple[int, Buffer | None, Buffer | None, Sequence[Header]]

BATCH_HEADER: Final = Struct(">qiibIhiqqqhii")  # as records/header.py, but with an unsigned CRC
HEADER_BYTES: Final = BATCH_HEADER.size
OVERHEAD_BYTES: Final = 12
MAGIC: Final = 2
RECORD_BYTES_MIN: Final = 7  # length, attributes, two deltas, two lengths and a count, of a byte each
INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
SMALL: Final = tuple((byte >> 1) ^ -(byte & 1) for byte in range(128))  # what a number of one byte means

assert HEADER_BYTES == 61


class _Bad(Exception):
    """A fault, before it is known which record has it."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault


def walk_batches(buffer: Buffer, position: int = 0) -> Batches:
    """The headers of the batches from `position` on, up to the first that is not whole or cannot be one.

    Raises ValueError where `position` lies outside the buffer.
    """
    size = memoryview(buffer).nbytes
    if not 0 <= position <= size:
        raise ValueError(f"position {position} lies outside a buffer of {size} bytes")
    rows: list[tuple[int, ...]] = []
    stopped = WalkEnd.END
    while left := size - position:
        if left < HEADER_BYTES:
            stopped = WalkEnd.HEADER_CUT
            break
        base_offset, length, leader_epoch, magic, *rest = BATCH_HEADER.unpack_from(buffer, position)
        if length < HEADER_BYTES - OVERHEAD_BYTES:
            stopped = WalkEnd.LENGTH
            break
        if magic != MAGIC:
            stopped = WalkEnd.MAGIC
            break
        if length > left - OVERHEAD_BYTES:
            stopped = WalkEnd.BATCH_CUT
            break
        crc, attributes, last_offset_delta, *rest = rest
        size_of_batch = length + OVERHEAD_BYTES
        rows.append((position, size_of_batch, base_offset, last_offset_delta, leader_epoch, crc, attributes, *rest))
        position += size_of_batch
    columns = [array("q", [row[column] for row in rows]) for column in range(13)]
    return Batches(position, stopped, *columns)


def record_spans(records: Buffer, count: int) -> Spans:
    """Where the parts of each of the `count` records in `records` (a batch's bytes behind its header, uncompressed)
    lie.

    Raises MalformedRecord where a record is not what the format says, and where bytes follow the last one.
    """
    data = _bytes_of(records)
    flat: list[int] = []  # row after row
    index = 0
    position = 0
    try:
        if count < 0:
            raise _Bad(Fault.COUNT)
        while index < count:
            row = _span(data, position)
            flat += row
            position = row[-1]
            index += 1
        if position != len(data):
            raise _Bad(Fault.TRAILING)
    except _Bad as bad:
        raise MalformedRecord(index, bad.fault) from None
    return Spans(*(array("q", flat[column::9]) for column in range(9)))


def _span(data: bytes, position: int) -> tuple[int, ...]:
    """The record at `position`, in the order of the fields of `Spans`."""
    length, position = _varint(data, position, len(data))
    end = position + length
    if length < 0 or end > len(data):
        raise _Bad(Fault.LENGTH)
    timestamp_delta, position = _varlong(data, position + 1, end)  # behind the attributes, still without a use
    if position < end and (byte := data[position]) < 0x80:
        offset_delta, position = SMALL[byte], position + 1
    else:
        offset_delta, position = _varint(data, position, end)
    if position < end and (byte := data[position]) < 0x80:
        key_length, position = SMALL[byte], position + 1
    else:
        key_length, position = _varint(data, position, end)
    key_start = position
    if key_length < 0:
        key_length = -1
    elif key_length > end - position:
        raise _Bad(Fault.KEY)
    else:
        position += key_length
    value_length, position = _varint(data, position, end)
    value_start = position
    if value_length < 0:
        value_length = -1
    elif value_length > end - position:
        raise _Bad(Fault.VALUE)
    else:
        position += value_length
    if position < end and (byte := data[position]) < 0x80:
        header_count, position = SMALL[byte], position + 1
    else:
        header_count, position = _varint(data, position, end)
    if header_count < 0 or header_count > (end - position) // 2:  # a header has two lengths
        raise _Bad(Fault.HEADER_COUNT)
    header_start = position
    if header_count:
        position = _skip_headers(data, position, end, header_count)
    if position != end:
        raise _Bad(Fault.LEFT_OVER)
    return (
        offset_delta,
        timestamp_delta,
        key_start,
        key_length,
        value_start,
        value_length,
        header_start,
        header_count,
        end,
    )


def _skip_headers(data: bytes, position: int, end: int, count: int) -> int:
    for _ in range(count):
        key_length, position = _varint(data, position, end)
        if key_length < 0 or key_length > end - position:
            raise _Bad(Fault.HEADER_KEY)
        value_length, position = _varint(data, position + key_length, end)
        if value_length > end - position:
            raise _Bad(Fault.HEADER_VALUE)
        position += max(value_length, 0)
    return position


def first_at_or_after(records: Buffer, count: int, base_timestamp: int, timestamp: int) -> TimestampedDelta | None:
    """The first record, in order of offsets, whose timestamp is `timestamp` or later; None where there is none.

    Looks at each record's length, timestamp and offset, no further, and at no record behind the one it gives.
    Raises MalformedRecord.
    """
    data = _bytes_of(records)
    index = 0
    position = 0
    try:
        if count < 0:
            raise _Bad(Fault.COUNT)
        while index < count:
            record_timestamp, offset_delta, _, position = _start_of(data, position, base_timestamp)
            if record_timestamp >= timestamp:
                return TimestampedDelta(offset_delta, record_timestamp)
            index += 1
    except _Bad as bad:
        raise MalformedRecord(index, bad.fault) from None
    return None


def max_timestamp(records: Buffer, count: int, base_timestamp: int) -> TimestampedDelta | None:
    """The largest timestamp and the first record that has it; None where there are no records. Looks where
    `first_at_or_after` looks. Raises MalformedRecord."""
    data = _bytes_of(records)
    found: TimestampedDelta | None = None
    index = 0
    position = 0
    try:
        if count < 0:
            raise _Bad(Fault.COUNT)
        while index < count:
            record_timestamp, offset_delta, _, position = _start_of(data, position, base_timestamp)
            if found is None or record_timestamp > found.timestamp:
                found = TimestampedDelta(offset_delta, record_timestamp)
            index += 1
    except _Bad as bad:
        raise MalformedRecord(index, bad.fault) from None
    return found


def first_null_key(records: Buffer, count: int) -> int:
    """The index of the first record without a key, -1 where all have one. Looks at each record up to its key's length.
    Raises MalformedRecord."""
    data = _bytes_of(records)
    index = 0
    position = 0
    try:
        if count < 0:
            raise _Bad(Fault.COUNT)
        while index < count:
            _, _, after, end = _start_of(data, position, 0)
            key_length, after = _varint(data, after, end)
            if key_length < 0:
                return index
            if key_length > end - after:
                raise _Bad(Fault.KEY)
            position = end
            index += 1
    except _Bad as bad:
        raise MalformedRecord(index, bad.fault) from None
    return -1


def _start_of(data: bytes, position: int, base_timestamp: int) -> tuple[int, int, int, int]:
    """Of the record at `position`: its timestamp, offset delta, the position behind both, and the record's end."""
    length, position = _varint(data, position, len(data))
    end = position + length
    if length < 0 or end > len(data):
        raise _Bad(Fault.LENGTH)
    timestamp_delta, position = _varlong(data, position + 1, end)
    offset_delta, position = _varint(data, position, end)
    timestamp = base_timestamp + timestamp_delta
    if not INT64_MIN <= timestamp <= INT64_MAX:
        raise _Bad(Fault.TIMESTAMP)
    return timestamp, offset_delta, position, end


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """The signed 32-bit number (zigzag, at most 5 bytes) at `position` and the position behind it. Reads nothing at
    `end`."""
    value = 0
    for shift in (0, 7, 14, 21, 28):
        if position >= end:
            raise _Bad(Fault.NUMBER_CUT)
        byte = data[position]
        position += 1
        if byte < 0x80:
            if shift == 28 and byte > 0x0F:
                break
            value |= byte << shift
            return (value >> 1) ^ -(value & 1), position
        value |= (byte & 0x7F) << shift
    raise _Bad(Fault.NUMBER_LONG)


def _varlong(data: bytes, position: int, end: int) -> tuple[int, int]:
    """As `_varint`, of 64 bits in at most 10 bytes."""
    value = 0
    for shift in (0, 7, 14, 21, 28, 35, 42, 49, 56, 63):
        if position >= end:
            raise _Bad(Fault.NUMBER_CUT)
        byte = data[position]
        position += 1
        if byte < 0x80:
            if shift == 63 and byte > 1:
                break
            value |= byte << shift
            return (value >> 1) ^ -(value & 1), position
        value |= (byte & 0x7F) << shift
    raise _Bad(Fault.NUMBER_LONG)


def read_varlongs(buffer: Buffer, count: int, position: int = 0) -> tuple[array[int], int]:
    """`count` zigzag numbers of up to 64 bits that follow one another, and the position behind them.

    Raises ValueError where they are cut off or too long, where `count` is negative and `position` outside the buffer.
    """
    data = _bytes_of(buffer)
    if count < 0 or not 0 <= position <= len(data):
        raise ValueError(f"cannot read {count} numbers at position {position} of {len(data)} bytes")
    values = array("q")
    try:
        for _ in range(count):
            value, position = _varlong(data, position, len(data))
            values.append(value)
    except _Bad:
        raise ValueError(f"number {len(values)} of {count} is cut off or has more than 64 bits") from None
    return values, position


def write_varlongs(values: Iterable[int]) -> bytes:
    """What `read_varlongs` reads. Raises OverflowError for a number outside 64 bits."""
    out = bytearray()
    for value in values:
        if not INT64_MIN <= value <= INT64_MAX:
            raise OverflowError(f"{value} does not fit into 64 bits")
        _write(out, value)
    return bytes(out)


def encode_records(records: Sequence[NewRecord], offset_deltas: Sequence[int] | None = None) -> bytes:
    """The records section of a batch from (timestamp delta, key, value, headers) for each record; a header is a key
    and a value, of bytes. Offsets count from 0 where none are given.

    Raises ValueError where there are not as many offset deltas as records, OverflowError where a number does not fit,
    TypeError where something is not a buffer.
    """
    if offset_deltas is not None and len(offset_deltas) != len(records):
        raise ValueError(f"{len(offset_deltas)} offset deltas for {len(records)} records")
    out = bytearray()
    body = bytearray()
    for index, (timestamp_delta, key, value, headers) in enumerate(records):
        offset_delta = index if offset_deltas is None else offset_deltas[index]
        if not (INT64_MIN <= timestamp_delta <= INT64_MAX and INT32_MIN <= offset_delta <= INT32_MAX):
            raise OverflowError(f"record {index}: timestamp delta {timestamp_delta}, offset delta {offset_delta}")
        body.clear()
        body.append(0)
        _write(body, timestamp_delta)
        _write(body, offset_delta)
        _write_bytes(body, key)
        _write_bytes(body, value)
        _write(body, len(headers))
        for header_key, header_value in headers:
            _write_bytes(body, _bytes_of(header_key))
            _write_bytes(body, header_value)
        if len(body) > INT32_MAX:
            raise OverflowError(f"record {index} has {len(body)} bytes")
        _write(out, len(body))
        out += body
    return bytes(out)


def _write(out: bytearray, value: int) -> None:
    value = (value << 1) ^ (value >> 63)
    while value > 0x7F:
        out.append(0x80 | value & 0x7F)
        value >>= 7
    out.append(value)


def _write_bytes(out: bytearray, data: Buffer | None) -> None:
    if data is None:
        out.append(1)  # -1
    else:
        data = _bytes_of(data)
        _write(out, len(data))
        out += data


def murmur2(key: Buffer) -> int:
    """MurmurHash2 as the Java client's default partitioner computes it: a signed 32-bit number."""
    data = _bytes_of(key)
    size = len(data)
    whole = size - size % 4
    mask = 0xFFFFFFFF
    hashed = (0x9747B28C ^ size) & mask
    for position in range(0, whole, 4):
        word = int.from_bytes(data[position : position + 4], "little") * 0x5BD1E995 & mask
        word = (word ^ word >> 24) * 0x5BD1E995 & mask
        hashed = hashed * 0x5BD1E995 & mask ^ word
    if size > whole:
        hashed = (hashed ^ int.from_bytes(data[whole:], "little")) * 0x5BD1E995 & mask
    hashed = (hashed ^ hashed >> 13) * 0x5BD1E995 & mask
    hashed ^= hashed >> 15
    return hashed - 2**32 if hashed > INT32_MAX else hashed


def partition_for_key(key: Buffer, partitions: int) -> int:
    """The partition that the Java client, and kafka-python, choose for a record with this key. Raises ValueError where
    there is no partition."""
    if partitions < 1:
        raise ValueError(f"a topic has at least one partition, not {partitions}")
    return (murmur2(key) & INT32_MAX) % partitions


def _bytes_of(buffer: Buffer) -> bytes:
    if isinstance(buffer, bytes):
        return buffer
    return memoryview(buffer).tobytes()
