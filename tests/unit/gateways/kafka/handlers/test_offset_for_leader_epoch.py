"""OffsetForLeaderEpoch: where an epoch ended, and views that are too old or too new."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from riverlog.gateways.kafka.handlers import offset_for_leader_epoch
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from riverlog.gateways.kafka.schema.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from riverlog.records.builder import build_batch
from riverlog.records.record import NewRecord
from riverlog.state.access import DenyAll
from riverlog.testing.brokers import make_topic, memory_broker
from riverlog.testing.clock import ManualClock
from riverlog.testing.kafka_calls import Calls

assert offset_for_leader_epoch.offset_for_leader_epoch


def ask(epoch: int, version: int = 4, topic: str = "t", current: int = -1, *, denied: bool = False) -> Any:
    """On a topic of three records in epoch 0."""

    async def story() -> Any:
        async with memory_broker() as broker:
            await make_topic(broker, "t")
            calls = Calls(broker)
            records = build_batch([NewRecord(ManualClock().now_ms(), None, b"")] * 3)
            data = TopicProduceData(name="t", partition_data=[PartitionProduceData(index=0, records=records)])
            await calls.ask(ApiKey.PRODUCE, 9, ProduceRequest(acks=-1, timeout_ms=1000, topic_data=[data]))
            if denied:
                broker.access = DenyAll()
            asked = OffsetForLeaderPartition(partition=0, leader_epoch=epoch, current_leader_epoch=current)
            request = OffsetForLeaderEpochRequest(topics=[OffsetForLeaderTopic(topic=topic, partitions=[asked])])
            answer = await calls.ask(ApiKey.OFFSET_FOR_LEADER_EPOCH, version, request)
            return answer.topics[0].partitions[0]

    return asyncio.run(story())


@pytest.mark.parametrize("version", range(2, 5))
def test_the_current_epoch_ends_at_the_log_end(version: int) -> None:
    end = ask(0, version)
    assert (end.error_code, end.leader_epoch, end.end_offset) == (0, 0, 3)


def test_an_epoch_of_the_future_is_not_known() -> None:
    end = ask(5)
    assert (end.error_code, end.leader_epoch, end.end_offset) == (0, -1, -1)


def test_what_is_refused() -> None:
    assert ask(0, current=9).error_code == ErrorCode.UNKNOWN_LEADER_EPOCH
    assert ask(0, topic="gone").error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert ask(0, denied=True).error_code == ErrorCode.TOPIC_AUTHORIZATION_FAILED
