"""`kill -9` under load, again and again: what was acknowledged with acks=all is read again, in order, once; what a reader has
seen is never taken back."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Final

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.metadata import MetadataRequest, MetadataRequestTopic
from tests.process.serving import QUIET, Serve, fetch, one_batch, read_all

kills: Final = 20
partition_count: Final = 4
key_count: Final = 40
TOPIC: Final = "violent"


class Load(threading.Thread):
    """An idempotent producer that numbers the records of each key, until it is told to end. It never looks at the server."""

    def __init__(self, address: str) -> None:
        super().__init__(name="load", daemon=True)
        self.producer = Producer(
            {
                "bootstrap.servers": address,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 2,
                "retry.backoff.ms": 20,
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 200,
                "message.timeout.ms": 120_000,
                "log.connection.close": False,
            },
            logger=QUIET,
        )
        self.acknowledged: dict[bytes, list[int]] = defaultdict(list)  # key -> sequence numbers, in order of the answers
        self.count = 0
        self.failures: list[str] = []
        self.ending = threading.Event()

    def run(self) -> None:
        sequence = 0
        while not self.ending.is_set():
            for _ in range(20):
                for key in range(key_count):
                    self._produce(b"key-%d" % key, sequence)
                sequence += 1
                self.producer.poll(0)
            self.producer.poll(0.1)
        self.producer.flush(60)

    def _produce(self, key: bytes, sequence: int) -> None:
        while True:
            try:
                self.producer.produce(TOPIC, b"%d" % sequence, key, on_delivery=self._delivered)
                return
            except BufferError:
                self.producer.poll(0.05)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.failures.append(error.str())
            return
        self.count += 1
        self.acknowledged[bytes(message.key() or b"")].append(int(message.value() or b"-1"))

    def wait_for(self, count: int, seconds: float = 30) -> None:
        until = time.monotonic() + seconds
        while self.count < count:
            assert time.monotonic() < until, f"no progress: {self.count} of {count} acknowledged, {self.failures[:3]}"
            assert not self.failures, self.failures[:3]
            time.sleep(0.01)


def make_topic(address: str, name: str, partitions: int, **config: str) -> None:
    admin = AdminClient({"bootstrap.servers": address})
    topic = NewTopic(name, num_partitions=partitions, config={key.replace("_", "."): value for key, value in config.items()})
    admin.create_topics([topic])[name].result(20)


def leader_epochs(serve: Serve, name: str) -> list[int]:
    with serve.client() as client:
        request = MetadataRequest(topics=[MetadataRequestTopic(name=name)], allow_auto_topic_creation=False)
        topic = client.ask(ApiKey.METADATA, 12, request).topics[0]
        return [one.leader_epoch for one in sorted(topic.partitions, key=lambda one: one.partition_index)]


def everything(address: str, count: int) -> dict[tuple[int, bytes], list[int]]:
    """(partition, key) -> sequence numbers in the order of offsets; reads to the end of every partition."""
    consumer = Consumer(
        {"bootstrap.servers": address, "group.id": "reader", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    )
    ends = {index: consumer.get_watermark_offsets(TopicPartition(TOPIC, index), 20)[1] for index in range(partition_count)}
    assert sum(ends.values()) >= count
    consumer.assign([TopicPartition(TOPIC, index, 0) for index in range(partition_count)])
    found: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    places = dict.fromkeys(ends, 0)
    try:
        while any(places[index] < ends[index] for index in ends):
            messages = consumer.consume(10_000, 10)
            assert messages, f"nothing more came at {places} of {ends}"
            for message in messages:
                assert message.error() is None, message.error()
                index, offset = message.partition(), message.offset()
                assert index is not None
                assert offset == places[index], "an offset is missing or came twice"
                places[index] += 1
                found[index, bytes(message.key() or b"")].append(int(message.value() or b"-1"))
    finally:
        consumer.close()
    return found


@pytest.mark.slow
def test_what_was_acknowledged_survives_twenty_kills_in_order_and_once(tmp_path: Path) -> None:
    moments = random.Random(7)
    starts: list[float] = []
    epochs: list[list[int]] = []
    with Serve(tmp_path / "data") as serve:
        make_topic(serve.address, TOPIC, partition_count)
        load = Load(serve.address)
        load.start()
        try:
            for _ in range(kills):
                load.wait_for(load.count + 1_000)
                time.sleep(moments.random() * 0.3)
                serve.kill()
                serve.start()
                starts.append(serve.started_seconds)
                epochs.append(leader_epochs(serve, TOPIC))
            load.wait_for(load.count + 1_000)
        finally:
            load.ending.set()
            load.join(90)
        assert not load.is_alive()
        assert load.failures == []
        found = everything(serve.address, load.count)
    print(f"{kills} kills, {load.count} records; starts: median {median(starts):.2f} s, longest {max(starts):.2f} s")
    acknowledged = {key: sorted(numbers) for key, numbers in load.acknowledged.items()}
    read = {key: numbers for (_, key), numbers in found.items()}
    assert len(read) == len(found) == key_count, "a key has moved to another partition"
    assert read == acknowledged, "lost, doubled or out of order"
    for before, after in pairwise(epochs):
        assert all(late > early for early, late in zip(before, after, strict=True)), (before, after)
    assert median(starts) < 1, starts


class Tail(threading.Thread):
    """Follows a partition through the raw protocol and keeps all that it ever saw."""

    def __init__(self, serve: Serve, topic: str, offset: int) -> None:
        super().__init__(name="tail", daemon=True)
        self.client = serve.client()
        self.topic = topic
        self.offset = offset
        self.saw: list[tuple[int, bytes]] = []

    def run(self) -> None:
        with self.client:
            try:
                while True:
                    got = fetch(self.client, self.topic, self.offset, wait_ms=1_000)
                    assert got.error_code == 0
                    self.saw += got.records
                    if got.records:
                        self.offset = got.records[-1][0] + 1
            except ConnectionError:
                return


class Writer(threading.Thread):
    """acks=1 as fast as the answers come."""

    def __init__(self, serve: Serve, topic: str, first: int) -> None:
        super().__init__(name="writer", daemon=True)
        self.client = serve.client()
        self.topic = topic
        self.number = first
        self.answered = 0

    def run(self) -> None:
        with self.client:
            try:
                while True:
                    answer = self.client.produce(self.topic, one_batch(b"%d" % self.number), acks=1)
                    assert answer.error_code == 0
                    self.number += 1
                    self.answered += 1
            except ConnectionError:
                return


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["fsync", "page-cache"])
def test_what_a_reader_saw_is_never_taken_back(tmp_path: Path, durability: str) -> None:
    with Serve(tmp_path / "data") as serve:
        make_topic(serve.address, "tailed", 1, riverlog_durability=durability)
        saw: list[tuple[int, bytes]] = []
        number = 0
        for _ in range(4):
            tail, writer = Tail(serve, "tailed", len(saw)), Writer(serve, "tailed", number)
            tail.start()
            writer.start()
            until = time.monotonic() + 20
            while len(tail.saw) < 200:
                assert time.monotonic() < until, "the reader saw nothing"
                time.sleep(0.005)
            serve.kill()
            tail.join(20)
            writer.join(20)
            assert not tail.is_alive()
            assert not writer.is_alive()
            number = writer.number + 1  # the one without an answer may be there
            saw += tail.saw
            serve.start()
            with serve.client() as client:
                there = read_all(client, "tailed")
            assert there[: len(saw)] == saw
            assert [offset for offset, _ in there] == list(range(len(there)))
            saw = there
