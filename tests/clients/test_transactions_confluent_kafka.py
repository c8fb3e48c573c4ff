"""Transactions by confluent-kafka (librdkafka, version 1 of the protocol with its verification) against a riverlog process."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from tests.clients.conftest import Served
from tests.clients.transactions import QUIET, committed_offset, read, read_one, seconds_max, wait_until
from tests.process.serving import Serve


def producer_of(bootstrap: str, transactional_id: str, **config: object) -> Producer:
    """With its producer id: what was open under the transactional id is aborted, what held it is fenced."""
    settings = {"transactional.id": transactional_id, "linger.ms": 1, "reconnect.backoff.max.ms": 200, **config}
    producer = Producer({"bootstrap.servers": bootstrap, **settings}, logger=QUIET)
    producer.init_transactions(seconds_max)
    return producer


def write(producer: Producer, topic: str, values: Mapping[int, Sequence[str]]) -> None:
    """The values to their partitions, acknowledged."""
    failed: list[KafkaError] = []

    def told(error: KafkaError | None, _: object) -> None:
        if error is not None:
            failed.append(error)

    for partition, of_partition in values.items():
        for value in of_partition:
            producer.produce(topic, value, partition=partition, on_delivery=told)
    assert producer.flush(seconds_max) == 0
    assert failed == []


@contextmanager
def consumer_of(bootstrap: str, group: str, topic: str) -> Iterator[Consumer]:
    settings = {"enable.auto.commit": False, "auto.offset.reset": "earliest", "isolation.level": "read_committed"}
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, **settings}, logger=QUIET)
    consumer.subscribe([topic])
    try:
        yield consumer
    finally:
        consumer.close()


def code_of(failure: pytest.ExceptionInfo[KafkaException]) -> int:
    code: int = failure.value.args[0].code()
    return code


def test_committed_records_of_all_partitions_are_read_and_aborted_ones_of_none(served: Served, topic_of_four: str) -> None:
    producer = producer_of(served.bootstrap, topic_of_four)
    for number, end in enumerate((producer.commit_transaction, producer.abort_transaction, producer.commit_transaction)):
        producer.begin_transaction()
        write(producer, topic_of_four, {index: [f"{number}-{at}" for at in range(10)] for index in range(4)})
        end(seconds_max)
    kept = [f"{number}-{at}" for number in (0, 2) for at in range(10)]
    assert read(served.bootstrap, topic_of_four, partitions=4) == [kept] * 4
    everything = [f"{number}-{at}" for number in (0, 1, 2) for at in range(10)]
    assert read(served.bootstrap, topic_of_four, partitions=4, committed=False) == [everything] * 4


def test_an_open_transaction_holds_readers_back_and_interleaved_ones_end_each_for_itself(
    served: Served, topic: str
) -> None:
    first, second = (producer_of(served.bootstrap, f"{topic}-{number}") for number in (1, 2))
    first.begin_transaction()
    second.begin_transaction()
    for at in range(5):
        write(first, topic, {0: [f"first {at}"]})
        write(second, topic, {0: [f"second {at}"]})
    assert read_one(served.bootstrap, topic) == []
    second.commit_transaction(seconds_max)
    assert read_one(served.bootstrap, topic) == []  # the first record is the other's
    assert len(read_one(served.bootstrap, topic, committed=False)) == 10
    first.abort_transaction(seconds_max)
    assert read_one(served.bootstrap, topic) == [f"second {at}" for at in range(5)]


def test_records_outside_transactions_wait_behind_an_open_one_and_are_read(served: Served, topic: str) -> None:
    producer = producer_of(served.bootstrap, topic)
    plain = Producer({"bootstrap.servers": served.bootstrap})
    write(plain, topic, {0: ["before"]})
    producer.begin_transaction()
    write(producer, topic, {0: ["aborted"]})
    write(plain, topic, {0: ["after"]})
    assert read_one(served.bootstrap, topic) == ["before"]
    producer.abort_transaction(seconds_max)
    assert read_one(served.bootstrap, topic) == ["before", "after"]


def test_offsets_are_committed_with_the_transaction_or_not_at_all(served: Served, name: str) -> None:
    source, target = f"{name}-in", f"{name}-out"
    served.create_topics([source, target])
    write(Producer({"bootstrap.servers": served.bootstrap}), source, {0: [str(at) for at in range(10)]})
    producer = producer_of(served.bootstrap, name)
    with consumer_of(served.bootstrap, name, source) as consumer:
        messages = consumer.consume(10, seconds_max)
        assert [message.value() for message in messages] == [b"%d" % at for at in range(10)]
        for end, offset in (("commit", 4), ("abort", 10), ("commit", 7)):
            producer.begin_transaction()
            write(producer, target, {0: [f"{end} {offset}"]})
            there = [TopicPartition(source, 0, offset)]
            producer.send_offsets_to_transaction(there, consumer.consumer_group_metadata(), seconds_max)
            getattr(producer, f"{end}_transaction")(seconds_max)
            assert committed_offset(served.bootstrap, name, source) == (4 if end == "abort" else offset)
    assert read_one(served.bootstrap, target) == ["commit 4", "commit 7"]


def test_offsets_of_an_open_transaction_are_not_stable(served: Served, topic: str) -> None:
    producer = producer_of(served.bootstrap, topic)
    with consumer_of(served.bootstrap, topic, topic) as consumer:
        write(Producer({"bootstrap.servers": served.bootstrap}), topic, {0: ["one"]})
        assert len(consumer.consume(1, seconds_max)) == 1
        producer.begin_transaction()
        producer.send_offsets_to_transaction(
            [TopicPartition(topic, 0, 1)], consumer.consumer_group_metadata(), seconds_max
        )
        with pytest.raises(KafkaException) as failure:
            consumer.committed([TopicPartition(topic, 0)], 1.0)
        assert code_of(failure) in (KafkaError.UNSTABLE_OFFSET_COMMIT, KafkaError._TIMED_OUT)
        producer.commit_transaction(seconds_max)
        assert committed_offset(served.bootstrap, topic, topic) == 1


def test_who_comes_second_with_a_transactional_id_fences_the_first(served: Served, topic: str) -> None:
    zombie = producer_of(served.bootstrap, topic)
    zombie.begin_transaction()
    write(zombie, topic, {0: ["of the zombie"]})
    heir = producer_of(served.bootstrap, topic)
    assert read_one(served.bootstrap, topic) == []
    with pytest.raises(KafkaException) as failure:
        zombie.commit_transaction(seconds_max)
    assert code_of(failure) in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH)
    assert failure.value.args[0].fatal()
    heir.begin_transaction()
    write(heir, topic, {0: ["of the heir"]})
    heir.commit_transaction(seconds_max)
    assert read_one(served.bootstrap, topic) == ["of the heir"]
    assert read_one(served.bootstrap, topic, committed=False) == ["of the zombie", "of the heir"]


def test_a_transaction_that_stays_open_too_long_is_aborted_and_readers_go_on(served: Served, topic: str) -> None:
    slow = producer_of(served.bootstrap, topic, **{"transaction.timeout.ms": 1000})
    slow.begin_transaction()
    write(slow, topic, {0: ["too late"]})
    write(Producer({"bootstrap.servers": served.bootstrap}), topic, {0: ["behind it"]})
    assert wait_until(lambda: read_one(served.bootstrap, topic)) == ["behind it"]
    with pytest.raises(KafkaException) as failure:
        slow.commit_transaction(seconds_max)
    assert failure.value.args[0].fatal() or failure.value.args[0].txn_requires_abort()
    assert read_one(served.bootstrap, topic) == ["behind it"]
    heir = producer_of(served.bootstrap, topic)
    heir.begin_transaction()
    write(heir, topic, {0: ["in time"]})
    heir.commit_transaction(seconds_max)
    assert read_one(served.bootstrap, topic) == ["behind it", "in time"]


def test_a_timeout_above_the_brokers_limit_is_refused(served: Served, name: str) -> None:
    with pytest.raises(KafkaException) as failure:
        producer_of(served.bootstrap, name, **{"transaction.timeout.ms": 901_000})
    assert code_of(failure) == KafkaError.INVALID_TRANSACTION_TIMEOUT


def test_empty_transactions_commit_and_abort(served: Served, topic: str) -> None:
    producer = producer_of(served.bootstrap, topic)
    for end in (producer.commit_transaction, producer.abort_transaction) * 2:
        producer.begin_transaction()
        end(seconds_max)
    producer.begin_transaction()
    write(producer, topic, {0: ["after them"]})
    producer.commit_transaction(seconds_max)
    assert read_one(served.bootstrap, topic) == ["after them"]


def test_a_transaction_of_many_partitions_and_a_hundred_small_ones(served: Served, name: str) -> None:
    served.create_topics([name], partitions=100)
    producer = producer_of(served.bootstrap, name)
    producer.begin_transaction()
    write(producer, name, {index: ["one"] for index in range(100)})
    producer.commit_transaction(seconds_max)
    for number in range(100):
        producer.begin_transaction()
        write(producer, name, {number: [f"two {number}"]})
        (producer.abort_transaction if number % 3 == 0 else producer.commit_transaction)(seconds_max)
    expected = [["one"] if number % 3 == 0 else ["one", f"two {number}"] for number in range(100)]
    assert read(served.bootstrap, name, partitions=100) == expected


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_an_open_transaction_outlives_the_broker(tmp_path: Path, how: str) -> None:
    with Serve(tmp_path / "data", "num.partitions=1") as serve:
        with serve.client() as client:
            client.create_topic("outlives")
        committing, aborting = (producer_of(serve.address, name) for name in ("committing", "aborting"))
        for producer, value in ((committing, "committed"), (aborting, "aborted")):
            producer.begin_transaction()
            write(producer, "outlives", {0: [f"{value} before"]})
        serve.kill() if how == "kill" else serve.stop()
        serve.start()
        assert read_one(serve.address, "outlives") == []
        for producer, value in ((committing, "committed"), (aborting, "aborted")):
            write(producer, "outlives", {0: [f"{value} after"]})
        committing.commit_transaction(seconds_max)
        aborting.abort_transaction(seconds_max)
        serve.kill() if how == "kill" else serve.stop()
        serve.start()
        assert read_one(serve.address, "outlives") == ["committed before", "committed after"]
        assert len(read_one(serve.address, "outlives", committed=False)) == 4


def test_a_transaction_whose_producer_is_gone_is_aborted_after_its_time_though_the_broker_was_killed(
    tmp_path: Path,
) -> None:
    with Serve(tmp_path / "data", "num.partitions=1") as serve:
        with serve.client() as client:
            client.create_topic("orphan")
        producer = producer_of(serve.address, "orphan", **{"transaction.timeout.ms": 3000})
        producer.begin_transaction()
        write(producer, "orphan", {0: ["never"]})
        write(Producer({"bootstrap.servers": serve.address}), "orphan", {0: ["behind it"]})
        serve.kill()
        serve.start()
        began = time.monotonic()
        assert wait_until(lambda: read_one(serve.address, "orphan")) == ["behind it"]
        assert time.monotonic() - began < 20
