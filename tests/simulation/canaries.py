"""Bugs on purpose: each takes one promise out of the engine, so that the simulator can show that it would be seen.

A canary is a function of pytest's monkeypatch; `KINDS` says as what its bug comes to light.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from riverlog.base.ids import Offset, PartitionId
from riverlog.storage.local import group_commit, opening, recovery, segments
from riverlog.storage.local.checkpoints import Checkpoints
from riverlog.storage.local.journal import Journal
from riverlog.storage.local.partition import LocalPartition, Place
from riverlog.storage.local.recovery import Recovery
from riverlog.storage.local.replay import Found, JournalRead
from riverlog.storage.local.upkeep import Upkeep

Canary = Callable[[pytest.MonkeyPatch], None]


def sync_skipped(patch: pytest.MonkeyPatch) -> None:
    """A commit says durable without having synced its segments."""
    patch.setattr(group_commit, "sync_pending", lambda files, share: None)


def journal_sync_skipped(patch: pytest.MonkeyPatch) -> None:
    """A commit says durable without having written its record."""
    patch.setattr(Journal, "write", lambda journal, slot: None)


def watermark_early(patch: pytest.MonkeyPatch) -> None:
    """Readers see what is appended, not what is durable."""
    appended = LocalPartition._appended

    def early(partition: LocalPartition, segment: segments.Segment, *rest: Any) -> None:
        appended(partition, segment, *rest)
        partition.move_high(Place(partition.log_end, segment, segment.size))

    patch.setattr(LocalPartition, "_appended", early)


def journal_of_deleted_topics(patch: pytest.MonkeyPatch) -> None:
    """The journal is replayed by a partition's number, without a look at whose it was."""

    def of(read: JournalRead, partition: PartitionId) -> list[Found]:
        found = [one for id, found in read.found.items() if id.index == partition.index for one in found]
        return sorted(found, key=lambda one: one.entry.base_offset)

    patch.setattr(JournalRead, "of", of)


def duplicates_forgotten(patch: pytest.MonkeyPatch) -> None:
    """After a start nobody knows what producers have sent."""
    finish = Recovery._finish

    def forgetful(run: Recovery) -> None:
        finish(run)
        run.partition.producers.clear(run.partition.log_end)

    patch.setattr(Recovery, "_finish", forgetful)


def torn_batch_kept(patch: pytest.MonkeyPatch) -> None:
    """Recovery looks at headers alone."""
    scan = recovery.scan
    patch.setattr(recovery, "scan", lambda *window, **more: scan(*window, **{**more, "check_crc": False}))


def checkpoint_early(patch: pytest.MonkeyPatch) -> None:
    """A checkpoint speaks of what is not synced yet."""

    async def at_once(checkpoints: Checkpoints, savings: object) -> None:
        pass

    patch.setattr(Checkpoints, "_synced", at_once)


def deleted_records_come_back(patch: pytest.MonkeyPatch) -> None:
    """A deletion is answered, and noted nowhere but in memory."""

    async def forgotten(upkeep: Upkeep, partition: LocalPartition, offset: Offset) -> Offset:
        return partition.high.offset if offset < 0 else offset

    patch.setattr(Upkeep, "delete_before", forgotten)


def epochs_stay(patch: pytest.MonkeyPatch) -> None:
    """After a crash the leader epoch is what it was."""
    raise_epochs = opening.raise_epochs
    patch.setattr(opening, "raise_epochs", lambda *known: raise_epochs(*known[:-1], True))


KINDS: Final[dict[Canary, set[str]]] = {
    sync_skipped: {"lost", "offline"},
    journal_sync_skipped: {"lost", "offline"},
    watermark_early: {"lost", "replaced", "watermark"},
    journal_of_deleted_topics: {"stranger", "offline", "replaced", "duplicate"},
    duplicates_forgotten: {"duplicate", "order"},
    torn_batch_kept: {"corrupt", "unreadable"},
    checkpoint_early: {"offline", "lost", "unreadable"},
    deleted_records_come_back: {"log start"},
    epochs_stay: {"epoch"},
}
