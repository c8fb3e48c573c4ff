"""A worker that is killed in a transaction, and the sums after another one has gone on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from riverlog.demo.adding import Adders, Sums, create_topic, read_sums
from riverlog.demo.flights import Row, rows, tally, to_flight
from riverlog.demo.streaming import StreamFailed, Writer
from riverlog.demo.streaming import create_topic as create_flights
from riverlog.env.clock import SystemClock
from riverlog.library import Broker

COUNT = 5000


@pytest.fixture(scope="module")
def some() -> list[Row]:
    return list(rows(COUNT))


@pytest.fixture
def bootstrap(some: list[Row]) -> Iterator[str]:
    """A broker of its own, with the flights in it."""
    with Broker(settings={"group.initial.rebalance.delay.ms": 0}) as broker:
        create_flights(broker.bootstrap_servers)
        Writer(broker.bootstrap_servers).write(map(to_flight, some), lambda count: None)
        yield broker.bootstrap_servers


def test_what_a_killed_worker_left_open_is_aborted_and_each_flight_counts_once(
    bootstrap: str, some: list[Row], tmp_path: Path
) -> None:
    counts: list[int] = []
    cut = Adders(bootstrap, tmp_path, clock=SystemClock()).add_up(COUNT // 2, counts.append)
    assert counts == sorted(counts)
    assert counts[-1] == COUNT
    assert cut.committed in counts
    assert COUNT // 2 <= cut.committed < COUNT
    assert cut.open > 0
    assert cut.pause_seconds > 0
    assert read_sums(bootstrap, committed=True).differences(tally(some)) == []
    assert read_sums(bootstrap, committed=False).count == COUNT + cut.open
    assert (tmp_path / "worker.log").read_text() == ""


def test_a_worker_that_fails_says_why(bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adders = Adders(bootstrap, tmp_path, clock=SystemClock())
    monkeypatch.setattr(adders, "_command", lambda *more: ["python3", "-c", "raise SystemExit('it is too hot')"])
    with pytest.raises(StreamFailed, match="the worker ended with 1: it is too hot"):
        adders.add_up(10, lambda count: None)


def test_a_worker_that_reaches_the_end_too_early_is_told(
    bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adders = Adders(bootstrap, tmp_path, clock=SystemClock())
    monkeypatch.setattr(adders, "_command", lambda *more: ["true"])
    with pytest.raises(StreamFailed, match="before it was to be killed"):
        adders.add_up(10, lambda count: None)


def test_the_topic_of_sums_is_made_once(bootstrap: str) -> None:
    create_topic(bootstrap)
    with pytest.raises(StreamFailed, match="sums could not be made"):
        create_topic(bootstrap)


def test_what_differs_is_said_by_carrier(some: list[Row]) -> None:
    expected = tally(some)
    sums = Sums(dict(expected.flights_of), dict(expected.miles_of))
    assert sums.differences(expected) == []
    sums.flights_of["UA"] += 1
    sums.miles_of["B6"] = 0
    said = sums.differences(expected)
    assert [one.split(":")[0] for one in said] == ["carrier UA", "carrier B6"]
    assert f"added up {expected.flights_of['UA'] + 1:,} flights, the CSV has {expected.flights_of['UA']:,}" in said[0]
