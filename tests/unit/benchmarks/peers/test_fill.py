"""Filling many partitions alike."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.peers import fill
from tests.unit.benchmarks.peers.tiny import TinyBroker


def test_every_partition_gets_as_much_and_is_in_a_request_once() -> None:
    broker = TinyBroker()
    broker.start()
    got = fill.fill(broker.bootstrap, "t", partitions=5, total_bytes=50_000, batch_bytes=4_000, runs=2, together_max=3)
    assert {len(batches) for batches in broker.batches.values()} == {4}
    assert all(max(Counter(request).values()) == 1 for request in broker.requests)
    assert max(map(len, broker.requests)) <= 3
    assert got.size_bytes >= 50_000
    assert got.records == 5 * 4 * 3
    first = [partition for request in broker.requests for partition in request][:4]
    assert first == [0, 0, 1, 1]


def test_a_refused_batch_ends_it() -> None:
    broker = TinyBroker(refused=frozenset({0}))
    broker.start()
    with pytest.raises(RuntimeError, match="error 3"):
        fill.fill(broker.bootstrap, "t", partitions=1, total_bytes=100_000, batch_bytes=2_000)
