"""Effects come in the order in which they are to be done."""

from __future__ import annotations

from riverlog.base.ids import ProducerId
from riverlog.state.transactions.commands import (
    Add,
    End,
    MarkersWritten,
    Number,
    Producer,
    ProducerResult,
    Settled,
    Token,
)
from riverlog.state.transactions.effects import Commit, MakeDurable, Reply, WriteMarkers
from riverlog.testing.transaction_driver import P0, V2, TransactionDriver


def test_a_decision_is_committed_before_it_is_told_to_anybody() -> None:
    driver = TransactionDriver()
    producer = driver.new_producer()
    driver.add(producer, P0)
    (durable,) = driver.machine.step(End(Token(50), producer, V2, True, ProducerId(9)), driver.now)
    assert durable == MakeDurable(Number(1), (P0,))
    commit, reply, markers = driver.machine.step(Settled(Number(1)), driver.now)
    bumped = Producer(producer.producer_id, 1)
    assert isinstance(commit, Commit)
    assert not commit.lazy
    assert reply == Reply(Token(50), ProducerResult(None, bumped))
    assert markers == WriteMarkers(Number(1), bumped, True, (P0,), ())


def test_what_nobody_waits_for_is_committed_lazily() -> None:
    driver = TransactionDriver()
    producer = driver.new_producer()
    driver.add(producer, P0)
    driver.end(producer, committed=False)
    (commit,) = driver.machine.step(MarkersWritten(Number(1), (P0,)), driver.now)
    assert isinstance(commit, Commit)
    assert commit.lazy


def test_a_small_transaction_is_one_row_and_each_addition_after_it_one_more() -> None:
    driver = TransactionDriver()
    producer = driver.new_producer()
    first, *_ = driver.machine.step(Add(Token(50), producer, V2, (P0,), ("g",)), driver.now)
    second, _ = driver.machine.step(Add(Token(51), producer, V2, (), ("h",)), driver.now)
    again = driver.machine.step(Add(Token(52), producer, V2, (P0,), ("g", "h")), driver.now)
    assert isinstance(first, Commit)
    assert isinstance(second, Commit)
    assert (list(first.rows), list(second.rows)) == (["state"], ["add/1/0"])
    assert [type(effect) for effect in again] == [Reply]
