"""Plans of the server's assignors: whole, even, sticky, aligned."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from riverlog.base.ids import TopicId
from riverlog.state.groups.assignment import partitions_of
from riverlog.state.groups.assignors import Plan, Subscriber, by_range, uniform

TOPICS = [TopicId(bytes([letter]) * 16) for letter in b"abcd"]
A, B, C, D = TOPICS


def subscribers(names: str, *topics: TopicId, previous: Plan | None = None) -> list[Subscriber]:
    return [Subscriber(name, None, frozenset(topics), (previous or {}).get(name, {})) for name in names]


def sizes(plan: Plan) -> dict[str, int]:
    return {name: sum(map(len, assignment.values())) for name, assignment in plan.items()}


def moved(before: Plan, after: Plan) -> int:
    """Partitions that somebody has now and had not before."""
    return sum(len(set(partitions_of(after[name])) - set(partitions_of(before.get(name, {})))) for name in after)


def test_uniform_is_even_over_topics_together() -> None:
    assert sizes(uniform(subscribers("xyz", A, B), {A: 2, B: 5})) == {"x": 3, "y": 2, "z": 2}


def test_uniform_moves_no_more_than_it_must() -> None:
    before = uniform(subscribers("xyz", A), {A: 9})
    joined = uniform(subscribers("wxyz", A, previous=before), {A: 9})
    assert sorted(sizes(joined).values()) == [2, 2, 2, 3]
    assert moved(before, joined) == 2
    left = uniform(subscribers("xy", A, previous=before), {A: 9})
    assert sorted(sizes(left).values()) == [4, 5]
    assert moved(before, left) == 3
    grown = uniform(subscribers("xyz", A, previous=before), {A: 12})
    assert moved(before, grown) == 3
    assert uniform(subscribers("xyz", A, previous=before), {A: 9}) == before


def test_uniform_with_different_subscriptions_takes_from_who_has_more() -> None:
    mixed = [*subscribers("x", A), *subscribers("y", A, B), *subscribers("z", B)]
    assert sizes(uniform(mixed, {A: 4, B: 2})) == {"x": 3, "y": 1, "z": 2} or sizes(uniform(mixed, {A: 4, B: 2})) == {
        "x": 2,
        "y": 2,
        "z": 2,
    }


def test_range_gives_equal_topics_to_the_same_members() -> None:
    plan = by_range(subscribers("xyz", A, B), {A: 5, B: 5})
    assert {name: sorted(one[A]) for name, one in plan.items()} == {"x": [0, 1], "y": [2, 3], "z": [4]}
    assert all(one[A] == one[B] for one in plan.values())


def test_range_puts_static_members_first_by_their_instance() -> None:
    members = [Subscriber("a", None, frozenset({A})), Subscriber("z", "i", frozenset({A}))]
    assert by_range(members, {A: 3}) == {"z": {A: frozenset({0, 1})}, "a": {A: frozenset({2})}}


def test_more_members_than_partitions_leave_some_without() -> None:
    for plan in (uniform(subscribers("wxyz", A), {A: 2}), by_range(subscribers("wxyz", A), {A: 2})):
        assert sorted(sizes(plan).values()) == [0, 0, 1, 1]


@settings(max_examples=150, derandomize=True, database=None, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 8), st.booleans())
def test_any_plan_is_whole_and_goes_to_subscribers(seed: int, count: int, is_alike: bool) -> None:
    random = Random(seed)
    plan: Plan = {}
    for _ in range(3):
        counts = {topic: random.randrange(1, 12) for topic in random.sample(TOPICS, random.randrange(1, 5))}
        alike = frozenset(random.sample(list(counts), random.randrange(1, len(counts) + 1)))
        members = [
            Subscriber(
                f"m{number}",
                None,
                alike if is_alike else frozenset(random.sample(list(counts), random.randrange(len(counts) + 1))),
                plan.get(f"m{number}", {}),
            )
            for number in random.sample(range(10), count)
        ]
        for assignor in (by_range, uniform):
            plan = assignor(members, counts)
            assert plan == assignor(members, counts)
            wanted = {(t, i) for t in {t for one in members for t in one.topics} for i in range(counts[t])}
            given_out = [partition for assignment in plan.values() for partition in partitions_of(assignment)]
            assert sorted(given_out) == sorted(wanted)
            for one in members:
                assert plan[one.member_id].keys() <= one.topics
        shares: dict[frozenset[TopicId], list[int]] = {}
        for one in members:
            shares.setdefault(one.topics, []).append(sizes(plan)[one.member_id])
        assert all(max(share) - min(share) <= 1 for share in shares.values()), shares
