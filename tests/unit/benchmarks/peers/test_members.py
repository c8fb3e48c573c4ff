"""The members' driver: what it counts as owned twice and as settled, and a small group against a broker of ours."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest

from benchmarks.peers import members, wire
from benchmarks.peers.members import CLASSIC, CONSUMER, Ownership, Specification
from riverlog.library import Broker


@pytest.fixture
def ownership() -> Ownership:
    """Each look at its clock is a second later."""
    return Ownership(3, clock=map(float, count()).__next__)


def test_a_partition_with_two_owners_is_counted(ownership: Ownership) -> None:
    ownership.take("a", [0, 1])
    ownership.drop("a", [1])
    ownership.take("b", [1, 2])
    assert ownership.shared == 0
    ownership.take("b", [0])
    assert ownership.shared == 1
    ownership.drop("a", [0])
    assert ownership.owners == {0: "b", 1: "b", 2: "b"}, "it is not a's to drop any more"


def test_complete_is_one_epoch_all_members_and_every_partition(ownership: Ownership) -> None:
    ownership.take("a", [0, 1])
    ownership.at("a", 1)
    assert not ownership.is_complete(1), "a partition has no owner"
    ownership.take("b", [2])
    assert ownership.is_complete(1)
    ownership.at("b", 2)
    assert not ownership.is_complete(2), "two epochs"
    ownership.at("a", 2)
    assert ownership.is_complete(2)
    ownership.forget("b")
    assert not ownership.is_complete(2)


def test_only_changes_count_as_changes(ownership: Ownership) -> None:
    ownership.at("a", 1)
    before = ownership.changed
    ownership.at("a", 1)
    ownership.drop("a", [0])
    ownership.take("a", [])
    assert ownership.changed == before
    ownership.at("a", 2)
    assert ownership.changed > before


def test_ranges_are_dealt_as_kafka_deals_them() -> None:
    assert members.deal(["b", "a", "c"], 8) == {"a": range(3), "b": range(3, 6), "c": range(6, 8)}


@pytest.mark.parametrize("protocol", [CLASSIC, CONSUMER])
def test_a_small_group_settles_and_follows_changes(protocol: str, riverlog_broker: Broker) -> None:
    topic = f"members-{protocol}"
    with wire.Connection(riverlog_broker.bootstrap_servers) as connection:
        connection.create_topic(topic, 12)
    specification = Specification(
        bootstrap=riverlog_broker.bootstrap_servers, topic=topic, group=topic, protocol=protocol, members=5,
        partitions=12, heartbeat_seconds=0.05, seconds_max=30, changes=True,
    )  # fmt: skip
    result = asyncio.run(members.Driver(specification).run())
    assert (result.shared, result.lost) == (0, 0)
    assert min(result.settled_seconds, result.left_seconds, result.joined_seconds) > 0


def test_a_process_of_its_own_says_why_it_failed() -> None:
    specification = Specification(bootstrap="127.0.0.1:1", topic="t", group="g", members=1)
    with pytest.raises(RuntimeError, match="ConnectionRefusedError"):
        members.run(specification)


def test_the_command_line_is_the_specification() -> None:
    made = members.parse(["h:1", "t", "--members", "7", "--protocol", "classic", "--changes"])
    assert made == Specification(
        bootstrap="h:1", topic="t", group="bench-members", protocol=CLASSIC, members=7, changes=True
    )
