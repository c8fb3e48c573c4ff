"""Who shall read what, decided here on the broker: `uniform` spreads evenly and moves little, `range` keeps topics aligned.

Pure functions of the subscribers and the partition counts; the same input gives the same plan. Racks are not heeded.
Invariant: every partition of a topic that somebody subscribes to is given to exactly one of its subscribers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple, TypeAlias

from riverlog.base.ids import TopicId
from riverlog.state.groups.assignment import NOTHING, Assignment, assignment_of

balance_passes_max: Final = 50  # over members of different subscriptions; with one subscription the first is enough

Partition: TypeAlias = tuple[TopicId, int]


class Subscriber(NamedTuple):
    """`topics`: those it subscribes to that there are. `previous`: what the last plan gave it."""

    member_id: str
    instance_id: str | None
    topics: frozenset[TopicId]
    previous: Assignment = NOTHING


class TopicClass(NamedTuple):
    """Topics that the same members subscribe to. Members by their place among the subscribers."""

    members: Sequence[int]
    topics: Sequence[TopicId]


Plan: TypeAlias = dict[str, Assignment]
Assignor: TypeAlias = Callable[[Sequence[Subscriber], Mapping[TopicId, int]], Plan]


def uniform(subscribers: Sequence[Subscriber], partition_counts: Mapping[TopicId, int]) -> Plan:
    """Members with the same subscription differ by one partition at most, and as few as possible change hands."""
    taken: dict[TopicId, set[int]] = {topic_id: set() for topic_id in partition_counts}
    loads = [0] * len(subscribers)
    classes = _topic_classes(subscribers, partition_counts)
    holdings: list[dict[int, list[Partition]]] = [{place: [] for place in one.members} for one in classes]
    class_of = {topic_id: number for number, one in enumerate(classes) for topic_id in one.topics}
    for place, subscriber in enumerate(subscribers):
        for topic_id in sorted(subscriber.previous):
            if topic_id in subscriber.topics and topic_id in class_of:
                count, of_topic = partition_counts[topic_id], taken[topic_id]
                held = holdings[class_of[topic_id]][place]
                for index in sorted(subscriber.previous[topic_id]):
                    if index < count and index not in of_topic:
                        of_topic.add(index)
                        held.append((topic_id, index))
                        loads[place] += 1
    order = sorted(range(len(classes)), key=lambda number: len(classes[number].members))
    for number in order:
        _hand_out(classes[number], holdings[number], loads, taken, partition_counts)
    for _ in range(balance_passes_max):
        moved = sum(_level(classes[number], holdings[number], loads) for number in order)
        if not moved:
            break
    gathered: list[list[Partition]] = [[] for _ in subscribers]
    for of_class in holdings:
        for place, held in of_class.items():
            gathered[place] += held
    return {one.member_id: assignment_of(gathered[place]) for place, one in enumerate(subscribers)}


def _topic_classes(subscribers: Sequence[Subscriber], partition_counts: Mapping[TopicId, int]) -> list[TopicClass]:
    alike: dict[frozenset[TopicId], list[int]] = {}
    for place, subscriber in enumerate(subscribers):
        alike.setdefault(subscriber.topics, []).append(place)
    readers: dict[TopicId, list[int]] = {}  # topic -> which of the groups of alike members read it
    for number, topics in enumerate(alike):
        for topic_id in topics:
            if topic_id in partition_counts:
                readers.setdefault(topic_id, []).append(number)
    together: dict[tuple[int, ...], list[TopicId]] = {}
    for topic_id in sorted(readers):
        together.setdefault(tuple(readers[topic_id]), []).append(topic_id)
    places = list(alike.values())
    return [
        TopicClass(sorted(place for number in numbers for place in places[number]), topics)
        for numbers, topics in together.items()
    ]


def _hand_out(
    topic_class: TopicClass,
    holdings: dict[int, list[Partition]],
    loads: list[int],
    taken: Mapping[TopicId, set[int]],
    partition_counts: Mapping[TopicId, int],
) -> None:
    """Gives what nobody has to whoever has least."""
    heap = [(loads[place], place) for place in topic_class.members]
    heapify(heap)
    for topic_id in topic_class.topics:
        of_topic = taken[topic_id]
        for index in range(partition_counts[topic_id]):
            if index not in of_topic:
                load, place = heappop(heap)
                holdings[place].append((topic_id, index))
                loads[place] = load + 1
                heappush(heap, (load + 1, place))


def _level(topic_class: TopicClass, holdings: dict[int, list[Partition]], loads: list[int]) -> bool:
    """Moves partitions from who has most to who has least, while that makes them more even. Whether any moved."""
    least = [(loads[place], place) for place in topic_class.members]
    most = [(-loads[place], place) for place in topic_class.members if holdings[place]]
    heapify(least)
    heapify(most)
    moved = False
    while most:
        load, giver = -most[0][0], most[0][1]
        if load != loads[giver] or not holdings[giver]:
            heappop(most)
            continue
        while least[0][0] != loads[least[0][1]]:
            heappop(least)
        taker = least[0][1]
        if load - loads[taker] < 2:
            break
        holdings[taker].append(holdings[giver].pop())
        loads[giver] -= 1
        loads[taker] += 1
        for place in (giver, taker):
            heappush(least, (loads[place], place))
            heappush(most, (-loads[place], place))
        moved = True
    return moved


def by_range(subscribers: Sequence[Subscriber], partition_counts: Mapping[TopicId, int]) -> Plan:
    """Each topic in ranges, over its subscribers in one order: topics with equal counts go to the same members."""
    in_order = sorted(subscribers, key=lambda one: (one.instance_id is None, one.instance_id or one.member_id))
    given: dict[str, dict[TopicId, frozenset[int]]] = {one.member_id: {} for one in subscribers}
    for topic_class in _topic_classes(in_order, partition_counts):
        names = [in_order[place].member_id for place in topic_class.members]
        for topic_id in topic_class.topics:
            count = partition_counts[topic_id]
            share, larger = divmod(count, len(names))
            begin = 0
            for number, member_id in enumerate(names[:count]):
                end = begin + share + (number < larger)
                given[member_id][topic_id] = frozenset(range(begin, end))
                begin = end
    return dict(given)


ASSIGNORS: Final[Mapping[str, Assignor]] = {"uniform": uniform, "range": by_range}
