"""Targets: who shall have what, and whether that still fits the topics."""

from __future__ import annotations

from riverlog.state.groups.assignment import NOTHING
from riverlog.state.groups.consumer_members import ConsumerMember, Roster
from riverlog.state.groups.regex import ResolvedRegexes
from riverlog.state.groups.target import Target, plan_target, subscribed_topics
from riverlog.testing.consumer_driver import DrivenTopics


def test_only_topics_that_there_are_and_somebody_wants_are_seen() -> None:
    topics = DrivenTopics(a=1, b=2, c=3)
    roster = Roster(ResolvedRegexes(topics))
    roster.add(ConsumerMember(member_id="m", names=("a", "gone")))
    roster.add(ConsumerMember(member_id="n", regex="b|x"))
    seen = subscribed_topics(roster, topics)
    assert {name: count for name, (_, count) in seen.items()} == {"a": 1, "b": 2}


def test_a_target_covers_the_topics_that_it_was_decided_on() -> None:
    topics = DrivenTopics(a=2)
    roster = Roster(ResolvedRegexes(topics))
    roster.add(ConsumerMember(member_id="m", names=("a",)))
    roster.add(ConsumerMember(member_id="n", names=("a",)))
    target = Target()
    seen = subscribed_topics(roster, topics)
    target.of_member = plan_target(roster, seen, target, "range")
    assert target.covers(seen)
    assert (target.of("m"), target.of("x")) == ({seen["a"][0]: frozenset({0})}, NOTHING)
    topics.put("a", 3)
    assert not target.covers(subscribed_topics(roster, topics))
    topics.delete("a")
    assert not target.covers(subscribed_topics(roster, topics))
