"""When it is too late for a transaction, and for a transactional id; how few ticks that takes."""

from __future__ import annotations

from itertools import permutations

import pytest

from riverlog.base.errors import ErrorKind
from riverlog.base.units import DAY_MS
from riverlog.env.clock import Now
from riverlog.state.transactions.commands import (
    AddResult,
    MarkersWritten,
    Number,
    Outcome,
    Producer,
    ProducerResult,
    Settled,
    Tick,
    TransactionSettings,
    TransactionState,
    Version,
)
from riverlog.state.transactions.effects import Commit, Schedule, WriteMarkers
from riverlog.testing.transaction_driver import P0, P1, TransactionDriver

FENCED = ErrorKind.PRODUCER_FENCED


def opened(driver: TransactionDriver) -> Producer:
    producer = driver.new_producer()
    driver.add(producer, P0)
    return producer


def after(producer: Producer, bumps: int = 1) -> Producer:
    return Producer(producer.producer_id, producer.epoch + bumps)


def test_a_transaction_is_aborted_when_its_time_is_over() -> None:
    driver = TransactionDriver()
    producer = opened(driver)
    driver.advance(30_000)
    driver.add(producer, P1)  # does not make it longer
    driver.advance(29_999)
    assert driver.machine.state is TransactionState.ONGOING
    driver.advance(1)
    assert driver.machine.state is TransactionState.PREPARE_ABORT
    assert driver.markers == [WriteMarkers(Number(1), after(producer), False, (P0, P1), ())]
    assert driver.answers[driver.add(producer, P0)] == AddResult(FENCED)
    driver.write_markers()
    assert driver.outcome(1) is Outcome.ABORTED


def test_who_was_too_late_goes_on_by_aborting() -> None:
    driver = TransactionDriver()
    producer = opened(driver)
    driver.advance(60_000)
    token = driver.end(producer, committed=False)
    assert driver.machine.waiting() == [token]
    driver.write_markers()
    assert driver.producer_of(token) == after(producer)
    assert driver.answers[driver.end(producer, committed=True)] == ProducerResult(ErrorKind.INVALID_TXN_STATE)
    assert driver.answers[driver.end(producer, True, Version.PLAIN)] == ProducerResult(FENCED)
    assert driver.new_producer(producer) == after(producer)


def test_a_time_that_is_over_before_the_load_is_due_at_once() -> None:
    driver = TransactionDriver()
    producer = opened(driver)
    driver.reload(away_ms=90_000)
    assert driver.deadline_ms == driver.now.monotonic_ms
    driver.advance(0)
    assert driver.markers[0].producer == after(producer)


def test_what_is_left_of_the_time_is_left_after_a_load() -> None:
    driver = TransactionDriver()
    opened(driver)
    driver.reload(away_ms=20_000)
    assert driver.deadline_ms == driver.now.monotonic_ms + 40_000


def test_a_clock_that_was_set_back_makes_nobody_wait_longer_than_once() -> None:
    driver = TransactionDriver()
    opened(driver)
    driver.reload(away_ms=-3_600_000)
    assert driver.deadline_ms == driver.now.monotonic_ms + 60_000


def test_a_commit_in_flight_is_not_aborted_under_it() -> None:
    driver = TransactionDriver()
    producer = opened(driver)
    driver.advance(59_999)
    token = driver.end(producer, committed=True)
    driver.advance(10_000)
    driver.send(Tick())
    assert driver.machine.state is TransactionState.ONGOING
    driver.settle()
    assert driver.producer_of(token) == after(producer)
    assert driver.outcome(1) is Outcome.COMMITTED


def test_a_commit_in_flight_that_fails_too_late_is_aborted_at_once() -> None:
    driver = TransactionDriver()
    producer = opened(driver)
    token = driver.end(producer, committed=True)
    driver.advance(60_000)
    driver.settle(Settled(Number(1), ErrorKind.STORAGE))
    assert driver.answers[token] == ProducerResult(ErrorKind.TRANSACTION_ABORTABLE)
    assert driver.markers == [WriteMarkers(Number(1), after(producer), False, (P0,), ())]


def test_a_decision_does_not_time_out() -> None:
    driver = TransactionDriver()
    driver.end(opened(driver), committed=False)
    driver.advance(30 * DAY_MS)
    assert driver.machine.state is TransactionState.PREPARE_ABORT
    assert driver.machine.deadline_ms is None


def test_an_id_that_nobody_uses_expires() -> None:
    driver = TransactionDriver(TransactionSettings(expiration_ms=1_000_000))
    producer = opened(driver)
    driver.add(producer, P1)
    bumped = driver.commit(producer)
    driver.advance(999_999)
    assert driver.machine.exists
    driver.advance(1)
    assert not driver.machine.exists
    driver.commit_lazy()
    assert driver.rows == {}
    assert driver.machine.deadline_ms is None
    assert driver.answers[driver.add(bumped, P0)] == AddResult(ErrorKind.INVALID_PRODUCER_ID_MAPPING)
    again = driver.new_producer()
    assert again.producer_id != producer.producer_id
    driver.add(again, P0)
    assert driver.machine.open_number() == 2, "nobody takes it for the transaction before"


def test_use_defers_the_expiration() -> None:
    driver = TransactionDriver(TransactionSettings(expiration_ms=1_000_000))
    producer = driver.new_producer()
    for _ in range(3):
        driver.advance(999_999)
        producer = driver.new_producer(producer)
    driver.reload(away_ms=999_999)
    driver.advance(0)
    assert driver.machine.exists
    driver.advance(1)
    assert not driver.machine.exists


def test_a_thousand_transactions_take_one_tick() -> None:
    driver = TransactionDriver()
    producer = driver.new_producer()
    assert driver.schedule_count == 1  # the expiration
    for _ in range(1_000):
        driver.add(producer, P0)
        producer = driver.commit(producer)
        driver.advance(10)
    assert driver.schedule_count == 2  # the first time-out, which is never over
    driver.advance(60_000)
    assert driver.schedule_count == 3  # its tick found nothing to do
    assert driver.deadline_ms == driver.machine.deadline_ms


def test_a_tick_that_comes_too_early_is_asked_for_again() -> None:
    driver = TransactionDriver()
    opened(driver)
    due_ms = driver.deadline_ms
    assert due_ms is not None
    driver.now = Now(driver.now.wall_ms, due_ms - 1)
    assert driver.send(Tick()) == [Schedule(due_ms)]
    driver.now = Now(driver.now.wall_ms, due_ms)
    assert isinstance(driver.send(Tick())[0], Commit)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_markers_may_be_told_part_by_part(order: tuple[int, ...]) -> None:
    driver = TransactionDriver()
    producer = opened(driver)
    driver.add(producer, P1, groups=["g"])
    driver.end(producer, committed=False)
    parts = [MarkersWritten(Number(1), (P0,)), MarkersWritten(Number(1), (P1,)), MarkersWritten(Number(1), (), ("g",))]
    for index in order:
        assert driver.machine.state is TransactionState.PREPARE_ABORT
        driver.send(parts[index])
    assert driver.machine.state is TransactionState.COMPLETE_ABORT
