"""The ring of the group commit: which part of the journal's files a commit may write, and when it is written over.

Invariants: of a lane one record is written at a time, into the half that is in use; a half is in use again only when every
segment that its records cover is synced. A lane whose journal could not be written or synced is not used again by this
process; what it has is kept. A lane that nobody has used costs nothing.
Not here: the format (`storage/format/journal.py`), which commits come here (`commit_plan.py`), the syncing of what a half
covers (`settling.py`), reading (`replay.py`).
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from riverlog.base.ids import Offset
from riverlog.base.units import KIB, MIB
from riverlog.env.files import File, Files, write_whole
from riverlog.storage.format import journal, names
from riverlog.storage.format.journal import BLOCK_BYTES, Entry
from riverlog.storage.local.committing import Run
from riverlog.storage.local.counters import Counters
from riverlog.storage.local.partition import LocalPartition
from riverlog.storage.local.settling import Need, Settling

log = logging.getLogger(__name__)

half_bytes_min: Final = 2 * MIB
record_bytes_max: Final = 16 * MIB  # and of each lane's staging buffer
staging_bytes_min: Final = 64 * KIB
covered_bytes: Final = 64 * KIB  # a half grows until a sync of what it covers is worth so much of it


class Half:
    def __init__(self, path: str, capacity: int) -> None:
        self.path = path
        self.capacity = capacity
        self.position = BLOCK_BYTES  # of the next record
        self.cover: dict[LocalPartition, Offset] = {}  # up to where their segments must be synced before it is free
        self.draining = False
        self.file: File | None = None

    def purge(self) -> None:
        """Lets go of what is synced by now; where that is all, it begins anew."""
        for partition in [partition for partition, end in self.cover.items() if partition.synced.offset >= end]:
            del self.cover[partition]
        if not self.cover:
            self.position = BLOCK_BYTES


class Slot(NamedTuple):
    """Where a record goes, and what is to be written there."""

    half: Half
    position: int
    sequence: int
    entries: Sequence[Entry]
    buffer: memoryview


class Ring:
    """Of one lane."""

    def __init__(self, owner: Journal, paths: Sequence[str], capacities: Sequence[int]) -> None:
        self.owner = owner
        self.halves = [Half(path, capacity) for path, capacity in zip(paths, capacities, strict=True)]
        self.active = 0
        self.sequence = 0
        self.broken = False
        self.frozen = False  # does not grow
        self._staging = bytearray()

    def stage(self, runs: Sequence[tuple[LocalPartition, Run]]) -> Slot | None:
        """Takes room for a record and copies the runs into it. None: there is no room now. Raises OSError where a
        segment cannot be read."""
        size = journal.record_bytes(len(runs), sum(run.length for _, run in runs))
        if self.broken or size > record_bytes_max or (half := self._room(size)) is None:
            return None
        if len(self._staging) < size:
            self._staging = bytearray(max(staging_bytes_min, 1 << (size - 1).bit_length()))
        view = memoryview(self._staging)
        at = journal.data_start(len(runs))
        entries: list[Entry] = []
        for partition, (segment, position, length, base_offset, next_offset) in runs:
            file = segment.file or partition.world.descriptors.file(segment)
            if file.read_into(view[at : at + length], position) != length:
                raise OSError(errno.EIO, "the segment is shorter than was written", segment.log_path)
            at += length
            entries.append(
                Entry(
                    partition.id,
                    partition.leader_epoch,
                    base_offset,
                    next_offset,
                    segment.base_offset,
                    position,
                    length,
                    0,
                )
            )
        self.sequence += 1
        slot = Slot(half, half.position, self.sequence, entries, view)
        half.position += size
        return slot

    def _room(self, size: int) -> Half | None:
        half, other = self.halves[self.active], self.halves[1 - self.active]
        if half.position + size <= half.capacity and len(half.cover) <= self.owner.cover_max:
            return half
        half.purge()
        if len(half.cover) <= self.owner.cover_max:
            if half.position + size > half.capacity and (
                other.draining or half.capacity < len(half.cover) * covered_bytes
            ):
                self._grow(half, half.position + size)
            if half.position + size <= half.capacity:
                return half
        if other.draining:
            return None
        if BLOCK_BYTES + size > other.capacity:
            self._grow(other, BLOCK_BYTES + size)
        if BLOCK_BYTES + size > other.capacity:
            return None
        self.drain(half)
        self.active = 1 - self.active
        other.position = BLOCK_BYTES
        return other

    def _grow(self, half: Half, needed: int) -> None:
        if not self.frozen:
            self.owner.grow(half, needed)

    def drain(self, half: Half) -> None:
        """It is written over when its segments are synced."""
        half.draining = True

        def free() -> None:
            half.draining = False

        self.owner.settling.want(Need(half.cover, free))

    def settle(self) -> None:
        """All that it has, for it is not used any more."""
        for half in self.halves:
            if not half.draining:
                self.drain(half)


class Journal:
    """Both rings. `generation` is of this start alone, and nobody can guess it: what clients send stands in these files too."""

    def __init__(
        self,
        files: Files,
        directory: str,
        settling: Settling,
        counters: Counters,
        *,
        generation: int,
        bytes_max: int,
        cover_max: int,
    ) -> None:
        self.files = files
        self.directory = f"{directory}/{names.JOURNAL}"
        self.settling = settling
        self.counters = counters
        self.generation = generation
        self.bytes_max = bytes_max
        self.cover_max = cover_max  # segments of which one half may keep descriptors open
        paths = [f"{self.directory}/{name}" for name in journal.FILE_NAMES]
        least = min(half_bytes_min, bytes_max // len(paths))
        self.rings = [Ring(self, paths[at : at + 2], [least, least]) for at in (0, 2)]

    def grow(self, half: Half, needed: int) -> None:
        """To twice its size at least, as far as the limit allows it; the other lane's first bytes are left to it."""
        left = self.bytes_max - sum(other.capacity for ring in self.rings for other in ring.halves)
        wanted = max(half.capacity, needed - half.capacity)
        if half.capacity + left >= needed:
            half.capacity += min(left, wanted)

    def write(self, slot: Slot) -> None:
        """On a thread. Raises OSError: the record is not durable, or nobody knows."""
        half = slot.half
        length = journal.seal(slot.buffer, self.generation, slot.sequence, slot.entries)
        if half.file is None:
            half.file = self._make(half)
        try:
            write_whole(half.file, slot.buffer[:length], slot.position)
            half.file.sync()
        except OSError as error:
            if error.errno == errno.ENOSPC:  # others follow it: a start must not miss what was not written of it
                with suppress(OSError):
                    half.file.truncate(slot.position)
                    half.file.sync()
            raise

    def _make(self, half: Half) -> File:
        files = self.files
        files.make_directory(self.directory)
        file = files.open(half.path, create=True)
        try:
            write_whole(file, journal.encode_file_header(self.generation), 0)
            file.sync()
            files.sync_directory(self.directory)
            files.sync_directory(os.path.dirname(self.directory))
        except OSError:
            file.close()
            raise
        return file

    def written(self, slot: Slot, ends: Sequence[tuple[LocalPartition, Offset]]) -> None:
        """The record is durable: its half has to stay until the segments are synced up to there."""
        slot.half.cover.update(ends)
        self.counters.journal_commits += 1
        self.counters.journal_bytes += slot.half.position - slot.position

    def failed(self, lane: int, slot: Slot, error: OSError) -> None:
        """A full disk is no broken one: the half is as long as it can be, and nothing grows any more."""
        ring = self.rings[lane]
        if error.errno == errno.ENOSPC:
            if not ring.frozen:
                log.warning("%s: %s; it stays as long as it is until the next start", slot.half.path, error)
            ring.frozen = True
            slot.half.capacity = slot.half.position = slot.position
            return
        log.error("%s: %s; it is not used any more, segments are synced instead", slot.half.path, error)
        self.counters.failed_journals += 1
        ring.broken = True
        ring.settle()

    def forget(self, partition: LocalPartition) -> None:
        """Its topic was deleted."""
        for ring in self.rings:
            for half in ring.halves:
                if not half.draining:  # else it is in a need
                    half.cover.pop(partition, None)

    def close(self) -> None:
        for ring in self.rings:
            for half in ring.halves:
                if half.file is not None:
                    half.file.close()
                    half.file = None

    # At a start

    def begin(self) -> None:
        """What the files of earlier starts hold counts no more, and they are used again. On a thread. Raises OSError."""
        for ring in self.rings:
            for half in ring.halves:
                if self.files.exists(half.path):
                    file = self.files.open(half.path)
                    try:
                        write_whole(file, journal.encode_file_header(self.generation), 0)
                        file.sync()
                        size = file.size()
                    finally:
                        file.close()
                    if size > half.capacity:
                        self.grow(half, size)
        if self.files.exists(self.directory):
            self.files.sync_directory(self.directory)
