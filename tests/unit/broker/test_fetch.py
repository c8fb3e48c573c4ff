"""Fetches on both settings of the in-memory engine: what is there at once, what is waited for, and what ends a wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from riverlog.base.errors import ErrorKind
from riverlog.base.ids import Offset, PartitionId, TopicId, TopicName
from riverlog.broker.broker import Broker
from riverlog.broker.fetch import Answer, FetchRead
from riverlog.broker.produce import Lane, Write
from riverlog.broker.topics import Topic
from riverlog.records.builder import build_batch
from riverlog.records.record import NewRecord
from riverlog.state.access import LIBRARY_CALLER, DenyAll
from riverlog.storage.contract import Acks, Isolation
from riverlog.testing.brokers import make_topic, memory_broker
from riverlog.testing.clock import ManualClock

both = pytest.mark.parametrize("late", [False, True])
LONG_MS = 60_000


def run(story: Callable[[Broker], Awaitable[None]], *, late: bool = False) -> None:
    async def main() -> None:
        async with memory_broker(late=late) as broker:
            await story(broker)
            turn = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(turn.set_result, None)
            await turn  # callbacks of what was cancelled last
            assert not broker.fetching.parked, "a fetch was left parked"

    asyncio.run(main())


async def produce(broker: Broker, topic: Topic, partition: int = 0, size: int = 10) -> None:
    data = build_batch([NewRecord(ManualClock().now_ms(), None, b"x" * size)])
    outcomes = broker.producing.produce(LIBRARY_CALLER, [Write(topic, partition, data)], Acks.ALL, Lane())
    if not isinstance(outcomes, Sequence):
        await outcomes


def reading(topic: Topic, partition: int = 0, offset: int = 0, **epochs: int) -> FetchRead:
    return FetchRead(topic.name, PartitionId(topic.topic_id, partition), Offset(offset), 1 << 20, **epochs)


def ask(broker: Broker, reads: Sequence[FetchRead], wait_ms: int, bytes_min: int = 1) -> Answer | Awaitable[Answer]:
    return broker.fetching.fetch(
        LIBRARY_CALLER,
        reads,
        bytes_min=bytes_min,
        bytes_max=1 << 20,
        wait_ms=wait_ms,
        isolation=Isolation.READ_UNCOMMITTED,
    )


async def settled(answer: Answer | Awaitable[Answer]) -> Answer:
    answer = answer if isinstance(answer, Answer) else await answer
    answer.close()
    return answer


@both
def test_what_is_there_is_answered_without_a_wait(late: bool) -> None:
    async def story(broker: Broker) -> None:
        topic = await make_topic(broker, "t", partitions=2)
        await produce(broker, topic)
        outcome = ask(broker, [reading(topic, 0), reading(topic, 1)], LONG_MS)
        assert isinstance(outcome, Answer) is not late
        answer = await settled(outcome)
        assert answer.partitions[0].slices.size == answer.size > 0
        assert answer.partitions[0].high_watermark == 1
        assert answer.partitions[1].slices.size == 0
        assert broker.telemetry.topic(topic.topic_id).bytes_out == answer.size

    run(story, late=late)


@both
def test_a_parked_fetch_wakes_when_records_come(late: bool) -> None:
    async def story(broker: Broker) -> None:
        topic = await make_topic(broker, "t", partitions=2)
        outcome = ask(broker, [reading(topic, 0), reading(topic, 1)], LONG_MS)
        assert not isinstance(outcome, Answer)
        await produce(broker, topic, 1)
        answer = await settled(outcome)
        assert [partition.slices.size > 0 for partition in answer.partitions] == [False, True]

    run(story, late=late)


@both
def test_min_bytes_is_waited_for(late: bool) -> None:
    async def story(broker: Broker) -> None:
        topic = await make_topic(broker, "t")
        outcome = ask(broker, [reading(topic)], LONG_MS, bytes_min=500)
        assert not isinstance(outcome, Answer)
        for _ in range(20):
            await produce(broker, topic)
        assert (await settled(outcome)).size >= 500

    run(story, late=late)


@both
def test_a_wait_ends_with_what_there_is(late: bool) -> None:
    async def story(broker: Broker) -> None:
        topic = await make_topic(broker, "t")
        await produce(broker, topic)
        answer = await settled(ask(broker, [reading(topic)], 1, bytes_min=1 << 19))
        assert 0 < answer.size < 1 << 19
        assert (await settled(ask(broker, [reading(topic, offset=1)], 1))).size == 0
        assert (await settled(ask(broker, [reading(topic, offset=1)], 0))).size == 0

    run(story, late=late)


@both
def test_a_deleted_topic_ends_the_wait(late: bool) -> None:
    async def story(broker: Broker) -> None:
        topic = await make_topic(broker, "t")
        outcome = ask(broker, [reading(topic)], LONG_MS)
        assert not isinstance(outcome, Answer)
        await broker.topics.delete(LIBRARY_CALLER, [TopicName("t")])
        error = (await settled(outcome)).partitions[0].error
        assert error is not None
        assert error.kind is ErrorKind.UNKNOWN_TOPIC

    run(story, late=late)


@both
def test_a_client_that_goes_away_leaves_nothing(late: bool) -> None:
    async def story(broker: Broker) -> None:
        topic = await make_topic(broker, "t")
        outcome = ask(broker, [reading(topic)], LONG_MS)
        assert isinstance(outcome, asyncio.Future)
        outcome.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outcome
        await produce(broker, topic)

    run(story, late=late)


def test_closing_ends_all_waits() -> None:
    async def story(broker: Broker) -> None:
        topic = await make_topic(broker, "t")
        outcome = ask(broker, [reading(topic)], LONG_MS)
        assert not isinstance(outcome, Answer)
        broker.fetching.close()
        assert (await settled(outcome)).size == 0

    run(story)


@both
def test_an_error_is_not_waited_with(late: bool) -> None:
    async def story(broker: Broker) -> None:
        topic = await make_topic(broker, "t")
        beyond = (await settled(ask(broker, [reading(topic, offset=5), reading(topic)], LONG_MS))).partitions[0]
        assert beyond.error is not None
        assert beyond.error.kind is ErrorKind.OFFSET_OUT_OF_RANGE
        nowhere = FetchRead(TopicName("gone"), PartitionId(TopicId(bytes(16)), 0), Offset(0), 100)
        unknown = (await settled(ask(broker, [nowhere], LONG_MS))).partitions[0]
        assert unknown.error is not None
        assert unknown.error.kind is ErrorKind.UNKNOWN_TOPIC

    run(story, late=late)


def test_epochs_fence_old_and_new_views() -> None:
    async def story(broker: Broker) -> None:
        topic = await make_topic(broker, "t")
        current = broker.engine.watermarks(PartitionId(topic.topic_id, 0)).leader_epoch
        newer = (await settled(ask(broker, [reading(topic, leader_epoch=current + 1)], LONG_MS))).partitions[0]
        assert newer.error is not None
        assert newer.error.kind is ErrorKind.UNKNOWN_LEADER_EPOCH
        fine = await settled(ask(broker, [reading(topic, leader_epoch=current)], 0))
        assert fine.partitions[0].error is None

    run(story)


def test_who_may_not_read_is_refused_and_the_others_are_served() -> None:
    async def story(broker: Broker) -> None:
        topic = await make_topic(broker, "t")
        broker.fetching.access = DenyAll()
        answer = await settled(ask(broker, [reading(topic)], LONG_MS))
        assert answer.partitions[0].error is not None
        assert answer.partitions[0].error.kind is ErrorKind.UNAUTHORIZED

    run(story)
