"""A worker stands still (SIGSTOP) for longer than its session and its transaction may last; another takes over; then it goes on.

Its commit fails, whatever it had written, and nothing of it is seen."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.clients.matrix import require_java
from tests.process.exactly_once import (
    SOURCE,
    TARGET,
    Feeder,
    KafkaServe,
    Log,
    Serve,
    Worker,
    broker_over,
    java_worker,
    make_topics,
    partition_count,
    python_worker,
    read_committed,
    read_log,
    wait_until,
    wait_until_processed,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

records_each = 25
transaction_timeout_ms = "2000"


@contextmanager
def broker_with_input(directory: Path) -> Iterator[tuple[Serve | KafkaServe, Feeder]]:
    with broker_over(directory / "data") as broker:
        make_topics(broker.address, SOURCE, TARGET)
        feeder = Feeder(broker.address)
        feeder.feed(records_each)
        yield broker, feeder


def logs(address: str) -> list[Log]:
    return [read_log(address, TARGET, partition) for partition in range(partition_count)]


def open_records(address: str) -> int:
    return sum(log.high_watermark - log.last_stable_offset for log in logs(address))


def play(directory: Path, command: Sequence[str], *, phase: str, same_id: bool) -> None:
    """The whole story, with the zombie at `phase`; its heir has its transactional id or one of its own."""
    with broker_with_input(directory) as (broker, feeder), ExitStack() as stack:

        def worker(name: str, transactional: str) -> Worker:
            log = directory / f"{name}.log"
            settings = {"transactional": transactional, "timeout": transaction_timeout_ms, "session": "1000"}
            return stack.enter_context(Worker(command, broker.address, log, **settings))

        zombie = worker("zombie", "zombie")
        zombie.hold(phase, lambda: feeder.feed(1))
        zombie.send(signal.SIGSTOP)
        assert open_records(broker.address) > 0
        assert read_committed(broker.address, TARGET) == [[]] * partition_count
        if not same_id:  # the time-out ends what it left open; else the heir does
            wait_until(lambda: open_records(broker.address) == 0, lambda: logs(broker.address))
        heir = worker("heir", "zombie" if same_id else "heir")
        feeder.feed(records_each)
        wait_until_processed(broker.address, feeder, {"heir": heir})
        before = read_committed(broker.address, TARGET)
        assert before == feeder.expected()
        zombie.tell("go")
        zombie.send(signal.SIGCONT)
        assert zombie.wait_for("failed", "aborted", "committed") != "committed"
        feeder.feed(5)
        wait_until_processed(broker.address, feeder, {"heir": heir, "zombie": zombie})
        assert read_committed(broker.address, TARGET) == feeder.expected()
        markers = [marker for log in logs(broker.address) for marker in log.markers]
        assert [one for one in markers if not one.committed], "the zombie's transaction was aborted"


@pytest.mark.parametrize("same_id", [True, False], ids=["same-id", "other-id"])
@pytest.mark.parametrize("phase", ["written", "prepared"])
def test_a_stopped_worker_commits_nothing_when_it_goes_on(tmp_path: Path, phase: str, same_id: bool) -> None:
    play(tmp_path, python_worker(), phase=phase, same_id=same_id)


@pytest.mark.oracle
@pytest.mark.parametrize("same_id", [True, False], ids=["same-id", "other-id"])
def test_a_stopped_java_worker_commits_nothing_when_it_goes_on(tmp_path: Path, same_id: bool) -> None:
    require_java()
    play(tmp_path, java_worker(tmp_path), phase="prepared", same_id=same_id)
