"""Who may do what, for each state that a row can show."""

from __future__ import annotations

import pytest

from riverlog.base.errors import ErrorKind
from riverlog.base.ids import ProducerId
from riverlog.state.transactions.commands import (
    End,
    Init,
    Number,
    Producer,
    Token,
    TransactionState,
    Version,
)
from riverlog.state.transactions.rows import StateRow
from riverlog.state.transactions.rules import (
    EPOCH_LAST,
    NOBODY,
    Then,
    bumped,
    is_timeout,
    judge_end,
    judge_init,
    marker_of,
    producer_error,
)

CURRENT = Producer(7, 5)
LAST = Producer(7, 4)
FRESH = ProducerId(9)
STATES = {
    "empty": StateRow(TransactionState.EMPTY, CURRENT, 60_000, 0, Number(3), True),
    "ongoing": StateRow(TransactionState.ONGOING, CURRENT, 60_000, 0, Number(3), False),
    "committing": StateRow(TransactionState.PREPARE_COMMIT, CURRENT, 60_000, 0, Number(3), True, LAST),
    "aborting": StateRow(TransactionState.PREPARE_ABORT, CURRENT, 60_000, 0, Number(3), False, LAST),
    "committed": StateRow(TransactionState.COMPLETE_COMMIT, CURRENT, 60_000, 0, Number(3), True, LAST),
    "aborted": StateRow(TransactionState.COMPLETE_ABORT, CURRENT, 60_000, 0, Number(3), False, LAST),
}
FENCED, MAPPING, STATE = (
    ErrorKind.PRODUCER_FENCED,
    ErrorKind.INVALID_PRODUCER_ID_MAPPING,
    ErrorKind.INVALID_TXN_STATE,
)


def end(state: str, producer: Producer, committed: bool, version: Version) -> ErrorKind | Then:
    return judge_end(STATES[state], End(Token(1), producer, version, committed, FRESH))


def init(row: StateRow | None, expected: Producer) -> StateRow | ErrorKind | Then:
    return judge_init(row, Init(Token(1), 30_000, expected, FRESH))


@pytest.mark.parametrize("version", [Version.PLAIN, Version.FLEXIBLE])
@pytest.mark.parametrize(
    ("state", "commit", "abort"),
    [
        ("empty", STATE, STATE),
        ("ongoing", Then.DECIDE, Then.DECIDE),
        ("committing", Then.WAIT, STATE),
        ("aborting", STATE, Then.WAIT),
        ("committed", Then.REPEATED, STATE),
        ("aborted", STATE, Then.REPEATED),
    ],
)
def test_an_end_of_older_clients(state: str, commit: object, abort: object, version: Version) -> None:
    assert end(state, CURRENT, True, version) is commit
    assert end(state, CURRENT, False, version) is abort
    for committed in (True, False):
        assert end(state, LAST, committed, version) is FENCED
        assert end(state, Producer(7, 6), committed, version) is FENCED
        assert end(state, Producer(8, 5), committed, version) is MAPPING


@pytest.mark.parametrize(
    ("state", "commit", "abort", "commit_again", "abort_again"),
    [
        ("empty", STATE, Then.ABORT_NOTHING, FENCED, FENCED),
        ("ongoing", Then.DECIDE, Then.DECIDE, FENCED, FENCED),
        ("committing", STATE, Then.WAIT, Then.WAIT, STATE),
        ("aborting", STATE, Then.WAIT, STATE, Then.WAIT),
        ("committed", STATE, Then.ABORT_NOTHING, Then.REPEATED, STATE),
        ("aborted", STATE, Then.ABORT_NOTHING, STATE, Then.REPEATED),
    ],
)
def test_an_end_that_bumps_the_epoch(
    state: str, commit: object, abort: object, commit_again: object, abort_again: object
) -> None:
    """The current epoch speaks of the next transaction, the one before repeats its request."""
    assert end(state, CURRENT, True, Version.EPOCH_BUMPED) is commit
    assert end(state, CURRENT, False, Version.EPOCH_BUMPED) is abort
    assert end(state, LAST, True, Version.EPOCH_BUMPED) is commit_again
    assert end(state, LAST, False, Version.EPOCH_BUMPED) is abort_again
    for committed in (True, False):
        assert end(state, Producer(7, 3), committed, Version.EPOCH_BUMPED) is FENCED
        assert end(state, Producer(7, 6), committed, Version.EPOCH_BUMPED) is FENCED
        assert end(state, Producer(8, 5), committed, Version.EPOCH_BUMPED) is MAPPING


def test_nobody_is_not_the_producer_before() -> None:
    row = STATES["committed"]._replace(last=NOBODY)
    for version in Version:
        assert judge_end(row, End(Token(1), NOBODY, version, True, FRESH)) is MAPPING
        assert judge_end(None, End(Token(1), CURRENT, version, True, FRESH)) is MAPPING


def test_an_end_is_repeated_by_the_producer_id_before() -> None:
    row = STATES["aborted"]._replace(producer=Producer(9, 0), last=Producer(7, EPOCH_LAST))
    again = End(Token(1), Producer(7, EPOCH_LAST), Version.EPOCH_BUMPED, False, FRESH)
    assert judge_end(row, again) is Then.REPEATED
    assert judge_end(row, again._replace(version=Version.PLAIN)) is MAPPING


@pytest.mark.parametrize("committed", [True, False])
def test_who_was_replaced_by_an_init_repeats_no_end(committed: bool) -> None:
    """The row knows who brought the producer before to the Init, so that the Init may be repeated; nothing was ended by it."""
    row = STATES["empty"]._replace(last=LAST, committed=committed)
    assert judge_end(row, End(Token(1), LAST, Version.EPOCH_BUMPED, committed, FRESH)) is FENCED


def test_a_new_id_begins_with_epoch_0() -> None:
    for expected in (NOBODY, CURRENT):
        row = init(None, expected)
        assert isinstance(row, StateRow)
        assert (row.state, row.producer, row.last) == (TransactionState.EMPTY, Producer(FRESH, 0), expected)
        if expected != NOBODY:
            assert init(row, expected) == row, "who comes from before an expiration may ask again, too"


@pytest.mark.parametrize("state", ["empty", "committed", "aborted"])
def test_an_init_between_transactions(state: str) -> None:
    before = STATES[state]._replace(last=LAST)
    expected_rows = {
        NOBODY: (Producer(7, 6), NOBODY),
        Producer(-1, 5): (Producer(7, 6), NOBODY),
        CURRENT: (Producer(7, 6), CURRENT),
        LAST: (CURRENT, LAST),  # the answer was lost
    }
    for expected, (producer, last) in expected_rows.items():
        row = init(before, expected)
        assert isinstance(row, StateRow)
        assert (row.producer, row.last, row.timeout_ms) == (producer, last, 30_000)
        assert (row.state, row.number, row.committed) == (TransactionState.EMPTY, before.number, before.committed)
    for stale in (Producer(7, 3), Producer(7, 6), Producer(8, 5), Producer(8, 0)):
        assert init(before, stale) is FENCED


@pytest.mark.parametrize("state", ["committing", "aborting"])
def test_an_init_waits_for_markers_unless_it_is_stale(state: str) -> None:
    for expected in (NOBODY, CURRENT, LAST):
        assert init(STATES[state], expected) is Then.WAIT
    assert init(STATES[state], Producer(7, 3)) is FENCED


def test_an_init_fences_the_open_transaction_unless_it_is_stale() -> None:
    for expected in (NOBODY, CURRENT):
        assert init(STATES["ongoing"], expected) is Then.FENCE
    for stale in (LAST, Producer(7, 6), Producer(8, 5)):
        assert init(STATES["ongoing"], stale) is FENCED


@pytest.mark.parametrize("epoch", [EPOCH_LAST, EPOCH_LAST + 1])
def test_an_init_takes_a_fresh_id_where_epochs_are_used_up(epoch: int) -> None:
    before = STATES["empty"]._replace(producer=Producer(7, epoch))
    for expected in (NOBODY, before.producer):
        row = init(before, expected)
        assert isinstance(row, StateRow)
        assert (row.producer, row.last) == (Producer(FRESH, 0), expected)
        if expected != NOBODY:
            assert init(row, expected) == row, "and says so again"


def test_the_last_epoch_is_given_and_the_one_after_it_only_ends() -> None:
    assert EPOCH_LAST == 32_766
    assert bumped(Producer(7, EPOCH_LAST - 1), FRESH) == Producer(7, EPOCH_LAST)
    assert bumped(Producer(7, EPOCH_LAST), FRESH) == Producer(FRESH, 0)
    assert marker_of(Producer(7, EPOCH_LAST)) == Producer(7, 32_767)
    with pytest.raises(AssertionError, match="fresh id"):
        bumped(Producer(7, EPOCH_LAST), ProducerId(-1))


def test_nobody_has_the_epoch_of_the_last_marker() -> None:
    row = STATES["aborted"]._replace(producer=Producer(7, 32_767), last=NOBODY)
    assert producer_error(row, Producer(7, 32_767)) is FENCED


def test_who_may_add() -> None:
    row = STATES["empty"]
    assert producer_error(row, CURRENT) is None
    assert producer_error(row, LAST) is FENCED
    assert producer_error(row, Producer(7, 6)) is FENCED
    assert producer_error(row, Producer(8, 5)) is MAPPING
    assert producer_error(None, CURRENT) is MAPPING


def test_bounds_of_the_timeout() -> None:
    assert [is_timeout(each, 900_000) for each in (-1, 0, 1, 900_000, 900_001)] == [False, False, True, True, False]
