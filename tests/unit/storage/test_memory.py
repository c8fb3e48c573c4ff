"""What the in-memory engine has of its own: lateness, and retention that keeps it bounded. (The rest: the suite.)"""

from __future__ import annotations

import asyncio
import inspect

from riverlog.base.ids import Offset
from riverlog.base.units import DAY_MS
from riverlog.storage.contract import Acks, Appended, Isolation, LogConfig, Read, TopicLog
from riverlog.storage.memory import MemoryEngine, retention_check_interval_ms
from riverlog.testing.clock import ManualClock
from riverlog.testing.conformance.log_engine import P0, TOPIC, append_of, batch_of, fill, settled, values_in


async def opened(clock: ManualClock, *, late: bool = False, config: LogConfig | None = None) -> MemoryEngine:
    engine = MemoryEngine(clock=clock, late=late)
    await engine.open_topic(
        TopicLog(topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=1, config=config or LogConfig())
    )
    return engine


def test_late_means_turns_of_the_loop_after_the_call_in_its_order() -> None:
    async def story() -> None:
        engine = await opened(ManualClock(), late=True)
        answers = [engine.append([append_of(P0, value)], Acks.LEADER) for value in "abc"]
        assert all(inspect.isawaitable(answer) for answer in answers)
        assert engine.watermarks(P0).log_end == 0
        reading = engine.read([Read(P0, Offset(0), 100)], 100, Isolation.READ_UNCOMMITTED)
        assert inspect.isawaitable(reading)
        assert [(await settled(answer))[0] for answer in answers] == [
            Appended(Offset(at), Offset(at + 1), Offset(0)) for at in range(3)
        ]
        assert (await reading).size > 0
        await engine.close()

    asyncio.run(story())


def test_closing_waits_for_what_is_on_its_way() -> None:
    async def story() -> None:
        engine = await opened(ManualClock(), late=True)
        answer = engine.append([append_of(P0, "a")], Acks.ALL)
        await engine.close()
        assert isinstance(answer, asyncio.Future)
        assert answer.done()

    asyncio.run(story())


def test_memory_is_bounded_by_size_at_once() -> None:
    async def story() -> None:
        size = len(batch_of("0"))
        engine = await opened(ManualClock(), config=LogConfig(retention_bytes=3 * size))
        await fill(engine, P0, *[[str(at)] for at in range(10)])
        assert engine.size(P0).bytes == 3 * size
        assert await values_in(engine, P0, 7) == ["7", "8", "9"]
        await engine.close()

    asyncio.run(story())


def test_memory_is_bounded_by_time_with_the_clock() -> None:
    async def story() -> None:
        clock = ManualClock()
        engine = await opened(clock)
        await fill(engine, P0, ["old"])
        await asyncio.sleep(0)
        clock.advance(8 * DAY_MS)
        assert retention_check_interval_ms < 8 * DAY_MS
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert engine.size(P0).bytes == 0
        assert engine.watermarks(P0).log_start == 1
        await engine.close()

    asyncio.run(story())
