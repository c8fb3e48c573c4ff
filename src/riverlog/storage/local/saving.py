"""What a thread writes before a checkpoint may speak of it: new parts of indexes, producers' snapshots, leader epochs.

Invariants: what is saved is synced when `save_all` returns, but for names in the directories that it gives; nothing that the
last checkpoint speaks of is changed in place. Not here: what is to be saved, and when (`checkpoints.py`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from riverlog.env.files import Files, replace_file, write_file, write_whole
from riverlog.records.checksum import crc32c
from riverlog.state.producers import ProducerEntry
from riverlog.storage.format import names, producer_snapshot
from riverlog.storage.format.checkpoint import PartitionMark
from riverlog.storage.local.partition import LocalPartition
from riverlog.storage.local.segments import Segment

together_min: Final = 64  # partitions that are saved, from which on everything is synced at once


@dataclass(slots=True, kw_only=True)
class Saving:
    """What a thread writes for one partition before a checkpoint may speak of it."""

    partition: LocalPartition
    mark: PartitionMark
    indexes: list[tuple[Segment, str, bytes, int]]  # segment, path, new bytes, where they go
    entries: list[tuple[Segment, int, int, int]]  # how many entries are saved then, of each of the three
    epochs: bytes | None
    producers: list[ProducerEntry]

    @property
    def fresh_epochs_path(self) -> str:
        """Until the loop gives it its name: with the topic's id, because a topic of the same name may have taken the
        directory's path meanwhile."""
        topic_id = self.mark.partition.topic_id.hex()
        return f"{self.partition.directory}/{names.LEADER_EPOCHS}.{topic_id}{names.TEMPORARY}"


def save(files: Files, saving: Saving, *, sync: bool) -> str | None:
    """On a thread. Raises OSError. By paths: where the topic was deleted meanwhile, nothing that is written is of harm to one
    that was made under its name (`_after_deletion`). Not `sync`: the caller syncs everything at once, and then gives the
    snapshot, whose path is returned without its suffix, its name."""
    directory = saving.partition.directory
    fresh: str | None = None
    for _, path, data, position in saving.indexes:
        file = files.open(path, create=True)
        try:
            write_whole(file, data, position)
            file.truncate(position + len(data))
            if sync:
                file.sync()
        finally:
            file.close()
    if saving.producers:
        path = f"{directory}/{names.segment_file_name(saving.mark.recovery_offset, names.SNAPSHOT)}"
        content = producer_snapshot.encode(saving.producers)
        if sync:
            replace_file(files, path, content)
        else:
            fresh = path
            write_file(files, path + names.TEMPORARY, content, sync=False)
        sums = saving.mark.file_checksums._replace(snapshot=crc32c(content))
        saving.mark = saving.mark._replace(file_checksums=sums)
    if saving.epochs is not None:
        write_file(files, saving.fresh_epochs_path, saving.epochs, sync=sync)
    if saving.indexes and sync:
        files.sync_directory(directory)
    return fresh


def sync_directories(files: Files, directories: Sequence[str]) -> None:
    """On a thread. Raises OSError; one that is gone needs nothing."""
    if len(directories) >= together_min and files.sync_all(os.path.dirname(directories[0])):
        return
    for directory in directories:
        try:
            files.sync_directory(directory)
        except FileNotFoundError:
            continue


def save_all(files: Files, directory: str, savings: Sequence[Saving]) -> list[str]:
    """On a thread. Gives the directories in which names are still to be synced. Many are written first and synced at once:
    a sync for each of their files would take a disk minutes. Raises OSError."""
    if len(savings) >= together_min:
        fresh = save_each(files, savings, sync=False)
        if files.sync_all(directory):
            for path in fresh:
                with suppress(FileNotFoundError):  # the directory is gone
                    files.rename(path + names.TEMPORARY, path)
            return [saving.partition.directory for saving in savings]
    save_each(files, savings, sync=True)
    return []


def save_each(files: Files, savings: Sequence[Saving], *, sync: bool) -> list[str]:
    """Gives the snapshots that wait for their names. A directory that a deletion has renamed is no error."""
    fresh: list[str] = []
    for saving in savings:
        if saving.partition.failure is not None:
            continue
        try:
            if (path := save(files, saving, sync=sync)) is not None:
                fresh.append(path)
        except FileNotFoundError:
            if saving.partition.failure is None:
                raise
    return fresh
