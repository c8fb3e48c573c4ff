"""What tests of compaction share: appends with keys, and what a log says of each key."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from riverlog.base.ids import Offset
from riverlog.records.batch import records_of
from riverlog.records.builder import build_batch
from riverlog.records.header import BatchHeader, read_header
from riverlog.records.record import NewRecord, Record
from riverlog.storage.contract import Acks, Append, Appended, LogConfig, TopicLog
from riverlog.storage.local.engine import LocalEngine
from riverlog.testing.conformance.log_engine import P0, TOPIC, fetched_one, settled
from riverlog.testing.local_world import DIRECTORY, LocalWorld

PARTITION = f"{DIRECTORY}/topics/rivers-0"
EVERYTHING = 1 << 30


def compacted_topic(**config: Any) -> TopicLog:
    """Whose segments hold a few batches."""
    values = {"cleanup_compact": True, "cleanup_delete": False, "segment_bytes": 400, "index_interval_bytes": 100}
    config = values | {"retention_ms": -1, "min_cleanable_dirty_ratio": 0.0} | config
    return TopicLog(topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=3, config=LogConfig(**config))


def keyed(*records: tuple[str, str | None], time: int = 1_700_000_000_000, **more: Any) -> Append:
    made = [NewRecord(time, key.encode(), None if value is None else value.encode()) for key, value in records]
    batch = build_batch(made, **more)
    return Append(P0, memoryview(batch), read_header(batch))


async def put(engine: LocalEngine, *records: tuple[str, str | None], **more: Any) -> int:
    """One durable batch; gives its base offset."""
    (answer,) = await settled(engine.append([keyed(*records, **more)], Acks.ALL))
    assert isinstance(answer, Appended), answer
    return answer.base_offset


async def batches_of(engine: LocalEngine) -> list[tuple[BatchHeader, bytes]]:
    """All visible batches, fetch by fetch."""
    found: list[tuple[BatchHeader, bytes]] = []
    offset = engine.partitions[P0].log_start
    while True:
        answer, batches = await fetched_one(engine, P0, offset, 500)
        assert answer.error is None, answer.error
        if not batches:
            return found
        found += batches
        offset = Offset(batches[-1][0].next_offset)


async def records_in_log(engine: LocalEngine) -> list[Record]:
    return [
        record
        for header, data in await batches_of(engine)
        if not header.is_control
        for record in records_of(data, header)
    ]


def last_values(records: Iterable[Record]) -> dict[bytes | None, bytes]:
    """What a reader who goes by keys knows in the end: a tombstone is as good as nothing."""
    known: dict[bytes | None, bytes] = {}
    for record in records:
        if record.value is None:
            known.pop(record.key, None)
        else:
            known[record.key] = record.value
    return known


async def compact(world: LocalWorld) -> Any:
    """Everything that is sealed, once the checkpoint names it."""
    engine = world.engine
    assert engine is not None
    await engine.checkpoints.write()
    return await engine.compacting.run_once(engine.partitions[P0])


def files_of(world: LocalWorld) -> list[str]:
    """But producers' snapshots and what is the same for all."""
    kept = (".metadata", "-checkpoint", ".snapshot")
    return [name for name in world.files.list(PARTITION) if not name.endswith(kept)]
