"""Times over many segments, compared with a plain search."""

from __future__ import annotations

import asyncio

import pytest

from riverlog.base.ids import Offset
from riverlog.env.entropy import SeededEntropy
from riverlog.storage.contract import LogConfig, TopicLog
from riverlog.testing.conformance.log_engine import P0, TOPIC, append_of, appended
from riverlog.testing.local_world import LocalWorld


@pytest.mark.parametrize("seed", range(4))
def test_any_time_is_found_exactly_before_and_after_a_restart(seed: int) -> None:
    async def story() -> None:
        config = LogConfig(segment_bytes=700, index_interval_bytes=150, retention_ms=-1)
        world = LocalWorld([TopicLog(topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=1, config=config)])
        entropy = SeededEntropy(seed)
        engine = await world.start()
        flat: list[int] = []
        for at in range(60):
            times = [1000 + 10 * at + entropy.below(200) for _ in range(1 + entropy.below(4))]
            flat += times
            await appended(engine, [append_of(P0, *map(str, times), timestamps=times)])
        start = entropy.below(20)
        await engine.delete_before(P0, Offset(start))
        for _ in range(2):
            for asked in range(990, 1850, 7):
                found = await engine.offset_for_time(P0, asked)
                expected = next((at for at in range(start, len(flat)) if flat[at] >= asked), None)
                assert (found.offset if found is not None else None) == expected
            newest = await engine.offset_of_max_timestamp(P0)
            assert newest is not None
            assert newest.offset == max(range(start, len(flat)), key=lambda at: (flat[at], -at))
            await world.stop()
            engine = await world.start()
        await world.stop()

    asyncio.run(asyncio.wait_for(story(), 60))
