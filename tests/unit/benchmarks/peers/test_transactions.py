"""Transactional writers: a little of it against a broker of ours."""

from __future__ import annotations

import pytest

from benchmarks.peers import transactions, wire
from benchmarks.peers.transactions import Specification
from riverlog.library import Broker


def test_every_transaction_counts(riverlog_broker: Broker) -> None:
    with wire.Connection(riverlog_broker.bootstrap_servers) as connection:
        connection.create_topic("transactions", 2)
    result = transactions.run(
        Specification(
            bootstrap=riverlog_broker.bootstrap_servers, topic="transactions", id_prefix="x", producers=2, records=3,
            seconds=0.2,
        )
    )  # fmt: skip
    assert result.transactions >= 2
    assert 0 < result.p50_ms <= result.p99_ms
    with wire.Connection(riverlog_broker.bootstrap_servers) as connection:
        ends = [connection.end_offset("transactions", partition)[1] for partition in range(2)]
    warm_up = 2 * transactions.warm_up_transactions
    assert sum(ends) >= 3 * (result.transactions + warm_up), "the markers of commits have offsets too"


def test_a_writer_that_fails_ends_the_run(riverlog_broker: Broker) -> None:
    specification = Specification(
        bootstrap=riverlog_broker.bootstrap_servers, topic="t", id_prefix="x", settings={"no.such.setting": "1"}
    )
    with pytest.raises(RuntimeError, match=r"no\.such\.setting"):
        transactions.run(specification)


def test_the_summary_is_of_all_transactions() -> None:
    result = transactions.summary([1.0, 2.0, 3.0], 1.5, 0.5)
    assert (result.transactions, result.transactions_per_second, result.p50_ms) == (3, 2.0, 2.0)
