"""Fetch: every version, incremental sessions, errors of single partitions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from riverlog.base.ids import NO_TOPIC_ID, Offset
from riverlog.broker.fetch import Answer
from riverlog.broker.topics import Topic
from riverlog.gateways.kafka.handlers import fetch
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.fetch import FetchPartition, FetchRequest, FetchTopic, ForgottenTopic
from riverlog.gateways.kafka.schema.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from riverlog.records.builder import build_batch
from riverlog.records.header import read_header
from riverlog.records.record import NewRecord
from riverlog.state.access import DenyAll
from riverlog.storage.contract import FetchedPartition, Slices
from riverlog.testing.brokers import make_topic, memory_broker
from riverlog.testing.clock import ManualClock
from riverlog.testing.kafka_calls import Calls

assert fetch.fetch
NOW = ManualClock().now_ms()
both = pytest.mark.parametrize("late", [False, True])


def run(story: Callable[[Calls], Awaitable[None]], *, late: bool = False) -> None:
    async def main() -> None:
        async with memory_broker(late=late) as broker:
            await story(Calls(broker))

    asyncio.run(main())


async def produce(calls: Calls, topic: str, partition: int = 0) -> None:
    records = build_batch([NewRecord(NOW, b"k", b"value")])
    data = TopicProduceData(name=topic, partition_data=[PartitionProduceData(index=partition, records=records)])
    await calls.ask(ApiKey.PRODUCE, 9, ProduceRequest(acks=-1, timeout_ms=1000, topic_data=[data]))


def request(
    topic: Topic | str,
    offsets: Sequence[tuple[int, int]] = ((0, 0),),
    *,
    session: tuple[int, int] = (0, -1),
    **more: Any,
) -> FetchRequest:
    """`offsets`: partition and offset; `session`: its id and epoch."""
    name, topic_id = (topic, b"9" * 16) if isinstance(topic, str) else (topic.name, topic.topic_id)
    partitions = [
        FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=1 << 20)
        for partition, offset in offsets
    ]
    topics = [FetchTopic(topic=name, topic_id=topic_id, partitions=partitions)] if offsets else []
    fields = {"max_wait_ms": 0, "min_bytes": 1, "max_bytes": 1 << 20} | more
    return FetchRequest(session_id=session[0], session_epoch=session[1], topics=topics, **fields)


@both
@pytest.mark.parametrize("version", range(4, 19))
def test_every_version_reads(version: int, late: bool) -> None:
    async def story(calls: Calls) -> None:
        topic = await make_topic(calls.broker, "t", partitions=2)
        await produce(calls, "t", 1)
        answer = await calls.ask(ApiKey.FETCH, version, request(topic, [(0, 0), (1, 0)]))
        assert answer.error_code == 0
        (found,) = answer.responses
        assert found.topic == ("t" if version < 13 else "")
        assert found.topic_id == (topic.topic_id if version >= 13 else NO_TOPIC_ID)
        empty, full = found.partitions
        assert (empty.error_code, bytes(empty.records)) == (0, b"")
        assert read_header(full.records).record_count == 1
        assert full.high_watermark == full.last_stable_offset == 1

    run(story, late=late)


def test_isolation_decides_whether_aborted_transactions_are_told() -> None:
    async def story(calls: Calls) -> None:
        topic = await make_topic(calls.broker, "t")
        committed = await calls.ask(ApiKey.FETCH, 11, request(topic, isolation_level=1))
        assert list(committed.responses[0].partitions[0].aborted_transactions) == []
        uncommitted = await calls.ask(ApiKey.FETCH, 11, request(topic))
        assert uncommitted.responses[0].partitions[0].aborted_transactions is None
        wrong = await calls.ask(ApiKey.FETCH, 11, request(topic, isolation_level=7))
        assert wrong.error_code == ErrorCode.INVALID_REQUEST

    run(story)


@pytest.mark.parametrize(
    ("version", "code"), [(12, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION), (13, ErrorCode.UNKNOWN_TOPIC_ID)]
)
def test_errors_are_of_single_partitions_and_are_not_waited_with(version: int, code: ErrorCode) -> None:
    async def story(calls: Calls) -> None:
        unknown = await calls.ask(ApiKey.FETCH, version, request("gone", max_wait_ms=60_000))
        assert unknown.responses[0].partitions[0].error_code == code
        topic = await make_topic(calls.broker, "t")
        await produce(calls, "t")
        mixed = await calls.ask(ApiKey.FETCH, version, request(topic, [(5, 0), (0, 0)], max_wait_ms=60_000))
        missing, there = mixed.responses[0].partitions
        assert missing.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert len(there.records) > 0
        beyond = await calls.ask(ApiKey.FETCH, version, request(topic, [(0, 99)]))
        assert beyond.responses[0].partitions[0].error_code == ErrorCode.OFFSET_OUT_OF_RANGE

    run(story)


@both
@pytest.mark.parametrize("version", [7, 12, 13, 18])
def test_a_session_tells_only_what_changed(version: int, late: bool) -> None:
    async def story(calls: Calls) -> None:
        topic = await make_topic(calls.broker, "t", partitions=3)
        first = await calls.ask(ApiKey.FETCH, version, request(topic, [(0, 0), (1, 0), (2, 0)], session=(0, 0)))
        assert first.session_id > 0
        assert len(first.responses[0].partitions) == 3
        quiet = await calls.ask(ApiKey.FETCH, version, request(topic, (), session=(first.session_id, 1)))
        assert (quiet.session_id, list(quiet.responses)) == (first.session_id, [])
        await produce(calls, "t", 1)
        more = await calls.ask(ApiKey.FETCH, version, request(topic, (), session=(first.session_id, 2)))
        assert [partition.partition_index for partition in more.responses[0].partitions] == [1]
        moved = await calls.ask(ApiKey.FETCH, version, request(topic, [(1, 1)], session=(first.session_id, 3)))
        assert list(moved.responses) == []
        again = await calls.ask(ApiKey.FETCH, version, request(topic, (), session=(first.session_id, 3)))
        assert again.error_code == ErrorCode.INVALID_FETCH_SESSION_EPOCH

    run(story, late=late)


def test_partitions_can_be_forgotten_and_a_session_closed() -> None:
    async def story(calls: Calls) -> None:
        topic = await make_topic(calls.broker, "t", partitions=2)
        opened = await calls.ask(ApiKey.FETCH, 12, request(topic, [(0, 0), (1, 0)], session=(0, 0)))
        await produce(calls, "t", 0)
        await produce(calls, "t", 1)
        forgotten = [ForgottenTopic(topic="t", partitions=[0])]
        asked = request(topic, (), session=(opened.session_id, 1), forgotten_topics_data=forgotten)
        left = await calls.ask(ApiKey.FETCH, 12, asked)
        assert [partition.partition_index for partition in left.responses[0].partitions] == [1]
        await calls.ask(ApiKey.FETCH, 12, request(topic, session=(opened.session_id, -1)))
        gone = await calls.ask(ApiKey.FETCH, 12, request(topic, (), session=(opened.session_id, 2)))
        assert gone.error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND

    run(story)


def test_denied() -> None:
    async def story(calls: Calls) -> None:
        topic = await make_topic(calls.broker, "t")
        calls.broker.fetching.access = DenyAll()
        answer = await calls.ask(ApiKey.FETCH, 12, request(topic, max_wait_ms=60_000))
        assert answer.responses[0].partitions[0].error_code == ErrorCode.TOPIC_AUTHORIZATION_FAILED

    run(story)


def test_what_was_read_for_a_connection_that_has_just_gone_is_let_go_of() -> None:
    """It goes between the moment when its answer is there and the turn of the loop that would encode it."""

    async def story(calls: Calls) -> None:
        topic = await make_topic(calls.broker, "t")
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        calls.broker.fetching.fetch = lambda *_, **__: answer  # type: ignore[method-assign]
        asking = asyncio.ensure_future(calls.ask(ApiKey.FETCH, 12, request(topic)))
        await asyncio.sleep(0)
        released: list[bool] = []
        slices = Slices((b"batch",), 5, lambda: released.append(True))
        answer.set_result(Answer([FetchedPartition(slices, Offset(1), Offset(1), Offset(0))], {}, 5))
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert released

    run(story)
