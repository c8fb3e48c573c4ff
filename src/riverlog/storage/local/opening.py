"""Taking a data directory: lock, metadata, checkpoint, every partition that the catalog names.

Invariants: `starts` in meta.json, a checkpoint that is no longer clean and the raised leader epochs are durable before the
first append; a directory that the catalog does not know is moved to orphans/, never deleted.
Not here: what is wrong inside a partition's directory (`recovery.py`).
"""

from __future__ import annotations

import asyncio
import logging
import os
from base64 import urlsafe_b64encode
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import LeaderEpoch, PartitionId, TopicId
from riverlog.env.entropy import Entropy
from riverlog.env.files import FileLock, Files, Locked, replace_file
from riverlog.storage.contract import TopicLog
from riverlog.storage.format import checkpoint, lock, meta, names, partition_metadata
from riverlog.storage.format.checkpoint import Checkpoint, PartitionMark
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.meta import Meta
from riverlog.storage.local import clean_start
from riverlog.storage.local.commit_plan import share_work
from riverlog.storage.local.journal import Journal
from riverlog.storage.local.marks import empty_mark
from riverlog.storage.local.partition import LocalPartition
from riverlog.storage.local.recovery import Recovered, recover
from riverlog.storage.local.replay import JournalRead, keep_or_begin, read_journal
from riverlog.storage.local.settings import LocalSettings

if TYPE_CHECKING:
    from riverlog.storage.local.engine import LocalEngine

log = logging.getLogger(__name__)

FROM_ITS_MARK: Final = Recovered()


def take(files: Files, directory: str) -> FileLock:
    """Makes the directory if it is not there, and locks it. Raises RiverlogError that names who has it."""
    make_durable_directory(files, directory)
    path = f"{directory}/{names.LOCK}"
    try:
        held = files.lock(path)
    except Locked as locked:
        try:
            content = lock.decode(locked.content)
            where = ", ".join(f"{name} on {address}" for name, address in content.addresses.items())
            who = f"process {content.pid}" + (f" ({where})" if where else "")
        except FormatError:
            who = "another process"
        raise RiverlogError(
            ErrorKind.STORAGE,
            f"{directory} is in use by {who}: use that one, stop it first, or give another directory",
        ) from None
    held.write(lock.encode(lock.LockContent(os.getpid(), {})))
    return held


def make_durable_directory(files: Files, path: str) -> None:
    """Makes a directory and its parents; the names that were made are synced."""
    fresh: list[str] = []
    above = path
    while above and not files.exists(above):
        above = os.path.dirname(above)
        fresh.append(above or ".")
    files.make_directory(path)
    for parent in reversed(fresh):
        files.sync_directory(parent)
    if not fresh:
        with suppress(PermissionError):  # who made it may have been killed before its name was synced
            files.sync_directory(os.path.dirname(path) or ".")


def read_meta(files: Files, directory: str, settings: LocalSettings, entropy: Entropy) -> Meta:
    """The metadata of this start: `starts` is one more than before, durably."""
    path = f"{directory}/{names.META}"
    if files.exists(path):
        try:
            found = meta.decode(files.read(path))
        except FormatError as error:
            raise error.at(path) from None
    else:
        made_up = urlsafe_b64encode(entropy.token_bytes(16)).rstrip(b"=").decode("ascii")
        found = Meta(settings.cluster_id or made_up, settings.node_id, 0)
    found = found._replace(starts=found.starts + 1)
    replace_file(files, path, meta.encode(found))
    return found


def read_checkpoint(files: Files, directory: str) -> Checkpoint | None:
    """None: there is none, or it is damaged: then everything is read."""
    path = f"{directory}/{names.CHECKPOINT}"
    try:
        return checkpoint.decode(files.read(path))
    except FileNotFoundError:
        return None
    except FormatError as error:
        log.error("%s; every segment is read and checked instead", error.at(path).message)
        return None


async def open_all(engine: LocalEngine, topics: Sequence[TopicLog]) -> None:
    """Recovers what the catalog names, puts aside what it does not, and makes the new leader epochs durable."""
    files = engine.files
    found = read_checkpoint(files, engine.directory)
    new = not files.exists(engine.topics_directory)
    files.make_directory(engine.topics_directory)
    clean = found.clean if found is not None else new
    marks = {mark.partition: mark for mark in found.partitions} if found is not None else {}
    engine.checkpoints.generation = found.generation if found is not None else 0
    partitions: dict[str, LocalPartition] = {}
    for topic in topics:
        engine.topics[topic.topic_id] = topic
        for index in range(topic.partition_count):
            partition = LocalPartition(engine.world, topic, index, engine.topics_directory)
            engine.partitions[partition.id] = partition
            partitions[partition.name] = partition
    trusted = marks if clean else {}
    begun = {mark.partition for mark in marks.values() if mark.recovery_offset > 0} if found is not None else None
    there = sort_directories(engine, partitions, trusted, begun)
    refuse_vanished(engine, there, marks)
    if found is not None and not clean:  # what it does not name was made after it, and begins at 0
        marks = {partition.id: empty_mark(partition) for partition in there} | marks
    journal = JournalRead() if clean else await engine.readers.run(partial(read_journal, files, engine.directory))
    there += make_missing(engine, journal)
    recovered = await fill_all(engine, there, marks, clean, journal)
    if not clean:
        files.sync_directory(engine.topics_directory)  # a killed process may have left names that no commit has synced
    raise_epochs(engine.partitions.values(), marks, recovered, clean)
    await engine.checkpoints.write_first(marks)
    await begin_journal(engine, journal)
    if clean:
        engine.tasks.start(clean_start.tidy(engine, there), name="removal of what retention left")


def sort_directories(
    engine: LocalEngine,
    partitions: Mapping[str, LocalPartition],
    trusted: Container[PartitionId],
    begun: Container[PartitionId] | None,
) -> list[LocalPartition]:
    """The partitions that have a directory. Other directories are moved to orphans/, those of deleted topics removed.
    `trusted`: whose directories a clean stop left behind. `begun`: of whose records a checkpoint tells; None: no
    checkpoint is there."""
    files = engine.files
    there: list[LocalPartition] = []
    for name in files.list(engine.topics_directory):
        path = f"{engine.topics_directory}/{name}"
        if names.parse_deleted_directory_name(name) is not None:
            engine.upkeep.remove_directory(path)
        elif (partition := partitions.get(name)) is not None and (
            partition.id in trusted or is_of(files, path, partition.id.topic_id, begun is None or partition.id in begun)
        ):
            there.append(partition)
        else:
            orphan(engine, name)
    return there


def refuse_vanished(
    engine: LocalEngine, there: Sequence[LocalPartition], marks: Mapping[PartitionId, PartitionMark]
) -> None:
    """A partition that had records at the last checkpoint and has no directory now: to begin anew at offset 0 would
    give old offsets to new records. It stays offline."""
    known = {partition.id for partition in there}
    for partition in engine.partitions.values():
        mark = marks.get(partition.id)
        if mark is not None and mark.recovery_offset > 0 and partition.id not in known:
            partition.failure = RiverlogError(
                ErrorKind.STORAGE,
                f"{partition.name} is offline: {partition.directory} is gone, it held offsets up to "
                f"{mark.recovery_offset}: put it back and start again, or delete the topic",
            )
            log.error("%s", partition.failure.message)


def is_of(files: Files, path: str, topic_id: TopicId, begun: bool) -> bool:
    """Whether a partition's directory is of that topic. Metadata is synced before, or with, the first record: where a
    crash left none, or half of it, no record was ever synced there, and those that are may be of a deleted topic whose
    directory kept its name. `begun`: the topic's own records were, or nobody knows: then bad metadata is damage."""
    try:
        return partition_metadata.decode(files.read(f"{path}/{names.PARTITION_METADATA}")) == topic_id
    except (FileNotFoundError, FormatError):
        return begun or not has_records(files, path)


def has_records(files: Files, path: str) -> bool:
    for name in files.list(path):
        parsed = names.parse_segment_file_name(name)
        if parsed is not None and parsed.suffix == names.LOG and files.size(f"{path}/{name}"):
            return True
    return False


def orphan(engine: LocalEngine, name: str) -> None:
    """Moves a directory out of the way, and says so."""
    files = engine.files
    orphans = f"{engine.directory}/{names.ORPHANS}"
    files.make_directory(orphans)
    target = f"{orphans}/{name}"
    if files.exists(target):
        target = f"{target}.{engine.clock.now_ms()}"
    files.rename(f"{engine.topics_directory}/{name}", target)
    files.sync_directory(orphans)
    files.sync_directory(engine.topics_directory)
    engine.counters.orphans += 1
    log.warning("%s/%s is of no topic that is known: moved to %s", engine.topics_directory, name, target)


def make_missing(engine: LocalEngine, journal: JournalRead) -> list[LocalPartition]:
    """Partitions without a directory whose beginning the journal has: a commit was durable before their names were."""
    return [
        partition
        for partition in engine.partitions.values()
        if not partition.made
        and partition.failure is None
        and not engine.files.exists(partition.directory)
        and journal.begins_at_zero(partition.id)
    ]


async def begin_journal(engine: LocalEngine, read: JournalRead) -> None:
    """A new generation: what was replayed counts no more. What a partition needs that is offline is kept."""
    settings, maintenance = engine.settings, engine.maintenance
    offline = {one.id: one.name for one in engine.partitions.values() if one.failure is not None}
    kept = read.needed(offline)
    if kept:
        named = [name for one, name in offline.items() if one in read.found or one in read.lost]
        log.warning("the journal is kept for %s, which cannot be opened now", ", ".join(named[:10]))
    await maintenance.run(partial(keep_or_begin, engine.files, engine.directory, engine.starts, kept))
    journal = Journal(
        engine.files,
        engine.directory,
        engine.commit.settling,
        engine.counters,
        generation=engine.starts << 32 | int.from_bytes(engine.world.entropy.token_bytes(4), "big"),
        bytes_max=settings.journal_bytes_max,
        cover_max=max(1, engine.descriptors.limit // 4),
    )
    await maintenance.run(journal.begin)
    engine.commit.journal = journal
    engine.commit.files_at_once_max = max(1, engine.descriptors.limit // 4)
    engine.commit.journal_files_min = settings.journal_files_min if settings.journal_bytes_max else 0


async def fill_all(
    engine: LocalEngine,
    partitions: Sequence[LocalPartition],
    marks: Mapping[PartitionId, PartitionMark],
    clean: bool,
    journal: JournalRead,
) -> dict[PartitionId, Recovered]:
    """From the mark alone where the stop was a clean one, else by recovery; on the reading threads. A partition that the
    disk refuses to read stays offline."""

    def work(share: range) -> list[tuple[PartitionId, Recovered]]:
        answers: list[tuple[PartitionId, Recovered]] = []
        for partition in partitions[share.start : share.stop]:
            mark = marks.get(partition.id)
            try:
                if clean and mark is not None and clean_start.start_clean(partition, mark):
                    answers.append((partition.id, FROM_ITS_MARK))
                else:
                    answers.append((partition.id, recover(partition, mark, clean, journal)))
            except OSError as error:
                partition.failure = RiverlogError(
                    ErrorKind.STORAGE, f"{partition.name} is offline: {error}; repair the disk and start again"
                )
                log.error("%s", partition.failure.message)
                answers.append((partition.id, Recovered(clean=False)))
        return answers

    shares = share_work(len(partitions), engine.settings.read_threads)
    done = await asyncio.gather(*(engine.readers.run(partial(work, share)) for share in shares))
    recovered = {partition_id: one for share in done for partition_id, one in share}
    counters = engine.counters
    for one in recovered.values():
        counters.recovered_partitions += not one.clean
        counters.recovered_bytes += one.scanned_bytes
        counters.cut_bytes += one.cut_bytes
        counters.replayed_bytes += one.replayed_bytes
    counters.offline_partitions = sum(partition.failure is not None for partition in engine.partitions.values())
    return recovered


def raise_epochs(
    partitions: Iterable[LocalPartition],
    marks: Mapping[PartitionId, PartitionMark],
    recovered: Mapping[PartitionId, Recovered],
    clean: bool,
) -> None:
    """After a clean stop the leader epoch goes on; else it is one above all that was ever seen. The first checkpoint
    makes that durable."""
    for partition in partitions:
        mark, one = marks.get(partition.id), recovered.get(partition.id)
        known = max(partition.epochs.latest, mark.leader_epoch if mark is not None else 0, 0)
        kept = clean and (one is None or one.clean)
        partition.leader_epoch = LeaderEpoch(known if kept else known + 1)
        if partition.made and partition.failure is None:
            raised = partition.epochs.assign(partition.leader_epoch, partition.log_end)
            partition.unsaved_epochs = raised and not mark_tells(partition, mark, one)


def mark_tells(partition: LocalPartition, mark: PartitionMark | None, one: Recovered | None) -> bool:
    """Whether the new epoch in the partition's mark is enough for the next start: nothing lies behind the mark, so the
    epoch begins where it ends. The file is written once the mark moves, because its checksum is another one then."""
    return (
        mark is not None
        and one is not None
        and not (one.scanned_bytes or one.cut_bytes or one.replayed_bytes)
        and mark.file_checksums.epochs is not None
        and (mark.recovery_offset, mark.log_start) == (partition.log_end, partition.log_start)
    )


async def open_topic(engine: LocalEngine, topic: TopicLog) -> None:
    """Files are made with a partition's first batch. A directory of that name that is there already is not ours."""
    async with engine.upkeep.removal.moving:  # a deleted topic's directories of that name may still be moving
        if (known := engine.topics.get(topic.topic_id)) is not None and known.partition_count >= topic.partition_count:
            engine.configure(topic.topic_id, topic.config)
            return
        for index in range(known.partition_count if known is not None else 0, topic.partition_count):
            partition = LocalPartition(engine.world, topic, index, engine.topics_directory)
            if engine.files.exists(partition.directory):
                orphan(engine, partition.name)
            engine.partitions[partition.id] = partition
        engine.topics[topic.topic_id] = topic
        if known is not None:
            engine.configure(topic.topic_id, topic.config)
