"""What the load generator prints, and percentiles."""

from __future__ import annotations

import pytest

from benchmarks.peers import load

PRODUCED = (
    "% Sending 200000 messages of size 128 bytes\n"
    "% 100 messages produced (1 bytes), 50 delivered (offset 3, 0 failed) in 20ms: 2500 msgs/s and 1.00 MB/s, 0\n"
    "% 200000 messages produced (25600000 bytes), 200000 delivered (offset 49876, 0 failed) in 570ms: 350786 msgs/s "
    "and 44.90 MB/s, 0 produce failures, 0 in queue, none compression\n"
)
CONSUMED = "% 200000 messages (25600000 bytes) consumed in 80ms: 2500000 msgs/s (320.00 MB/s)\n"


def test_the_last_summary_of_a_producing_run_counts() -> None:
    got = load.parse_produced(PRODUCED)
    assert got == load.Produced(200_000, 0, 0.57)
    assert got.messages_per_second == pytest.approx(350_877, rel=1e-5)


def test_messages_that_were_not_delivered_are_a_failure() -> None:
    with pytest.raises(RuntimeError, match="7 messages were not delivered"):
        load.parse_produced(PRODUCED.replace("49876, 0 failed", "49876, 7 failed"))


def test_a_consuming_run() -> None:
    assert load.parse_consumed(CONSUMED) == load.Consumed(200_000, 25_600_000, 0.08)


@pytest.mark.parametrize("parse", [load.parse_produced, load.parse_consumed])
def test_output_without_a_summary_is_a_failure_that_shows_it(parse: object) -> None:
    assert callable(parse)
    with pytest.raises(RuntimeError, match="all brokers are down"):
        parse("% ERROR: all brokers are down\n")


def test_percentiles_are_of_the_nearest_rank() -> None:
    assert load.percentiles([float(value) for value in range(100, 0, -1)]) == load.Latency(100, 50.0, 99.0)
    assert load.percentiles([3.0]) == load.Latency(1, 3.0, 3.0)
    with pytest.raises(ValueError, match="no samples"):
        load.percentiles([])
