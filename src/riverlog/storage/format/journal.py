"""`journal/<lane>-<half>`: the bytes that a group commit makes durable for many partitions at once. See docs/formats/journal.md.

Invariants: a record is one commit, a whole number of blocks, and says twice (at its front and its end) what it holds, so that
one damaged place never hides whose bytes are lost. Every byte of a record but its padding is under a CRC. A walk over
any bytes ends. Not here: files, which half is free (`storage/local/journal.py`), what a start does with it (`replay.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from struct import Struct
from typing import Final, NamedTuple

from riverlog.base.ids import LeaderEpoch, Offset, PartitionId, TopicId
from riverlog.base.units import MIB
from riverlog.records.checksum import crc32c
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.rows import rows

MAGIC: Final = b"RIVERJNL"
RECORD_MAGIC: Final = b"RIVERREC"
VERSION: Final = 1
BLOCK_BYTES: Final = 4096
FILE_NAMES: Final = ("awaited-0", "awaited-1", "bulk-0", "bulk-1")  # a lane's two halves
_FILE: Final = Struct(">8sHHQ")  # magic, version, reserved, generation
_HEAD: Final = Struct(">8sQQqI")  # magic, generation, sequence, length, entries
_ENTRY: Final = Struct(">16siiqqqqII")
_CRC: Final = Struct(">I")
HEAD_BYTES: Final = _HEAD.size + _CRC.size
ENTRY_BYTES: Final = _ENTRY.size
RECORD_BYTES_MAX: Final = 256 * MIB  # more is no length
assert (_FILE.size, HEAD_BYTES, ENTRY_BYTES) == (20, 40, 64)

Buffer = bytes | bytearray | memoryview
ReadAt = Callable[[int, int], bytes]  # (count, position): fewer bytes only at the end


class Entry(NamedTuple):
    """One run of whole batches of one partition: `length` bytes from `position` on of the segment `segment`."""

    partition: PartitionId
    leader_epoch: LeaderEpoch
    base_offset: Offset
    next_offset: Offset
    segment: Offset
    position: int
    length: int
    crc: int


class Record(NamedTuple):
    """`position` counts from where it was looked for: of a file, or of a buffer."""

    position: int
    generation: int
    sequence: int
    length: int
    entries: Sequence[Entry]

    @property
    def end(self) -> int:
        return self.position + self.length

    def placed(self) -> Iterator[tuple[Entry, int]]:
        """Each entry and the position of its bytes."""
        at = self.position + data_start(len(self.entries))
        for entry in self.entries:
            yield entry, at
            at += entry.length


class Scan(NamedTuple):
    """What a file holds. `unread` are records of which only the second table could be read; `unknown` counts places where
    a record must have been and neither table could be read."""

    generation: int
    records: Sequence[Record]
    unread: Sequence[Record]
    unknown: int


def encode_file_header(generation: int) -> bytes:
    head = _FILE.pack(MAGIC, VERSION, 0, generation)
    return (head + _CRC.pack(crc32c(head))).ljust(BLOCK_BYTES, b"\0")


def decode_file_header(data: Buffer) -> int:
    """The generation. Raises FormatError."""
    view = memoryview(data)
    if len(view) < BLOCK_BYTES:
        raise FormatError(0, f"{len(view)} bytes are no journal")
    magic, version, reserved, generation = _FILE.unpack_from(view)
    if magic != MAGIC:
        raise FormatError(0, "no journal: it begins with other bytes")
    if (crc := crc32c(view[: _FILE.size])) != (noted := _CRC.unpack_from(view, _FILE.size)[0]):
        raise FormatError(_FILE.size, f"CRC {noted:#010x} where the bytes have {crc:#010x}")
    if version != VERSION:
        raise FormatError(8, f"journal of version {version}, known is {VERSION}")
    if reserved or any(view[_FILE.size + _CRC.size : BLOCK_BYTES]):
        raise FormatError(10, "bytes that must be 0")
    return int(generation)


def data_start(count: int) -> int:
    """Where the bytes begin in a record of so many entries."""
    return HEAD_BYTES + count * ENTRY_BYTES


def record_bytes(count: int, data_bytes: int) -> int:
    """The length of a record."""
    return -(-(2 * data_start(count) + data_bytes) // BLOCK_BYTES) * BLOCK_BYTES


def seal(buffer: bytearray | memoryview, generation: int, sequence: int, entries: Sequence[Entry]) -> int:
    """Makes a record of a buffer in which the entries' bytes stand from `data_start` on; their `crc` is computed here.
    Gives the record's length."""
    view = memoryview(buffer)
    start = at = data_start(len(entries))
    place = HEAD_BYTES
    pack = _ENTRY.pack_into
    for (topic_id, index), epoch, base, end, segment, position, length, _ in entries:
        crc = crc32c(view[at : at + length])
        pack(view, place, topic_id, index, epoch, base, end, segment, position, length, crc)
        at += length
        place += ENTRY_BYTES
    total = record_bytes(len(entries), at - start)
    _HEAD.pack_into(view, 0, RECORD_MAGIC, generation, sequence, total, len(entries))
    _CRC.pack_into(view, _HEAD.size, crc32c(view[HEAD_BYTES:start], crc32c(view[: _HEAD.size])))
    view[at : total - start] = bytes(total - start - at)
    view[total - start : total - HEAD_BYTES] = view[HEAD_BYTES:start]
    view[total - HEAD_BYTES : total] = view[:HEAD_BYTES]
    return total


def decode_record(data: Buffer, position: int = 0) -> Record:
    """The record whose first byte is at `position`, by its first table; its entries' bytes are not looked at. Raises FormatError,
    also where the table reaches over the end of `data`."""
    view = memoryview(data)
    generation, sequence, length, count, crc = _head(view, position)
    table, end = position + HEAD_BYTES, position + data_start(count)
    return _record(
        view, position, table, end, view[position : position + _HEAD.size], generation, sequence, length, crc
    )


def decode_end(data: Buffer, end: int) -> Record:
    """The record that ends at `end`, by its second table. Raises FormatError. `data` must hold that table."""
    view = memoryview(data)
    head = end - HEAD_BYTES
    if head < 0:
        raise FormatError(0, "no room for the end of a record")
    generation, sequence, length, count, crc = _head(view, head)
    table = end - data_start(count)
    if table < 0:
        raise FormatError(head, f"a table of {count} entries that is not there")
    noted = view[head : head + _HEAD.size]
    return _record(view, end - length, table, head, noted, generation, sequence, length, crc)


def table_bytes(data: Buffer, position: int) -> int:
    """How many bytes from `position` on (a record's front) `decode_record` needs. Raises FormatError."""
    return data_start(_head(memoryview(data), position)[3])


def _head(view: memoryview, position: int) -> tuple[int, int, int, int, int]:
    if len(view) - position < HEAD_BYTES:
        raise FormatError(position, "the bytes end before a record's head does")
    magic, generation, sequence, length, count = _HEAD.unpack_from(view, position)
    if magic != RECORD_MAGIC:
        raise FormatError(position, "no record: it begins with other bytes")
    if length <= 0 or length % BLOCK_BYTES or length > RECORD_BYTES_MAX or 2 * data_start(count) > length:
        raise FormatError(position + 24, f"length {length} of {count} entries")
    return generation, sequence, length, count, _CRC.unpack_from(view, position + _HEAD.size)[0]


def _record(
    view: memoryview,
    position: int,
    table: int,
    end: int,
    head: memoryview,
    generation: int,
    sequence: int,
    length: int,
    noted: int,
) -> Record:
    if end > len(view):
        raise FormatError(table, "the bytes end before a record's table does")
    if (crc := crc32c(view[table:end], crc32c(head))) != noted:
        raise FormatError(table - 4, f"CRC {noted:#010x} where the bytes have {crc:#010x}")
    entries: list[Entry] = []
    size = 0
    for topic_id, index, epoch, base, after, segment, place, count, crc in rows(_ENTRY, view, table, end):
        if index < 0 or not 0 <= segment <= base < after or place < 0:
            raise FormatError(table + len(entries) * ENTRY_BYTES, "an entry that cannot be")
        entries.append(
            Entry(
                PartitionId(TopicId(topic_id), index),
                LeaderEpoch(epoch),
                Offset(base),
                Offset(after),
                Offset(segment),
                place,
                count,
                crc,
            )
        )
        size += count
    if record_bytes(len(entries), size) != length:
        raise FormatError(table, f"{size} bytes of {len(entries)} entries in a record of {length}")
    return Record(position, generation, sequence, length, entries)


def bad_entries(data: Buffer, record: Record) -> list[Entry]:
    """The entries whose bytes in `data` have another CRC, or are not there. `data` is what the record's position counts in."""
    view = memoryview(data)
    return [entry for entry, at in record.placed() if crc32c(view[at : at + entry.length]) != entry.crc]


def defects(data: Buffer, record: Record) -> Iterator[FormatError]:
    """Everything that is wrong with a whole record whose first table is good: bytes of entries, padding, the second table."""
    view = memoryview(data)
    start = data_start(len(record.entries))
    padding = record.position + start
    for entry, at in record.placed():
        if (crc := crc32c(view[at : at + entry.length])) != entry.crc:
            whose = f"partition {entry.partition.index}, offsets {entry.base_offset}..{entry.next_offset - 1}"
            yield FormatError(at, f"CRC {entry.crc:#010x} where the bytes have {crc:#010x} ({whose})")
        padding = at + entry.length
    end = record.end
    if len(view) < end:
        yield FormatError(len(view), f"the bytes end, the record ends at {end}")
        return
    if any(view[padding : end - start]):
        yield FormatError(padding, "padding that is not 0")
    front, table = view[record.position : record.position + HEAD_BYTES], record.position + HEAD_BYTES
    if (
        view[end - HEAD_BYTES : end] != front
        or view[end - start : end - HEAD_BYTES] != view[table : record.position + start]
    ):
        yield FormatError(end - start, "the second table is not the first")


def first_generation(read: ReadAt, size: int) -> int:
    """Of a file whose first block is damaged: what the first record says that can be read. 0: there is none."""
    found = _find_next(read, BLOCK_BYTES, size, None)
    return found.generation if found is not None else 0


def scan(read: ReadAt, size: int, generation: int | None = None) -> Scan:
    """Walks a file by its tables; the bytes of entries are not read. Raises FormatError where its first block, which says
    the generation if that is not given, is damaged."""
    if generation is None:
        generation = decode_file_header(read(BLOCK_BYTES, 0))
    records: list[Record] = []
    unread: list[Record] = []
    unknown = 0
    position, sequence = BLOCK_BYTES, 0
    while position < size:
        found = _read_record(read, position, generation)
        if found is None:
            found = _find_next(read, position + BLOCK_BYTES, size, generation)
            if found is None or found.sequence <= sequence:
                break
            hidden = _read_end(read, found.position, generation)
            if hidden is not None and hidden.sequence == found.sequence - 1 and hidden.position >= position:
                unread.append(hidden)
            elif sequence:  # else it may be the torn first record of a turn, before what is left of an earlier one
                unknown += 1
        if found.sequence <= sequence:
            break
        records.append(found)
        position, sequence = found.end, found.sequence
    return Scan(generation, records, unread, unknown)


def _read_record(read: ReadAt, position: int, generation: int | None) -> Record | None:
    try:
        front = read(BLOCK_BYTES, position)
        needed = table_bytes(front, 0)
        if needed > len(front):
            front = read(needed, position)
        record = decode_record(front)
    except FormatError:
        return None
    return record._replace(position=position) if generation in (None, record.generation) else None


def _find_next(read: ReadAt, position: int, size: int, generation: int | None) -> Record | None:
    while position < size:
        window = read(MIB, position)
        for at in range(0, len(window), BLOCK_BYTES):
            if window[at : at + len(RECORD_MAGIC)] == RECORD_MAGIC and (
                record := _read_record(read, position + at, generation)
            ):
                return record
        if not window:
            break
        position += MIB
    return None


def _read_end(read: ReadAt, end: int, generation: int) -> Record | None:
    try:
        count = _head(memoryview(read(HEAD_BYTES, end - HEAD_BYTES)), 0)[3]
        start = max(0, end - data_start(count))
        record = decode_end(read(end - start, start), end - start)
    except FormatError:
        return None
    return record._replace(position=end - record.length) if record.generation == generation else None
