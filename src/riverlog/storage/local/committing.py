"""One partition's part in a commit: what is pending of it, and what its ends are once that is durable.

Invariants: a partition is in one commit at a time (`committing`), and no descriptor of it is in two syncs at a time
(`syncing`), for two syncs of one descriptor would share one error report. `durable` is what survives, by segments or by the
journal; `synced` is what the segments alone hold, with their names: `synced` <= `durable` <= log end.
Not here: which commits there are (`group_commit.py`), what a failed sync leads to (`cutting.py`).
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from riverlog.base.ids import LeaderEpoch, Offset
from riverlog.env.files import File, Files
from riverlog.storage.contract import Durability
from riverlog.storage.format import names
from riverlog.storage.local.commit_plan import PendingBytes, Way
from riverlog.storage.local.partition import LocalPartition, Place
from riverlog.storage.local.segments import Segment


class Run(NamedTuple):
    """Pending bytes of one segment: whole batches."""

    segment: Segment
    position: int
    length: int
    base_offset: Offset
    next_offset: Offset


@dataclass(slots=True)
class Pending:
    """What one commit does for one partition, and up to where it makes it durable. With `Way.JOURNAL` no file is touched."""

    partition: LocalPartition
    way: Way
    place: Place
    leader_epoch: LeaderEpoch  # a cut in between makes it worthless
    files: Sequence[File] = ()
    segments: Sequence[Segment] = ()
    names: Sequence[str] = ()  # files that were made with the partition's directory: synced by path
    directories: Sequence[str] = ()  # innermost first
    bytes: int = 0
    messages: int = 0
    error: OSError | None = None


def pending_bytes(partition: LocalPartition) -> PendingBytes | None:
    """None: nothing is to be made durable."""
    if partition.failure is not None:
        return None
    if partition.log_end == partition.durable.offset and not partition.segments_only:
        return None
    files = len(partition.unsynced_segments)
    if partition.unsynced_names:
        files += 1  # names cost about as much as another file
    # what a settling has taken is not durable yet: `unsynced_bytes` does not count it
    size = sum(run.length for run in runs_of(partition)) if partition.segments else 0
    return PendingBytes(size, files, partition.segments_only)


def runs_of(partition: LocalPartition) -> list[Run]:
    """What stands between the durable end and the log end, by segment."""
    place, last = partition.durable, partition.segments[-1]
    if last is place.segment:
        return [Run(last, place.position, last.size - place.position, place.offset, last.next_offset)]
    at = max(0, bisect_right(partition.bases, place.offset) - 1)
    runs: list[Run] = []
    for segment in partition.segments[at:]:
        same = segment is place.segment
        position, base = (place.position, place.offset) if same else (0, segment.base_offset)
        if segment.size > position:
            runs.append(Run(segment, position, segment.size - position, base, segment.next_offset))
    return runs


def begin_journal(partition: LocalPartition) -> Pending:
    partition.committing = True
    pending = Pending(partition, Way.JOURNAL, _end(partition), partition.leader_epoch)
    pending.bytes, pending.messages = partition.unsynced_bytes, partition.unsynced_messages
    partition.unsynced_bytes = partition.unsynced_messages = 0
    return pending


def begin_segments(partition: LocalPartition) -> Pending:
    """Of all that is not synced in the partition's segments. The files stay open until `end`. Raises OSError where one
    cannot be opened."""
    pending = _syncs(partition, Way.SEGMENTS)
    partition.committing = True
    return _taken(pending)


def begin_settling(partition: LocalPartition) -> Pending | None:
    """The same beside the commits: no one waits for it. None: not now, it fails or is being synced. Raises OSError."""
    if partition.failure is not None or partition.syncing:
        return None
    return _taken(_syncs(partition, Way.SETTLING))


def _end(partition: LocalPartition) -> Place:
    if not partition.segments:
        return Place(partition.log_end, None, 0)
    last = partition.segments[-1]
    return Place(partition.log_end, last, last.size)


def _taken(pending: Pending) -> Pending:
    partition = pending.partition
    pending.bytes, pending.messages = partition.unsynced_bytes, partition.unsynced_messages
    partition.unsynced_bytes = partition.unsynced_messages = 0
    return pending


def _syncs(partition: LocalPartition, way: Way) -> Pending:
    assert not partition.syncing, partition
    descriptors = partition.world.descriptors
    # of what has left the log nothing has to stay
    segments = [segment for segment in partition.unsynced_segments if not segment.doomed]
    files: list[File] = []
    try:
        for segment in segments:
            files.append(descriptors.borrow(segment))
    except OSError:
        for segment in segments[: len(files)]:
            descriptors.give_back(segment)
        raise
    for segment in segments:
        segment.unsynced = False
    made: list[str] = []
    directories: list[str] = []
    if partition.unsynced_names:
        directories.append(partition.directory)
        if partition.unsynced_names > 1:
            made = [f"{partition.directory}/{name}" for name in (names.PARTITION_METADATA, names.LEADER_EPOCHS)]
            directories.append(os.path.dirname(partition.directory))
    partition.unsynced_names = 0
    partition.unsynced_segments = []
    partition.segments_only = bool(partition.segments) and partition.segments[-1].overhang
    partition.syncing = True
    return Pending(
        partition=partition,
        way=way,
        place=_end(partition),
        leader_epoch=partition.leader_epoch,
        files=files,
        segments=segments,
        names=made,
        directories=directories,
    )


def sync_or_distrust(file: File) -> None:
    """On a thread. Raises OSError. The pages of a failed sync count as clean and are not on the disk: unless they leave
    memory whoever reads them next, the next start too, takes them for synced, and its own sync says nothing."""
    try:
        file.sync()
    except OSError:
        with suppress(OSError):  # it is only advice; the partition is cut all the same
            file.advise_dontneed(0, file.size())
        raise


def sync_pending(files: Files, share: Sequence[Pending]) -> None:
    """On a thread: syncs what each holds, content before names. An error stays with its own partition."""
    for pending in share:
        try:
            for file in pending.files:
                sync_or_distrust(file)
            for path in pending.names:
                try:
                    file = files.open(path)
                except FileNotFoundError:
                    continue  # a start writes no leader epochs where it finds no record
                try:
                    sync_or_distrust(file)
                finally:
                    file.close()
            for path in pending.directories:
                files.sync_directory(path)
        except OSError as error:
            pending.error = error


def end(pending: Pending) -> None:
    """It succeeded. Moves the ends and answers who waited."""
    partition, place = pending.partition, pending.place
    release(pending)
    if not is_current(pending):
        return
    if pending.way is not Way.JOURNAL and place.offset >= partition.synced.offset:
        partition.synced = partition.kept(place)
    if place.offset >= partition.durable.offset:  # else a settling was quicker than the journal
        partition.durable = partition.kept(place)
        if partition.config.durability is Durability.FSYNC and place.offset > partition.high.offset:
            partition.move_high(partition.durable)
        if partition.durable.offset == partition.log_end:  # what the journal gave back meanwhile is durable too
            partition.world.counters.unsynced_bytes -= partition.unsynced_bytes
            partition.unsynced_bytes = partition.unsynced_messages = 0
    partition.answer(place.offset)


def is_current(pending: Pending) -> bool:
    """Whether the partition still is what it was at the beginning."""
    return pending.partition.failure is None and pending.partition.leader_epoch == pending.leader_epoch


def release(pending: Pending) -> None:
    """Whatever came of it."""
    partition = pending.partition
    partition.world.counters.unsynced_bytes -= pending.bytes
    if pending.way is not Way.SETTLING:
        partition.committing = False
    if pending.way is not Way.JOURNAL:
        partition.syncing = False
        for segment in pending.segments:
            partition.world.descriptors.give_back(segment)


def give_back(pending: Pending) -> bool:
    """The journal did not take it: all is as before the commit, and may be asked for again. False: nothing is to be done."""
    assert pending.way is Way.JOURNAL
    partition = pending.partition
    if not is_current(pending) or pending.place.offset <= partition.durable.offset:
        release(pending)
        return False
    partition.committing = False
    partition.unsynced_bytes += pending.bytes
    partition.unsynced_messages += pending.messages
    return True
