"""Kafka Streams counts words with exactly_once_v2, is killed and started again, the broker too: each count is there once.

The topic of counts gets all counts of a word one after another, so a word that is lost or counted twice shows."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from benchmarks.peers import kafka
from tests.clients.matrix import HERE, require_java
from tests.clients.transactions import QUIET
from tests.process.exactly_once import (
    KafkaServe,
    Serve,
    Worker,
    broker_over,
    make_topics,
    partition_count,
    read_log,
)
from tools.clients import require

pytestmark = [pytest.mark.oracle, pytest.mark.slow, pytest.mark.timeout(400)]

LINES, COUNTS, APPLICATION = "lines", "counts", "word-count"
WORDS: Final = tuple(f"word{number}" for number in range(17))
lines_a_round: Final = 300
words_a_line: Final = 5
seconds_max: Final = 90.0


def lines() -> Iterator[str]:
    """Words in an order that repeats late, no two lines of a round alike."""
    number = 0
    while True:
        yield " ".join(WORDS[(number * words_a_line + at) * (1 + number % 7) % len(WORDS)] for at in range(words_a_line))
        number += 1


class Counts:
    """What a consumer with read_committed has seen of the topic of counts."""

    def __init__(self, address: str) -> None:
        settings = {"group.id": "counts-reader", "isolation.level": "read_committed", "enable.auto.commit": False}
        self.consumer = Consumer({"bootstrap.servers": address, "reconnect.backoff.max.ms": 200, **settings}, logger=QUIET)
        self.consumer.assign([TopicPartition(COUNTS, index, OFFSET_BEGINNING) for index in range(partition_count)])
        self.of_word: dict[str, list[int]] = {}
        self.seen = 0

    def take(self, seconds: float) -> None:
        for message in self.consumer.consume(1000, seconds):
            if message.error() is None:
                self.of_word.setdefault(message.key().decode(), []).append(int(message.value()))
                self.seen += 1

    def wait_for(self, count: int, worker: Worker) -> None:
        deadline = time.monotonic() + seconds_max
        while self.seen < count:
            assert time.monotonic() < deadline, f"{self.seen} of {count} counts came; {worker.words()}"
            self.take(0.1)


def transaction_is_open(address: str) -> bool:
    logs = (read_log(address, COUNTS, partition) for partition in range(partition_count))
    return any(log.last_stable_offset < log.high_watermark for log in logs)


def wait_until_open(address: str) -> None:
    deadline = time.monotonic() + seconds_max
    while not transaction_is_open(address):
        assert time.monotonic() < deadline, "no transaction was ever open"


def word_count(broker: Serve | KafkaServe, directory: Path) -> Worker:
    """Compiled; not yet started."""
    classes = f"{require('kafka-streams')}:{kafka.classpath()}:{directory}"
    source = str(HERE / "WordCount.java")
    done = subprocess.run(["javac", "-nowarn", "-cp", classes, "-d", str(directory), source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    configuration = Path(kafka.fetch()).parent / "log4j2-warn.properties"
    command = ["java", *kafka.JVM_TOOL, f"-Dlog4j2.configurationFile={configuration}", "-cp", classes, "WordCount"]
    worker = Worker(command, broker.address, directory / "streams.log")
    worker.command = [*command, broker.address, APPLICATION, LINES, COUNTS, str(directory / "state")]
    return worker


def test_words_are_counted_once_though_streams_and_the_broker_are_killed(tmp_path: Path) -> None:
    require_java()
    expected: Counter[str] = Counter()
    given = lines()
    fed = 0

    def feed(producer: Producer) -> None:
        nonlocal fed
        for _ in range(lines_a_round):
            line = next(given)
            expected.update(line.split())
            producer.produce(LINES, line, partition=fed % partition_count)
            fed += 1
        assert producer.flush(60) == 0

    with broker_over(tmp_path / "data") as broker:
        make_topics(broker.address, LINES, COUNTS)
        settings = {"enable.idempotence": True, "reconnect.backoff.max.ms": 200}
        producer = Producer({"bootstrap.servers": broker.address, **settings}, logger=QUIET)
        with word_count(broker, tmp_path) as worker:
            counts = Counts(broker.address)
            for victim in ("streams", "streams", "broker", "streams"):
                feed(producer)
                wait_until_open(broker.address)
                if victim == "streams":
                    worker.kill()
                    worker.start()
                elif isinstance(broker, Serve):
                    broker.kill()
                    broker.start()
                counts.wait_for(fed * words_a_line, worker)
            counts.take(1.0)  # what is too much would come now
        assert {word: list(range(1, count + 1)) for word, count in expected.items()} == counts.of_word
        markers = [one for index in range(partition_count) for one in read_log(broker.address, COUNTS, index).markers]
        assert [one for one in markers if not one.committed], "no transaction was cut"
