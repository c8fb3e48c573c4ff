"""A data directory that the local engine wrote: several segments, idempotent producers, three starts."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from riverlog.base.ids import Offset, PartitionId, TopicId, TopicName
from riverlog.env.clock import SystemClock
from riverlog.env.entropy import SeededEntropy
from riverlog.env.files import RealFiles
from riverlog.records.header import read_header
from riverlog.storage.contract import Acks, Append, Appended, LogConfig, TopicLog
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.settings import LocalSettings
from riverlog.testing.conformance import log_engine
from riverlog.testing.conformance.log_engine import P0, fill
from riverlog.testing.conformance.log_transactions import ended, marker_of, written
from tests.partition_files import make_batch, simple_records

TOPIC = TopicLog(
    topic_id=TopicId(bytes(range(16))),
    name=TopicName("flights"),
    partition_count=3,  # the third gets no record, so it gets no directory
    config=LogConfig(segment_bytes=30_000, index_interval_bytes=1000, retention_ms=-1),
)
TRANSACTIONAL = TopicLog(
    topic_id=log_engine.TOPIC.topic_id,
    name=log_engine.TOPIC.name,
    partition_count=1,
    config=LogConfig(segment_bytes=1000, index_interval_bytes=300, retention_ms=-1),
)


def write_directory(root: Path, killed: Path, starts: int = 3, batches_each: int = 60) -> None:
    """Fills `root`, stopped cleanly; `killed` gets what a `kill -9` in the last run would have left."""
    asyncio.run(_write(root, killed, starts, batches_each))


async def _write(root: Path, killed: Path, starts: int, batches_each: int) -> None:
    entropy = SeededEntropy(7)
    sequences = [0, 0]
    for start in range(starts):
        world = {"files": RealFiles(), "clock": SystemClock(), "entropy": entropy}
        engine = await LocalEngine.open(str(root), LocalSettings(), topics=[TOPIC], **world)  # type: ignore[arg-type]
        try:
            for _ in range(batches_each):
                await _append(engine, entropy, sequences)
            if start == starts - 1:
                shutil.copytree(root, killed)
        finally:
            await engine.close()


async def _append(engine: LocalEngine, entropy: SeededEntropy, sequences: list[int]) -> None:
    index, count = entropy.below(2), 1 + entropy.below(7)
    records = simple_records(count, 1_700_000_000_000 + entropy.below(1_000_000), size=entropy.below(400))
    batch = bytearray(make_batch(0, records, producer=(7, 0, sequences[index])))
    answer = engine.append([Append(PartitionId(TOPIC.topic_id, index), batch, read_header(batch))], Acks.ALL)
    answers = answer if isinstance(answer, (list, tuple)) else await answer  # type: ignore[misc]
    assert isinstance(answers[0], Appended)
    assert answers[0].base_offset == Offset(sequences[index])
    sequences[index] += count


def write_transactions(root: Path, killed: Path) -> list[str]:
    """One partition with transactions: aborted ones in several segments, one that reaches over some, one that is open. Gives what
    is committed."""
    return asyncio.run(_write_transactions(root, killed))


async def _write_transactions(root: Path, killed: Path) -> list[str]:
    world = {"files": RealFiles(), "clock": SystemClock(), "entropy": SeededEntropy(7)}
    engine = await LocalEngine.open(str(root), LocalSettings(), topics=[TRANSACTIONAL], **world)  # type: ignore[arg-type]
    values: list[str] = []
    try:
        await written(engine, P0, "reaches over some", producer=(2, 0, 0))
        for at in range(20):
            await written(engine, P0, f"aborted {at}", producer=(1, 0, at))
            await ended(engine, marker_of(P0, 1, 0, committed=False))
            await fill(engine, P0, [f"plain {at}"])
            values.append(f"plain {at}")
            if at == 10:
                await engine.checkpoints.write()
        await ended(engine, marker_of(P0, 2, 1, committed=False))
        await written(engine, P0, "committed", producer=(2, 1, 0))
        await ended(engine, marker_of(P0, 2, 2))
        await written(engine, P0, "open", producer=(3, 0, 0))
        shutil.copytree(root, killed)
        return [*values, "committed"]
    finally:
        await engine.close()
