"""Offsets by time on both settings of the engine; the rest is tested through the handler."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from riverlog.base.ids import PartitionId
from riverlog.broker.list_offsets import EARLIEST, LATEST, MAX_TIMESTAMP, NOTHING, OffsetQuestion, list_offset
from riverlog.broker.produce import Lane, Write
from riverlog.records.builder import build_batch
from riverlog.records.record import NewRecord
from riverlog.state.access import LIBRARY_CALLER
from riverlog.storage.contract import Acks, Isolation
from riverlog.testing.brokers import make_topic, memory_broker
from riverlog.testing.clock import ManualClock

NOW = ManualClock().now_ms()


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("isolation", list(Isolation))
def test_the_answers(late: bool, isolation: Isolation) -> None:
    async def story() -> None:
        async with memory_broker(late=late) as broker:
            topic = await make_topic(broker, "t")
            partition = PartitionId(topic.topic_id, 0)

            async def ask(timestamp: int) -> tuple[int, int]:
                question = OffsetQuestion(topic.name, partition, timestamp)
                found = await list_offset(broker.engine, broker.access, LIBRARY_CALLER, question, isolation)
                return found.offset, found.timestamp_ms

            nothing = (NOTHING.offset, NOTHING.timestamp_ms)
            assert [await ask(one) for one in (EARLIEST, LATEST, MAX_TIMESTAMP, 0)] == [(0, -1), (0, -1), nothing, nothing]
            data = build_batch([NewRecord(NOW, None, b""), NewRecord(NOW + 7, None, b"")])
            outcomes = broker.producing.produce(LIBRARY_CALLER, [Write(topic, 0, data)], Acks.LEADER, Lane())
            if not isinstance(outcomes, Sequence):
                await outcomes
            assert await ask(LATEST) == (2, -1), "a cut covers what was answered before it was asked for"
            assert await ask(NOW + 1) == (1, NOW + 7)
            assert await ask(MAX_TIMESTAMP) == (1, NOW + 7)

    asyncio.run(story())
