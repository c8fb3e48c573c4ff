"""From places to offsets, in a topic of two partitions of different lengths."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from riverlog.cli.client import admin
from riverlog.cli.places import Ends, find_ends, find_offsets
from riverlog.cli.positions import At, AtTime, BeforeEnd, Earliest, Latest, Place
from riverlog.library import Broker

TOPIC = "places"


@pytest.fixture(scope="module")
def bootstrap() -> Iterator[str]:
    """Partition 0 has offsets 0 to 4 at 1000 to 5000 ms, partition 1 is empty."""
    with Broker() as broker:
        broker.create_topic(TOPIC, partitions=2, configs={"retention.ms": "-1"})
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
        for number in range(1, 6):
            producer.produce(TOPIC, b"x", partition=0, timestamp=1000 * number)
        assert producer.flush(10) == 0
        yield broker.bootstrap_servers


@pytest.mark.parametrize(
    ("place", "first", "second"),
    [
        (Earliest(), 0, 0),
        (Latest(), 5, 0),
        (At(3), 3, 0),
        (At(99), 5, 0),
        (BeforeEnd(2), 3, 0),
        (BeforeEnd(99), 0, 0),
        (AtTime(0), 0, 0),
        (AtTime(2001), 2, 0),
        (AtTime(5001), 5, 0),
    ],
)
def test_each_place_in_each_partition(bootstrap: str, place: Place, first: int, second: int) -> None:
    client = admin(bootstrap)
    ends = find_ends(client, [(TOPIC, 0), (TOPIC, 1)], bootstrap)
    assert ends == {(TOPIC, 0): Ends(0, 5), (TOPIC, 1): Ends(0, 0)}
    assert find_offsets(client, place, ends, bootstrap) == {(TOPIC, 0): first, (TOPIC, 1): second}


def test_nothing_is_asked_of_nobody(bootstrap: str) -> None:
    assert find_ends(admin(bootstrap), [], bootstrap) == {}
