"""One transactional client of Kafka's requests, on a broker without a socket: for the tests of the handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from riverlog.base.ids import PartitionId, TopicName
from riverlog.broker.settings import BrokerSettings
from riverlog.gateways.kafka.schema.add_offsets_to_txn import AddOffsetsToTxnRequest
from riverlog.gateways.kafka.schema.add_partitions_to_txn import AddPartitionsToTxnRequest, AddPartitionsToTxnTopic
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.describe_transactions import DescribeTransactionsRequest
from riverlog.gateways.kafka.schema.end_txn import EndTxnRequest
from riverlog.gateways.kafka.schema.init_producer_id import InitProducerIdRequest
from riverlog.gateways.kafka.schema.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from riverlog.gateways.kafka.schema.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from riverlog.records.builder import build_batch
from riverlog.records.record import NewRecord
from riverlog.state.access import Access, AllowAll, Caller, Operation, Resource
from riverlog.testing.brokers import make_topic, memory_broker
from riverlog.testing.clock import ManualClock
from riverlog.testing.kafka_calls import Calls

NOW = ManualClock().now_ms()


class Transactional:
    """Transactional id `tx`; topic `t` has two partitions, `input` one."""

    def __init__(self, calls: Calls, transactional_id: str = "tx") -> None:
        self.calls = calls
        self.broker = calls.broker
        self.transactional_id = transactional_id
        self.producer_id = -1
        self.epoch = -1

    @property
    def who(self) -> dict[str, Any]:
        return {
            "transactional_id": self.transactional_id,
            "producer_id": self.producer_id,
            "producer_epoch": self.epoch,
        }

    async def init(self, version: int = 5, timeout_ms: int = 60_000) -> Any:
        request = InitProducerIdRequest(transactional_id=self.transactional_id, transaction_timeout_ms=timeout_ms)
        answer = await self.calls.ask(ApiKey.INIT_PRODUCER_ID, version, request)
        if answer.error_code == 0:
            self.producer_id, self.epoch = answer.producer_id, answer.producer_epoch
        return answer

    async def add(self, *partitions: tuple[str, Sequence[int]], version: int = 3) -> list[tuple[str, int, int]]:
        """Topic, partition and error code of each."""
        request = AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=self.transactional_id,
            v3_and_below_producer_id=self.producer_id,
            v3_and_below_producer_epoch=self.epoch,
            v3_and_below_topics=[AddPartitionsToTxnTopic(name=name, partitions=each) for name, each in partitions],
        )
        answer = await self.calls.ask(ApiKey.ADD_PARTITIONS_TO_TXN, version, request)
        return [
            (topic.name, one.partition_index, one.partition_error_code)
            for topic in answer.results_by_topic_v3_and_below
            for one in topic.results_by_partition
        ]

    async def add_group(self, version: int = 4, group_id: str = "g") -> int:
        request = AddOffsetsToTxnRequest(**self.who, group_id=group_id)
        code: int = (await self.calls.ask(ApiKey.ADD_OFFSETS_TO_TXN, version, request)).error_code
        return code

    async def produce(self, version: int = 12, partition: int = 0, sequence: int = 0, value: bytes = b"v") -> int:
        """The error code."""
        records = build_batch(
            [NewRecord(NOW, None, value)],
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            base_sequence=sequence,
            transactional=True,
        )
        topic = self.broker.topics.by_name[TopicName("t")]
        data = TopicProduceData(
            name="t",
            topic_id=topic.topic_id,
            partition_data=[PartitionProduceData(index=partition, records=records)],
        )
        request = ProduceRequest(
            transactional_id=self.transactional_id, acks=-1, timeout_ms=1000, topic_data=[data]
        )
        answer = await self.calls.ask(ApiKey.PRODUCE, version, request)
        code: int = answer.responses[0].partition_responses[0].error_code
        return code

    async def commit_offset(
        self, version: int = 5, offset: int = 7, group_id: str = "g", topic: str = "input", **member: Any
    ) -> int:
        partition = TxnOffsetCommitRequestPartition(partition_index=0, committed_offset=offset)
        request = TxnOffsetCommitRequest(
            **self.who,
            group_id=group_id,
            topics=[TxnOffsetCommitRequestTopic(name=topic, partitions=[partition])],
            **member,
        )
        answer = await self.calls.ask(ApiKey.TXN_OFFSET_COMMIT, version, request)
        (found,) = answer.topics
        assert found.name == topic
        code: int = found.partitions[0].error_code
        return code

    async def end(self, committed: bool = True, version: int = 5) -> Any:
        answer = await self.calls.ask(ApiKey.END_TXN, version, EndTxnRequest(**self.who, committed=committed))
        if version >= 5 and answer.error_code == 0:
            self.producer_id, self.epoch = answer.producer_id, answer.producer_epoch
        return answer

    async def describe(self) -> Any:
        request = DescribeTransactionsRequest(transactional_ids=[self.transactional_id])
        (state,) = (await self.calls.ask(ApiKey.DESCRIBE_TRANSACTIONS, 0, request)).transaction_states
        return state

    def is_stable(self) -> bool:
        """Whether no transaction holds readers of `t` back."""
        topic_id = self.broker.topics.by_name[TopicName("t")].topic_id
        marks = [self.broker.engine.watermarks(PartitionId(topic_id, index)) for index in (0, 1)]
        return all(mark.last_stable_offset == mark.log_end for mark in marks)


class Switched:
    def __init__(self) -> None:
        self.rules: Access = AllowAll()

    def allows(self, caller: Caller, operation: Operation, resource: Resource) -> bool:
        return self.rules.allows(caller, operation, resource)


def play(
    story: Callable[[Transactional], Awaitable[None]],
    *,
    late: bool = False,
    denied: Access | None = None,
    settings: BrokerSettings | None = None,
) -> None:
    """`denied` rules over the client's requests, and over nothing before them."""

    async def main() -> None:
        access = Switched()
        async with memory_broker(late=late, access=access, settings=settings) as broker:
            await make_topic(broker, "t", 2)
            await make_topic(broker, "input")
            access.rules = denied or access.rules
            await story(Transactional(Calls(broker)))

    asyncio.run(main())
