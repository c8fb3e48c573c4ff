"""Transactions by kafka-python 3 against a riverlog process."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.conftest import Served
from tests.clients.transactions import committed_offset, read, read_one, seconds_max, wait_until

pytest.importorskip("kafka")

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

pytestmark = pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning")


def producer_of(served: Served, transactional_id: str, **config: Any) -> Any:
    settings = {"transactional_id": transactional_id, "max_block_ms": int(seconds_max * 1000), **config}
    producer = KafkaProducer(bootstrap_servers=served.bootstrap, **settings)
    producer.init_transactions()
    return producer


def write(producer: Any, topic: str, partition: int, *values: str) -> None:
    """Acknowledged."""
    futures = [producer.send(topic, value.encode(), partition=partition) for value in values]
    producer.flush(seconds_max)
    for future in futures:
        future.get(seconds_max)


def test_commits_and_aborts_over_four_partitions_and_its_own_reader(served: Served, topic_of_four: str) -> None:
    with producer_of(served, topic_of_four) as producer:
        for number in range(3):
            producer.begin_transaction()
            for partition in range(4):
                write(producer, topic_of_four, partition, f"{number}")
            producer.abort_transaction() if number == 1 else producer.commit_transaction()
    for level, expected in (("read_committed", ["0", "2"]), ("read_uncommitted", ["0", "1", "2"])):
        settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "consumer_timeout_ms": 20_000}
        with KafkaConsumer(bootstrap_servers=served.bootstrap, isolation_level=level, **settings) as consumer:
            consumer.assign([TopicPartition(topic_of_four, index) for index in range(4)])
            found = sorted(next(consumer).value.decode() for _ in range(4 * len(expected)))
            assert found == sorted(expected * 4)
    assert read(served.bootstrap, topic_of_four, partitions=4) == [["0", "2"]] * 4


def test_interleaved_producers(served: Served, topic: str) -> None:
    with producer_of(served, f"{topic}-1") as first, producer_of(served, f"{topic}-2") as second:
        first.begin_transaction()
        second.begin_transaction()
        for at in range(3):
            write(first, topic, 0, f"first {at}")
            write(second, topic, 0, f"second {at}")
        second.commit_transaction()
        assert read_one(served.bootstrap, topic) == []
        first.abort_transaction()
    assert read_one(served.bootstrap, topic) == ["second 0", "second 1", "second 2"]


def test_offsets_are_committed_with_the_transaction_or_not_at_all(served: Served, topic: str) -> None:
    with KafkaProducer(bootstrap_servers=served.bootstrap) as plain:
        write(plain, topic, 0, "input")
    settings = {"group_id": topic, "auto_offset_reset": "earliest", "enable_auto_commit": False}
    with (
        KafkaConsumer(topic, bootstrap_servers=served.bootstrap, consumer_timeout_ms=20_000, **settings) as consumer,
        producer_of(served, topic) as producer,
    ):
        assert next(consumer).value == b"input"
        for end, offset in (("commit", 4), ("abort", 10), ("commit", 7)):
            producer.begin_transaction()
            write(producer, topic, 0, f"{end} {offset}")
            offsets = {TopicPartition(topic, 0): OffsetAndMetadata(offset, "", -1)}
            producer.send_offsets_to_transaction(offsets, consumer.group_metadata())
            getattr(producer, f"{end}_transaction")()
            assert committed_offset(served.bootstrap, topic, topic) == (4 if end == "abort" else offset)
    assert read_one(served.bootstrap, topic) == ["input", "commit 4", "commit 7"]


def test_who_comes_second_with_a_transactional_id_fences_the_first(served: Served, topic: str) -> None:
    zombie = producer_of(served, topic)
    zombie.begin_transaction()
    write(zombie, topic, 0, "of the zombie")
    with producer_of(served, topic) as heir:
        with pytest.raises(KafkaError):
            zombie.commit_transaction()
        heir.begin_transaction()
        write(heir, topic, 0, "of the heir")
        heir.commit_transaction()
    zombie.close(timeout=0)
    assert read_one(served.bootstrap, topic) == ["of the heir"]


def test_a_transaction_that_stays_open_too_long_is_aborted(served: Served, topic: str) -> None:
    slow = producer_of(served, topic, transaction_timeout_ms=1000)
    slow.begin_transaction()
    write(slow, topic, 0, "too late")
    with KafkaProducer(bootstrap_servers=served.bootstrap) as plain:
        write(plain, topic, 0, "behind it")
    assert wait_until(lambda: read_one(served.bootstrap, topic)) == ["behind it"]
    with pytest.raises(KafkaError):
        slow.commit_transaction()
    slow.close(timeout=0)
    assert read_one(served.bootstrap, topic) == ["behind it"]


def test_empty_transactions_commit_and_abort(served: Served, topic: str) -> None:
    with producer_of(served, topic) as producer:
        for end in (producer.commit_transaction, producer.abort_transaction) * 2:
            producer.begin_transaction()
            end()
        producer.begin_transaction()
        write(producer, topic, 0, "after them")
        producer.commit_transaction()
    assert read_one(served.bootstrap, topic) == ["after them"]
