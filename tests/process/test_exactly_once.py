"""Consume, process, produce, with `kill -9` of the broker and of the workers in turn: the output is the input, once.

RIVERLOG_ROUNDS says how many rounds there are for each kind of worker; by default 50 in Python and 12 in Java."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.clients.matrix import require_java
from tests.process.exactly_once import (
    SOURCE,
    TARGET,
    Feeder,
    KafkaServe,
    Serve,
    Worker,
    broker_over,
    java_worker,
    make_topics,
    partition_count,
    python_worker,
    read_committed,
    read_log,
    wait_until_processed,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Who is killed, where the worker stands then, and whether it is let go just before the kill, so that its next request is cut.
CUTS: Final = (
    ("worker", "written", False),
    ("broker", "written", False),
    ("worker", "prepared", False),
    ("broker", "prepared", True),
    ("both", "prepared", False),
    ("worker", "prepared", True),
    ("broker", "begun", True),
    ("both", "written", True),
    ("worker", "committed", False),
    ("broker", "prepared", False),
    ("broker", "committed", False),
)
records_a_round: Final = 20


class Story:
    """Two workers on a broker, and the rounds."""

    def __init__(self, broker: Serve | KafkaServe, commands: Sequence[Sequence[str]], directory: Path) -> None:
        self.broker = broker
        self.feeder = Feeder(broker.address)
        self.cut = 0  # transactions that had records and were left open by a worker that was killed
        # The first is a static member: it takes its place again at once. The second is expelled after its session each time.
        self.workers = [
            Worker(commands[0], broker.address, directory / "first.log", transactional="first", instance="first"),
            Worker(commands[1], broker.address, directory / "second.log", transactional="second"),
        ]

    def run(self, rounds: int) -> None:
        for number in range(rounds):
            victim, phase, let_go = CUTS[number % len(CUTS)]
            if isinstance(self.broker, KafkaServe):
                victim = "worker"  # Kafka needs many seconds after a kill, and librdkafka gives up meanwhile
            worker = self.workers[number // len(CUTS) % 2 if number < 2 * len(CUTS) else number % 2]
            worker.hold(phase, lambda: self.feeder.feed(records_a_round))
            if let_go:
                worker.tell("go")
            if victim in ("worker", "both"):
                self.cut += phase in ("written", "prepared") and not let_go
                worker.kill()
            if victim in ("broker", "both"):
                self.broker.kill()
                self.broker.start()
            if victim in ("worker", "both"):
                worker.start()
            elif not let_go:
                worker.tell("go")

    def check(self) -> None:
        address = self.broker.address
        self.feeder.feed(1)
        wait_until_processed(address, self.feeder, {"first": self.workers[0], "second": self.workers[1]})
        assert read_committed(address, TARGET) == self.feeder.expected()
        logs = [read_log(address, TARGET, partition) for partition in range(partition_count)]
        assert [log.last_stable_offset for log in logs] == [log.high_watermark for log in logs]
        aborted = {(one.producer_id, one.producer_epoch) for log in logs for one in log.markers if not one.committed}
        assert len(aborted) >= self.cut, "each transaction that was cut open is aborted"
        written = sum(len(log.values) for log in logs)
        assert written > sum(map(len, self.feeder.taken)), "there is more in the log than is read committed"


@contextmanager
def story(directory: Path, commands: Sequence[Sequence[str]]) -> Iterator[Story]:
    with ExitStack() as stack:
        broker = stack.enter_context(broker_over(directory / "data"))
        make_topics(broker.address, SOURCE, TARGET)
        told = Story(broker, commands, directory)
        for worker in told.workers:
            stack.enter_context(worker)
        yield told


def rounds_of(default: int) -> int:
    return int(os.environ.get("RIVERLOG_ROUNDS", default))


def test_python_workers_output_is_their_input_once_through_every_kill(tmp_path: Path) -> None:
    with story(tmp_path, [python_worker(), python_worker()]) as told:
        told.run(rounds_of(50))
        assert told.cut >= rounds_of(50) // 4
        told.check()


@pytest.mark.oracle
def test_a_java_workers_output_is_its_input_once_beside_a_python_worker(tmp_path: Path) -> None:
    require_java()
    with story(tmp_path, [java_worker(tmp_path), python_worker()]) as told:
        told.run(rounds_of(12))
        assert told.cut >= rounds_of(12) // 4
        told.check()
