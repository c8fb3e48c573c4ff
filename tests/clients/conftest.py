"""What the tests of other people's clients share: one `riverlog serve` process a session, and topics on it.

Invariant: a test that makes the broker log a warning or an error fails, unless it says that it expects one.
RIVERLOG_PEER=kafka puts Apache Kafka in riverlog's place: what a test says of clients must be true of both."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Final

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.peers.kafka import Kafka
from benchmarks.peers.riverlog import Riverlog

SETTINGS: Final = {
    "num.partitions": "4",
    "group.min.session.timeout.ms": "500",
    # the consumer protocol as fast as a test wants it; Kafka's own least values are seconds
    "group.consumer.heartbeat.interval.ms": "200",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.min.session.timeout.ms": "500",
    "group.consumer.assignment.interval.ms": "0",
}
KAFKA_SETTINGS: Final = {**SETTINGS, "transaction.abort.timed.out.transaction.cleanup.interval.ms": "100"}
_complaint = re.compile(r"^[\d-]+ [\d:,]+ (WARNING|ERROR|CRITICAL) ")
_numbers = count()


class Served:
    """One riverlog process as its clients see it."""

    def __init__(self, process: Riverlog | Kafka) -> None:
        self.process = process
        self.bootstrap = process.bootstrap
        self.admin = AdminClient({"bootstrap.servers": process.bootstrap, "log_level": 2})
        self._log_position = 0

    def create_topics(
        self, names: Sequence[str], *, partitions: int = 1, configs: Mapping[str, str] | None = None
    ) -> None:
        """Make topics that keep records of any age, and return when they are there."""
        config = {"retention.ms": "-1", **(configs or {})}
        wanted = [NewTopic(name, partitions, 1, config=config) for name in names]
        for future in self.admin.create_topics(wanted).values():
            future.result(20)

    def complaints(self) -> list[str]:
        """The lines of the log since the last call that are warnings, errors or parts of a traceback; Kafka's are its own."""
        if isinstance(self.process, Kafka):
            return []
        with self.process.log.open(errors="replace") as log:
            log.seek(self._log_position)
            lines = log.read().splitlines()
            self._log_position = log.tell()
        return [line for line in lines if _complaint.match(line) or not re.match(r"[\d-]+ [\d:,]+ [A-Z]+ ", line)]

    def first_segment(self, topic: str, partition: int = 0) -> Path:
        """The file with the partition's first records."""
        return self.process.data_directory / f"{topic}-{partition}" / "00000000000000000000.log"


@pytest.fixture(scope="session")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The broker's process; tests use `served`, which looks into its log too."""
    directory = tmp_path_factory.mktemp("served")
    peer = os.environ.get("RIVERLOG_PEER") == "kafka"
    with Kafka(directory, settings=KAFKA_SETTINGS) if peer else Riverlog(directory, settings=SETTINGS) as running:
        yield Served(running)


@pytest.fixture
def served(process: Served) -> Iterator[Served]:
    """The running broker. The test fails when the broker complained meanwhile."""
    process.complaints()
    yield process
    assert process.complaints() == []


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses, for a topic or a group."""
    return f"{re.sub(r'[^A-Za-z0-9]+', '-', request.node.name).strip('-')[:100]}-{next(_numbers)}"


@pytest.fixture
def topic(served: Served, name: str) -> str:
    """A fresh topic of one partition."""
    served.create_topics([name])
    return name


@pytest.fixture
def topic_of_four(served: Served, name: str) -> str:
    """A fresh topic of four partitions."""
    served.create_topics([name], partitions=4)
    return name
