"""What each member of a group of the consumer protocol shall have, and the epoch of the group that it was decided for."""

from __future__ import annotations

from collections.abc import Mapping

from riverlog.base.ids import TopicId, TopicName
from riverlog.state.groups.assignment import NOTHING, Assignment
from riverlog.state.groups.assignors import ASSIGNORS, Plan, Subscriber
from riverlog.state.groups.consumer_members import Roster
from riverlog.state.groups.topics import TopicsView


class Target:
    def __init__(self) -> None:
        self.epoch = 0
        self.assignor = ""
        self.of_member: dict[str, Assignment] = {}  # nobody stands here who shall have nothing
        self.seen: dict[str, tuple[TopicId, int]] = {}  # the topics that it was decided on: id and partition count

    def of(self, member_id: str) -> Assignment:
        return self.of_member.get(member_id, NOTHING)

    def covers(self, seen: Mapping[str, tuple[TopicId, int]]) -> bool:
        """Whether it gives out all partitions of these topics, and none besides."""
        given: dict[TopicId, int] = {}
        for assignment in self.of_member.values():
            for topic_id, indexes in assignment.items():
                given[topic_id] = given.get(topic_id, 0) + len(indexes)
        return given == dict(seen.values())


def subscribed_topics(roster: Roster, topics: TopicsView) -> dict[str, tuple[TopicId, int]]:
    """Of the topics that somebody subscribes to those that there are."""
    names: set[str] = set(roster.named)
    for regex in {member.regex for member in roster if member.regex is not None}:
        names.update(roster.regexes.names(regex))
    found = ((name, topics.by_name.get(TopicName(name))) for name in names)
    return {name: (topic.topic_id, topic.partition_count) for name, topic in found if topic is not None}


def plan_target(roster: Roster, seen: Mapping[str, tuple[TopicId, int]], previous: Target, assignor: str) -> Plan:
    known: dict[tuple[tuple[str, ...], str | None], frozenset[TopicId]] = {}
    subscribers = []
    for member in roster:
        topic_ids = known.get(member.subscription)
        if topic_ids is None:
            topic_ids = frozenset(seen[name][0] for name in roster.topics(member) if name in seen)
            known[member.subscription] = topic_ids
        before = previous.of(member.member_id)
        subscribers.append(Subscriber(member.member_id, member.instance_id, topic_ids, before))
    return ASSIGNORS[assignor](subscribers, dict(seen.values()))
