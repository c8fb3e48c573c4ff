"""Who is in a group of the consumer protocol, what each subscribes to, and which member has which partition.

Invariants: `owner` names for each partition the one member that has it, assigned or still to be given up; each static
member stands in `static` under its instance id; `named` counts the members that subscribe to a topic by its name;
`classic_count` counts those that speak the classic protocol.
Not here: epochs of the group, rows, answers (`consumer.py`), time (`deadlines.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from riverlog.base.ids import TopicId
from riverlog.state.groups.assignment import Assignment, ascending, partitions_of, united
from riverlog.state.groups.commands import DescribedConsumer
from riverlog.state.groups.consumer_rows import ClassicFacts, SubscriptionRow
from riverlog.state.groups.reconciliation import Standing
from riverlog.state.groups.regex import ResolvedRegexes

NEW: Final = Standing()
LEFT_FOR_A_WHILE: Final = -2  # the epoch of a static member that said it comes back


@dataclass(slots=True, kw_only=True)
class ConsumerMember:
    member_id: str
    instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    rebalance_timeout_ms: int = -1
    names: tuple[str, ...] = ()  # ascending
    regex: str | None = None
    assignor: str | None = None
    classic: ClassicFacts | None = None
    standing: Standing = NEW
    expires_ms: int = 0  # monotonic
    revoke_by_ms: int | None = None  # it has partitions to give up
    join_by_ms: int | None = None  # a classic one that was told to join again
    sync_by_ms: int | None = None  # a classic one that was answered its JoinGroup

    @property
    def subscription(self) -> tuple[tuple[str, ...], str | None]:
        return self.names, self.regex

    def due_ms(self) -> int:
        """When the first of its times runs out."""
        due = self.expires_ms
        for other in (self.revoke_by_ms, self.join_by_ms, self.sync_by_ms):
            if other is not None and other < due:
                due = other
        return due

    def to_row(self) -> SubscriptionRow:
        return SubscriptionRow(
            self.rebalance_timeout_ms,
            self.instance_id,
            self.rack_id,
            self.client_id,
            self.client_host,
            self.names,
            self.regex,
            self.assignor,
            self.classic,
        )

    def describe_as(self, row: SubscriptionRow) -> None:
        """Its instance stays: a member never becomes another one."""
        self.rack_id, self.client_id, self.client_host = row.rack_id, row.client_id, row.client_host
        self.rebalance_timeout_ms = row.rebalance_timeout_ms
        self.names, self.regex, self.assignor, self.classic = row.names, row.regex, row.assignor, row.classic

    @staticmethod
    def of_row(member_id: str, row: SubscriptionRow) -> ConsumerMember:
        member = ConsumerMember(member_id=member_id, instance_id=row.instance_id)
        member.describe_as(row)
        return member

    def describe(self, target: Assignment) -> DescribedConsumer:
        return DescribedConsumer(
            self.member_id,
            self.instance_id,
            self.rack_id,
            self.standing.epoch,
            self.client_id,
            self.client_host,
            self.names,
            self.regex,
            ascending(self.standing.assigned),
            ascending(target),
            self.classic is not None,
        )


class Roster:
    def __init__(self, regexes: ResolvedRegexes) -> None:
        self.members: dict[str, ConsumerMember] = {}  # in the order in which they came
        self.static: dict[str, str] = {}  # instance id -> member id
        self.named: Counter[str] = Counter()
        self.regexes = regexes
        self.assignors: Counter[str] = Counter()  # that members ask for
        self.classic_count = 0
        self.owner: dict[TopicId, dict[int, str]] = {}

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[ConsumerMember]:
        return iter(self.members.values())

    def add(self, member: ConsumerMember) -> None:
        """It subscribes to what it says from now on, and has what its standing says."""
        assert member.member_id not in self.members, member.member_id
        self.members[member.member_id] = member
        if member.instance_id is not None:
            self.static[member.instance_id] = member.member_id
        self._count(member)
        self._own(member)

    def remove(self, member_id: str) -> ConsumerMember:
        member = self.members.pop(member_id)
        if member.instance_id is not None and self.static.get(member.instance_id) == member_id:
            del self.static[member.instance_id]
        self._uncount(member)
        self._disown(member.member_id, united(member.standing.assigned, member.standing.revoking))
        return member

    def update(self, member: ConsumerMember, row: SubscriptionRow) -> None:
        """What the member says of itself from now on."""
        self._uncount(member)
        member.describe_as(row)
        self._count(member)

    def move(self, member: ConsumerMember, standing: Standing) -> None:
        before = united(member.standing.assigned, member.standing.revoking)
        member.standing = standing
        after = united(standing.assigned, standing.revoking)
        if before != after:
            self._disown(member.member_id, before)
            self._own(member)

    def is_free(self, member_id: str, topic_id: TopicId, index: int) -> bool:
        """Whether no other member has the partition."""
        return self.owner.get(topic_id, {}).get(index, member_id) == member_id

    def is_subscribed(self, topic: str) -> bool:
        return self.named[topic] > 0 or self.regexes.matches(topic)

    def topics(self, member: ConsumerMember) -> frozenset[str]:
        """The names that it subscribes to, those that there are not too."""
        if member.regex is None:
            return frozenset(member.names)
        return frozenset(member.names).union(self.regexes.names(member.regex))

    def assignor(self, known: tuple[str, ...]) -> str:
        """Which most members ask for; without a wish, and on a tie, the one that is known first."""
        return max(known, key=lambda name: self.assignors[name])

    def _count(self, member: ConsumerMember) -> None:
        self.named.update(member.names)
        if member.regex is not None:
            self.regexes.use(member.regex)
        if member.assignor is not None:
            self.assignors[member.assignor] += 1
        self.classic_count += member.classic is not None

    def _uncount(self, member: ConsumerMember) -> None:
        named = self.named
        for name in member.names:
            named[name] -= 1
            if not named[name]:
                del named[name]
        if member.regex is not None:
            self.regexes.drop(member.regex)
        if member.assignor is not None:
            self.assignors[member.assignor] -= 1
        self.classic_count -= member.classic is not None

    def _own(self, member: ConsumerMember) -> None:
        for topic_id, index in partitions_of(united(member.standing.assigned, member.standing.revoking)):
            owner = self.owner.setdefault(topic_id, {}).setdefault(index, member.member_id)
            assert owner == member.member_id, (topic_id, index, owner, member.member_id)

    def _disown(self, member_id: str, assignment: Assignment) -> None:
        for topic_id, index in partitions_of(assignment):
            of_topic = self.owner[topic_id]
            assert of_topic[index] == member_id
            del of_topic[index]
            if not of_topic:
                del self.owner[topic_id]


