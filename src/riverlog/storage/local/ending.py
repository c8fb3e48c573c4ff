"""How transactions end in this engine: a control batch for each partition, appended like any other batch.

Invariants: a marker takes its place at the call, and all markers of a call are one group commit; none is answered before it is
synced, whatever the topic's durability, since nobody writes it again after that: a log that lost it, and not the records
before it, would hold back its readers for ever. It goes through
`LocalPartition.append`, so that nothing about rolling, failed writes and the books is different for it. What was aborted is known
in the same turn of the loop in which its marker may become visible.
Not here: who decides (a coordinator), what a marker changes (`state/producers.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING

from riverlog.base.errors import RiverlogError
from riverlog.records.builder import end_marker
from riverlog.records.control import ControlType
from riverlog.records.header import read_header
from riverlog.storage.answers import unknown
from riverlog.storage.contract import Appended, EndMarker, Refused
from riverlog.storage.format.txn_index import AbortedEntry
from riverlog.storage.local.group_commit import Lane
from riverlog.storage.local.partition import LocalPartition
from riverlog.storage.local.transactions import transactions_of
from riverlog.storage.local.waiting import AppendWaiter

if TYPE_CHECKING:
    from riverlog.storage.local.engine import LocalEngine


def end_transactions(
    engine: LocalEngine, loop: asyncio.AbstractEventLoop, markers: Sequence[EndMarker]
) -> Awaitable[Sequence[Appended | Refused]]:
    now_ms = engine.clock.now_ms()
    answers: list[Appended | Refused] = []
    waiter = AppendWaiter(loop, answers)
    waiter.missing = 1  # until all have their places
    for at, marker in enumerate(markers):
        if (partition := engine.partitions.get(marker.partition)) is None:
            answers.append(Refused(unknown(marker.partition.topic_id)))
            continue
        answer = end_transaction(partition, marker, now_ms)
        answers.append(answer)
        if isinstance(answer, Refused):
            engine.counters.refused_batches += 1
        elif partition.durable.offset < answer.next_offset:
            waiter.missing += 1
            partition.wait(answer.next_offset, waiter, at)
            engine.commit.dirty(partition, Lane.AWAITED)
    waiter.reached(-1)
    return waiter.future


def end_transaction(partition: LocalPartition, marker: EndMarker, now_ms: int) -> Appended | Refused:
    """Writes the marker at the log end. Refuses as `LocalPartition.append` does, and what `Producers.check_marker` says."""
    if partition.failure is not None:
        return Refused(partition.failure, partition.log_start)
    producers = partition.producers
    _, producer_id, epoch, committed, coordinator_epoch = marker
    verdict = producers.check_marker(producer_id, epoch, coordinator_epoch)
    if isinstance(verdict, RiverlogError):
        return Refused(verdict, partition.log_start)
    if not verdict:
        return Appended(partition.log_end, partition.log_end, partition.log_start, True)
    batch = end_marker(
        ControlType.COMMIT if committed else ControlType.ABORT,
        producer_id=producer_id,
        producer_epoch=epoch,
        coordinator_epoch=coordinator_epoch,
        timestamp_ms=now_ms,
    )
    producers.last_stable_offset(partition.high.offset)  # those whose markers are visible by now need not be remembered
    before = producers.get(producer_id)
    answer = partition.append(batch, read_header(batch), now_ms)
    if isinstance(answer, Refused):
        return answer
    producers.note_coordinator(producer_id, coordinator_epoch)
    if not committed and before is not None and before.transaction_first_offset >= 0:
        stable = producers.first_open_or(answer.next_offset)
        entry = AbortedEntry(producer_id, before.transaction_first_offset, answer.base_offset, stable)
        transactions_of(partition).aborted.add(entry)
        partition.segments[-1].aborted += 1
    return answer
