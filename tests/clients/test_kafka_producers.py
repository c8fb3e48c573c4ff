"""Our machine of idempotent producers answers as Apache Kafka does, batch for batch: the same batches go to both."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.peers import kafka, wire
from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import Offset
from riverlog.env.entropy import SeededEntropy
from riverlog.records.header import read_header
from riverlog.state.producers import Duplicate, Producers
from tests.partition_files import make_batch, simple_records

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(600)]

CODES = {
    ErrorKind.OUT_OF_ORDER_SEQUENCE: 45,
    ErrorKind.INVALID_PRODUCER_EPOCH: 47,
    ErrorKind.INVALID_RECORD: 87,
}
WRAP = 2**31
STEPS = (0, 0, 0, 0, 0, -1, -2, -3, -4, -5, -6, -8, 1, 5)
NOW_MS = 1_700_000_000_000


@pytest.fixture(scope="module", autouse=True)
def _java() -> None:
    """Skips by name where Kafka cannot run; fails where the environment says that it must."""
    if (missing := kafka.missing()) is not None:
        if "java" in os.environ.get("RIVERLOG_REQUIRE", ""):
            pytest.fail(missing)
        pytest.skip(missing)


def batches(entropy: SeededEntropy, count: int) -> list[tuple[int, int, int, int]]:
    """Producer id, epoch, base sequence, count: mostly near where a producer stands, so that every rule is met."""
    stands: dict[int, tuple[int, int]] = {}
    made: list[tuple[int, int, int, int]] = []
    for _ in range(count):
        producer_id = 1000 + entropy.below(12)
        if producer_id not in stands:
            stands[producer_id] = entropy.below(2), (0, 17, WRAP - 3)[entropy.below(3)]
        epoch, sequence = stands[producer_id]
        records = 1 + entropy.below(3)
        kind = entropy.below(20)
        if kind == 0:
            epoch, sequence = epoch + 1, (0, sequence)[entropy.below(2)]
        elif kind == 1 and epoch:
            epoch -= 1
        else:
            sequence = (sequence + STEPS[entropy.below(len(STEPS))]) % WRAP
        made.append((producer_id, epoch, sequence, records))
        if epoch > stands[producer_id][0] and sequence == 0:
            stands[producer_id] = epoch, records
        elif (epoch, sequence) == stands[producer_id]:
            stands[producer_id] = epoch, (sequence + records) % WRAP
    return made


def test_every_batch_gets_kafkas_answer(tmp_path: Path) -> None:
    producers, end = Producers(), 0
    seen: dict[str, int] = {}
    with kafka.Kafka(tmp_path) as broker, wire.Connection(broker.bootstrap) as connection:
        connection.create_topic("sequences", 1)
        for producer_id, epoch, sequence, count in batches(SeededEntropy(11), 1500):
            batch = make_batch(0, simple_records(count, NOW_MS), producer=(producer_id, epoch, sequence))
            header = read_header(batch)
            answer = producers.check(header)
            if answer is None:
                producers.apply(header, Offset(end), NOW_MS)
                expected, what = (0, end), "appended"
                end += count
            elif isinstance(answer, Duplicate):
                expected, what = (0, answer.base_offset), "duplicate"
            else:
                assert isinstance(answer, RiverlogError)
                expected, what = (CODES[answer.kind], -1), answer.kind.name
            body = wire.produce_body("sequences", [(0, batch)], acks=-1)
            code, offset = wire._produced(connection.ask(wire.PRODUCE, 3, body))
            assert (code, offset) == expected, (producer_id, epoch, sequence, count, what)
            seen[what] = seen.get(what, 0) + 1
    assert set(seen) == {"appended", "duplicate", "OUT_OF_ORDER_SEQUENCE", "INVALID_PRODUCER_EPOCH"}, seen
    assert min(seen.values()) > 10, seen
