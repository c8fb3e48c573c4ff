"""DeleteRecords: the start moves for everybody, and nothing else does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from riverlog.base.ids import PartitionId
from riverlog.gateways.kafka.handlers import delete_records
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from riverlog.records.builder import build_batch
from riverlog.records.record import NewRecord
from riverlog.state.access import DenyAll
from riverlog.testing.brokers import make_topic, memory_broker
from riverlog.testing.kafka_calls import Calls

assert delete_records.delete_records


def run(story: Callable[[Calls], Awaitable[None]]) -> None:
    async def main() -> None:
        async with memory_broker() as broker:
            await story(Calls(broker))

    asyncio.run(main())


async def ask(calls: Calls, offset: int, version: int = 2, topic: str = "t", partition: int = 0) -> Any:
    asked = [DeleteRecordsPartition(partition_index=partition, offset=offset)]
    request = DeleteRecordsRequest(topics=[DeleteRecordsTopic(name=topic, partitions=asked)], timeout_ms=1000)
    return (await calls.ask(ApiKey.DELETE_RECORDS, version, request)).topics[0].partitions[0]


async def produce(calls: Calls, count: int) -> None:
    for _ in range(count):
        records = build_batch([NewRecord(0, b"k", b"")])
        data = TopicProduceData(name="t", partition_data=[PartitionProduceData(index=0, records=records)])
        await calls.ask(ApiKey.PRODUCE, 9, ProduceRequest(acks=-1, timeout_ms=1000, topic_data=[data]))


@pytest.mark.parametrize("version", range(3))
def test_the_start_moves_up_and_never_back(version: int) -> None:
    async def story(calls: Calls) -> None:
        topic = await make_topic(calls.broker, "t", retention_ms="-1")
        await produce(calls, 5)
        assert (await ask(calls, 3, version)).low_watermark == 3
        assert (await ask(calls, 1, version)).low_watermark == 3
        assert calls.broker.engine.watermarks(PartitionId(topic.topic_id, 0)).log_start == 3
        assert (await ask(calls, -1, version)).low_watermark == 5

    run(story)


def test_what_is_refused() -> None:
    async def story(calls: Calls) -> None:
        await make_topic(calls.broker, "t", retention_ms="-1")
        await make_topic(calls.broker, "compacted", cleanup_policy="compact")
        await produce(calls, 1)
        assert (await ask(calls, 9)).error_code == ErrorCode.OFFSET_OUT_OF_RANGE
        assert (await ask(calls, 0, topic="gone")).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert (await ask(calls, 0, partition=4)).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert (await ask(calls, 0, topic="compacted")).error_code == ErrorCode.POLICY_VIOLATION
        calls.broker.access = DenyAll()
        denied = await ask(calls, 0)
        assert (denied.error_code, denied.low_watermark) == (ErrorCode.TOPIC_AUTHORIZATION_FAILED, -1)

    run(story)
