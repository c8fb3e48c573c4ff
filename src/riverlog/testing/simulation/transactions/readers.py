"""Readers: what a consumer with `isolation.level=read_committed` makes of fetches, and consumers that read on and on.

Invariant: a reader believes the answer and the batches alone, as Kafka's clients do: the aborted transactions that an answer
names, by their first offsets, and the markers that end them.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import NamedTuple

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import Offset, PartitionId
from riverlog.env.entropy import Entropy
from riverlog.records.batch import check_stored_batch, records_of
from riverlog.records.control import ControlType, parse_marker
from riverlog.records.header import BatchHeader
from riverlog.storage.contract import AbortedTransaction, Fetched, FetchedPartition, Isolation, LogEngine, Read
from riverlog.testing.simulation.model import Violation
from riverlog.testing.simulation.readers import bytes_of, whole_batches
from riverlog.testing.simulation.transactions.ledger import Ledger, Seen


class View(NamedTuple):
    seen: Sequence[Seen]
    next_offset: Offset


async def fetch(engine: LogEngine, partition: PartitionId, offset: Offset, bytes_max: int, isolation: Isolation) -> View:
    """Raises RiverlogError as the answer says, Violation."""
    answer = engine.read([Read(partition, offset, bytes_max)], bytes_max, isolation)
    fetched: Fetched = await answer if inspect.isawaitable(answer) else answer
    try:
        (one,) = fetched.partitions
        if one.error is not None:
            raise one.error
        return view(partition, one, offset, isolation)
    finally:
        fetched.close()


def view(partition: PartitionId, fetched: FetchedPartition, offset: Offset, isolation: Isolation) -> View:
    """The records that a consumer at `offset` is given, and where it goes on."""
    seen: list[Seen] = []
    at = offset
    waiting = sorted(fetched.aborted or (), key=lambda one: (one.first_offset, one.producer_id))
    aborted: set[int] = set()
    for header, batch in whole_batches(bytes_of(fetched)):
        check_stored_batch(batch, header)
        if header.last_offset < at:
            raise Violation("order", f"{partition}: a batch up to {header.last_offset} where {at} is next")
        check_bounds(partition, header, fetched, isolation)
        if isolation is Isolation.READ_COMMITTED:
            hear_of_aborted(waiting, aborted, header)
        if header.is_control:
            for record in records_of(batch, header):
                if parse_marker(record.key, record.value).type is ControlType.ABORT:
                    aborted.discard(header.producer_id)
        elif not (header.is_transactional and header.producer_id in aborted):
            for record in records_of(batch, header):
                assert record.value is not None
                if record.offset >= at:
                    seen.append(Seen(record.offset, record.value.decode()))
        at = Offset(header.next_offset)
    return View(seen, at)


def check_bounds(
    partition: PartitionId, header: BatchHeader, fetched: FetchedPartition, isolation: Isolation
) -> None:
    committed = isolation is Isolation.READ_COMMITTED
    end = fetched.last_stable_offset if committed else fetched.high_watermark
    if header.last_offset >= end:
        raise Violation("early", f"{partition}: {header.last_offset} was given at {end}")


def hear_of_aborted(waiting: list[AbortedTransaction], aborted: set[int], header: BatchHeader) -> None:
    """Those that have begun by this batch."""
    while waiting and waiting[0].first_offset <= header.last_offset:
        aborted.add(waiting.pop(0).producer_id)


async def read_all(engine: LogEngine, partition: PartitionId, bytes_max: int) -> Sequence[Seen]:
    """All that is committed, as a fresh consumer gets it."""
    marks = engine.watermarks(partition)
    seen: list[Seen] = []
    at = marks.log_start
    while at < marks.last_stable_offset:
        part = await fetch(engine, partition, at, bytes_max, Isolation.READ_COMMITTED)
        if part.next_offset <= at:
            raise Violation("unreadable", f"{partition}: nothing at {at} of {marks}")
        seen.extend(part.seen)
        at = part.next_offset
    return seen


class Reader:
    """Reads one partition to its end and on, over all lives of the machine, and remembers what it was given."""

    def __init__(self, partition: PartitionId, isolation: Isolation, ledger: Ledger) -> None:
        self.partition = partition
        self.isolation = isolation
        self.position = Offset(0)
        self.seen: list[Seen] = []
        self._ledger = ledger

    async def read(self, engine: LogEngine, entropy: Entropy) -> str:
        """One fetch. Gives what became of it, for the trace."""
        before = self.position
        try:
            part = await fetch(engine, self.partition, before, (100, 1000, 100_000)[entropy.below(3)], self.isolation)
        except RiverlogError as error:
            if error.kind not in (ErrorKind.STORAGE, ErrorKind.UNKNOWN_TOPIC):
                raise Violation("error", f"{self.partition} at {before}: {error.kind.name} {error.message}") from error
            return f"reader refused {error.kind.name}"
        tell = self._ledger.visible if self.isolation is Isolation.READ_COMMITTED else self._ledger.appeared
        for offset, value in part.seen:
            tell(self.partition, offset, value)
        self.seen.extend(part.seen)
        self.position = part.next_offset
        return f"reader {self.isolation.name} {before} to {part.next_offset}: {len(part.seen)}"

    def check(self, all_seen: Sequence[Seen]) -> None:
        """What a fresh reader gets in the end is what this one was given, as far as it has come."""
        if self.isolation is Isolation.READ_COMMITTED:
            expected = [one for one in all_seen if one.offset < self.position]
            if expected != self.seen:
                odd = sorted(set(expected) ^ set(self.seen))
                raise Violation("unstable", f"{self.partition}: a reader at {self.position} was given otherwise: {odd}")
