"""One segment of a partition, as the loop knows it, and the descriptors of all of them.

Invariant: only the loop's thread changes a `Segment`; threads read its files through a descriptor that was borrowed for
them. A borrowed file stays open, also when its segment is removed, until it is given back.
Not here: which segments a partition has (`partition.py`), what is in the files (`storage/format`).
"""

from __future__ import annotations

from riverlog.base.ids import Offset, Position
from riverlog.env.entropy import Entropy
from riverlog.env.files import File, Files
from riverlog.storage.contract import LogConfig
from riverlog.storage.format.checkpoint import Checksums
from riverlog.storage.format.names import INDEX, LOG, TIME_INDEX, TXN_INDEX, segment_name
from riverlog.storage.format.offset_index import OffsetIndex
from riverlog.storage.format.time_index import TimeIndex


class Segment:
    """`path` is without a suffix. `size` counts good bytes: the file may be longer after a failed write, until it is cut.

    The indexes are None where they have not been loaded; those of the active segment always are there."""

    __slots__ = (
        "aborted",
        "allocated",
        "base_offset",
        "bytes_since_entry",
        "checksums",
        "compacted",
        "created_ms",
        "damaged_at",
        "doomed",
        "file",
        "first_timestamp",
        "index",
        "jitter_ms",
        "max_timestamp",
        "max_timestamp_offset",
        "next_offset",
        "overhang",
        "path",
        "saved",
        "saved_aborted",
        "saved_entries",
        "saved_times",
        "size",
        "time_index",
        "unsynced",
        "used",
        "users",
    )

    def __init__(self, directory: str, base_offset: Offset, created_ms: int) -> None:
        self.path = f"{directory}/{segment_name(base_offset)}"
        self.base_offset = base_offset
        self.next_offset = base_offset
        self.size = 0
        self.created_ms = created_ms
        self.first_timestamp = -1  # of the first batch: `segment.ms` counts from here
        self.max_timestamp = -1
        self.max_timestamp_offset = base_offset  # the last offset of the batch that holds it
        self.bytes_since_entry = 0
        self.index: OffsetIndex | None = None
        self.time_index: TimeIndex | None = None
        self.saved = False  # sealed, and its indexes are synced
        self.saved_entries = 0  # of `index`, that are in its file and synced
        self.saved_times = 0  # of `time_index`
        self.aborted = 0  # aborted transactions whose markers are in it
        self.saved_aborted = 0  # of these, that are in its transaction index and synced
        self.file: File | None = None
        self.users = 0  # readers and commits that hold `file`
        self.used = False  # since the last look for a descriptor to close
        self.doomed = False  # removed from its partition: closed with the last user
        self.unsynced = False  # has bytes that no commit has taken yet
        self.compacted = False
        self.checksums: Checksums | None = None  # of its files, once it was sealed and they were computed
        self.damaged_at: int | None = None  # position of the first bad batch that is known: readers stop there
        self.allocated = False  # room for all of it was reserved (`preallocate`) and not given back
        self.jitter_ms = -1  # by how much it rolls before `segment.ms`; -1: not drawn
        self.overhang = False  # a failed write may have left bytes behind `size`

    @property
    def log_path(self) -> str:
        return self.path + LOG

    @property
    def index_path(self) -> str:
        return self.path + INDEX

    @property
    def time_index_path(self) -> str:
        return self.path + TIME_INDEX

    @property
    def txn_index_path(self) -> str:
        return self.path + TXN_INDEX

    def start_indexes(self) -> None:
        """Of a segment that begins now."""
        self.index = OffsetIndex(self.base_offset)
        self.time_index = TimeIndex(self.base_offset)

    def note(self, last_offset: Offset, size: int, max_timestamp: int, interval_bytes: int) -> None:
        """Takes a batch of `size` bytes that begins at `self.size` into the books: size, times, and an index entry
        where `interval_bytes` have passed since the last."""
        if max_timestamp > self.max_timestamp:
            self.max_timestamp = max_timestamp
            self.max_timestamp_offset = last_offset
            if self.first_timestamp < 0:
                self.first_timestamp = max_timestamp
        if self.bytes_since_entry > interval_bytes:
            assert self.index is not None
            assert self.time_index is not None
            self.index.append(last_offset, Position(self.size))
            self.time_index.append(self.max_timestamp, self.max_timestamp_offset)
            self.bytes_since_entry = 0
        self.bytes_since_entry += size
        self.size += size
        self.next_offset = Offset(last_offset + 1)

    def seal_time_index(self) -> None:
        """The last entry of a sealed segment holds its largest timestamp."""
        if self.time_index is not None and self.max_timestamp >= 0:
            self.time_index.append(self.max_timestamp, self.max_timestamp_offset)


def jitter_ms(segment: Segment, config: LogConfig, entropy: Entropy) -> int:
    """By how much the segment rolls before `segment.ms`: drawn once for each."""
    most = min(config.segment_jitter_ms, config.segment_ms)
    if segment.jitter_ms < 0 < most:
        segment.jitter_ms = entropy.below(most)
    return min(max(segment.jitter_ms, 0), most)


class Descriptors:
    """Keeps at most `limit` segment files open, as far as nobody is using more. Second chance: a file that was used since
    the last look is passed over once."""

    def __init__(self, files: Files, limit: int) -> None:
        self._files = files
        self.limit = limit
        self._open: dict[Segment, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def file(self, segment: Segment, *, create: bool = False) -> File:
        """The open file of the segment. Raises OSError."""
        segment.used = True
        file = segment.file
        if file is None:
            if len(self._open) >= self.limit:
                self._close_one()
            file = segment.file = self._files.open(segment.log_path, create=create)
            self._open[segment] = None
        return file

    def borrow(self, segment: Segment) -> File:
        """As `file`; the file stays open until `give_back`."""
        file = self.file(segment)
        segment.users += 1
        return file

    def adopt(self, segment: Segment, file: File) -> None:
        """As `borrow`, where the file is open already: its name is not that of the segment yet."""
        segment.file = file
        segment.users += 1
        self._open[segment] = None

    def give_back(self, segment: Segment) -> None:
        segment.users -= 1
        assert segment.users >= 0, segment.path
        if segment.doomed and segment.users == 0:
            self._close(segment)

    def doom(self, segment: Segment) -> None:
        """The segment left its partition: its file is closed as soon as nobody holds it."""
        segment.doomed = True
        if segment.users == 0:
            self._close(segment)

    def close(self) -> None:
        for segment in list(self._open):
            self._close(segment)

    def _close(self, segment: Segment) -> None:
        if (file := segment.file) is not None:
            segment.file = None
            file.close()
        self._open.pop(segment, None)

    def _close_one(self) -> None:
        for segment in list(self._open):
            if segment.users or segment.unsynced:
                continue
            if not segment.used:
                self._close(segment)
                return
            segment.used = False
            self._open[segment] = self._open.pop(segment)  # to the end
        for unsynced in (
            False,
            True,
        ):  # one with unsynced bytes only where there is no other: Linux tells who opens it again
            for segment in list(self._open):  # of an error in writing back that nobody was told of yet
                if not segment.users and segment.unsynced is unsynced:
                    self._close(segment)
                    return
