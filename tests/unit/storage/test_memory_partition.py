"""One partition in memory: what is open stays, and nothing is remembered of what everybody can see. (The rest: the suite.)"""

from __future__ import annotations

from typing import Any

from riverlog.base.ids import Offset, PartitionId
from riverlog.storage.contract import Appended, LogConfig, TopicLog
from riverlog.storage.memory_partition import MemoryPartition
from riverlog.testing.conformance.log_engine import P0, TOPIC, append_of
from riverlog.testing.conformance.log_transactions import marker_of, write_of

NOW_MS = 1_700_000_000_000


def partition_of(**config: Any) -> MemoryPartition:
    config = {"retention_ms": -1, **config}
    return MemoryPartition(
        TopicLog(topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=1, config=LogConfig(**config)), 0
    )


def test_retention_leaves_what_is_open() -> None:
    partition = partition_of(retention_bytes=0)
    assert partition.id == PartitionId(TOPIC.topic_id, 0)
    for at, append in enumerate([append_of(P0, "a"), write_of(P0, "b", producer=(1, 0, 0)), append_of(P0, "c")]):
        answer = partition.append(append.batch, append.header, NOW_MS)
        assert isinstance(answer, Appended)
        assert answer.base_offset == at
    assert (partition.log_start, partition.stable_offset()) == (1, 1)
    partition.end_transaction(marker_of(P0, 1, 1, committed=False), NOW_MS)
    assert len(partition.aborted) == 1
    partition.retain(None)
    assert (partition.log_start, partition.stable_offset(), len(partition.aborted)) == (4, 4, 0)


def test_what_its_user_deleted_goes_though_it_is_open() -> None:
    partition = partition_of()
    for append in (write_of(P0, "b", producer=(1, 0, 0)), append_of(P0, "c")):
        partition.append(append.batch, append.header, NOW_MS)
    partition.log_start = Offset(1)
    partition.retain(None)
    assert (len(partition.batches), partition.stable_offset()) == (1, 1)


def test_markers_that_are_visible_are_not_remembered() -> None:
    partition = partition_of()
    for at in range(100):
        append = write_of(P0, "b", producer=(1, 0, at))
        partition.append(append.batch, append.header, NOW_MS)
        partition.end_transaction(marker_of(P0, 1, 0), NOW_MS)
    assert partition.producers.unstable_offsets() == set()
