"""Reading the journal after an unclean stop, and writing what only it has into the segments.

Invariants: nothing of the journal is changed here, so a start that dies may begin again; an entry is taken only exactly at
the log end, and never one of an older leader epoch than the partition has there (of a commit that failed and was cut back).
What the journal must have and has not, or what it has and the segments have no place for, is damage: the partition stays
offline, and what the journal holds of it is kept.
Not here: the format (`storage/format/journal.py`), what is cut before (`recovery.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Container
from typing import TYPE_CHECKING, Final, NamedTuple

from riverlog.base.errors import Corruption
from riverlog.base.ids import Offset, PartitionId
from riverlog.env.files import File, Files, write_whole
from riverlog.records.checksum import crc32c
from riverlog.records.header import BATCH_HEADER, HEADER_BYTES, OVERHEAD_BYTES
from riverlog.storage.format import journal, names
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.journal import Entry, Record, Scan
from riverlog.storage.local.segments import Segment

if TYPE_CHECKING:
    from riverlog.storage.local.recovery import Recovery

log = logging.getLogger(__name__)

KEPT: Final = "kept-"  # before the name of a file that an offline partition needs: `kept-<generation>-awaited-0`


class Found(NamedTuple):
    """An entry, the file that has its bytes, and where. `last`: of the last record of its lane, which may be torn."""

    entry: Entry
    path: str
    position: int
    last: bool


class JournalRead:
    """What the journal's files say of each partition. `lost` are entries whose bytes cannot be trusted."""

    def __init__(self) -> None:
        self.found: dict[PartitionId, list[Found]] = {}
        self.lost: dict[PartitionId, list[Found]] = {}
        self.paths: list[str] = []
        self.doubtful: list[str] = []  # files that may hold more than can be read

    def needed(self, partitions: Collection[PartitionId]) -> dict[str, None]:
        """The files that hold, or may hold, something of one of them."""
        if not any(one in self.found or one in self.lost for one in partitions):
            return {}
        paths = dict.fromkeys(self.doubtful)
        for partition in partitions:
            for one in (*self.found.get(partition, ()), *self.lost.get(partition, ())):
                paths[one.path] = None
        return paths

    def of(self, partition: PartitionId) -> list[Found]:
        return sorted(self.found.get(partition, ()), key=lambda one: one.entry.base_offset)

    def begins_at_zero(self, partition: PartitionId) -> bool:
        entries = (*self.found.get(partition, ()), *self.lost.get(partition, ()))
        return any(one.entry.base_offset == 0 for one in entries)


def read_journal(files: Files, directory: str) -> JournalRead:
    """By the tables alone. A file that is not whole tells what it can. Raises OSError."""
    answer = JournalRead()
    where = f"{directory}/{names.JOURNAL}"
    if not files.exists(where):
        return answer
    there = [name for name in files.list(where) if name.removeprefix(KEPT) != name or name in journal.FILE_NAMES]
    lanes: dict[str, list[tuple[str, Scan]]] = {}
    for name in there:
        path = f"{where}/{name}"
        answer.paths.append(path)
        if (scan := _scan(files, path)) is not None:
            if scan.unknown or scan.unread:
                answer.doubtful.append(path)
            lanes.setdefault(name[: name.rindex("-")], []).append((path, scan))
    for halves in lanes.values():
        newest = max((record.sequence for _, scan in halves for record in scan.records), default=0)
        for path, scan in halves:
            for record in scan.records:
                _note(answer.found, path, record, record.sequence == newest)
            for record in scan.unread:
                _note(answer.lost, path, record, False)
    return answer


def _scan(files: Files, path: str) -> Scan | None:
    file = files.open(path, writable=False)
    try:
        size = file.size()
        if size <= journal.BLOCK_BYTES:
            return None  # it was being made
        try:
            scan = journal.scan(file.read_at, size)
        except FormatError as error:
            log.error("%s; its records are looked for", error.at(path).message)
            scan = journal.scan(file.read_at, size, journal.first_generation(file.read_at, size))
    finally:
        file.close()
    for record in scan.unread:
        log.error("%s: the front of record %d is damaged", path, record.sequence)
    if scan.unknown:
        log.error("%s: %d records cannot be read, and nobody knows whose they are", path, scan.unknown)
    return scan


def _note(into: dict[PartitionId, list[Found]], path: str, record: Record, last: bool) -> None:
    for entry, position in record.placed():
        into.setdefault(entry.partition, []).append(Found(entry, path, position, last))


def keep_or_begin(files: Files, directory: str, generation: int, kept: Container[str]) -> None:
    """Before a new generation begins. What is in `kept` is needed by partitions that are offline: it stays, under other names.
    What was kept before and is not needed any more goes. Raises OSError."""
    where = f"{directory}/{names.JOURNAL}"
    if not files.exists(where):
        return
    for name in files.list(where):
        needed = f"{where}/{name}" in kept
        if needed and name in journal.FILE_NAMES:
            files.rename(f"{where}/{name}", f"{where}/{KEPT}{generation}-{name}")
        elif not needed and name.startswith(KEPT):
            files.remove(f"{where}/{name}")
    files.sync_directory(where)


class Replaying:
    """Of one partition, once its segments are cut."""

    def __init__(self, recovery: Recovery, read: JournalRead) -> None:
        self.recovery = recovery
        self.partition = recovery.partition
        self.read = read
        self.replayed_bytes = 0
        self._damaged: list[Found] = []  # a later record may hold the same bytes: a full disk tore this one
        self._torn = ""  # the file whose last record is torn within this partition's entries
        self._file: File | None = None
        self._of: Segment | None = None

    def run(self) -> int:
        """Gives how many bytes were taken. Raises Corruption and OSError."""
        try:
            for one in self.read.of(self.partition.id):
                if self._is_needed(one.entry):
                    self._take(one)
        finally:
            if self._file is not None:
                self._file.close()
        self._refuse_damaged()
        for one in self.read.lost.get(self.partition.id, ()):
            if self._is_needed(one.entry):
                raise Corruption(
                    one.path, one.position, self._missing(one.entry, "the record that has them is damaged")
                )
        return self.replayed_bytes

    def _refuse_damaged(self) -> None:
        for one in self._damaged:
            if self._is_needed(one.entry):
                raise Corruption(one.path, one.position, self._missing(one.entry, "their bytes are damaged"))

    @property
    def _end(self) -> Offset:
        segments = self.partition.segments
        if segments:
            return segments[-1].next_offset
        mark = self.recovery.mark
        return mark.recovery_offset if mark is not None else Offset(0)

    def _is_needed(self, entry: Entry) -> bool:
        end = self._end
        at = max(end, entry.base_offset)
        if entry.next_offset <= end or entry.next_offset <= self.partition.log_start:
            return False
        return entry.leader_epoch >= max(self.recovery.noted_epochs.epoch_of(at), self.recovery.scanned_epoch)

    def _missing(self, entry: Entry, what: str) -> str:
        return (
            f"the journal has offsets {entry.base_offset} to {entry.next_offset - 1} of {self.partition.name}, "
            f"which ends at {self._end}: {what}"
        )

    def _take(self, one: Found) -> None:
        entry = one.entry
        data = self._read(one)
        if crc32c(data) != entry.crc:
            if one.last:
                self._torn = one.path  # nobody had an answer to it, nor to what follows in its record
            else:
                self._damaged.append(one)
            return
        if entry.base_offset > self._end and one.last and one.path == self._torn:
            return
        if entry.base_offset > self._end:
            self._refuse_damaged()
            raise Corruption(one.path, one.position, self._missing(entry, "what lies between is gone"))
        skipped = skip_to(data, self._end)
        if skipped is None:
            raise Corruption(one.path, one.position, self._missing(entry, "no batch begins there"))
        self._write(one, data[skipped:])

    def _read(self, one: Found) -> bytes:
        file = self.recovery.files.open(one.path, writable=False)
        try:
            return file.read_at(one.entry.length, one.position)
        finally:
            file.close()

    def _write(self, one: Found, data: bytes) -> None:
        recovery, segment = self.recovery, self._segment(one)
        assert self._file is not None
        write_whole(self._file, data, segment.size)
        size = segment.size + len(data)
        what = recovery.scan_batches(segment, self._file, size, self._end, 0)
        if what is not None:
            raise Corruption(one.path, one.position, self._missing(one.entry, what))
        recovery.clean = False
        self.replayed_bytes += len(data)

    def _segment(self, one: Found) -> Segment:
        """The one that the bytes go to, open."""
        recovery, entry, segments = self.recovery, one.entry, self.partition.segments
        segment = segments[-1] if segments else None
        fresh = segment is None or (entry.segment > segment.base_offset and entry.segment == self._end)
        if segment is None and entry.segment != self._end:
            raise Corruption(one.path, one.position, self._missing(entry, "the segment that they are of is gone"))
        if fresh:
            segment = Segment(self.partition.directory, entry.segment, recovery.now_ms)
            segment.start_indexes()
        assert segment is not None
        if segment is not self._of:
            if self._file is not None:
                self._file.close()
            if segment.index is None:
                recovery.reopen(segment)
            self._of = segment
            self._file = recovery.files.open(segment.log_path, create=True)
            self._file.truncate(segment.size)
            if segment.log_path not in recovery.touched:
                recovery.touched.append(segment.log_path)
        if fresh:
            recovery.add(segment)
        return segment


def skip_to(data: bytes, offset: Offset) -> int | None:
    """Where the batch with that base offset begins. None: there is none."""
    at = 0
    while len(data) - at >= HEADER_BYTES:
        base_offset, length, *_ = BATCH_HEADER.unpack_from(data, at)
        if base_offset == offset:
            return at
        if length < 0 or base_offset > offset:
            break
        at += length + OVERHEAD_BYTES
    return None
