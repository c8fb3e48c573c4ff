"""Writing flights and reading them back, without the drama."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from riverlog.demo import streaming
from riverlog.demo.flights import Row, differences, rows, tally, to_flight
from riverlog.demo.streaming import Readers, StreamFailed, Writer, create_topic
from riverlog.env.clock import SystemClock
from riverlog.library import Broker

COUNT = 2000


@pytest.fixture(scope="module")
def some() -> list[Row]:
    return list(rows(COUNT))


@pytest.fixture
def bootstrap() -> Iterator[str]:
    """A broker of its own, with the topic."""
    with Broker(settings={"group.initial.rebalance.delay.ms": 100}) as broker:
        create_topic(broker.bootstrap_servers)
        yield broker.bootstrap_servers


def test_what_was_written_is_read_back(bootstrap: str, some: list[Row]) -> None:
    counts: list[int] = []
    Writer(bootstrap).write(map(to_flight, some), counts.append)
    assert counts[-1] == COUNT
    readers = Readers(bootstrap, clock=SystemClock())
    counts.clear()
    assert differences(tally(some), readers.read_back(counts.append)) == []
    assert counts[-1] == sum(readers.read_by) == COUNT


def test_a_record_that_is_in_the_log_twice_is_counted_twice(bootstrap: str, some: list[Row]) -> None:
    Writer(bootstrap).write(map(to_flight, [*some, some[0]]), lambda count: None)
    found = Readers(bootstrap, clock=SystemClock()).read_back(lambda count: None)
    assert differences(tally(some), found)[0] == f"{COUNT + 1:,} records were read, the CSV has {COUNT:,} rows"


def test_silence_is_not_waited_for_for_ever(bootstrap: str, some: list[Row], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "silence_seconds_max", 0.2)
    monkeypatch.setattr(Readers, "_ends", lambda self: [5, 0, 0, 0])
    with pytest.raises(StreamFailed, match="no record came"):
        Readers(bootstrap, clock=SystemClock()).read_back(lambda count: None)


def test_the_topic_is_made_once(bootstrap: str) -> None:
    with pytest.raises(StreamFailed, match="already exists"):
        create_topic(bootstrap)
