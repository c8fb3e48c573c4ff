"""ListOffsets: the special timestamps, times exact to the record, epochs, what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from riverlog.gateways.kafka.handlers import list_offsets
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from riverlog.gateways.kafka.schema.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from riverlog.records.builder import build_batch
from riverlog.records.compression import Compression
from riverlog.records.record import NewRecord
from riverlog.state.access import AllowAll, DenyAll
from riverlog.testing.brokers import make_topic, memory_broker
from riverlog.testing.clock import ManualClock
from riverlog.testing.kafka_calls import Calls

assert list_offsets.list_offsets
NOW = ManualClock().now_ms()


def run(story: Callable[[Calls], Awaitable[None]]) -> None:
    async def main() -> None:
        async with memory_broker() as broker:
            await make_topic(broker, "t")
            await story(Calls(broker))

    asyncio.run(main())


async def produce(calls: Calls, *times: int) -> None:
    records = build_batch([NewRecord(time, None, b"") for time in times], compression=Compression.GZIP)
    data = TopicProduceData(name="t", partition_data=[PartitionProduceData(index=0, records=records)])
    await calls.ask(ApiKey.PRODUCE, 9, ProduceRequest(acks=-1, timeout_ms=1000, topic_data=[data]))


async def ask(calls: Calls, timestamp: int, version: int = 11, topic: str = "t", **more: Any) -> Any:
    partition = ListOffsetsPartition(partition_index=0, timestamp=timestamp, **more)
    request = ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic(name=topic, partitions=[partition])])
    return (await calls.ask(ApiKey.LIST_OFFSETS, version, request)).topics[0].partitions[0]


@pytest.mark.parametrize("version", range(1, 12))
def test_the_ends_in_every_version(version: int) -> None:
    async def story(calls: Calls) -> None:
        await produce(calls, NOW, NOW + 1, NOW + 2)
        assert (await ask(calls, -2, version)).offset == 0
        latest = await ask(calls, -1, version)
        assert (latest.offset, latest.timestamp, latest.error_code) == (3, -1, 0)

    run(story)


def test_times_are_exact_to_the_record() -> None:
    """Two batches, times out of order: the first record, in the order of offsets, at or after the time."""

    async def story(calls: Calls) -> None:
        await produce(calls, NOW, NOW + 10, NOW + 5)
        await produce(calls, NOW + 20, NOW + 30)
        found = [
            ((answer := await ask(calls, NOW + after)).offset, answer.timestamp - NOW)
            for after in (-1, 0, 1, 5, 10, 11, 21, 30)
        ]
        assert found == [(0, 0), (0, 0), (1, 10), (1, 10), (1, 10), (3, 20), (4, 30), (4, 30)]
        beyond = await ask(calls, NOW + 31)
        assert (beyond.offset, beyond.timestamp, beyond.error_code) == (-1, -1, 0)

    run(story)


def test_the_largest_timestamp_and_what_is_tiered() -> None:
    async def story(calls: Calls) -> None:
        await produce(calls, NOW, NOW + 50, NOW + 5)
        largest = await ask(calls, -3)
        assert (largest.offset, largest.timestamp) == (1, NOW + 50)
        assert (await ask(calls, -4)).offset == 0
        assert (await ask(calls, -5)).offset == -1
        assert (await ask(calls, -6)).offset == -1

    run(story)


def test_a_timestamp_that_the_version_does_not_know_is_refused() -> None:
    async def story(calls: Calls) -> None:
        for timestamp, first in ((-3, 7), (-4, 8), (-5, 9), (-6, 11)):
            assert (await ask(calls, timestamp, first - 1)).error_code == ErrorCode.UNSUPPORTED_VERSION
            assert (await ask(calls, timestamp, first)).error_code == 0
        for version in range(1, 12):
            assert (await ask(calls, -7, version)).error_code == ErrorCode.UNSUPPORTED_VERSION

    run(story)


def test_unknown_fenced_and_denied() -> None:
    async def story(calls: Calls) -> None:
        assert (await ask(calls, -1, topic="gone")).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert (await ask(calls, -1, current_leader_epoch=99)).error_code == ErrorCode.UNKNOWN_LEADER_EPOCH
        calls.broker.access = DenyAll()
        assert (await ask(calls, -1)).error_code == ErrorCode.TOPIC_AUTHORIZATION_FAILED
        calls.broker.access = AllowAll()

    run(story)
