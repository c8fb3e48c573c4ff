"""The kernels of compaction in plain Python: the specification that `compiled.pyx` must agree with.

An `OffsetMap` remembers the last offset of each key; `map_*` fill it, `thin_*` write what stays of batches. The `_window`
functions take many batches that are neither packed nor part of a transaction; others are done one at a time by the `_records`
functions, unpacked. Invariants: a batch of which nothing goes is written byte for byte; a kept batch keeps its offsets and its
producer's numbers; bytes that cannot be read are never dropped (the walk stops there).
Not here: the map (`offset_map.py`), codecs, transactions, files.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, NamedTuple

from riverlog.kernels.offset_map import OffsetMap, checksum
from riverlog.kernels.reference import (
    BATCH_HEADER,
    HEADER_BYTES,
    INT64_MAX,
    INT64_MIN,
    MAGIC,
    OVERHEAD_BYTES,
    Buffer,
    _Bad,
    _bytes_of,
    _varint,
    _varlong,
    _write,
)
from riverlog.kernels.results import (
    Fault,
    IndexState,
    MalformedRecord,
    Mapped,
    Thinned,
    ThinnedWindow,
    WindowEnd,
)

TIMESTAMP_TYPE_BIT: Final = 0x08
DELETE_HORIZON_BIT: Final = 0x40
OTHER_BITS: Final = 0x37  # codec, transactional, control
CODEC_BITS: Final = 0x07
NO_TIMESTAMP: Final = -1
NUMBER_BYTES_MAX: Final = 10
ENTRIES_MAX: Final = 4096  # index entries of one call


class _Light(NamedTuple):
    """What compaction looks at of a record."""

    body: int  # behind the length
    end: int
    timestamp_delta: int
    after_timestamp: int
    offset_delta: int
    key: bytes | None
    is_tombstone: bool


def _light(data: bytes, position: int) -> _Light:
    length, body = _varint(data, position, len(data))
    end = body + length
    if length < 0 or end > len(data):
        raise _Bad(Fault.LENGTH)
    timestamp_delta, after_timestamp = _varlong(data, body + 1, end)
    offset_delta, at = _varint(data, after_timestamp, end)
    key_length, at = _varint(data, at, end)
    if key_length > end - at:
        raise _Bad(Fault.KEY)
    key = data[at : at + key_length] if key_length >= 0 else None
    value_length, at = _varint(data, at + max(key_length, 0), end)
    if value_length > end - at:
        raise _Bad(Fault.VALUE)
    return _Light(body, end, timestamp_delta, after_timestamp, offset_delta, key, value_length < 0)


def map_records(
    offset_map: OffsetMap, records: Buffer, count: int, last_offset_delta: int, base_offset: int, start_offset: int
) -> Mapped:
    """Notes the offset of each key of the `count` records of one batch, unpacked, from `start_offset` on. FULL: up to
    `last_offset`, that of the record before the one that found no room; `position` is its index. Raises MalformedRecord; what
    came before is noted then."""
    data = _bytes_of(records)
    position = index = 0
    last = -1
    try:
        if count < 0:
            raise _Bad(Fault.COUNT)
        while index < count:
            light = _light(data, position)
            if not 0 <= light.offset_delta <= last_offset_delta:
                raise _Bad(Fault.OFFSET)
            offset = base_offset + light.offset_delta
            if offset >= start_offset:
                if light.key is not None and not offset_map.put(light.key, offset):
                    return Mapped(index, WindowEnd.FULL, last, index)
                last = offset
            position = light.end
            index += 1
        if position != len(data):
            raise _Bad(Fault.TRAILING)
    except _Bad as bad:
        raise MalformedRecord(index, bad.fault) from None
    return Mapped(index, WindowEnd.END, base_offset + last_offset_delta, index)


def _header_at(data: memoryview, position: int) -> tuple[WindowEnd | None, tuple[int, ...]]:
    """The batch's header, or why the walk stops there."""
    left = len(data) - position
    if left < HEADER_BYTES:
        return WindowEnd.END, ()
    header = BATCH_HEADER.unpack_from(data, position)
    base_offset, length, _, magic, crc, attributes, last_offset_delta, *_, count = header
    if length < HEADER_BYTES - OVERHEAD_BYTES or magic != MAGIC:
        return WindowEnd.DAMAGE, ()
    if length > left - OVERHEAD_BYTES:
        return WindowEnd.END, ()
    if base_offset < 0 or last_offset_delta < 0 or not 0 <= count <= last_offset_delta + 1:
        return WindowEnd.DAMAGE, ()
    if base_offset > INT64_MAX - last_offset_delta - 1:
        return WindowEnd.DAMAGE, ()
    if attributes & OTHER_BITS:
        return WindowEnd.OTHER, ()
    if checksum(data[position + 21 : position + OVERHEAD_BYTES + length]) != crc:
        return WindowEnd.DAMAGE, ()
    return None, header


def map_window(offset_map: OffsetMap, window: Buffer, position: int, start_offset: int) -> Mapped:
    """As `map_records` for the plain batches of a window that follow one another from `position` on; CRCs are checked. Batches
    that end before `start_offset` are passed over. Raises ValueError where `position` lies outside."""
    view = memoryview(window).cast("B")
    if not 0 <= position <= len(view):
        raise ValueError(f"position {position} lies outside a buffer of {len(view)} bytes")
    last = -1
    records = 0
    while True:
        stopped, header = _header_at(view, position)
        if stopped is not None:
            return Mapped(position, stopped, last, records)
        size, count = header[1] + OVERHEAD_BYTES, header[-1]
        if header[0] + header[6] >= start_offset:
            section = view[position + HEADER_BYTES : position + size]
            try:
                mapped = map_records(offset_map, section, count, header[6], header[0], start_offset)
            except MalformedRecord:
                return Mapped(position, WindowEnd.MALFORMED, last, records)
            records += mapped.records
            last = max(last, mapped.last_offset)
            if mapped.stopped is WindowEnd.FULL:
                return Mapped(position, WindowEnd.FULL, last, records)
        position += size


def thin_records(
    offset_map: OffsetMap,
    records: Buffer,
    count: int,
    last_offset_delta: int,
    base_offset: int,
    base_timestamp: int,
    latest_offset: int,
    drop_tombstones: bool,
) -> Thinned:
    """The records, as they are, that stay of a batch's: those behind `latest_offset`, which the map reaches to; else those with
    a key of which the map knows no larger offset, and tombstones (no value) only where they are not to be dropped.
    Raises MalformedRecord."""
    data = _bytes_of(records)
    out = bytearray()
    position = index = kept = tombstones = 0
    highest = NO_TIMESTAMP
    try:
        if count < 0:
            raise _Bad(Fault.COUNT)
        while index < count:
            light = _light(data, position)
            if not 0 <= light.offset_delta <= last_offset_delta:
                raise _Bad(Fault.OFFSET)
            timestamp = base_timestamp + light.timestamp_delta
            if not INT64_MIN <= timestamp <= INT64_MAX:
                raise _Bad(Fault.TIMESTAMP)
            offset = base_offset + light.offset_delta
            if offset > latest_offset or (
                light.key is not None
                and not (light.is_tombstone and drop_tombstones)
                and offset_map.get(light.key) <= offset
            ):
                out += data[position : light.end]
                highest = timestamp if not kept else max(highest, timestamp)
                kept += 1
                tombstones += light.is_tombstone
            position = light.end
            index += 1
        if position != len(data):
            raise _Bad(Fault.TRAILING)
    except _Bad as bad:
        raise MalformedRecord(index, bad.fault) from None
    return Thinned(bytes(out), kept, tombstones, highest)


def rebase_records(records: Buffer, count: int, base_timestamp: int, new_base_timestamp: int) -> bytes:
    """The same records, with timestamps that count from another base. Raises MalformedRecord (TIMESTAMP: a time is too far
    from the new base)."""
    data = _bytes_of(records)
    out = bytearray()
    body = bytearray()
    position = index = 0
    try:
        if count < 0:
            raise _Bad(Fault.COUNT)
        while index < count:
            light = _light(data, position)
            timestamp = base_timestamp + light.timestamp_delta
            delta = timestamp - new_base_timestamp
            if not (INT64_MIN <= timestamp <= INT64_MAX and INT64_MIN <= delta <= INT64_MAX):
                raise _Bad(Fault.TIMESTAMP)
            body.clear()
            body.append(data[light.body])
            _write(body, delta)
            body += data[light.after_timestamp : light.end]
            _write(out, len(body))
            out += body
            position = light.end
            index += 1
        if position != len(data):
            raise _Bad(Fault.TRAILING)
    except _Bad as bad:
        raise MalformedRecord(index, bad.fault) from None
    return bytes(out)


def _thin_batch(
    offset_map: OffsetMap,
    batch: memoryview,
    header: tuple[int, ...],
    latest_offset: int,
    kept_empty: bool,
    now_ms: int,
    horizon_ms: int,
) -> tuple[bytes, int]:
    """What stays of a plain batch (perhaps nothing), and of how many of its records. Raises MalformedRecord."""
    base_offset, _, leader_epoch, magic, _, attributes, delta, base_timestamp, max_timestamp, *producer, count = header
    has_horizon = bool(attributes & DELETE_HORIZON_BIT)
    drop = has_horizon and now_ms >= base_timestamp
    thinned = thin_records(
        offset_map, batch[HEADER_BYTES:], count, delta, base_offset, base_timestamp, latest_offset, drop
    )
    section, new_base = thinned.data, base_timestamp
    stamped = thinned.tombstones > 0 and not has_horizon
    if not thinned.kept and not kept_empty:
        return b"", 0
    if thinned.kept == count and not stamped:
        return bytes(batch), count
    if not thinned.kept:
        attributes &= ~(CODEC_BITS | DELETE_HORIZON_BIT)
        new_base = NO_TIMESTAMP
    elif not attributes & TIMESTAMP_TYPE_BIT:
        max_timestamp = thinned.max_timestamp
    if stamped:
        attributes |= DELETE_HORIZON_BIT
        new_base = horizon_ms
        section = rebase_records(section, thinned.kept, base_timestamp, new_base)
    length = HEADER_BYTES - OVERHEAD_BYTES + len(section)
    fields = (attributes, delta, new_base, max_timestamp, *producer, thinned.kept)
    signed = BATCH_HEADER.pack(base_offset, length, leader_epoch, magic, 0, *fields)[21:] + section
    unsigned = BATCH_HEADER.pack(base_offset, length, leader_epoch, magic, checksum(signed), *fields)[:21]
    return unsigned + signed, thinned.kept


def thin_window(
    offset_map: OffsetMap,
    window: Buffer,
    position: int,
    out: bytearray | memoryview,
    latest_offset: int,
    keep_empty: Sequence[int],
    now_ms: int,
    horizon_ms: int,
    interval_bytes: int,
    index: IndexState,
) -> ThinnedWindow:
    """Writes what stays of the plain batches from `position` on to `out`, from its first byte. `keep_empty`, ascending: the
    last offsets of batches that stay also without a record. A batch in which tombstones stay and that has no delete horizon yet
    gets `horizon_ms` as its base timestamp (KIP-534); they go once `now_ms` has reached it. ROOM: `out` is used up (a
    batch needs twice its size and 32 bytes a record), or there are `ENTRIES_MAX` entries.
    Raises ValueError for a position outside."""
    view, target = memoryview(window).cast("B"), memoryview(out).cast("B")
    if not 0 <= position <= len(view):
        raise ValueError(f"position {position} lies outside a buffer of {len(view)} bytes")
    since, highest, highest_offset = index
    written = batches = records = kept = 0
    first_offset = -1
    entries = array("q")
    size = count = last_offset = stayed = 0
    data = b""
    while True:
        stopped, header = _header_at(view, position)
        if stopped is None:
            size, count, last_offset = header[1] + OVERHEAD_BYTES, header[-1], header[0] + header[6]
            if 2 * size + 32 * count > len(target) - written or len(entries) >= 4 * ENTRIES_MAX:
                stopped = WindowEnd.ROOM
        if stopped is None:
            at = bisect_left(keep_empty, last_offset)
            kept_empty = at < len(keep_empty) and keep_empty[at] == last_offset
            batch = view[position : position + size]
            try:
                data, stayed = _thin_batch(offset_map, batch, header, latest_offset, kept_empty, now_ms, horizon_ms)
            except MalformedRecord:
                stopped = WindowEnd.MALFORMED
        if stopped is not None:
            state = IndexState(since, highest, highest_offset)
            return ThinnedWindow(position, stopped, written, first_offset, batches, records, kept, entries, state)
        records += count
        kept += stayed
        if data:
            target[written : written + len(data)] = data
            timestamp = BATCH_HEADER.unpack_from(data)[8]
            if timestamp > highest:
                highest, highest_offset = timestamp, last_offset
            if since > interval_bytes:
                entries.extend((written, last_offset, highest, highest_offset))
                since = 0
            since += len(data)
            written += len(data)
            batches += 1
            if first_offset < 0:
                first_offset = header[0]
        position += size
