"""Maps of topics to partitions."""

from __future__ import annotations

from riverlog.base.ids import TopicId
from riverlog.state.groups.assignment import (
    NOTHING,
    Assignment,
    ascending,
    assignment_of,
    common,
    has_any_of,
    is_within,
    partitions_of,
    united,
    without,
)

A, B = TopicId(b"a" * 16), TopicId(b"b" * 16)
ONE: Assignment = {A: frozenset({0, 1}), B: frozenset({0})}


def test_it_is_made_of_partitions_and_taken_apart() -> None:
    assert assignment_of([(B, 0), (A, 1), (A, 0), (A, 1)]) == ONE
    assert sorted(partitions_of(ONE)) == [(A, 0), (A, 1), (B, 0)]
    assert list(ascending(ONE).items()) == [(A, [0, 1]), (B, [0])]
    assert assignment_of([]) == NOTHING


def test_no_topic_stays_without_partitions() -> None:
    assert without(ONE, {A: frozenset({0, 1, 2})}) == {B: frozenset({0})}
    assert common(ONE, {A: frozenset({1, 2}), B: frozenset({5})}) == {A: frozenset({1})}
    assert united(ONE, {B: frozenset({3})}) == {A: frozenset({0, 1}), B: frozenset({0, 3})}
    assert united(NOTHING, ONE) == united(ONE, NOTHING) == ONE


def test_what_a_client_owns_is_compared() -> None:
    assert is_within({A: [1]}, ONE)
    assert is_within({}, NOTHING)
    assert not is_within({A: [1, 2]}, ONE)
    assert has_any_of({B: [0]}, ONE)
    assert not has_any_of({B: [1], TopicId(b"c" * 16): [0]}, ONE)
