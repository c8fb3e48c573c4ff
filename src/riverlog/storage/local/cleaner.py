"""The part of a compaction that runs on a thread: windows of segments in, files of new segments out, a slice at a time.

Invariants: memory is bounded (a window, an output of a few times its size, the map of keys); a slice ends after about
`slice_bytes`, so that a compaction can be stopped, slowed and kept from the loop's way; every CRC is checked; nothing of the old
files is written, and the new ones are synced before anybody is told of them.
Not here: the rules (`storage/compaction.py`), which segments, when, and the swap (`compacting.py`, `swaps.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from riverlog.base.errors import Corruption
from riverlog.base.ids import Offset, Position
from riverlog.base.units import INT32_MAX, MIB
from riverlog.env.files import Buffer, File, Files, write_whole
from riverlog.kernels import IndexState, walk_batches
from riverlog.records.checksum import crc32c
from riverlog.storage.compaction import Damaged, Mapping, Thinning, bytes_needed
from riverlog.storage.format import names, txn_index
from riverlog.storage.format.checkpoint import ABORTED, COMPACTED, Checksums, SegmentMark
from riverlog.storage.format.offset_index import OffsetIndex
from riverlog.storage.format.time_index import TimeIndex
from riverlog.storage.format.txn_index import AbortedEntry
from riverlog.storage.local.swaps import CLEANED

window_bytes: Final = MIB
slice_bytes: Final = 4 * MIB


class Windows:
    """One segment's bytes, up to `size`, a window at a time; the buffer is the caller's, and grows for a larger batch."""

    def __init__(self, file: File, path: str, size: int, buffer: bytearray) -> None:
        self._file = file
        self._path = path
        self._buffer = buffer
        self._size = size
        self._wanted = window_bytes
        self.position = 0

    @property
    def ended(self) -> bool:
        return self.position >= self._size

    def next(self) -> memoryview:
        """Raises OSError, and Corruption where the file is shorter than it was."""
        count = min(self._wanted, self._size - self.position)
        if len(self._buffer) < count:
            self._buffer = bytearray(count)
        window = memoryview(self._buffer)[:count]
        if self._file.read_into(window, self.position) != count:
            raise Corruption(self._path, self.position, "the file ends")
        return window

    def take(self, window: memoryview, count: int) -> None:
        """The first `count` bytes are done. None of them: the batch there is larger than the window, which grows."""
        if count:
            self.position += count
            self._wanted = window_bytes
            return
        try:
            needed = bytes_needed(window, 0)
        except Damaged as damage:
            raise self.damaged(damage) from None
        if needed > self._size - self.position:
            raise Corruption(self._path, self.position, f"a batch of {needed} bytes goes on behind the segment's end")
        if needed <= len(window):
            raise Corruption(self._path, self.position, "no whole batch")
        self._wanted = needed

    def is_resident(self, count: int) -> bool:
        """Whether the page cache has what comes next, as far as `count` bytes: on the loop, which alone may ask."""
        return self._file.resident(self.position, min(count, self._size - self.position))

    def damaged(self, damage: Damaged) -> Corruption:
        return Corruption(self._path, self.position + damage.position, damage.what)

    def drop_pages(self, position: int) -> None:
        """From `position` to where it is now, they need not stay in the page cache."""
        self._file.advise_dontneed(position, self.position - position)


class Slice(NamedTuple):
    """What one call on the thread has done."""

    ended: bool
    moved_bytes: int


def map_slice(windows: Windows, mapping: Mapping, keep_pages: bool) -> Slice:
    """Raises OSError, Corruption."""
    start = windows.position
    while not windows.ended and not mapping.full and windows.position - start < slice_bytes:
        window = windows.next()
        try:
            taken = mapping.feed(window)
        except Damaged as damage:
            raise windows.damaged(damage) from None
        if taken or not mapping.full:
            windows.take(window, taken)
    if not keep_pages:
        windows.drop_pages(start)
    return Slice(windows.ended or mapping.full, windows.position - start)


def thin_slice(windows: Windows, thinning: Thinning, writer: Writer, keep_pages: bool) -> Slice:
    """Raises OSError, Corruption."""
    start, written = windows.position, writer.written
    while not windows.ended and windows.position - start < slice_bytes:
        window = windows.next()
        try:
            done = thinning.feed(window)
        except Damaged as damage:
            raise windows.damaged(damage) from None
        if len(done.data):
            if writer.is_full(len(done.data)):
                writer.split(Offset(done.first_offset), thinning.transactions.take_needed())
                thinning.index = state_of(done.data)
                writer.write(done.data, ())
            else:
                writer.write(done.data, done.entries)
            writer.highest = (thinning.index.max_timestamp, thinning.index.max_timestamp_offset)
        windows.take(window, done.taken)
    if not keep_pages:
        windows.drop_pages(start)
    return Slice(windows.ended, windows.position - start + writer.written - written)


def state_of(data: Buffer) -> IndexState:
    """Of a segment that begins with these batches."""
    batches = walk_batches(data)
    best = max(range(len(batches.sizes)), key=lambda at: (batches.max_timestamps[at], -at))
    last_offset = batches.base_offsets[best] + batches.last_offset_deltas[best]
    return IndexState(len(data), batches.max_timestamps[best], last_offset)


class Fresh(NamedTuple):
    """A new segment: its mark, and its indexes, for the time until its files have their names."""

    mark: SegmentMark
    offsets: OffsetIndex
    times: TimeIndex
    aborted: Sequence[AbortedEntry] = ()


class Writer:
    """Writes the segments that a group becomes: one, but where what stays does not fit into one."""

    def __init__(self, files: Files, directory: str, base_offset: Offset, created_ms: int) -> None:
        self._files = files
        self._directory = directory
        self._created_ms = created_ms
        self.keep_pages = True  # of what was written
        self.written = 0
        self.fresh: list[Fresh] = []
        self.bases: list[Offset] = []  # of all that has files
        self._aborted: list[AbortedEntry] = []  # whose markers are in what is not ended yet
        self._file: File | None = None
        self._begin(base_offset)

    def _begin(self, base_offset: Offset) -> None:
        self._base_offset = base_offset
        self._size = 0
        self._crc = 0
        self._index = OffsetIndex(base_offset)
        self._times = TimeIndex(base_offset)
        self.highest = (-1, -1)  # timestamp, and the last offset of the batch that first had it
        self.bases.append(base_offset)
        path = self._path(names.LOG)
        if self._files.exists(path):
            self._files.remove(path)  # never written over: it might be the second name of a file that counts
        self._file = self._files.open(path, create=True)

    def _path(self, suffix: str) -> str:
        return f"{self._directory}/{names.segment_file_name(self._base_offset, suffix)}{CLEANED}"

    def is_full(self, count: int) -> bool:
        """Positions in an index have 31 bits. (That offsets have, the grouping of segments has seen to.)"""
        return self._size > 0 and self._size + count > INT32_MAX

    def write(self, data: Buffer, entries: Sequence[int]) -> None:
        assert self._file is not None
        write_whole(self._file, data, self._size)
        self._crc = crc32c(data, self._crc)
        for at in range(0, len(entries), 4):
            position, last_offset, timestamp, timestamp_offset = entries[at : at + 4]
            self._index.append(Offset(last_offset), Position(self._size + position))
            self._times.append(timestamp, Offset(timestamp_offset))
        self._size += len(data)
        self.written += len(data)

    def split(self, base_offset: Offset, aborted: Sequence[AbortedEntry]) -> None:
        """What comes next begins another segment. `aborted`: what is known by now."""
        self._aborted += aborted
        self._end(Offset(base_offset - 1))
        self._begin(base_offset)

    def finish(self, last_offset: Offset, aborted: Sequence[AbortedEntry]) -> list[Fresh]:
        """All is written and synced, but the names. Raises OSError."""
        self._aborted += aborted
        self._end(last_offset)
        return self.fresh

    def _end(self, last_offset: Offset) -> None:
        assert self._file is not None
        aborted = [entry for entry in self._aborted if entry.last_offset <= last_offset]
        self._aborted = self._aborted[len(aborted) :]  # the marker of the last may begin the next segment
        timestamp, offset = self.highest
        if timestamp >= 0:
            self._times.append(timestamp, Offset(offset))
        self._file.sync()
        if not self.keep_pages:
            self._file.advise_dontneed(0, self._size)
        self.close()
        transactions = self._write(names.TXN_INDEX, txn_index.encode(aborted)) if aborted else None
        sums = Checksums(
            self._crc,
            self._write(names.INDEX, self._index.encode()),
            self._write(names.TIME_INDEX, self._times.encode()),
            transactions,
        )
        created_ms, flags = self._created_ms, COMPACTED | (ABORTED if aborted else 0)
        mark = SegmentMark(
            self._base_offset, self._size, last_offset, timestamp, Offset(offset), created_ms, flags, sums
        )
        self.fresh.append(Fresh(mark, self._index, self._times, aborted))

    def _write(self, suffix: str, content: bytes) -> int:
        path = self._path(suffix)
        if self._files.exists(path):
            self._files.remove(path)
        file = self._files.open(path, create=True)
        try:
            write_whole(file, content, 0)
            file.sync()
        finally:
            file.close()
        return crc32c(content)

    def close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            file.close()


def open_cleaned(files: Files, directory: str, fresh: Sequence[Fresh]) -> list[File]:
    """The new segments' files, which have not got their names yet. Raises OSError."""
    opened: list[File] = []
    try:
        for one in fresh:
            name = names.segment_file_name(one.mark.base_offset, names.LOG)
            opened.append(files.open(f"{directory}/{name}{CLEANED}"))
    except OSError:
        for file in opened:
            file.close()
        raise
    return opened
