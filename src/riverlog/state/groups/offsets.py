"""The committed offsets of one group: one row a partition, keyed by topic id, so that a topic made again has none.

Every change gives the rows to write; what is in memory is what will be true once they are durable (`effects.py`).
Offsets of open transactions stand beside these (`pending.py`) until their transaction is decided: the partition is
*unstable* until then, and is not expired.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final

from riverlog.base.ids import PartitionId, TopicId
from riverlog.base.units import HOUR_MS
from riverlog.state.groups.commands import CommittedOffset
from riverlog.state.groups.pending import PendingOffsets, RowChanges, TransactionName
from riverlog.state.groups.rows import encode_offset, offset_key

# Offsets of a topic that is not known go after this long, not at once: another process may know it before this one.
unknown_topic_age_ms_max: Final = HOUR_MS


class Offsets:
    def __init__(self) -> None:
        self._committed: dict[PartitionId, CommittedOffset] = {}
        self._keys: dict[PartitionId, str] = {}
        self._pending = PendingOffsets()

    def __len__(self) -> int:
        """0: the group keeps nothing, of open transactions either."""
        return len(self._committed) + len(self._pending)

    def items(self) -> Iterator[tuple[PartitionId, CommittedOffset]]:
        return iter(self._committed.items())

    def load(self, partition: PartitionId, committed: CommittedOffset) -> None:
        self._committed[partition] = committed

    def load_pending(self, key: str, value: bytes) -> None:
        """One row of an open transaction. Raises Corruption."""
        self._pending.load(key, value)

    def fetch(self, partitions: Sequence[PartitionId] | None) -> dict[PartitionId, CommittedOffset]:
        """Those of the partitions that were ever committed; all for None."""
        if partitions is None:
            return dict(self._committed)
        committed = self._committed
        return {partition: committed[partition] for partition in partitions if partition in committed}

    def unstable(self, partitions: Sequence[PartitionId] | None) -> Collection[PartitionId]:
        """Those of the partitions (all for None) of which an open transaction has committed an offset."""
        if not len(self._pending):
            return ()
        if partitions is None:
            return frozenset(self._pending.partitions())
        return frozenset(partition for partition in partitions if partition in self._pending)

    def undecided(self) -> Sequence[tuple[str, int]]:
        """The transactions of which it is not known here how they ended: transactional id and number."""
        return self._pending.transactions()

    def commit(self, offsets: Mapping[PartitionId, CommittedOffset]) -> RowChanges:
        rows = self._write(offsets)
        if len(self._pending):
            for partition in offsets:
                rows.update(self._pending.supersede(partition))
        return rows

    def _write(self, offsets: Mapping[PartitionId, CommittedOffset]) -> RowChanges:
        rows: RowChanges = {}
        keys = self._keys
        for partition, committed in offsets.items():
            self._committed[partition] = committed
            if (key := keys.get(partition)) is None:
                key = keys[partition] = offset_key(partition)
            rows[key] = encode_offset(committed)
        return rows

    def commit_pending(
        self, transactional_id: str, number: int, offsets: Mapping[PartitionId, CommittedOffset]
    ) -> RowChanges:
        """They count once that transaction is committed."""
        return self._pending.commit(TransactionName(transactional_id, number), offsets)

    def end_pending(self, transactional_id: str, number: int, committed: bool) -> RowChanges:
        """The transaction was decided: its offsets count from now on, or are gone. Nothing where that was told before."""
        transaction = TransactionName(transactional_id, number)
        older: RowChanges = {}
        if committed:
            for partition, order in self._pending.orders(transaction):
                older.update(self._pending.supersede(partition, order))
        rows, offsets = self._pending.take(transaction)
        rows.update(older)
        if committed:
            rows.update(self._write(offsets))
        return rows

    def remove(self, partitions: Collection[PartitionId]) -> RowChanges:
        """Pending ones too: a transaction that is committed later brings nothing of them back."""
        rows: RowChanges = {}
        for partition in partitions:
            if self._committed.pop(partition, None) is not None:
                self._keys.pop(partition, None)
                rows[offset_key(partition)] = None
            rows.update(self._pending.supersede(partition))
        return rows

    def clear(self) -> RowChanges:
        return self.remove([*self._committed, *self._pending.partitions()])

    def drop_topics(self, topic_ids: Collection[TopicId]) -> RowChanges:
        known = [*self._committed, *self._pending.partitions()]
        return self.remove([partition for partition in known if partition.topic_id in topic_ids])

    def cut(self, partition: PartitionId, log_end: int) -> RowChanges:
        rows = self._pending.cut(partition, log_end)
        committed = self._committed.get(partition)
        if committed is not None and committed.offset > log_end:
            rows.update(self._write({partition: committed._replace(offset=log_end, leader_epoch=-1)}))
        return rows

    def expire(
        self,
        *,
        now_ms: int,
        retention_ms: int,
        names: Mapping[TopicId, str],
        idle_since_ms: Callable[[str, CommittedOffset], int | None],
    ) -> RowChanges:
        """Removes what nobody has needed for the retention. `idle_since_ms`: since when (None: it is needed).
        A partition with a pending offset is needed, except of a topic that is gone."""
        doomed = [
            partition
            for partition in self._pending.partitions()
            if partition.topic_id not in names
            and all(now_ms - one.committed.commit_ms >= unknown_topic_age_ms_max for one in self._pending.of(partition))
        ]
        for partition, committed in self._committed.items():
            name = names.get(partition.topic_id)
            if name is None:
                if now_ms - committed.commit_ms >= unknown_topic_age_ms_max:
                    doomed.append(partition)
                continue
            if partition in self._pending:
                continue
            since_ms = idle_since_ms(name, committed)
            if since_ms is None:
                continue
            until_ms = since_ms + retention_ms if committed.expire_ms < 0 else committed.expire_ms
            if now_ms >= until_ms:
                doomed.append(partition)
        return self.remove(doomed)
