"""DescribeProducers: who wrote to a partition with a producer id."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from riverlog.gateways.kafka.handlers import describe_producers
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.describe_producers import DescribeProducersRequest, TopicRequest
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from riverlog.records.builder import build_batch
from riverlog.records.record import NewRecord
from riverlog.state.access import AllowAll, DenyAll
from riverlog.testing.brokers import make_topic, memory_broker
from riverlog.testing.clock import ManualClock
from riverlog.testing.kafka_calls import Calls

assert describe_producers.describe_producers
NOW = ManualClock().now_ms()


def run(story: Callable[[Calls], Awaitable[None]]) -> None:
    async def main() -> None:
        async with memory_broker() as broker:
            await make_topic(broker, "t", 2)
            await story(Calls(broker))

    asyncio.run(main())


async def produce(calls: Calls, producer: tuple[int, int, int], count: int = 1) -> None:
    producer_id, epoch, sequence = producer
    records = build_batch(
        [NewRecord(NOW, None, b"")] * count, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence
    )
    data = TopicProduceData(name="t", partition_data=[PartitionProduceData(index=0, records=records)])
    answer = await calls.ask(ApiKey.PRODUCE, 9, ProduceRequest(acks=-1, timeout_ms=1000, topic_data=[data]))
    assert answer.responses[0].partition_responses[0].error_code == 0


async def ask(calls: Calls, name: str, *indexes: int) -> Any:
    request = DescribeProducersRequest(topics=[TopicRequest(name=name, partition_indexes=list(indexes))])
    answer = await calls.ask(ApiKey.DESCRIBE_PRODUCERS, 0, request)
    assert [topic.name for topic in answer.topics] == [name]
    return answer.topics[0].partitions


def test_each_producer_with_its_last_sequence() -> None:
    async def story(calls: Calls) -> None:
        await produce(calls, (7, 0, 0), 3)
        await produce(calls, (7, 0, 3), 2)
        await produce(calls, (9, 4, 0))
        written, empty = await ask(calls, "t", 0, 1)
        found = [(one.producer_id, one.producer_epoch, one.last_sequence) for one in written.active_producers]
        assert found == [(7, 0, 4), (9, 4, 0)]
        first = written.active_producers[0]
        assert (first.last_timestamp, first.coordinator_epoch, first.current_txn_start_offset) == (NOW, -1, -1)
        assert (empty.partition_index, empty.error_code, list(empty.active_producers)) == (1, 0, [])

    run(story)


def test_what_is_not_there_and_what_is_not_allowed() -> None:
    async def story(calls: Calls) -> None:
        for name, index in (("t", 2), ("t", -1), ("other", 0)):
            (refused,) = await ask(calls, name, index)
            assert refused.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            assert f"{name}-{index}" in refused.error_message
        calls.broker.access = DenyAll()
        for name in ("t", "other"):
            (refused,) = await ask(calls, name, 0)
            assert refused.error_code == ErrorCode.TOPIC_AUTHORIZATION_FAILED
        calls.broker.access = AllowAll()
        assert (await ask(calls, "t", 0))[0].error_code == 0

    run(story)
