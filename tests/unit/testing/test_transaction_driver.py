"""The driver is a runner in small: what waits for a commit waits, and what was not durable is lost."""

from __future__ import annotations

from riverlog.state.transactions.commands import Outcome, TransactionState
from riverlog.testing.transaction_driver import P0, TransactionDriver


def test_answers_wait_for_their_commit() -> None:
    driver = TransactionDriver(holds_commits=True)
    token = driver.init()
    assert token not in driver.answers
    assert not driver.rows
    driver.commit_one()
    assert driver.producer_of(token).epoch == 0
    assert set(driver.rows) == {"state"}


def test_a_load_loses_what_was_not_durable() -> None:
    driver = TransactionDriver(holds_commits=True)
    token = driver.init()
    driver.reload()
    assert not driver.pending
    assert not driver.machine.exists
    assert token not in driver.answers


def test_a_process_may_end_before_it_answers() -> None:
    driver = TransactionDriver(holds_commits=True)
    token = driver.init()
    driver.commit_one(delivered_count=0)
    driver.reload()
    assert token not in driver.answers
    assert driver.machine.producer.epoch == 0


def test_a_lazy_commit_goes_with_the_next() -> None:
    driver = TransactionDriver()
    producer = driver.new_producer()
    driver.add(producer, P0)
    driver.commit(producer)
    assert set(driver.lazy) == {"state"}
    driver.new_producer()
    assert not driver.lazy
    driver.reload()
    assert driver.machine.state is TransactionState.EMPTY
    assert driver.outcome(1) is Outcome.COMMITTED


def test_time_stops_at_each_tick() -> None:
    driver = TransactionDriver()
    producer = driver.new_producer(timeout_ms=100)
    driver.add(producer, P0)
    begun = driver.now
    driver.advance(250)
    assert driver.now.wall_ms - begun.wall_ms == driver.now.monotonic_ms - begun.monotonic_ms == 250
    assert driver.markers
