"""After a failed sync: a partition is cut back to the end of its last successful commit, and goes on.

Invariants: nothing that the page cache holds behind that end is believed, nor what it holds before it that is durable by
the journal alone: that is written again, from the journal, and synced. The leader epoch rises, durably, before the
partition takes a batch again. Where the disk fails this too, the partition is offline until the next start.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import LeaderEpoch, Offset
from riverlog.env.files import Files, replace_file, write_whole
from riverlog.records.checksum import crc32c
from riverlog.storage.format import names
from riverlog.storage.local.committing import Pending, release, sync_or_distrust
from riverlog.storage.local.partition import LocalPartition
from riverlog.storage.local.recovery import recover
from riverlog.storage.local.replay import Found, read_journal

if TYPE_CHECKING:
    from riverlog.storage.local.engine import LocalEngine

log = logging.getLogger(__name__)


def sync_failed(engine: LocalEngine, pending: Pending) -> None:
    """The page cache is not believed any more: the partition takes nothing until it is cut back."""
    partition = pending.partition
    error = pending.error
    engine.counters.failed_syncs += 1
    release(pending)
    engine.counters.unsynced_bytes -= partition.unsynced_bytes
    partition.unsynced_bytes = 0
    if partition.failure is not None:
        return
    partition.failure = RiverlogError(
        ErrorKind.STORAGE,
        f"{partition.name} could not be synced ({error}); it is cut back to {partition.durable.offset}",
    )
    log.error("%s", partition.failure.message)
    partition.fail_waiters(partition.failure)
    engine.commit.forget(partition)
    engine.commit.settling.failed(partition, partition.failure)
    engine.tasks.start(cut_back(engine, partition), name=f"cut back {partition.name}")


async def cut_back(engine: LocalEngine, partition: LocalPartition) -> None:
    """To the end of the last successful commit, on disk first; then everything else is read again from there."""
    async with engine.checkpoints.busy:
        if engine.partitions.get(partition.id) is not partition:
            return
        done = engine.compacting.swapping[partition.id] = asyncio.get_running_loop().create_future()
        try:  # until it is over its directory keeps its name
            cut = await _cut_back(engine, partition)
        finally:
            del engine.compacting.swapping[partition.id]
            done.set_result(None)
    if cut:
        engine.commit.settling.reached(partition)
        engine.alarm.moved(partition)


async def _cut_back(engine: LocalEngine, partition: LocalPartition) -> bool:
    """False: it stays offline, or its topic was deleted meanwhile."""
    durable, kept = partition.durable, partition.synced
    base = durable.segment.base_offset if durable.segment is not None else -1
    for segment in partition.segments:
        engine.descriptors.doom(segment)
    topic = engine.topics[partition.id.topic_id]
    fresh = LocalPartition(engine.world, topic, partition.id.index, engine.topics_directory)
    fresh.mark = partition.mark
    epoch = LeaderEpoch(partition.leader_epoch + 1)
    try:
        journal = await engine.readers.run(partial(read_journal, engine.files, engine.directory))
        found = [one for one in journal.of(partition.id) if is_of_this_log(one, partition, kept.offset)]
        work = partial(restore, engine.files, partition.directory, kept.offset, durable.offset, found)
        restored = await engine.readers.run(work)
        work_on_cut = partial(cut_files, engine.files, partition.directory, base, durable.position, restored)
        await engine.readers.run(work_on_cut)
        mark = partition.mark
        if mark is not None:  # it may be ahead of the file, by which the next start goes: nothing is removed by it
            durable_start = engine.checkpoints.log_starts.get(partition.id, Offset(0))
            mark = mark._replace(log_start=min(mark.log_start, durable_start))
        await engine.readers.run(partial(recover, fresh, mark, False))
        if fresh.failure is not None:
            raise OSError(fresh.failure.message)
        if fresh.log_end < durable.offset:
            raise OSError(f"it ends at {fresh.log_end}, and was durable up to {durable.offset}")
        fresh.epochs.assign(epoch, fresh.log_end)
        path = f"{partition.directory}/{names.LEADER_EPOCHS}"
        await engine.readers.run(partial(replace_file, engine.files, path, fresh.epochs.encode()))
    except (OSError, RiverlogError) as error:
        if engine.partitions.get(partition.id) is not partition:
            return False
        message = f"{partition.name} is offline: {error}; repair the disk and start again"
        partition.failure = RiverlogError(ErrorKind.STORAGE, message)
        engine.counters.offline_partitions += 1
        log.error("%s", message)
        return False
    if engine.partitions.get(partition.id) is not partition:
        return False
    partition.adopt(fresh, epoch)
    log.warning("%s was cut back to %d and goes on with leader epoch %d", partition.name, partition.log_end, epoch)
    return True


def is_of_this_log(found: Found, partition: LocalPartition, start: Offset) -> bool:
    """Not of a commit that failed, and was cut back, in an older leader epoch: other records have its offsets now."""
    entry = found.entry
    return entry.leader_epoch >= partition.epochs.epoch_of(max(start, entry.base_offset))


# On a thread


def restore(files: Files, directory: str, start: Offset, end: Offset, found: Sequence[Found]) -> list[Offset]:
    """Writes what is durable by the journal alone, `start` to `end`, over what the page cache has of it: whoever reads there
    sees the same bytes, and a sync is about these. Gives the segments. Raises OSError, also where it is not all there."""
    touched: dict[Offset, None] = {}
    at = start
    for entry, path, position, _ in found:
        if entry.next_offset <= at or entry.base_offset >= end:
            continue
        data = read_part(files, path, entry.length, position)
        if entry.base_offset > at:
            break
        if entry.next_offset > end or crc32c(data) != entry.crc:
            continue  # of a commit that failed
        file = files.open(f"{directory}/{names.segment_file_name(entry.segment, names.LOG)}", create=True)
        try:
            write_whole(file, data, entry.position)
        finally:
            file.close()
        touched[entry.segment] = None
        at = entry.next_offset
    if at < end:
        raise OSError(errno.EIO, f"the journal does not have offset {at}, which is durable by it alone", directory)
    return list(touched)


def cut_files(files: Files, directory: str, base_offset: int, position: int, touched: Sequence[Offset] = ()) -> None:
    """Makes a partition's files end at that byte of that segment (-1: no segment stays), durably, and what was touched
    before it. Raises OSError."""
    for name in files.list(directory):
        parsed = names.parse_segment_file_name(name)
        if (
            parsed is not None
            and parsed.suffix == names.LOG
            and not parsed.deleted
            and parsed.base_offset > base_offset
        ):
            files.remove(f"{directory}/{name}")
    if base_offset >= 0:
        file = files.open(f"{directory}/{names.segment_file_name(Offset(base_offset), names.LOG)}")
        try:
            file.truncate(position)
            sync_or_distrust(file)
        finally:
            file.close()
    for other in touched:
        if other < base_offset:
            sync_file(files, f"{directory}/{names.segment_file_name(other, names.LOG)}")
    files.sync_directory(directory)
    files.sync_directory(os.path.dirname(directory))  # perhaps its name was never synced


def read_part(files: Files, path: str, count: int, position: int) -> bytes:
    file = files.open(path, writable=False)
    try:
        return file.read_at(count, position)
    finally:
        file.close()


def sync_file(files: Files, path: str) -> None:
    file = files.open(path)
    try:
        sync_or_distrust(file)
    finally:
        file.close()
