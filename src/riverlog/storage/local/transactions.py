"""What one partition knows of transactions beside its producers: where the open ones begin in the files, and which were
aborted.

Invariants: a partition that never had a transaction has none of this. While a transaction holds back the last stable offset,
the place where it begins is known, so that readers of what is committed end there without a look at a disk.
Not here: which transactions are open (`state/producers.py`), how one ends (`ending.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from riverlog.base.ids import Offset
from riverlog.storage.aborted import Aborted
from riverlog.storage.contract import AbortedTransaction
from riverlog.storage.format.txn_index import AbortedEntry

if TYPE_CHECKING:
    from riverlog.state.producers import Producers
    from riverlog.storage.local.partition import LocalPartition, Place
    from riverlog.storage.local.segments import Segment

places_slack: Final = 64  # of transactions that hold nothing back any more, before they are forgotten


class Transactions:
    """Of one partition that has had some."""

    __slots__ = ("aborted", "places")

    def __init__(self) -> None:
        self.aborted = Aborted()
        self.places: dict[int, int] = {}  # first offset -> the position of its batch in its segment

    def began(self, producers: Producers, offset: Offset, position: int) -> None:
        """A batch of a transaction was appended there: perhaps its first."""
        if producers.newest_open == offset:
            self.places[offset] = position
            if len(self.places) > places_slack:
                self._forget(producers)

    def _forget(self, producers: Producers) -> None:
        needed = producers.unstable_offsets()
        if 2 * len(needed) + places_slack <= len(self.places):
            self.places = {offset: position for offset, position in self.places.items() if offset in needed}


def transactions_of(partition: LocalPartition) -> Transactions:
    if (transactions := partition.transactions) is None:
        transactions = partition.transactions = Transactions()
    return transactions


def began(partition: LocalPartition, offset: Offset, position: int) -> None:
    """A batch of a transaction stands at that place, and the producers know it."""
    transactions_of(partition).began(partition.producers, offset, position)


def aborted_of(partition: LocalPartition, segment: Segment) -> list[AbortedEntry]:
    """Those whose markers are in the segment."""
    if partition.transactions is None or not segment.aborted:
        return []
    return partition.transactions.aborted.between(segment.base_offset, segment.next_offset)


def aborted_from(partition: LocalPartition, offset: Offset) -> list[AbortedEntry]:
    """Those whose markers are at that offset or behind it."""
    transactions = partition.transactions
    return transactions.aborted.between(offset, partition.log_end) if transactions is not None else []


def exchange_aborted(partition: LocalPartition, old: Sequence[Segment], entries: Sequence[AbortedEntry]) -> None:
    """Of neighbours, which became others: what is left of theirs."""
    if partition.transactions is not None:
        partition.transactions.aborted.replace(old[0].base_offset, old[-1].next_offset, entries)


# Reading


def stable_end(partition: LocalPartition) -> Place:
    """Where readers of what is committed end: a place like the high watermark."""
    high = partition.high
    stable = partition.stable_offset()
    if stable >= high.offset:
        return high
    transactions = partition.transactions
    segment = partition.segments[partition.segment_at(stable)]
    position = transactions.places.get(stable) if transactions is not None else None
    # no place: everything before it was deleted, so that nobody reads there
    return high._replace(offset=stable, segment=segment, position=position or 0)


def aborted_within(
    partition: LocalPartition, segment: Segment, position: int, offset: Offset, end: Offset
) -> Sequence[AbortedTransaction]:
    """Those that somebody needs to know who is given the segment from the batch with `offset` up to `position`, of what
    is committed up to `end`."""
    transactions = partition.transactions
    if transactions is None or not len(transactions.aborted):
        return ()
    bound = min(segment.next_offset, end)
    if segment.index is not None:
        bound = min(bound, segment.index.offset_behind(position) or bound)
    return transactions.aborted.overlapping(offset, bound)
