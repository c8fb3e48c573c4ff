"""The paced load: what goes into its requests, and what it makes of answers."""

from __future__ import annotations

import struct

import pytest

from benchmarks.peers import paced, wire
from benchmarks.peers.paced import Paced, Sample, Specification
from tests.unit.benchmarks.peers.tiny import TinyBroker


@pytest.fixture
def broker() -> TinyBroker:
    made = TinyBroker()
    made.start()
    return made


def specification(bootstrap: str = "", **changes: object) -> Specification:
    values: dict[str, object] = {
        "bootstrap": bootstrap, "topic": "t", "partitions": 3, "acks": -1, "requests_per_second": 500.0, "seconds": 0.02,
        "messages": 4, "size": 100,
    }  # fmt: skip
    return Specification(**{**values, **changes})  # type: ignore[arg-type]


def test_messages_go_round_the_partitions(broker: TinyBroker) -> None:
    found = paced.Driver(specification(broker.bootstrap)).run()
    assert len(found.produced) == 10
    assert broker.requests[:3] == [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
    counts = [struct.unpack_from(">i", batch, 57)[0] for batch in broker.batches[0][:3]]
    assert counts == [2, 1, 1], "of four messages over three partitions the first gets two"


def test_the_tail_is_read_beside(broker: TinyBroker) -> None:
    found = paced.Driver(specification(broker.bootstrap, partitions=1, messages=1, tail=True)).run()
    assert len(found.produced) == len(found.read) == 10
    assert all(one.us > 0 for one in found.read)


def test_a_process_of_its_own_says_the_same(broker: TinyBroker) -> None:
    found = paced.run(specification(broker.bootstrap))
    assert [type(one) for one in found.produced] == [Sample] * 10
    assert found.latency().samples == 10


def test_a_refused_partition_ends_the_run() -> None:
    broker = TinyBroker(refused=frozenset({2}))
    broker.start()
    with pytest.raises(RuntimeError, match=f"api key {wire.PRODUCE} with error 3"):
        paced.run(specification(broker.bootstrap))


def test_percentiles_are_of_a_span_of_time() -> None:
    found = Paced([Sample(1.0, 10), Sample(2.0, 20), Sample(3.0, 30)], [])
    assert found.latency(2.0, 3.0).p99_us == 20
    with pytest.raises(ValueError, match="no samples"):
        found.latency(9.0)
