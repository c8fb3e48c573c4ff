"""Committers: a little of it against a broker of ours, and what becomes of a refusal."""

from __future__ import annotations

import pytest

from benchmarks.peers import offsets, wire
from benchmarks.peers.offsets import Specification
from riverlog.library import Broker


def specification(bootstrap: str, topic: str) -> Specification:
    return Specification(bootstrap=bootstrap, topic=topic, group_prefix=topic, groups=3, partitions=2, seconds=0.2)


def test_every_commit_counts(riverlog_broker: Broker) -> None:
    with wire.Connection(riverlog_broker.bootstrap_servers) as connection:
        connection.create_topic("commits", 2)
    result = offsets.run(specification(riverlog_broker.bootstrap_servers, "commits"))
    assert result.commits >= 3
    assert result.offsets_per_second > 0
    assert 0 < result.p50_ms <= result.p99_ms


def test_a_refused_commit_ends_the_run(riverlog_broker: Broker) -> None:
    with pytest.raises(RuntimeError, match=r"was answered with the errors \[3, 3\]"):
        offsets.run(specification(riverlog_broker.bootstrap_servers, "no-such-topic"))


def test_the_summary_is_of_all_commits() -> None:
    result = offsets.summary([1.0, 2.0, 3.0, 4.0], 10, 2.0, 0.5)
    assert (result.commits, result.offsets_per_second, result.p50_ms, result.p99_ms) == (4, 20.0, 2.0, 4.0)
