"""Requests to one transactional id: answers, who waits and how long, what is left after a load."""

from __future__ import annotations

import pytest

from riverlog.base.errors import Corruption, ErrorKind
from riverlog.base.ids import PartitionId, TopicId
from riverlog.state.transactions.commands import (
    AddResult,
    Description,
    MarkersWritten,
    Number,
    Outcome,
    Producer,
    ProducerResult,
    Settled,
    Tick,
    Token,
    TransactionSettings,
    TransactionState,
    Version,
)
from riverlog.state.transactions.effects import Schedule, WriteMarkers
from riverlog.state.transactions.machine import Transaction, groups_count_max, parked_count_max
from riverlog.state.transactions.rules import EPOCH_LAST
from riverlog.testing.transaction_driver import P0, P1, TransactionDriver

CONCURRENT = ErrorKind.CONCURRENT_TRANSACTIONS
FENCED = ErrorKind.PRODUCER_FENCED
ABORTABLE = ErrorKind.TRANSACTION_ABORTABLE
PLAIN = Version.PLAIN


@pytest.fixture
def driver() -> TransactionDriver:
    return TransactionDriver()


def opened(driver: TransactionDriver, *partitions: PartitionId, groups: tuple[str, ...] = ()) -> Producer:
    producer = driver.new_producer()
    driver.add(producer, *(partitions or (P0,)), groups=groups)
    return producer


def after(producer: Producer, bumps: int = 1) -> Producer:
    return Producer(producer.producer_id, producer.epoch + bumps)


def at_epoch(driver: TransactionDriver, epoch: int) -> Producer:
    """A producer of that epoch, as after very many transactions."""
    row = driver.machine._row  # the machine's own, else the test would make 32,766 steps
    assert row is not None
    driver.machine._write(row._replace(producer=row.producer._replace(epoch=epoch)))
    return driver.machine.producer


# ---------------------------------------------------------------------- Init


def test_init_bumps_the_epoch_each_time(driver: TransactionDriver) -> None:
    first = driver.new_producer()
    assert first.epoch == 0
    assert [driver.new_producer(), driver.new_producer()] == [after(first), after(first, 2)]


@pytest.mark.parametrize("timeout_ms", [0, -1, 900_001])
def test_init_refuses_a_timeout_out_of_bounds(driver: TransactionDriver, timeout_ms: int) -> None:
    token = driver.init(timeout_ms=timeout_ms)
    assert driver.answers[token] == ProducerResult(ErrorKind.INVALID_TRANSACTION_TIMEOUT)
    assert not driver.machine.exists
    assert not driver.rows


def test_init_with_what_one_has_bumps_once_and_says_so_again(driver: TransactionDriver) -> None:
    first = driver.new_producer()
    assert driver.new_producer(first) == after(first)
    assert driver.new_producer(first) == after(first), "the answer was lost"
    assert driver.new_producer() == after(first, 2)
    assert driver.answers[driver.init(first)] == ProducerResult(FENCED)
    assert driver.answers[driver.init(after(first))] == ProducerResult(FENCED)


def test_init_aborts_the_open_transaction_first_and_waits_for_its_markers(driver: TransactionDriver) -> None:
    old = opened(driver, P0, P1, groups=("g",))
    token = driver.init()
    assert driver.machine.waiting() == [token]
    assert not driver.machine.admits(old, P0)
    assert driver.markers == [WriteMarkers(Number(1), after(old), False, (P0, P1), ("g",))]
    assert driver.answers[driver.add(old, P0)] == AddResult(FENCED)
    for committed in (True, False):
        assert driver.answers[driver.end(old, committed)] == ProducerResult(FENCED), "its epoch is of no use to it"
    driver.write_markers()
    assert driver.producer_of(token) == after(old, 2), "nobody shares an epoch with the one before"
    assert driver.machine.state is TransactionState.EMPTY
    assert driver.outcome(1) is Outcome.ABORTED


def test_init_with_what_one_has_goes_on_under_the_epoch_of_the_markers(driver: TransactionDriver) -> None:
    old = opened(driver)
    token = driver.init(old)
    assert driver.markers[0].producer == after(old)
    driver.write_markers()
    assert driver.producer_of(token) == after(old)
    assert driver.new_producer(old) == after(old), "the answer was lost"


def test_a_stale_init_does_not_touch_the_open_transaction(driver: TransactionDriver) -> None:
    old = driver.new_producer()
    current = driver.new_producer()
    driver.add(current, P0)
    assert driver.answers[driver.init(old)] == ProducerResult(FENCED)
    assert driver.machine.admits(current, P0)


def test_an_init_that_was_answered_long_ago_does_not_touch_what_came_of_it(driver: TransactionDriver) -> None:
    first = driver.new_producer()
    second = driver.new_producer(first)
    driver.add(second, P0)
    assert driver.answers[driver.init(first)] == ProducerResult(FENCED)
    assert driver.machine.admits(second, P0)
    driver.commit(second, PLAIN)
    assert driver.answers[driver.init(first)] == ProducerResult(FENCED)
    assert driver.answers[driver.end(first, committed=True)] == ProducerResult(FENCED)


def test_who_waits_too_long_is_told_to_ask_again(driver: TransactionDriver) -> None:
    old = opened(driver)
    fencing = driver.init()
    driver.advance(500)
    waiting = driver.init()
    driver.advance(499)
    assert driver.machine.waiting() == [fencing, waiting]
    driver.advance(1)
    assert driver.answers[fencing] == ProducerResult(CONCURRENT)
    assert driver.machine.waiting() == [waiting]
    driver.write_markers()
    assert driver.producer_of(waiting) == after(old, 2)
    assert driver.machine.waiting() == []


def test_no_more_wait_than_there_is_room_for(driver: TransactionDriver) -> None:
    producer = opened(driver)
    driver.end(producer, committed=False)
    tokens = [driver.add(after(producer), P0) for _ in range(parked_count_max)]
    assert driver.answers[driver.add(after(producer), P0)] == AddResult(CONCURRENT)
    driver.write_markers()
    assert all(driver.answers[token] == AddResult(None, Number(2), [None]) for token in tokens)


# ---------------------------------------------------------------------- Add and Verify


def test_add_opens_a_transaction_and_names_it(driver: TransactionDriver) -> None:
    producer = driver.new_producer()
    assert driver.machine.open_number() is None
    assert not driver.machine.admits(producer, P0)
    assert driver.answers[driver.add(producer, P0, groups=["g"])] == AddResult(None, Number(1), [None, None])
    assert driver.machine.open_number() == 1
    assert driver.machine.admits(producer, P0)
    assert not driver.machine.admits(producer, P1)
    assert not driver.machine.admits(after(producer), P0)


def test_add_of_nothing_opens_nothing(driver: TransactionDriver) -> None:
    producer = driver.new_producer()
    assert driver.answers[driver.add(producer)] == AddResult(None, Number(0), [])
    assert driver.machine.state is TransactionState.EMPTY


def test_add_is_refused_to_others(driver: TransactionDriver) -> None:
    assert driver.answers[driver.add(Producer(1, 0), P0)] == AddResult(ErrorKind.INVALID_PRODUCER_ID_MAPPING)
    assert not driver.machine.exists
    old, producer = driver.new_producer(), driver.new_producer()
    assert driver.answers[driver.add(old, P0)] == AddResult(FENCED)
    assert driver.answers[driver.add(after(producer), P0)] == AddResult(FENCED)
    assert driver.answers[driver.add(Producer(1, 1), P0)] == AddResult(ErrorKind.INVALID_PRODUCER_ID_MAPPING)


def test_what_was_added_is_there_after_a_load(driver: TransactionDriver) -> None:
    producer = opened(driver, P0, groups=("g",))
    others = [PartitionId(TopicId(b"u" * 16), index) for index in range(12)]
    for partition in others:
        driver.add(producer, partition)
    driver.add(producer, groups=["h"])
    assert len(driver.rows) == 1 + 12 + 1
    driver.reload()
    assert all(driver.machine.admits(producer, partition) for partition in [P0, *others])
    driver.add(producer, P1)
    driver.reload()
    driver.end(producer, committed=False)
    asked = driver.write_markers()
    assert (set(asked.partitions), set(asked.groups)) == ({P0, P1, *others}, {"g", "h"})
    driver.commit_lazy()
    assert set(driver.rows) == {"state"}


def test_a_transaction_has_no_more_groups_than_there_is_room_for(driver: TransactionDriver) -> None:
    producer = driver.new_producer()
    driver.add(producer, groups=[f"g{index}" for index in range(groups_count_max)])
    assert driver.answers[driver.add(producer, P0, groups=["g"])] == AddResult(ABORTABLE)
    assert not driver.machine.admits(producer, P0), "all or nothing"
    assert driver.answers[driver.add(producer, P0, groups=["g0"])] == AddResult(None, Number(1), [None, None])


def test_verify_names_what_is_not_in_the_transaction(driver: TransactionDriver) -> None:
    producer = driver.new_producer()
    assert driver.answers[driver.verify(producer, P0)] == AddResult(None, Number(0), [ABORTABLE])
    driver.add(producer, P0, groups=["g"])
    token = driver.verify(producer, P1, P0, groups=["h", "g"])
    assert driver.answers[token] == AddResult(None, Number(1), [ABORTABLE, None, ABORTABLE, None])
    assert driver.answers[driver.verify(after(producer), P0)] == AddResult(FENCED)
    assert driver.answers[driver.verify(Producer(1, 0), P0)] == AddResult(ErrorKind.INVALID_PRODUCER_ID_MAPPING)


def test_verify_waits_for_markers(driver: TransactionDriver) -> None:
    producer = opened(driver)
    driver.end(producer, committed=False, version=PLAIN)
    token = driver.verify(producer, P0)
    assert driver.machine.waiting() == [token]
    driver.write_markers()
    assert driver.answers[token] == AddResult(None, Number(1), [ABORTABLE])


def test_the_next_transaction_waits_for_the_markers_of_the_one_before(driver: TransactionDriver) -> None:
    producer = opened(driver)
    token = driver.end(producer, committed=True)
    driver.settle()
    bumped = driver.producer_of(token)
    late = driver.add(bumped, P1)
    assert driver.machine.waiting() == [late]
    driver.advance(1_000)
    assert driver.answers[late] == AddResult(CONCURRENT)
    again = driver.add(bumped, P1)
    driver.write_markers()
    assert driver.answers[again] == AddResult(None, Number(2), [None])
    assert driver.machine.admits(bumped, P1)
    assert not driver.machine.admits(bumped, P0)


# ---------------------------------------------------------------------- End


def test_a_commit_waits_until_its_records_are_durable(driver: TransactionDriver) -> None:
    producer = opened(driver, P0, P1)
    token = driver.end(producer, committed=True)
    assert driver.settling is not None
    assert driver.settling.partitions == (P0, P1)
    assert token not in driver.answers
    assert driver.machine.state is TransactionState.ONGOING
    assert driver.outcome(1) is Outcome.OPEN
    assert not driver.machine.admits(producer, P0)
    assert driver.machine.open_number() is None
    driver.settle()
    assert driver.producer_of(token) == after(producer)
    assert driver.outcome(1) is Outcome.COMMITTED
    assert driver.machine.state is TransactionState.PREPARE_COMMIT


def test_offsets_alone_need_no_wait(driver: TransactionDriver) -> None:
    producer = driver.new_producer()
    driver.add(producer, groups=["g"])
    token = driver.end(producer, committed=True)
    assert driver.settling is None
    assert driver.producer_of(token) == after(producer)
    assert driver.markers == [WriteMarkers(Number(1), after(producer), True, (), ("g",))]


@pytest.mark.parametrize(
    ("version", "error"), [(Version.EPOCH_BUMPED, ABORTABLE), (PLAIN, ErrorKind.COORDINATOR_NOT_AVAILABLE)]
)
def test_a_commit_whose_records_are_lost_decides_nothing(
    driver: TransactionDriver, version: Version, error: ErrorKind
) -> None:
    producer = opened(driver)
    token = driver.end(producer, committed=True, version=version)
    late = driver.add(producer, P1)
    assert driver.machine.waiting() == [token, late]
    driver.settle(Settled(Number(1), ErrorKind.STORAGE))
    assert driver.answers[token] == ProducerResult(error)
    assert driver.answers[late] == AddResult(None, Number(1), [None])
    assert driver.machine.admits(producer, P0)
    assert driver.outcome(1) is Outcome.OPEN
    assert driver.producer_of(driver.end(producer, committed=False, version=version)).epoch == int(version == 2)


def test_older_clients_keep_their_epoch(driver: TransactionDriver) -> None:
    producer = opened(driver)
    assert driver.commit(producer, PLAIN) == producer
    driver.add(producer, P1)
    assert driver.machine.open_number() == 2
    token = driver.end(producer, committed=False, version=PLAIN)
    assert driver.markers[0].producer == producer
    assert driver.producer_of(token) == producer


@pytest.mark.parametrize("version", list(Version))
@pytest.mark.parametrize("committed", [True, False])
def test_an_end_that_comes_again_gets_the_same_answer(
    driver: TransactionDriver, version: Version, committed: bool
) -> None:
    producer = opened(driver)
    first = driver.end(producer, committed, version)
    settling = driver.end(producer, committed, version)
    if committed:
        assert driver.machine.waiting() == [first, settling]
        driver.settle()
    prepared = driver.end(producer, committed, version)
    assert driver.machine.waiting() == [settling, prepared], "the markers are being written"
    assert driver.answers[driver.end(producer, not committed, version)] == ProducerResult(ErrorKind.INVALID_TXN_STATE)
    driver.write_markers()
    complete = driver.end(producer, committed, version)
    answers = {driver.producer_of(token) for token in (first, settling, prepared, complete)}
    assert answers == {after(producer, int(version == Version.EPOCH_BUMPED))}
    assert driver.answers[driver.end(producer, not committed, version)] == ProducerResult(ErrorKind.INVALID_TXN_STATE)
    assert driver.outcome(1) is (Outcome.COMMITTED if committed else Outcome.ABORTED)


def test_an_end_that_comes_again_waits_no_longer_than_others(driver: TransactionDriver) -> None:
    producer = opened(driver)
    driver.end(producer, committed=True)
    again = driver.end(producer, committed=True)
    driver.advance(999)
    assert again not in driver.answers
    driver.advance(1)
    assert driver.answers[again] == ProducerResult(CONCURRENT)
    assert driver.settling is not None, "the first one still waits for the disk"


def test_an_abort_of_nothing_bumps_the_epoch(driver: TransactionDriver) -> None:
    producer = driver.new_producer()
    token = driver.end(producer, committed=False)
    assert driver.producer_of(token) == after(producer)
    assert driver.producer_of(driver.end(producer, committed=False)) == after(producer), "the answer was lost"
    assert driver.answers[driver.end(producer, committed=True)] == ProducerResult(ErrorKind.INVALID_TXN_STATE)
    assert driver.producer_of(driver.end(after(producer), committed=False)) == after(producer, 2)
    assert driver.answers[driver.end(after(producer, 2), committed=False, version=PLAIN)] == ProducerResult(
        None, after(producer, 2)
    )
    assert not driver.markers


def test_an_abort_of_nothing_does_not_change_what_became_of_the_transaction_before(driver: TransactionDriver) -> None:
    bumped = driver.commit(opened(driver))
    assert driver.outcome(1) is Outcome.COMMITTED
    driver.end(bumped, committed=False)
    assert driver.machine.state is TransactionState.COMPLETE_ABORT
    assert driver.outcome(2) is Outcome.ABORTED
    driver.add(after(bumped), P0)
    assert driver.machine.open_number() == 3


def test_nothing_to_commit_is_an_error(driver: TransactionDriver) -> None:
    producer = driver.new_producer()
    for version in Version:
        assert driver.answers[driver.end(producer, True, version)] == ProducerResult(ErrorKind.INVALID_TXN_STATE)
    assert driver.answers[driver.end(producer, False, PLAIN)] == ProducerResult(ErrorKind.INVALID_TXN_STATE)


def test_a_fencing_init_waits_for_a_commit_in_flight(driver: TransactionDriver) -> None:
    producer = opened(driver)
    commit = driver.end(producer, committed=True)
    fencing = driver.init()
    assert set(driver.machine.waiting()) == {commit, fencing}
    driver.settle()
    assert driver.producer_of(commit) == after(producer)
    driver.write_markers()
    assert driver.producer_of(fencing) == after(producer, 2)
    assert driver.outcome(1) is Outcome.COMMITTED


def test_a_fencing_init_aborts_where_the_commit_in_flight_fails(driver: TransactionDriver) -> None:
    producer = opened(driver)
    commit = driver.end(producer, committed=True)
    fencing = driver.init()
    driver.settle(Settled(Number(1), ErrorKind.STORAGE))
    assert driver.answers[commit] == ProducerResult(ABORTABLE)
    assert driver.markers == [WriteMarkers(Number(1), after(producer), False, (P0,), ())]
    driver.write_markers()
    assert driver.producer_of(fencing) == after(producer, 2)


# ---------------------------------------------------------------------- epochs that are used up


def test_an_end_with_the_last_epoch_gives_a_fresh_id(driver: TransactionDriver) -> None:
    driver.new_producer()
    last = at_epoch(driver, EPOCH_LAST)
    driver.add(last, P0)
    token = driver.end(last, committed=True)
    driver.settle()
    assert driver.markers[0].producer == Producer(last.producer_id, 32_767)
    fresh = driver.producer_of(token)
    assert fresh.producer_id != last.producer_id
    assert fresh.epoch == 0
    waiting = driver.end(last, committed=True)
    next_one = driver.add(fresh, P1)
    assert driver.machine.waiting() == [waiting, next_one]
    driver.write_markers()
    assert driver.producer_of(waiting) == fresh
    assert driver.answers[next_one] == AddResult(None, Number(2), [None])
    assert driver.answers[driver.end(last, committed=True)] == ProducerResult(ErrorKind.INVALID_PRODUCER_ID_MAPPING)


def test_an_abort_of_nothing_with_the_last_epoch_gives_a_fresh_id(driver: TransactionDriver) -> None:
    driver.new_producer()
    last = at_epoch(driver, EPOCH_LAST)
    fresh = driver.producer_of(driver.end(last, committed=False))
    assert (fresh.producer_id != last.producer_id, fresh.epoch) == (True, 0)
    assert driver.producer_of(driver.end(last, committed=False)) == fresh
    assert driver.new_producer(last) == fresh, "an Init with what one has is a repetition too"


@pytest.mark.parametrize("brings_it", [True, False])
def test_an_init_that_fences_the_last_epoch_gets_a_fresh_id(driver: TransactionDriver, brings_it: bool) -> None:
    driver.new_producer()
    last = at_epoch(driver, EPOCH_LAST)
    driver.add(last, P0)
    token = driver.init(last) if brings_it else driver.init()
    assert driver.markers[0].producer == Producer(last.producer_id, 32_767)
    driver.reload()
    again = driver.init(last) if brings_it else driver.init()
    driver.write_markers()
    assert token not in driver.answers, "it was lost with the machine"
    fresh = driver.producer_of(again)
    assert (fresh.producer_id != last.producer_id, fresh.epoch) == (True, 0)


def test_after_a_timeout_of_the_last_epoch_one_has_to_begin_anew(driver: TransactionDriver) -> None:
    driver.new_producer()
    last = at_epoch(driver, EPOCH_LAST)
    driver.add(last, P0)
    driver.advance(60_000)
    assert driver.write_markers().producer == Producer(last.producer_id, 32_767)
    assert driver.answers[driver.end(last, committed=False)] == ProducerResult(FENCED)
    assert driver.answers[driver.init(last)] == ProducerResult(FENCED)
    assert driver.answers[driver.add(Producer(last.producer_id, 32_767), P0)] == AddResult(FENCED)
    assert driver.new_producer().epoch == 0


# ---------------------------------------------------------------------- outcomes that come late or for nothing


def test_outcomes_of_other_transactions_are_not_heard(driver: TransactionDriver) -> None:
    producer = opened(driver, P0, P1)
    assert driver.send(Settled(Number(1))) == []
    driver.end(producer, committed=True)
    assert driver.send(Settled(Number(2))) == []
    assert driver.send(MarkersWritten(Number(1), (P0, P1))) == []
    driver.settle()
    assert driver.send(MarkersWritten(Number(2), (P0, P1))) == []
    assert driver.send(MarkersWritten(Number(1), (P0,), ("g",))) == []
    assert driver.describe().partitions == (P1,)
    driver.send(MarkersWritten(Number(1), (P0, P1)))
    assert driver.machine.state is TransactionState.COMPLETE_COMMIT


# ---------------------------------------------------------------------- Describe and LookUp


def test_what_people_are_shown(driver: TransactionDriver) -> None:
    assert driver.describe() == Description(ErrorKind.TRANSACTIONAL_ID_NOT_FOUND)
    producer = driver.new_producer(timeout_ms=30_000)
    assert driver.describe() == Description(None, TransactionState.EMPTY, producer, 30_000)
    driver.add(producer, P0)
    began_ms = driver.now.wall_ms
    assert driver.describe() == Description(None, TransactionState.ONGOING, producer, 30_000, began_ms, (P0,))
    driver.end(producer, committed=False)
    prepared = Description(None, TransactionState.PREPARE_ABORT, after(producer), 30_000, began_ms, (P0,))
    assert driver.describe() == prepared
    driver.write_markers()
    assert driver.describe() == Description(None, TransactionState.COMPLETE_ABORT, after(producer), 30_000)


def test_what_became_of_a_transaction(driver: TransactionDriver) -> None:
    assert driver.outcome(1) is Outcome.ABORTED
    bumped = driver.commit(opened(driver))
    assert [driver.outcome(number) for number in (0, 1, 2)] == [Outcome.ABORTED, Outcome.COMMITTED, Outcome.ABORTED]
    driver.new_producer(bumped)
    assert driver.outcome(1) is Outcome.COMMITTED, "an Init does not change it"
    driver.reload()
    assert driver.outcome(1) is Outcome.COMMITTED


# ---------------------------------------------------------------------- loads


def test_an_id_without_rows_is_nothing(driver: TransactionDriver) -> None:
    assert driver.reload() == []
    assert not driver.machine.exists
    assert driver.machine.deadline_ms is None


def test_markers_are_written_again_after_a_load(driver: TransactionDriver) -> None:
    producer = opened(driver, P0, P1, groups=("g",))
    driver.end(producer, committed=True)
    driver.settle()
    driver.send(MarkersWritten(Number(1), (P0,)))
    driver.reload()
    assert driver.markers == [WriteMarkers(Number(1), after(producer), True, (P0, P1), ("g",))]
    driver.write_markers()
    assert driver.machine.state is TransactionState.COMPLETE_COMMIT
    driver.reload()
    assert driver.machine.state is TransactionState.PREPARE_COMMIT, "nobody waited for that commit"
    driver.write_markers()
    driver.commit_lazy()
    driver.reload()
    assert driver.machine.state is TransactionState.COMPLETE_COMMIT
    assert not driver.markers


def test_a_commit_in_flight_is_forgotten_by_a_load(driver: TransactionDriver) -> None:
    producer = opened(driver)
    token = driver.end(producer, committed=True)
    driver.reload()
    assert driver.machine.waiting() == []
    assert driver.send(Settled(Number(1))) == []
    again = driver.end(producer, committed=True)
    driver.settle()
    assert driver.producer_of(again) == after(producer)
    assert token not in driver.answers


def test_additions_of_another_transaction_say_nothing_and_go_with_this_one(driver: TransactionDriver) -> None:
    producer = opened(driver)
    driver.add(producer, P1)
    driver.rows["add/9/0"] = driver.rows["add/1/0"]
    del driver.rows["add/1/0"]
    driver.reload()
    assert not driver.machine.admits(producer, P1)
    driver.add(producer, P1)
    driver.commit(producer)
    driver.commit_lazy()
    assert set(driver.rows) == {"state"}


def test_rows_that_cannot_be_are_corrupt(driver: TransactionDriver) -> None:
    opened(driver)
    driver.add(driver.machine.producer, P1)
    rows = dict(driver.rows)
    del rows["state"]
    with pytest.raises(Corruption, match="without its state"):
        Transaction.load("x", rows, TransactionSettings(), driver.now)
    with pytest.raises(Corruption):
        Transaction.load("x", {**driver.rows, "add/1/1": b"\x01"}, TransactionSettings(), driver.now)


def test_rows_of_keys_that_are_not_known_are_left_alone(driver: TransactionDriver) -> None:
    producer = opened(driver)
    driver.rows["later"] = b"\x07"
    driver.reload()
    driver.commit(producer)
    driver.commit_lazy()
    assert driver.rows["later"] == b"\x07"


def test_a_tick_may_come_for_nothing(driver: TransactionDriver) -> None:
    opened(driver)
    assert driver.send(Tick()) == [Schedule(driver.machine.deadline_ms)]
    assert driver.machine.state is TransactionState.ONGOING
    assert Token(99) not in driver.answers
