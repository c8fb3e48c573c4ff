"""What clients know of a partition, and what may therefore be asked of it: the checker.

A record is known once somebody was told of it: its producer by an acknowledgement, a reader by reading it. What is known is
held with a promise: against a loss of power (acknowledged with acks=all, or visible, where the topic asks for fsync; all that a
start has recovered), or against `kill -9` alone. Each record's value says who sent it and as which of his: so whatever is read
tells by itself whether it belongs there, comes in the order of its sender, and comes once.

Invariant: nothing here asks the engine; `Violation` is raised where a promise is broken, with what was promised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from riverlog.base.ids import PartitionId
from riverlog.base.units import INT64_MAX
from riverlog.storage.contract import Durability, LogConfig, Watermarks


class Violation(AssertionError):
    """A promise was broken. `kind` is what canaries are asked for."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(f"{kind}: {what}")
        self.kind = kind


class Promise(IntEnum):
    """What a known record survives."""

    NOTHING = 0  # its topic lost it by right
    KILL = 1
    POWER = 2


class Known(NamedTuple):
    value: str
    key: bytes | None
    tombstone: bool
    promise: Promise


class Sent(NamedTuple):
    """A record as it was sent."""

    sender: str
    number: int
    key: bytes | None
    tombstone: bool


class Seen(NamedTuple):
    """A record as it was read."""

    offset: int
    value: str
    key: bytes | None
    tombstone: bool


class PartitionModel:
    """Of one partition of one topic id."""

    def __init__(self, id: PartitionId, config: LogConfig) -> None:
        self.id = id
        self.known: dict[int, Known] = {}
        self.sent: dict[str, Sent] = {}
        self.start_asked = 0  # the highest that anybody asked `delete_before` for
        self.start_told = 0  # the highest that it was answered with
        self.high_told = 0  # within this life
        self.epoch = -1  # of the last life that served
        self.damaged = False  # bits were flipped: errors are right, wrong records are not
        self.retained = False  # retention may have taken any prefix, once
        self.compacted = False  # compaction may have taken what has a later record of its key
        self.weak = False  # durability was page-cache, once: a loss of power may take what was visible
        self.lossy = False  # something acknowledged was lost by right: its producers begin a new epoch
        self.unsafe_below = 0  # visible while it was page-cache, and not certainly synced since
        self.committed = 0  # the highest offset that a group has committed
        self.configure(config)

    def configure(self, config: LogConfig) -> None:
        self.fsync = config.durability is Durability.FSYNC
        self.weak = self.weak or not self.fsync
        deletes = config.cleanup_delete and (config.retention_ms >= 0 or config.retention_bytes >= 0)
        self.retained = self.retained or deletes
        self.compacted = self.compacted or config.cleanup_compact

    # What clients hear

    def send(self, value: str, sent: Sent) -> None:
        self.sent[value] = sent

    def acknowledged(self, base_offset: int, values: Sequence[str], *, all_acks: bool) -> None:
        promise = Promise.POWER if all_acks and self.fsync else Promise.KILL
        for at, value in enumerate(values):
            sent = self.sent[value]
            self._know(Seen(base_offset + at, value, sent.key, sent.tombstone), promise, "acknowledged")

    def read(self, records: Sequence[Seen], expected: int, next_offset: int) -> None:
        """Whole batches that a reader got, from `expected` on; they end before `next_offset`."""
        for seen in records:
            strong = self.fsync and seen.offset >= self.unsafe_below
            self._know(seen, Promise.POWER if strong else Promise.KILL, "read")
        if not self.compacted and not self.damaged:
            offsets = [seen.offset for seen in records if seen.offset >= expected]
            if offsets != list(range(expected, next_offset)):
                raise Violation("hole", f"{self.id.index}: {offsets} of {expected} to {next_offset}")

    def _know(self, seen: Seen, promise: Promise, how: str) -> None:
        sent = self.sent.get(seen.value)
        if sent is None:
            raise Violation("stranger", f"{self.id}: {seen} was {how}, and never sent here")
        if (sent.key, sent.tombstone) != (seen.key, seen.tombstone):
            raise Violation("changed", f"{self.id}: {seen} was {how}, and {sent} was sent")
        before = self.known.get(seen.offset)
        if before is not None and before.value != seen.value and before.promise > Promise.NOTHING:
            raise Violation("replaced", f"{self.id}: {before} was at {seen.offset}, where {seen.value} was {how}")
        if before is not None and before.value == seen.value:
            promise = max(promise, before.promise)
        self.known[seen.offset] = Known(seen.value, seen.key, seen.tombstone, promise)

    def marks(self, marks: Watermarks) -> None:
        """Within a life nothing goes back, but by a cut, which raises the leader epoch."""
        if marks.high_watermark < self.high_told and marks.leader_epoch == self.epoch:
            raise Violation("watermark", f"{self.id}: {marks} after {self.high_told}")
        if marks.leader_epoch > self.epoch >= 0:
            self.high_told = 0
        if marks.leader_epoch < self.epoch:
            raise Violation("epoch", f"{self.id}: {marks} after epoch {self.epoch}")
        self.epoch = marks.leader_epoch
        self.high_told = max(self.high_told, marks.high_watermark)

    # What breaks promises by right

    def cut(self) -> None:
        """A sync failed: what only the page cache had is cut off."""
        self._demote(Promise.KILL)

    def power_lost(self) -> None:
        self._demote(Promise.KILL)

    def _demote(self, promise: Promise) -> None:
        for offset, known in self.known.items():
            if Promise.NOTHING < known.promise <= promise:
                self.known[offset] = known._replace(promise=Promise.NOTHING)
                self.lossy = True

    # After a start

    def recovered(self, marks: Watermarks, there: Mapping[int, Seen], *, clean: bool) -> None:
        """All that can be read after a start. What nothing was promised of and what is gone is forgotten."""
        if not self.damaged:
            self._check_ends(marks, clean=clean)
            self._check_kept(marks, there)
        self._check_order(there)
        self.known = {
            offset: known for offset, known in self.known.items() if offset in there or self._may_come(offset, marks)
        }
        for seen in there.values():
            self._know(seen, Promise.POWER, "recovered")
        self.unsafe_below = 0
        self.epoch = marks.leader_epoch
        self.high_told = marks.high_watermark

    def forget_behind(self, log_end: int) -> None:
        """Flipped bits behind the last checkpoint are cut off as a torn write would be."""
        if self.damaged:
            self.known = {offset: known for offset, known in self.known.items() if offset < log_end}

    def _may_come(self, offset: int, marks: Watermarks) -> bool:
        return self.damaged and marks.log_start <= offset < marks.log_end

    def _check_ends(self, marks: Watermarks, *, clean: bool) -> None:
        if marks.leader_epoch < self.epoch + (0 if clean else 1):
            raise Violation("epoch", f"{self.id}: {marks} after epoch {self.epoch}, clean={clean}")
        if marks.log_start < self.start_told:
            raise Violation("log start", f"{self.id}: begins at {marks.log_start}, {self.start_told} was answered")
        if marks.log_start > self.start_asked and not self.retained:
            raise Violation("log start", f"{self.id}: begins at {marks.log_start}, {self.start_asked} was asked for")
        if marks.high_watermark != marks.log_end or marks.durable_end != marks.log_end:
            raise Violation("watermark", f"{self.id}: {marks} after a start")
        if self.committed > marks.log_end and not self.weak:
            raise Violation("committed offset", f"{self.id}: {self.committed} is behind the end of {marks}")
        self.committed = min(self.committed, marks.log_end)

    def _check_kept(self, marks: Watermarks, there: Mapping[int, Seen]) -> None:
        last: dict[bytes | None, int] = {}
        for offset, seen in there.items():
            last[seen.key] = max(last.get(seen.key, -1), offset)
        heard = {known.value for known in self.known.values()}
        for offset, known in self.known.items():
            if known.tombstone:  # it takes those before it along, and goes in the end
                last[known.key] = max(last.get(known.key, -1), offset)
        for value, sent in self.sent.items():
            if sent.tombstone and value not in heard:
                last[sent.key] = INT64_MAX  # perhaps it was there
        for offset, known in self.known.items():
            if known.promise is Promise.NOTHING or offset < marks.log_start:
                continue
            if (found := there.get(offset)) is not None:
                if found.value != known.value:
                    raise Violation("replaced", f"{self.id}: {found} where {known} was")
            elif offset >= marks.log_end or not (
                self.compacted and (known.tombstone or last.get(known.key, -1) > offset)
            ):
                raise Violation("lost", f"{self.id}: {known} at {offset} is gone; {marks}")

    def _check_order(self, there: Mapping[int, Seen]) -> None:
        """Each sender's records are in the order that they were sent, none of them twice."""
        numbers: dict[str, int] = {}
        for offset in sorted(there):
            seen = there[offset]
            sent = self.sent.get(seen.value)
            if sent is None:
                raise Violation("stranger", f"{self.id}: {seen} was recovered, and never sent here")
            if sent.number <= numbers.get(sent.sender, -1):
                kind = "duplicate" if sent.number == numbers[sent.sender] else "order"
                raise Violation(kind, f"{self.id}: {seen} comes after number {numbers[sent.sender]} of its sender")
            numbers[sent.sender] = sent.number
