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
from tests.partition_files import make_batch, simple_records

TOPIC = TopicLog(
    topic_id=TopicId(bytes(range(16))),
    name=TopicName("flights"),
    partition_count=3,  # the third gets no record, so it gets no directory
    config=LogConfig(segment_bytes=30_000, index_interval_bytes=1000, retention_ms=-1),
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
