"""A request of a transaction that comes after its end can change nothing: by raw protocol, for clients old and new.

Old clients add their partitions by a request of their own, and keep their epoch: what is late is found by verification. New ones
(version 2) add by the produce itself, and have a new epoch after each end: what is late has an old one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import pytest

from benchmarks.peers.kafka import Kafka
from riverlog.gateways.kafka.schema.add_partitions_to_txn import AddPartitionsToTxnRequest, AddPartitionsToTxnTopic
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.end_txn import EndTxnRequest
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.find_coordinator import FindCoordinatorRequest
from riverlog.gateways.kafka.schema.init_producer_id import InitProducerIdRequest
from riverlog.gateways.kafka.schema.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from riverlog.records.builder import build_batch
from riverlog.records.record import NewRecord
from riverlog.testing.kafka_client import KafkaClient
from tests.clients.conftest import Served
from tests.clients.transactions import read_one, wait_until
from tests.process.exactly_once import read_log

START_MS: Final = 1_385_000_000_000
RETRIED: Final = (
    ErrorCode.CONCURRENT_TRANSACTIONS,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.NOT_LEADER_OR_FOLLOWER,
)
old_produce, new_produce = 11, 12


class Producer(NamedTuple):
    """Id and epoch."""

    producer_id: int
    epoch: int


class Raw:
    """One connection; a transactional id and a topic of one name."""

    def __init__(self, client: KafkaClient, name: str) -> None:
        self.client = client
        self.name = name

    def ask(self, api_key: ApiKey, version: int, request: Any) -> Any:
        """Again while the coordinator is not ready or the markers of the last transaction are being written."""

        def answered() -> Any:
            answer = self.client.ask(api_key, version, request)
            return None if answer.error_code in RETRIED else answer

        return wait_until(answered)

    def init(self) -> Producer:
        self.client.ask(ApiKey.FIND_COORDINATOR, 4, FindCoordinatorRequest(key_type=1, coordinator_keys=[self.name]))
        request = InitProducerIdRequest(transactional_id=self.name, transaction_timeout_ms=60_000)
        answer = self.ask(ApiKey.INIT_PRODUCER_ID, 4, request)
        assert answer.error_code == 0
        return Producer(answer.producer_id, answer.producer_epoch)

    def add(self, producer: Producer) -> int:
        topics = [AddPartitionsToTxnTopic(name=self.name, partitions=[0])]
        request = AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=self.name, v3_and_below_producer_id=producer.producer_id,
            v3_and_below_producer_epoch=producer.epoch, v3_and_below_topics=topics,
        )  # fmt: skip

        def answered() -> list[int] | None:
            answer = self.client.ask(ApiKey.ADD_PARTITIONS_TO_TXN, 3, request)
            code = answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
            return None if code in RETRIED else [code]

        return int(wait_until(answered)[0])

    def produce(self, producer: Producer, sequence: int, value: str, *, version: int) -> int:
        batch = build_batch(
            [NewRecord(START_MS, None, value.encode())], producer_id=producer.producer_id,
            producer_epoch=producer.epoch, base_sequence=sequence, transactional=True,
        )  # fmt: skip
        data = TopicProduceData(name=self.name, partition_data=[PartitionProduceData(index=0, records=batch)])
        request = ProduceRequest(transactional_id=self.name, acks=-1, timeout_ms=30_000, topic_data=[data])

        def answered() -> list[int] | None:
            answer = self.client.ask(ApiKey.PRODUCE, version, request)
            code = answer.responses[0].partition_responses[0].error_code
            return None if code in RETRIED else [code]

        return int(wait_until(answered)[0])

    def end(self, producer: Producer, *, committed: bool, version: int) -> Any:
        request = EndTxnRequest(
            transactional_id=self.name, producer_id=producer.producer_id, producer_epoch=producer.epoch, committed=committed
        )
        return self.ask(ApiKey.END_TXN, version, request)


@pytest.fixture
def raw(served: Served, topic: str) -> Iterator[Raw]:
    with KafkaClient(served.bootstrap) as client:
        yield Raw(client, topic)


def wait_for_the_marker_of_kafka(served: Served, topic: str) -> None:
    """Kafka takes into the transaction what comes between the answer to its end and the marker; riverlog refuses it at once."""
    if isinstance(served.process, Kafka):
        wait_until(lambda: read_log(served.bootstrap, topic, 0).markers)


@pytest.mark.parametrize("committed", [True, False], ids=["committed", "aborted"])
def test_a_late_batch_of_a_new_client_has_an_old_epoch(served: Served, raw: Raw, committed: bool) -> None:
    first = raw.init()
    assert raw.produce(first, 0, "in time", version=new_produce) == 0
    ended = raw.end(first, committed=committed, version=5)
    assert (ended.error_code, ended.producer_id, ended.producer_epoch) == (0, first.producer_id, first.epoch + 1)
    wait_for_the_marker_of_kafka(served, raw.name)
    assert raw.produce(first, 1, "late", version=new_produce) == ErrorCode.INVALID_PRODUCER_EPOCH
    second = Producer(ended.producer_id, ended.producer_epoch)
    assert raw.produce(second, 0, "next", version=new_produce) == 0
    assert raw.produce(first, 1, "later", version=new_produce) == ErrorCode.INVALID_PRODUCER_EPOCH
    assert raw.end(second, committed=True, version=5).error_code == 0
    expected = ["in time", "next"] if committed else ["next"]
    assert wait_until(lambda: (read := read_one(served.bootstrap, raw.name)) == expected and read) == expected
    assert "late" not in " ".join(read_one(served.bootstrap, raw.name, committed=False))


def test_an_end_that_is_sent_again_is_answered_as_the_first_was(raw: Raw) -> None:
    first = raw.init()
    assert raw.produce(first, 0, "in time", version=new_produce) == 0
    answers = [raw.end(first, committed=True, version=5) for _ in range(2)]
    assert [(one.error_code, one.producer_epoch) for one in answers] == [(0, first.epoch + 1)] * 2


def test_a_late_batch_of_an_old_client_is_of_no_transaction(served: Served, raw: Raw) -> None:
    producer = raw.init()
    assert raw.add(producer) == 0
    assert raw.produce(producer, 0, "aborted", version=old_produce) == 0
    assert raw.end(producer, committed=False, version=4).error_code == 0
    wait_for_the_marker_of_kafka(served, raw.name)
    late = raw.produce(producer, 1, "late", version=old_produce)
    assert late in (ErrorCode.INVALID_TXN_STATE, ErrorCode.TRANSACTION_ABORTABLE, ErrorCode.INVALID_PRODUCER_EPOCH)
    assert read_one(served.bootstrap, raw.name, committed=False) == ["aborted"]
    again = raw.init()
    assert raw.add(again) == 0
    assert raw.produce(again, 0, "next", version=old_produce) == 0
    assert raw.end(again, committed=True, version=4).error_code == 0
    assert wait_until(lambda: read_one(served.bootstrap, raw.name)) == ["next"]
    assert read_one(served.bootstrap, raw.name, committed=False) == ["aborted", "next"]


def test_a_batch_without_a_transaction_is_refused_and_holds_nobody_back(served: Served, raw: Raw) -> None:
    producer = raw.init()
    refused = raw.produce(producer, 0, "never added", version=old_produce)
    assert refused in (ErrorCode.INVALID_TXN_STATE, ErrorCode.TRANSACTION_ABORTABLE)
    assert read_one(served.bootstrap, raw.name, committed=False) == []
    assert raw.add(producer) == 0
    assert raw.produce(producer, 0, "added", version=old_produce) == 0
    assert raw.end(producer, committed=True, version=4).error_code == 0
    assert wait_until(lambda: read_one(served.bootstrap, raw.name)) == ["added"]
