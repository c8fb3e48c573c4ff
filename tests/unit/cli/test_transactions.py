"""`riverlog transaction …`: an open transaction of a real broker, and hanging ones that a scripted cluster tells of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Producer

from riverlog.cli import transactions
from riverlog.cli.asking import Address
from riverlog.cli.errors import CommandError
from riverlog.gateways.kafka.schema import (
    describe_producers,
    describe_transactions,
    list_transactions,
    write_txn_markers,
)
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.library import Broker
from tests.unit.cli.conftest import Run


@pytest.fixture
def producer(riverlog_broker: Broker, riverlog_topic: str) -> Iterator[Producer]:
    """One with an open transaction of the topic's name, in the topic's partition."""
    made = Producer({"bootstrap.servers": riverlog_broker.bootstrap_servers, "transactional.id": riverlog_topic})
    made.init_transactions(20)
    made.begin_transaction()
    made.produce(riverlog_topic, b"one")
    assert made.flush(20) == 0
    yield made
    made.abort_transaction(20)


def test_an_open_transaction(run: Run, riverlog_topic: str, producer: Producer) -> None:
    listed = {one["transaction"]: one for one in json.loads(run("transaction", "list", "--json").out)}
    assert listed[riverlog_topic]["state"] == "ongoing"
    assert any(line.split()[:2] == [riverlog_topic, "ongoing"] for line in run("transaction", "list").out.splitlines())
    assert riverlog_topic in run("transaction", "list", "--state", "ongoing").out
    assert riverlog_topic not in run("transaction", "list", "--state", "empty").out
    assert riverlog_topic not in run("transaction", "list", "--older-than", "1h").out
    (told,) = json.loads(run("transaction", "describe", riverlog_topic, "--json").out)
    assert told["topics"] == [{"topic": riverlog_topic, "partitions": [0]}]
    assert (told["state"], told["timeout_ms"], told["producer"]) == (
        "ongoing",
        60_000,
        listed[riverlog_topic]["producer"],
    )
    assert 0 <= told["age_s"] < 60
    lines = run("transaction", "describe", riverlog_topic).out.splitlines()
    assert lines[0].startswith(f"transaction {riverlog_topic}, ongoing, open for ")
    assert lines[0].endswith(f", producer {told['producer']} epoch {told['epoch']}, time-out 60 s")
    assert lines[-1].split() == [riverlog_topic, "0"]


def test_it_is_no_hanging_one_and_not_aborted(run: Run, riverlog_topic: str, producer: Producer) -> None:
    (told,) = json.loads(run("transaction", "open", "-t", riverlog_topic, "--json").out)
    assert (told["topic"], told["partition"], told["start"]) == (riverlog_topic, 0, 0)
    assert (told["transaction"], told["hanging"]) == (riverlog_topic, False)
    assert run("transaction", "open", "-t", riverlog_topic).out.splitlines()[-1].split()[-2:] == [riverlog_topic, "no"]
    assert json.loads(run("transaction", "open", "-t", riverlog_topic, "--hanging", "--json").out) == []
    done = run("transaction", "abort", riverlog_topic, "-p", "0", "--start", "0", "--execute")
    assert done.status == 1
    assert f"does not hang: its coordinator ends it with '{riverlog_topic}'" in done.err
    done = run("transaction", "abort", riverlog_topic, "-p", "0", "--start", "7")
    assert "no open transaction begins at offset 7" in done.err
    assert "there are 0" in done.err


def test_what_is_not_there(run: Run, riverlog_topic: str) -> None:
    assert "there is no transactional id 'nobody'" in run("transaction", "describe", "nobody").err
    assert "there is no topic 'nowhere'" in run("transaction", "open", "-t", "nowhere").err
    assert "there is none" in run("transaction", "abort", riverlog_topic, "-p", "0", "--start", "7").err


class Told:
    """A cluster of one broker. Partition 0 of `t` has an open transaction of producer 5, and one of 6 from offset 9 on."""

    def __init__(self, state: str, partitions: tuple[int, ...], *, ends: bool = False) -> None:
        self.state = state
        self.partitions = partitions
        self.ends = ends  # that of 6, after the first question
        self.questions = 0
        self.written: list[Any] = []
        self.refusal = 0

    def brokers(self) -> list[Address]:
        return [Address("h", 1)]

    def leaders(self) -> dict[tuple[str, int], Address]:
        return {("t", 0): Address("h", 1)}

    def ask(self, address: Address, api_key: ApiKey, request: Any) -> Any:
        if api_key == ApiKey.WRITE_TXN_MARKERS:
            self.written += request.markers
            partition = write_txn_markers.WritableTxnMarkerPartitionResult(error_code=self.refusal)
            topic = write_txn_markers.WritableTxnMarkerTopicResult(name="t", partitions=[partition])
            return write_txn_markers.WriteTxnMarkersResponse(
                markers=[write_txn_markers.WritableTxnMarkerResult(topics=[topic])]
            )
        if api_key == ApiKey.LIST_TRANSACTIONS:
            states = [
                list_transactions.TransactionState(
                    transactional_id=f"x{one}", producer_id=one, transaction_state="Ongoing"
                )
                for one in request.producer_id_filters
            ]
            return list_transactions.ListTransactionsResponse(transaction_states=states)
        assert api_key == ApiKey.DESCRIBE_PRODUCERS
        self.questions += 1
        producers = [self.producer(5, 3), describe_producers.ProducerState(producer_id=7)]
        if not (self.ends and self.questions > 1):
            producers.append(self.producer(6, 9))
        partition = describe_producers.PartitionResponse(partition_index=0, active_producers=producers)
        return describe_producers.DescribeProducersResponse(
            topics=[describe_producers.TopicResponse(name="t", partitions=[partition])]
        )

    def producer(self, producer_id: int, start: int) -> describe_producers.ProducerState:
        return describe_producers.ProducerState(
            producer_id=producer_id,
            producer_epoch=2,
            last_timestamp=1000,
            coordinator_epoch=-1,
            current_txn_start_offset=start,
        )

    def ask_coordinator(self, kind: int, key: str, api_key: ApiKey, request: Any, code_of: Any) -> Any:
        state, partitions = ("Ongoing", (0,)) if key == "x5" else (self.state, self.partitions)
        topics = [describe_transactions.TopicData(topic="t", partitions=partitions)]
        described = describe_transactions.TransactionState(transaction_state=state, topics=topics)
        answer = describe_transactions.DescribeTransactionsResponse(transaction_states=[described])
        code_of(answer)
        return answer


@pytest.mark.parametrize(
    ("told", "hanging"),
    [
        (Told("Ongoing", (0,)), False),
        (Told("PrepareCommit", (0,)), False),
        (Told("Ongoing", (1,)), True),
        (Told("CompleteAbort", (0,)), True),
        (Told("Empty", ()), True),
    ],
    ids=lambda one: f"{one.state}-{one.partitions}" if isinstance(one, Told) else str(one),
)
def test_one_hangs_where_its_coordinator_does_not_know_of_it(told: Told, hanging: bool) -> None:
    first, second = transactions.open_in(told, ["t"])  # type: ignore[arg-type]  # it is asked no more than this
    assert (first.transaction, first.start, first.is_hanging) == ("x5", 3, False)
    assert (second.transaction, second.start, second.is_hanging) == ("x6", 9, hanging)


def test_one_that_ends_meanwhile_does_not_hang() -> None:
    found = transactions.open_in(Told("CompleteCommit", (0,), ends=True), [])  # type: ignore[arg-type]  # as above
    assert [(one.producer, one.is_hanging) for one in found] == [(5, False)]


def test_a_hanging_one_is_aborted_in_its_partition() -> None:
    told = Told("Empty", ())
    one = transactions._to_abort(transactions.open_in(told, ["t"]), ("t", 0), 9)  # type: ignore[arg-type]  # as above
    transactions._abort(told, one)  # type: ignore[arg-type]  # as above
    (marker,) = told.written
    assert (marker.producer_id, marker.producer_epoch, marker.transaction_result, marker.coordinator_epoch) == (
        6,
        2,
        False,
        0,
    )
    assert [(topic.name, list(topic.partition_indexes)) for topic in marker.topics] == [("t", [0])]
    told.refusal = ErrorCode.INVALID_PRODUCER_EPOCH
    with pytest.raises(CommandError, match="t partition 0 refuses the abort: INVALID_PRODUCER_EPOCH"):
        transactions._abort(told, one)  # type: ignore[arg-type]  # as above
