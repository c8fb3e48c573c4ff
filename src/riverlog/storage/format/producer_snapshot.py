"""`<offset>.snapshot`: what is known of a partition's producers at that offset. See docs/formats/producer-snapshot.md.

Invariant: Kafka reads it. Its version 1 keeps the last batch of each producer; the up to four batches before it stand
in a section of ours behind Kafka's entries, under the same CRC, which Kafka passes over. A snapshot that Kafka wrote
has no such section: its producers are restored with one batch each.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final

from riverlog.base.ids import Offset, ProducerId
from riverlog.base.limits import producer_batches_remembered
from riverlog.base.units import INT32_MAX
from riverlog.records.checksum import crc32c
from riverlog.state.producers import NO_SEQUENCE, BatchMark, ProducerEntry
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.rows import rows

VERSION: Final = 1
_HEADER: Final = Struct(">hIi")  # version, CRC of all from byte 6 on, count
CRC_START: Final = 6
_ENTRY: Final = Struct(
    ">qhiqiqiq"
)  # id, epoch, last sequence, last offset, offset delta, time, coordinator epoch, transaction
ENTRY_BYTES: Final = 46
EARLIER_MAGIC: Final = b"RVB1"
_EARLIER_COUNT: Final = Struct(">B")
_EARLIER: Final = Struct(">iqi")  # base sequence, base offset, last offset delta
assert _HEADER.size == 10
assert _ENTRY.size == ENTRY_BYTES
assert _EARLIER.size == 16


def encode(entries: Iterable[ProducerEntry]) -> bytes:
    """The whole file."""
    entry_rows: list[bytes] = []
    earlier: list[bytes] = [EARLIER_MAGIC]
    for entry in entries:
        if entry.batches:
            last = entry.batches[-1]
            place = last.last_sequence, last.base_offset + last.last_offset_delta, last.last_offset_delta
        else:
            place = NO_SEQUENCE, -1, 0
        entry_rows.append(
            _ENTRY.pack(
                entry.producer_id,
                entry.epoch,
                *place,
                entry.timestamp_ms,
                entry.coordinator_epoch,
                entry.transaction_first_offset,
            )
        )
        before = entry.batches[-producer_batches_remembered:-1]
        earlier.append(_EARLIER_COUNT.pack(len(before)))
        earlier += [_EARLIER.pack(*mark) for mark in before]
    data = bytearray(_HEADER.pack(VERSION, 0, len(entry_rows)))
    data += b"".join(entry_rows)
    data += b"".join(earlier)
    _HEADER.pack_into(data, 0, VERSION, crc32c(memoryview(data)[CRC_START:]), len(entry_rows))
    return bytes(data)


def decode(data: bytes | bytearray | memoryview) -> list[ProducerEntry]:
    """Raises FormatError."""
    view = memoryview(data)
    if len(view) < _HEADER.size:
        raise FormatError(0, f"{len(view)} bytes are no producer snapshot")
    version, noted, count = _HEADER.unpack_from(view)
    if version != VERSION:
        raise FormatError(0, f"producer snapshot of version {version}, known is {VERSION}")
    if (crc := crc32c(view[CRC_START:])) != noted:
        raise FormatError(2, f"CRC {noted:#010x} where the bytes have {crc:#010x}")
    end = _HEADER.size + count * ENTRY_BYTES
    if count < 0 or end > len(view):
        raise FormatError(CRC_START, f"{count} producers in {len(view)} bytes")
    earlier = _decode_earlier(view, end, count)
    entries: list[ProducerEntry] = []
    for at, row in enumerate(rows(_ENTRY, view, _HEADER.size, end)):
        producer_id, epoch, sequence, last_offset, delta, timestamp, coordinator_epoch, transaction = row
        batches: tuple[BatchMark, ...] = ()
        if sequence >= 0:
            if not 0 <= delta <= last_offset:
                raise FormatError(
                    _HEADER.size + at * ENTRY_BYTES, f"producer {producer_id} with offset {last_offset} - {delta}"
                )
            base_sequence = (sequence - delta) % (INT32_MAX + 1)
            batches = (*earlier[at], BatchMark(base_sequence, Offset(last_offset - delta), delta))
        identity = ProducerId(producer_id), epoch, timestamp, coordinator_epoch, Offset(transaction)
        entries.append(ProducerEntry(*identity, batches))
    return entries


def _decode_earlier(view: memoryview, position: int, count: int) -> list[tuple[BatchMark, ...]]:
    """What stands behind Kafka's entries: nothing, or our section."""
    if position == len(view):
        return [()] * count
    if bytes(view[position : position + 4]) != EARLIER_MAGIC:
        raise FormatError(position, "unknown bytes behind the producers")
    position += len(EARLIER_MAGIC)
    found: list[tuple[BatchMark, ...]] = []
    for _ in range(count):
        number = view[position] if position < len(view) else producer_batches_remembered
        end = position + 1 + number * _EARLIER.size
        if number >= producer_batches_remembered or end > len(view):
            raise FormatError(position, "the earlier batches of a producer are cut off")
        marks: list[BatchMark] = []
        for sequence, base_offset, delta in rows(_EARLIER, view, position + 1, end):
            if sequence < 0 or base_offset < 0 or delta < 0:
                raise FormatError(position, f"a batch with sequence {sequence} at {base_offset} + {delta}")
            marks.append(BatchMark(sequence, Offset(base_offset), delta))
        found.append(tuple(marks))
        position = end
    if position != len(view):
        raise FormatError(position, "unknown bytes behind the earlier batches")
    return found
