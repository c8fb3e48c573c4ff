"""Produce: every version, names and ids, what is refused, what acks=0 does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from riverlog.base.ids import NO_TOPIC_ID
from riverlog.gateways.kafka.dispatch import Hangup
from riverlog.gateways.kafka.handlers import produce
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from riverlog.records.builder import build_batch
from riverlog.records.record import NewRecord
from riverlog.state.access import AllowAll, Caller, DenyAll, Operation, Resource, ResourceKind
from riverlog.testing.brokers import make_topic, memory_broker
from riverlog.testing.clock import ManualClock
from riverlog.testing.kafka_calls import Calls
from tests.transaction_calls import Transactional, play

assert produce.produce
NOW = ManualClock().now_ms()


def run(story: Callable[[Calls], Awaitable[None]], *, late: bool = False) -> None:
    async def main() -> None:
        async with memory_broker(late=late) as broker:
            await story(Calls(broker))

    asyncio.run(main())


def batch(**options: object) -> bytearray:
    return build_batch([NewRecord(NOW, b"k", b"v")], **options)  # type: ignore[arg-type]


def request(
    name: str = "",
    topic_id: bytes = NO_TOPIC_ID,
    *,
    acks: int = -1,
    records: bytes | bytearray | None = None,
    partition: int = 0,
) -> ProduceRequest:
    data = PartitionProduceData(index=partition, records=batch() if records is None else records)
    topic = TopicProduceData(name=name, topic_id=topic_id, partition_data=[data])
    return ProduceRequest(acks=acks, timeout_ms=1000, topic_data=[topic])


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("version", range(3, 14))
def test_every_version_appends(version: int, late: bool) -> None:
    async def story(calls: Calls) -> None:
        topic = await make_topic(calls.broker, "t")
        for offset, acks in enumerate((-1, 1)):
            asked = request("t", topic.topic_id, acks=acks)
            answer = (await calls.ask(ApiKey.PRODUCE, version, asked)).responses[0]
            assert answer.name == ("t" if version < 13 else "")
            assert answer.topic_id == (topic.topic_id if version >= 13 else NO_TOPIC_ID)
            partition = answer.partition_responses[0]
            assert (partition.error_code, partition.base_offset, partition.log_append_time_ms) == (0, offset, -1)

    run(story, late=late)


def test_unknown_topics() -> None:
    async def story(calls: Calls) -> None:
        by_name = await calls.ask(ApiKey.PRODUCE, 12, request("gone"))
        assert by_name.responses[0].partition_responses[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        by_id = await calls.ask(ApiKey.PRODUCE, 13, request(topic_id=b"1" * 16))
        assert by_id.responses[0].partition_responses[0].error_code == ErrorCode.UNKNOWN_TOPIC_ID

    run(story)


def test_the_time_of_the_append_is_told_where_the_topic_has_it() -> None:
    async def story(calls: Calls) -> None:
        await make_topic(calls.broker, "t", message_timestamp_type="LogAppendTime")
        answer = await calls.ask(ApiKey.PRODUCE, 9, request("t"))
        assert answer.responses[0].partition_responses[0].log_append_time_ms == NOW

    run(story)


def test_a_retry_of_an_idempotent_batch_gets_the_old_offset() -> None:
    async def story(calls: Calls) -> None:
        await make_topic(calls.broker, "t")
        for _ in range(2):
            records = batch(producer_id=5, producer_epoch=0, base_sequence=0)
            answer = (await calls.ask(ApiKey.PRODUCE, 9, request("t", records=records))).responses[0]
            assert answer.partition_responses[0].error_code == 0
            assert answer.partition_responses[0].base_offset == 0
        gap = batch(producer_id=5, producer_epoch=0, base_sequence=7)
        answer = (await calls.ask(ApiKey.PRODUCE, 9, request("t", records=gap))).responses[0]
        assert answer.partition_responses[0].error_code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER

    run(story)


@pytest.mark.parametrize("late", [False, True])
def test_acks_0_has_no_answer_and_hangs_up_on_failure(late: bool) -> None:
    async def story(calls: Calls) -> None:
        await make_topic(calls.broker, "t")
        assert await calls.ask(ApiKey.PRODUCE, 9, request("t", acks=0)) is None
        with pytest.raises(Hangup):
            await calls.ask(ApiKey.PRODUCE, 9, request("t", acks=0, partition=3))
        with pytest.raises(Hangup):
            await calls.ask(ApiKey.PRODUCE, 9, request("gone", acks=0))

    run(story, late=late)


def test_denied() -> None:
    async def story(calls: Calls) -> None:
        await make_topic(calls.broker, "t")
        calls.broker.producing.access = DenyAll()
        answer = await calls.ask(ApiKey.PRODUCE, 9, request("t"))
        assert answer.responses[0].partition_responses[0].error_code == ErrorCode.TOPIC_AUTHORIZATION_FAILED

    run(story)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("version", range(3, 14))
def test_transactions_by_version(version: int, late: bool) -> None:
    """From v12 on a write adds its partition; before, who did not add it is told what the version knows."""

    async def story(client: Transactional) -> None:
        await client.init()
        await client.init()
        if version < 12:
            await client.add(("t", [1]))
            refusal = ErrorCode.INVALID_TXN_STATE if version < 11 else ErrorCode.TRANSACTION_ABORTABLE
            assert await client.produce(version, partition=0) == refusal
        assert await client.produce(version, partition=1) == 0
        client.epoch -= 1
        assert await client.produce(version, partition=0) == ErrorCode.INVALID_PRODUCER_EPOCH

    play(story, late=late)


class OnlyTopics(AllowAll):
    def allows(self, caller: Caller, operation: Operation, resource: Resource) -> bool:
        return resource.kind is ResourceKind.TOPIC


def test_a_transactional_id_that_the_caller_may_not_use() -> None:
    async def story(client: Transactional) -> None:
        client.producer_id, client.epoch = 5, 0
        assert await client.produce() == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED

    play(story, denied=OnlyTopics())
