"""The in-memory engine passes the suite of all log engines, at once and late."""

from __future__ import annotations

from collections.abc import Sequence

from riverlog.env.clock import Clock
from riverlog.storage.contract import LogEngine, TopicLog
from riverlog.storage.memory import MemoryEngine
from riverlog.testing.conformance.log_engine import LogEngineSuite
from riverlog.testing.conformance.log_times import LogTimesSuite
from riverlog.testing.conformance.log_transactions import LogTransactionsSuite


async def opened(clock: Clock, topics: Sequence[TopicLog], *, late: bool) -> MemoryEngine:
    engine = MemoryEngine(clock=clock, late=late)
    for topic in topics:
        await engine.open_topic(topic)
    return engine


class TestAtOnce(LogEngineSuite, LogTimesSuite, LogTransactionsSuite):
    async def open(self, clock: Clock, topics: Sequence[TopicLog]) -> LogEngine:
        return await opened(clock, topics, late=False)


class TestLate(LogEngineSuite, LogTimesSuite, LogTransactionsSuite):
    async def open(self, clock: Clock, topics: Sequence[TopicLog]) -> LogEngine:
        return await opened(clock, topics, late=True)
