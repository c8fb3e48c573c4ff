"""From an offset to bytes of a file: on the loop where the page cache has them, else on a thread.

Invariant: nothing here touches a disk on the loop: before a byte is read there, the kernel has said that it is resident.
What a thread reads is checked (CRC) before it goes out. Nothing here changes a partition.
Not here: budgets over several partitions (`engine.py`), times (`searching.py`).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from riverlog.base.errors import Corruption
from riverlog.base.ids import Offset, Position
from riverlog.base.units import KIB, MIB
from riverlog.env.files import File, Files
from riverlog.records.header import HEADER_BYTES, OVERHEAD_BYTES
from riverlog.storage.contract import FileRegion, Slices
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.names import INDEX
from riverlog.storage.format.offset_index import OffsetIndex
from riverlog.storage.format.segment import Found, ReadOn, Stop, find_offset, scan
from riverlog.storage.local.partition import LocalPartition
from riverlog.storage.local.segments import Descriptors, Segment

walk_bytes: Final = 4 * KIB  # of headers that are read at a time
cold_read_bytes_max: Final = 4 * MIB  # that a thread reads for one partition of a fetch, but for a larger first batch


class Cold(NamedTuple):
    """A read that needs a disk, as values that a thread may use. Nothing is borrowed yet."""

    segment: Segment
    offset_index: OffsetIndex | None
    limit: int  # readers may see the segment up to here
    offset: Offset
    bytes_max: int
    first: bool


class ColdAnswer(NamedTuple):
    """A real file's bytes are in the page cache now, and are sent from there as warm ones are: `data` is empty, so that slow
    readers of old data hold no memory of ours. Other files give their bytes."""

    position: Position
    size: int  # bytes of whole, checked batches; 0: none
    data: memoryview
    loaded: OffsetIndex | None  # that was loaded on the way
    ended: bool  # no batch of the segment reaches the offset: go on with the next


def read_visible(
    partition: LocalPartition, descriptors: Descriptors, offset: Offset, bytes_max: int, first: bool
) -> Slices | Cold | None:
    """What a reader at `offset`, which is in range, gets: at most `bytes_max` bytes of one segment, or one batch where
    it is the `first` of the fetch. None: nothing is visible there, or not even one batch fits. Raises OSError and
    FormatError."""
    if offset >= partition.high.offset:
        return None
    at = partition.segment_at(offset)
    for segment in partition.segments[at:]:
        limit = partition.visible_bytes(segment)
        if limit == 0:
            continue
        answer = _read_segment(partition, descriptors, segment, limit, offset, bytes_max, first)
        if answer is not _ENDED:
            assert not isinstance(answer, _Ended)
            return answer
    return None


class _Ended:
    """The offset lies behind the segment's last batch: in a gap that compaction left."""


_ENDED: Final = _Ended()


def _read_segment(
    partition: LocalPartition,
    descriptors: Descriptors,
    segment: Segment,
    limit: int,
    offset: Offset,
    bytes_max: int,
    first: bool,
) -> Slices | Cold | _Ended | None:
    file = segment.file or descriptors.file(segment)
    segment.used = True
    tail = partition.tail
    position, size = 0, -1  # of the first batch; its size is looked at only where the budget is short
    if offset == tail.offset and segment is tail.segment and tail.position < limit:
        position = tail.position
    elif offset != segment.base_offset:
        index = segment.index
        if index is None:
            return _cold(segment, limit, offset, bytes_max, first)
        start = index.lookup(offset)
        while True:
            count = min(walk_bytes, limit - start)
            if count < HEADER_BYTES:
                return _ENDED
            if not file.resident(start, count):
                return _cold(segment, limit, offset, bytes_max, first)
            found = find_offset(file.read_at(count, start), start, offset)
            if isinstance(found, Found):
                position, size = found.position, found.next_position - found.position
                break
            start = further(found, start)
    count = limit - position
    if count > bytes_max:
        if size < 0:
            if not file.resident(position, OVERHEAD_BYTES):
                return _cold(segment, limit, offset, bytes_max, first)
            size = OVERHEAD_BYTES + int.from_bytes(file.read_at(4, position + 8), "big")
        if size > bytes_max and not first:
            return None
        count = max(bytes_max, size)
    if not file.resident(position, count):
        return _cold(segment, limit, offset, bytes_max, first)
    if file.descriptor < 0:
        return Slices((file.read_at(count, position),), count)
    descriptors.borrow(segment)
    region = FileRegion(file.descriptor, Position(position), count, True)
    return Slices((region,), count, lambda: descriptors.give_back(segment))


def further(found: ReadOn, start: int) -> Position:
    """Where to walk on. Raises FormatError where the walk got nowhere: the file is shorter than its books say."""
    if found.position == start:
        raise FormatError(start, "the file ends, though there should be more batches")
    return found.position


def _cold(segment: Segment, limit: int, offset: Offset, bytes_max: int, first: bool) -> Cold:
    return Cold(segment, segment.index, limit, offset, min(bytes_max, cold_read_bytes_max), first)


# On a thread


def load_index(files: Files, path: str, base_offset: Offset) -> OffsetIndex:
    """The index file, or an empty index where there is none or it is damaged: an index only saves walking."""
    try:
        return OffsetIndex.decode(files.read(path + INDEX), base_offset)
    except (OSError, FormatError):
        return OffsetIndex(base_offset)


def find_batch(file: File, start: int, limit: int, offset: Offset) -> Found | None:
    """The first batch that ends at or after `offset`, walking from the batch at `start`. Raises FormatError, OSError."""
    while limit - start >= HEADER_BYTES:
        found = find_offset(file.read_at(min(walk_bytes, limit - start), start), Position(start), offset)
        if isinstance(found, Found):
            return found
        start = further(found, start)
    return None


def read_cold(files: Files, file: File, cold: Cold) -> ColdAnswer:
    """From `file`, which was borrowed: whole batches with good CRCs, at most `bytes_max` bytes, or one batch where it is
    the first. Raises OSError, and Corruption where already the first batch is damaged."""
    segment, loaded = cold.segment, None
    if (index := cold.offset_index) is None:
        index = loaded = load_index(files, segment.path, segment.base_offset)
    nothing = memoryview(b"")
    try:
        start = index.lookup(cold.offset)
        if start >= cold.limit:
            start = Position(0)
        if (found := find_batch(file, start, cold.limit, cold.offset)) is None:
            return ColdAnswer(Position(0), 0, nothing, loaded, True)
    except FormatError as error:
        raise error.at(segment.log_path) from None
    size = found.next_position - found.position
    if size > cold.bytes_max and not cold.first:
        return ColdAnswer(Position(0), 0, nothing, loaded, False)
    count = min(cold.limit - found.position, max(cold.bytes_max, size))
    data = memoryview(file.read_at(count, found.position))
    scanned = scan(data, found.position, allow_gaps=True)
    whole = scanned.position - found.position
    if not whole:
        what = scanned.what if scanned.stop is not Stop.END else "the file ends"
        raise Corruption(segment.log_path, found.position, what)
    return ColdAnswer(found.position, whole, nothing if file.descriptor >= 0 else data[:whole], loaded, False)
