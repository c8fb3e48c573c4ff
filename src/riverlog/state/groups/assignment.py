"""Which partitions somebody has: an immutable map of a topic to its partitions; no topic stands there without any."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias

from riverlog.base.ids import TopicId

Assignment: TypeAlias = Mapping[TopicId, frozenset[int]]

NOTHING: Final[Assignment] = MappingProxyType({})


def assignment_of(partitions: Iterable[tuple[TopicId, int]]) -> Assignment:
    gathered: dict[TopicId, set[int]] = {}
    for topic_id, index in partitions:
        gathered.setdefault(topic_id, set()).add(index)
    return {topic_id: frozenset(indexes) for topic_id, indexes in gathered.items()}


def partitions_of(assignment: Assignment) -> Iterator[tuple[TopicId, int]]:
    for topic_id, indexes in assignment.items():
        for index in indexes:
            yield topic_id, index


def ascending(assignment: Assignment) -> dict[TopicId, Sequence[int]]:
    """As it is told to clients."""
    return {topic_id: sorted(assignment[topic_id]) for topic_id in sorted(assignment)}


def united(one: Assignment, other: Assignment) -> Assignment:
    if not one or not other:
        return one or other
    both = dict(one)
    for topic_id, indexes in other.items():
        both[topic_id] = both[topic_id] | indexes if topic_id in both else indexes
    return both


def without(one: Assignment, other: Assignment) -> Assignment:
    left = {topic_id: indexes - other.get(topic_id, frozenset()) for topic_id, indexes in one.items()}
    return {topic_id: indexes for topic_id, indexes in left.items() if indexes}


def common(one: Assignment, other: Assignment) -> Assignment:
    both = {topic_id: indexes & other[topic_id] for topic_id, indexes in one.items() if topic_id in other}
    return {topic_id: indexes for topic_id, indexes in both.items() if indexes}


def is_within(owned: Mapping[TopicId, Sequence[int]], assignment: Assignment) -> bool:
    """Whether everything that a client says it owns is in the assignment."""
    return all(assignment.get(topic_id, frozenset()).issuperset(indexes) for topic_id, indexes in owned.items())


def has_any_of(owned: Mapping[TopicId, Sequence[int]], assignment: Assignment) -> bool:
    """Whether a client says that it owns some of the assignment."""
    return any(not assignment.get(topic_id, frozenset()).isdisjoint(indexes) for topic_id, indexes in owned.items())
