"""The worker's process by itself: what it says, and that it does not outlive who started it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from riverlog.demo.adding import create_topic, read_sums
from riverlog.demo.flights import rows, tally, to_flight
from riverlog.demo.streaming import Writer
from riverlog.demo.streaming import create_topic as create_flights
from riverlog.library import Broker

COUNT = 3000


@pytest.fixture
def bootstrap() -> Iterator[str]:
    """A broker of its own, with flights and an empty topic of sums."""
    with Broker(settings={"group.initial.rebalance.delay.ms": 0}) as broker:
        create_flights(broker.bootstrap_servers)
        create_topic(broker.bootstrap_servers)
        Writer(broker.bootstrap_servers).write(map(to_flight, rows(COUNT)), lambda count: None)
        yield broker.bootstrap_servers


def start(bootstrap: str, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "riverlog.demo.worker", bootstrap, *more],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_it_adds_up_to_the_end_and_ends(bootstrap: str) -> None:
    with start(bootstrap) as worker:
        assert worker.stdout is not None
        said = worker.stdout.read().splitlines()
        assert worker.wait(60) == 0
    assert said[-1] == f"committed {COUNT}"
    assert read_sums(bootstrap, committed=True).differences(tally(rows(COUNT))) == []


def test_it_halts_in_an_open_transaction_and_ends_with_its_stdin(bootstrap: str) -> None:
    with start(bootstrap, "--halt-after", "0") as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        word, _, flights = worker.stdout.readline().partition(" ")
        assert word == "open"
        assert read_sums(bootstrap, committed=True).count == 0
        assert read_sums(bootstrap, committed=False).count == int(flights) > 0
        worker.stdin.close()
        assert worker.wait(60) == 1
