"""What a produce is told where its transaction does not admit it."""

from __future__ import annotations

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.broker.transaction_requests import NotAllowedTransactional, produce_refusal, refused, whole_match
from riverlog.state.transactions.commands import Version

PLAIN, FLEXIBLE, BUMPED = Version


@pytest.mark.parametrize(
    ("kind", "version", "told"),
    [
        (ErrorKind.PRODUCER_FENCED, PLAIN, ErrorKind.INVALID_PRODUCER_EPOCH),
        (ErrorKind.PRODUCER_FENCED, BUMPED, ErrorKind.INVALID_PRODUCER_EPOCH),
        (ErrorKind.CONCURRENT_TRANSACTIONS, FLEXIBLE, ErrorKind.NOT_ENOUGH_REPLICAS),
        (ErrorKind.CONCURRENT_TRANSACTIONS, BUMPED, ErrorKind.CONCURRENT_TRANSACTIONS),
        (ErrorKind.COORDINATOR_NOT_AVAILABLE, BUMPED, ErrorKind.NOT_ENOUGH_REPLICAS),
        (ErrorKind.NOT_COORDINATOR, PLAIN, ErrorKind.NOT_ENOUGH_REPLICAS),
        (ErrorKind.TRANSACTION_ABORTABLE, PLAIN, ErrorKind.INVALID_TXN_STATE),
        (ErrorKind.TRANSACTION_ABORTABLE, FLEXIBLE, ErrorKind.TRANSACTION_ABORTABLE),
        (ErrorKind.INVALID_TXN_STATE, BUMPED, ErrorKind.TRANSACTION_ABORTABLE),
        (ErrorKind.INVALID_PRODUCER_ID_MAPPING, BUMPED, ErrorKind.INVALID_PRODUCER_ID_MAPPING),
    ],
)
def test_each_version_is_told_what_it_can_act_on(kind: ErrorKind, version: Version, told: ErrorKind) -> None:
    error = produce_refusal(kind, version, "tx")
    assert error.kind is told
    assert "'tx'" in error.message


def test_a_refusal_names_the_id_and_says_what_to_do() -> None:
    assert refused(ErrorKind.PRODUCER_FENCED, "tx").message.endswith("this one must stop")
    assert refused(ErrorKind.STORAGE, "tx").message == "transactional id 'tx': ask again"
    assert NotAllowedTransactional("no").kind is ErrorKind.UNAUTHORIZED


def test_a_pattern_matches_the_whole_text() -> None:
    assert whole_match(None)("anything")
    assert whole_match("")("anything")
    assert whole_match("a+")("aaa")
    assert not whole_match("a+")("aaab")
    with pytest.raises(RiverlogError) as caught:
        whole_match("a(")
    assert caught.value.kind is ErrorKind.INVALID_REGULAR_EXPRESSION


@pytest.mark.parametrize("pattern", ["((a|b|c|x|y|z)?){1000}q", "a" * 100_000])
def test_an_expression_that_would_hold_everybody_up_is_refused(pattern: str) -> None:
    with pytest.raises(RiverlogError) as caught:
        whole_match(pattern)
    assert caught.value.kind is ErrorKind.INVALID_REGULAR_EXPRESSION
    assert len(caught.value.message) < 1_000
