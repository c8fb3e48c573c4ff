"""Consumers of old data."""

from __future__ import annotations

import pytest

from benchmarks.peers import fill, readers
from tests.unit.benchmarks.peers.tiny import TinyBroker


@pytest.fixture
def broker() -> TinyBroker:
    made = TinyBroker()
    made.start()
    fill.fill(made.bootstrap, "t", partitions=3, total_bytes=30_000, batch_bytes=2_000)
    for batches in made.batches.values():  # the tiny broker gives each batch one offset: so have its records
        batches[:] = [batch[:23] + bytes(4) + batch[27:] for batch in batches]
    return made


def test_every_partition_is_read_to_its_end(broker: TinyBroker) -> None:
    got = readers.start(broker.bootstrap, "t", 3, seconds_max=30).result()
    assert got == sum(len(batch) for batches in broker.batches.values() for batch in batches)


def test_reading_ends_with_its_time(broker: TinyBroker) -> None:
    assert readers.start(broker.bootstrap, "t", 3, seconds_max=0).result() == 0
