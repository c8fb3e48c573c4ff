"""From offsets to bytes: regions of real files, memory where a disk is needed, nothing on the loop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from riverlog.base.ids import Offset
from riverlog.env.entropy import SeededEntropy
from riverlog.env.files import File, RealFile, RealFiles
from riverlog.storage.contract import FileRegion, Isolation, LogConfig, Read, TopicLog
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.settings import LocalSettings
from riverlog.testing.clock import ManualClock
from riverlog.testing.conformance.log_engine import BYTES_MAX, P0, TOPIC, batch_of, batches_in, content, fill, settled
from riverlog.testing.local_world import LocalWorld

UNCOMMITTED = Isolation.READ_UNCOMMITTED


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


@asynccontextmanager
async def real_engine(path: Path, files: RealFiles | None = None, **config: Any) -> AsyncIterator[LocalEngine]:
    topic = TopicLog(topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=1, config=LogConfig(**config))
    engine = await LocalEngine.open(
        str(path),
        LocalSettings(sync_threads=1, read_threads=1),
        files=files or RealFiles(),
        clock=ManualClock(),
        entropy=SeededEntropy(0),
        topics=[topic],
    )
    try:
        yield engine
    finally:
        await engine.close()


def test_resident_bytes_are_a_region_of_the_file(tmp_path: Path) -> None:
    async def story() -> None:
        async with real_engine(tmp_path / "d") as engine:
            await fill(engine, P0, ["a"], ["b"])
            size = len(batch_of("a"))
            answer = engine.read([Read(P0, Offset(1), BYTES_MAX)], BYTES_MAX, UNCOMMITTED)
            assert not inspect.isawaitable(answer)
            (region,) = answer.partitions[0].slices.parts
            assert isinstance(region, FileRegion)
            assert (region.position, region.count, region.resident) == (size, size, True)
            segment = engine.partitions[P0].segments[0]
            assert segment.users == 1
            answer.close()
            answer.close()
            assert segment.users == 0

    run(story)


def test_a_region_may_end_inside_a_batch_but_not_behind_the_high_watermark(tmp_path: Path) -> None:
    async def story() -> None:
        async with real_engine(tmp_path / "d") as engine:
            await fill(engine, P0, ["a"], ["b"], ["c"])
            size = len(batch_of("a"))
            answer = await settled(engine.read([Read(P0, Offset(0), size + 10)], BYTES_MAX, UNCOMMITTED))
            assert answer.size == size + 10
            assert len(batches_in(content(answer.partitions[0].slices))) == 1
            answer.close()
            answer = await settled(engine.read([Read(P0, Offset(1), BYTES_MAX)], BYTES_MAX, UNCOMMITTED))
            assert answer.size == 2 * size
            answer.close()

    run(story)


class ColdFile(RealFile):
    def resident(self, position: int, count: int) -> bool:
        return False


class ColdFiles(RealFiles):
    """As if the page cache were empty."""

    def open(self, path: str, *, create: bool = False, writable: bool = True) -> File:
        file = super().open(path, create=create, writable=writable)
        return ColdFile(file.descriptor, lambda descriptor, position, count: False)


def test_cold_bytes_are_read_on_a_thread_as_whole_batches(tmp_path: Path) -> None:
    async def story() -> None:
        async with real_engine(tmp_path / "d", ColdFiles(), segment_bytes=500, index_interval_bytes=100) as engine:
            await fill(engine, P0, *[[f"{at:02d}"] for at in range(20)])
            size = len(batch_of("00"))
            for offset in (0, 3, 11, 19):
                answer = engine.read([Read(P0, Offset(offset), 2 * size + 10)], BYTES_MAX, UNCOMMITTED)
                assert inspect.isawaitable(answer)
                found = await answer
                batches = batches_in(content(found.partitions[0].slices))
                assert batches[0][0].base_offset == offset
                assert found.size == len(batches) * size
                assert len(batches) <= 2
                found.close()
            small = await settled(engine.read([Read(P0, Offset(5), 1)], BYTES_MAX, UNCOMMITTED))
            assert small.size == size
            assert isinstance(small.partitions[0].slices.parts[0], FileRegion), "no memory is held for a slow reader"
            small.close()
            assert engine.counters.cold_reads == 5
            await asyncio.gather(*(ahead.reading for ahead in engine.catchup.ahead.values()))
            assert all(segment.users == 0 for segment in engine.partitions[P0].segments)

    run(story)


def test_a_missing_index_of_a_sealed_segment_only_costs_time() -> None:
    async def story() -> None:
        topic = TopicLog(
            topic_id=TOPIC.topic_id,
            name=TOPIC.name,
            partition_count=1,
            config=LogConfig(segment_bytes=500, index_interval_bytes=50),
        )
        world = LocalWorld([topic])
        engine = await world.start()
        await fill(engine, P0, *[[str(at)] for at in range(20)])
        await world.stop()
        directory = "/data/topics/rivers-0"
        for name in world.files.list(directory)[:3]:
            if name.endswith(("index", "timeindex")):
                file = world.files.open(f"{directory}/{name}")
                file.write_at(b"\xff" * 8, 0)
        engine = await world.start()
        for offset in (3, 7):
            answer = await settled(engine.read([Read(P0, Offset(offset), BYTES_MAX)], BYTES_MAX, UNCOMMITTED))
            assert batches_in(content(answer.partitions[0].slices))[0][0].base_offset == offset
            answer.close()
        found = await engine.offset_for_time(P0, 0)
        assert found is not None
        assert found.offset == 0
        await world.stop()

    run(story)
