"""The committed offsets of one group: one row a partition, keyed by topic id, so that a topic made again has none.

Every change gives the rows to write; what is in memory is what will be true once they are durable (`effects.py`).
Offsets of open transactions will stand beside these, named by their transaction, until it is decided; until then no
partition is ever unstable.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final

from riverlog.base.ids import PartitionId, TopicId
from riverlog.base.units import HOUR_MS
from riverlog.state.groups.commands import CommittedOffset
from riverlog.state.groups.rows import encode_offset, offset_key

RowChanges = dict[str, bytes | None]

# Offsets of a topic that is not known go after this long, not at once: another process may know it before this one.
unknown_topic_age_ms_max: Final = HOUR_MS


class Offsets:
    def __init__(self) -> None:
        self._committed: dict[PartitionId, CommittedOffset] = {}
        self._keys: dict[PartitionId, str] = {}

    def __len__(self) -> int:
        return len(self._committed)

    def items(self) -> Iterator[tuple[PartitionId, CommittedOffset]]:
        return iter(self._committed.items())

    def load(self, partition: PartitionId, committed: CommittedOffset) -> None:
        self._committed[partition] = committed

    def fetch(self, partitions: Sequence[PartitionId] | None) -> dict[PartitionId, CommittedOffset]:
        """Those of the partitions that were ever committed; all for None."""
        if partitions is None:
            return dict(self._committed)
        committed = self._committed
        return {partition: committed[partition] for partition in partitions if partition in committed}

    def commit(self, offsets: Mapping[PartitionId, CommittedOffset]) -> RowChanges:
        rows: RowChanges = {}
        keys = self._keys
        for partition, committed in offsets.items():
            self._committed[partition] = committed
            if (key := keys.get(partition)) is None:
                key = keys[partition] = offset_key(partition)
            rows[key] = encode_offset(committed)
        return rows

    def remove(self, partitions: Collection[PartitionId]) -> RowChanges:
        rows: RowChanges = {}
        for partition in partitions:
            if self._committed.pop(partition, None) is not None:
                self._keys.pop(partition, None)
                rows[offset_key(partition)] = None
        return rows

    def drop_topics(self, topic_ids: Collection[TopicId]) -> RowChanges:
        return self.remove([partition for partition in self._committed if partition.topic_id in topic_ids])

    def cut(self, partition: PartitionId, log_end: int) -> RowChanges:
        committed = self._committed.get(partition)
        if committed is None or committed.offset <= log_end:
            return {}
        return self.commit({partition: committed._replace(offset=log_end, leader_epoch=-1)})

    def expire(
        self,
        *,
        now_ms: int,
        retention_ms: int,
        names: Mapping[TopicId, str],
        idle_since_ms: Callable[[str, CommittedOffset], int | None],
    ) -> RowChanges:
        """Removes what nobody has needed for the retention. `idle_since_ms`: since when (None: it is needed)."""
        doomed: list[PartitionId] = []
        for partition, committed in self._committed.items():
            name = names.get(partition.topic_id)
            if name is None:
                if now_ms - committed.commit_ms >= unknown_topic_age_ms_max:
                    doomed.append(partition)
                continue
            since_ms = idle_since_ms(name, committed)
            if since_ms is None:
                continue
            until_ms = since_ms + retention_ms if committed.expire_ms < 0 else committed.expire_ms
            if now_ms >= until_ms:
                doomed.append(partition)
        return self.remove(doomed)
