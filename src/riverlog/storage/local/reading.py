"""From an offset to bytes of a file: on the loop where the page cache has them, else on a thread.

Invariant: nothing here touches a disk on the loop: before a byte is read there, the kernel has said that it is resident.
What a thread reads is checked (CRC) before it goes out. Nothing here changes a partition.
Not here: budgets over several partitions (`fetching.py`), whose turn it is at the disk (`catchup.py`), times (`searching.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from riverlog.base.ids import Offset, Position
from riverlog.base.units import KIB, MIB
from riverlog.env.files import File, Files
from riverlog.kernels import Checked, WalkEnd, check_batches, walk_batches
from riverlog.records.header import HEADER_BYTES, OVERHEAD_BYTES
from riverlog.storage.contract import FileRegion, Part, Slices
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.names import INDEX
from riverlog.storage.format.offset_index import OffsetIndex
from riverlog.storage.format.segment import Found, ReadOn, find_offset, scan
from riverlog.storage.local.damage import behind_damage, readable_bytes
from riverlog.storage.local.partition import LocalPartition, Place
from riverlog.storage.local.segments import Descriptors, Segment

NOTHING: Final = memoryview(b"")
FILE_ENDS: Final = "the file ends, though there should be more batches"
NO_OFFSET: Final = Offset(-1)

walk_bytes: Final = 4 * KIB  # of headers that are read at a time
piece_bytes: Final = 512 * KIB  # that the disk is asked for at a time: a commit waits behind no more
index_spacing_bytes: Final = 4 * KIB  # between the entries of an index that is made again
cold_read_bytes_max: Final = 4 * MIB  # that a thread reads for one partition of a fetch, but for a larger first batch


class Cold(NamedTuple):
    """A read that needs a disk, as values that a thread may use. Nothing is borrowed yet."""

    segment: Segment
    offset_index: OffsetIndex | None
    limit: int  # readers may see the segment up to here
    offset: Offset
    bytes_max: int
    first: bool
    suspect: bool = False  # the index, or the batches that it led to, cannot be: look at the whole segment


class Extent(NamedTuple):
    """Bytes of a file."""

    position: int
    size: int


class Damage(NamedTuple):
    """A bad batch."""

    position: Position
    what: str


class ColdAnswer(NamedTuple):
    """A real file's bytes are in the page cache now, and are sent from there as warm ones are: `data` is empty, so that slow
    readers of old data hold no memory of ours. Other files give their bytes."""

    position: Position
    size: int  # bytes of whole, checked batches; 0: none
    data: memoryview
    loaded: OffsetIndex | None  # that was loaded on the way
    ended: bool  # no batch of the segment reaches the offset: go on with the next
    next_offset: Offset  # behind the batches that were read; -1: none were
    damage: Damage | None  # that was met; what lies before it is good
    brought: Sequence[Extent]  # what the page cache did not have before
    again: bool = False  # the whole segment was looked at instead: whoever asked asks again


class SegmentSlices(Slices):
    """And where they are from: `position` is behind them."""

    __slots__ = ("position", "segment")

    def __init__(self, part: Part, size: int, release: Callable[[], None] | None, segment: Segment, position: int) -> None:
        self.parts = (part,)
        self.size = size
        self._release = release
        self.segment = segment
        self.position = position


def read_visible(
    partition: LocalPartition, descriptors: Descriptors, offset: Offset, bytes_max: int, first: bool, end: Place
) -> SegmentSlices | Cold | None:
    """What a reader at `offset`, which is in range, gets of what lies before `end`: at most `bytes_max` bytes of one segment,
    or one batch where it is the `first` of the fetch. None: nothing is visible there, or not even one batch fits. Raises
    OSError, and RiverlogError where the offset lies behind damage."""
    if offset >= end.offset:
        return None
    at = partition.segment_at(offset)
    for segment in partition.segments[at:]:
        limit = partition.visible_bytes(segment, end)
        if limit == 0:
            continue
        if segment.damaged_at is not None:
            limit = readable_bytes(partition, segment, end)
        try:
            answer = _read_segment(partition, descriptors, segment, limit, offset, bytes_max, first)
        except FormatError:  # damage, or an index that leads astray: a thread finds out which
            return make_cold(segment, limit, offset, bytes_max, first)._replace(suspect=True)
        if answer is not _ENDED:
            assert not isinstance(answer, _Ended)
            return answer
        if (error := behind_damage(partition, segment, offset)) is not None:
            raise error
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
) -> SegmentSlices | Cold | _Ended | None:
    file = segment.file or descriptors.file(segment)
    segment.used = True
    tail = partition.tail
    if limit == 0:  # damaged from its first batch on
        return _ENDED
    position, size = 0, -1  # of the first batch; its size is looked at only where the budget is short
    if offset == tail.offset and segment is tail.segment and tail.position < limit:
        position = tail.position
    elif offset != segment.base_offset:
        index = segment.index
        if index is None:
            return make_cold(segment, limit, offset, bytes_max, first)
        start = index.lookup(offset)
        while True:
            count = min(walk_bytes, limit - start)
            if count < HEADER_BYTES:
                return _ENDED
            if not file.resident(start, count):
                return make_cold(segment, limit, offset, bytes_max, first)
            found = find_offset(file.read_at(count, start), start, offset)
            if isinstance(found, Found):
                position, size = found.position, found.next_position - found.position
                break
            start = further(found, start)
    count = limit - position
    if count > bytes_max:
        if size < 0:
            if not file.resident(position, OVERHEAD_BYTES):
                return make_cold(segment, limit, offset, bytes_max, first)
            size = OVERHEAD_BYTES + int.from_bytes(file.read_at(4, position + 8), "big")
        if size > bytes_max and not first:
            return None
        count = max(bytes_max, size)
    if not file.resident(position, count):
        return make_cold(segment, limit, offset, bytes_max, first)
    if file.descriptor < 0:
        return SegmentSlices(file.read_at(count, position), count, None, segment, position + count)
    descriptors.borrow(segment)
    region = FileRegion(file.descriptor, Position(position), count, True)
    return SegmentSlices(region, count, lambda: descriptors.give_back(segment), segment, position + count)


def further(found: ReadOn, start: int) -> Position:
    """Where to walk on. Raises FormatError where the walk got nowhere: the file is shorter than its books say."""
    if found.position == start:
        raise FormatError(start, FILE_ENDS)
    return found.position


def make_cold(segment: Segment, limit: int, offset: Offset, bytes_max: int, first: bool) -> Cold:
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


def read_cold(files: Files, file: File, cold: Cold, scratch: bytearray) -> ColdAnswer:
    """From `file`, which was borrowed: whole batches with good CRCs, at most `bytes_max` bytes, or one batch where it is
    the first. They go through `scratch`, which a thread has to itself. Raises OSError."""
    segment, loaded = cold.segment, None
    file.advise_random()
    if cold.suspect:
        return _examined(file, cold, scratch)
    if (index := cold.offset_index) is None:
        index = loaded = load_index(files, segment.path, segment.base_offset)
    try:
        start = index.lookup(cold.offset)
        if start >= cold.limit:
            start = Position(0)
        if (found := find_batch(file, start, cold.limit, cold.offset)) is None:
            return ColdAnswer(Position(0), 0, NOTHING, loaded, True, NO_OFFSET, None, ())
    except FormatError:
        return _examined(file, cold, scratch)
    dense = not segment.compacted
    lowest = max(cold.offset, segment.base_offset)  # a gap before the segment is of another one's compaction
    if dense and found.base_offset > lowest:
        gap = Damage(found.position, f"offset {found.base_offset} where {lowest} should be")
        return ColdAnswer(Position(0), 0, NOTHING, loaded, False, NO_OFFSET, gap, ())
    size = found.next_position - found.position
    if size > cold.bytes_max and not cold.first:
        return ColdAnswer(Position(0), 0, NOTHING, loaded, False, NO_OFFSET, None, ())
    count = min(cold.limit - found.position, max(cold.bytes_max, size))
    view = memoryview(scratch if count <= len(scratch) else bytearray(count))[:count]
    brought: list[Extent] = []
    view = view[: bring(file, view, found.position, brought)]
    checked = check_batches(view, 0, -1, -1, dense)
    damage = defect(view, checked, found.position, cold.limit, dense=dense)
    if not checked.batches and damage is None:
        damage = Damage(found.position, FILE_ENDS)
    whole = checked.end
    data = NOTHING if file.descriptor >= 0 else memoryview(bytes(view[:whole]))
    next_offset = Offset(checked.next_offset)
    return ColdAnswer(found.position, whole, data, loaded, False, next_offset, damage, brought)


def _examined(file: File, cold: Cold, scratch: bytearray) -> ColdAnswer:
    """Nothing is read for the reader, who asks again: with the damage known, or with an index that is right."""
    damage, index = examine(file, cold.segment.base_offset, cold.limit, scratch, not cold.segment.compacted)
    return ColdAnswer(Position(0), 0, NOTHING, index, False, NO_OFFSET, damage, (), True)


def examine(
    file: File, base_offset: Offset, limit: int, scratch: bytearray, dense: bool
) -> tuple[Damage | None, OffsetIndex]:
    """Every batch of a segment up to `limit`: the first bad one, and an index of those before it. Raises OSError."""
    index = OffsetIndex(base_offset)
    at, next_offset, epoch, marked = 0, int(base_offset), -1, 0
    while at < limit:
        view = memoryview(scratch)[: min(len(scratch), limit - at)]
        view = view[: bring(file, view, at, [])]
        checked = check_batches(view, 0, next_offset, epoch, dense)
        if checked.stopped is WalkEnd.BATCH_CUT and not checked.batches:  # larger than the buffer
            size = OVERHEAD_BYTES + int.from_bytes(view[8:12], "big")
            if at + size <= limit and size > len(scratch):
                scratch = bytearray(size)
                continue
        if (damage := defect(view, checked, Position(at), limit, next_offset, epoch, dense)) is not None:
            return damage, index
        if not checked.batches:
            return Damage(Position(at), FILE_ENDS), index
        batches = walk_batches(view[: checked.end])
        for position, base, delta in zip(
            batches.positions, batches.base_offsets, batches.last_offset_deltas, strict=True
        ):
            if at + position - marked >= index_spacing_bytes:
                marked = at + position
                index.append(Offset(base + delta), Position(marked))
        at, next_offset, epoch = at + checked.end, checked.next_offset, checked.leader_epoch
    return None, index


def bring(file: File, view: memoryview, position: int, brought: list[Extent]) -> int:
    """Fills `view` from the file, in pieces that leave the disk to a commit in between; notes what was not resident before.
    Gives how many bytes there were."""
    done = 0
    while done < len(view):
        piece = view[done : done + piece_bytes]
        was_there = file.resident(position + done, len(piece))
        count = file.read_into(piece, position + done)
        if not was_there and count:
            brought.append(Extent(position + done, count))
        done += count
        if count < len(piece):
            break
    return done


def defect(
    view: memoryview,
    checked: Checked,
    position: Position,
    limit: int,
    next_offset: int = -1,
    leader_epoch: int = -1,
    dense: bool = False,
) -> Damage | None:
    """What stopped the check of `view`, which was read at `position`, where it was not just the end of what was read."""
    stopped, at = checked.stopped, position + checked.end
    if stopped is WalkEnd.END:
        whole = at == limit or checked.end == len(view) > 0
        return None if whole else Damage(Position(at), FILE_ENDS)
    if stopped in (WalkEnd.HEADER_CUT, WalkEnd.BATCH_CUT):
        if stopped is WalkEnd.HEADER_CUT:
            needed = HEADER_BYTES
        else:
            needed = OVERHEAD_BYTES + int.from_bytes(view[checked.end + 8 : checked.end + 12], "big")
        if at + needed <= limit:
            return None
    if checked.batches:
        next_offset, leader_epoch = checked.next_offset, checked.leader_epoch
    expected = Offset(next_offset) if next_offset >= 0 else None
    found = scan(view[checked.end :], Position(at), expected, leader_epoch=leader_epoch, allow_gaps=not dense)
    return Damage(Position(at), found.what)
