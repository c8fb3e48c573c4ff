"""Who is in a classic group: the members, their protocols, the static ones by instance, the leader.

Invariants: `support` counts the members that offer each protocol; `joining_count` those whose JoinGroup waits; each
static member stands in `static` under its instance id; the leader, where there is one, is a member.
Not here: states, time-outs, answers (`classic.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from riverlog.base.errors import ErrorKind
from riverlog.state.groups.commands import (
    CONSUMER_PROTOCOL_TYPE,
    DescribedMember,
    Join,
    JoinedMember,
    Leaver,
    Protocols,
    Token,
    rebalance_timeout_ms_min,
)
from riverlog.state.groups.rows import MemberRow
from riverlog.state.groups.subscription import subscribed_topics


@dataclass(slots=True, kw_only=True)
class Member:
    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocols: Protocols
    assignment: bytes = b""
    expires_ms: int = 0  # monotonic; not heeded while it waits for an answer, unless it is new
    joining: Token | None = None  # its JoinGroup that waits
    syncing: Token | None = None  # its SyncGroup that waits
    is_new: bool = False  # it has not been told its member id yet, so it cannot send heartbeats

    def metadata(self, protocol: str | None) -> bytes:
        return next((metadata for name, metadata in self.protocols if name == protocol), b"")

    def is_watched(self) -> bool:
        """Whether its session can run out: who waits for us is alive, as far as we know."""
        return self.is_new or (self.joining is None and self.syncing is None)

    def describe(self, protocol: str | None) -> DescribedMember:
        """`protocol` None: the group is not stable, so what it subscribes to is not told; the old assignment is."""
        return DescribedMember(
            member_id=self.member_id,
            instance_id=self.instance_id,
            client_id=self.client_id,
            client_host=self.client_host,
            metadata=b"" if protocol is None else self.metadata(protocol),
            assignment=self.assignment,
        )

    @staticmethod
    def of_join(member_id: str, join: Join, expires_ms: int) -> Member:
        """A new one, whose JoinGroup waits."""
        return Member(
            member_id=member_id,
            instance_id=join.instance_id,
            client_id=join.client_id,
            client_host=join.client_host,
            session_timeout_ms=join.session_timeout_ms,
            rebalance_timeout_ms=max(join.rebalance_timeout_ms, rebalance_timeout_ms_min),
            protocols=join.protocols,
            expires_ms=expires_ms,
            joining=join.token,
            is_new=True,
        )

    def to_row(self) -> MemberRow:
        return MemberRow(
            self.instance_id,
            self.client_id,
            self.client_host,
            self.session_timeout_ms,
            self.rebalance_timeout_ms,
            self.protocols,
            self.assignment,
        )

    @staticmethod
    def of_row(member_id: str, row: MemberRow) -> Member:
        return Member(
            member_id=member_id,
            instance_id=row.instance_id,
            client_id=row.client_id,
            client_host=row.client_host,
            session_timeout_ms=row.session_timeout_ms,
            rebalance_timeout_ms=row.rebalance_timeout_ms,
            protocols=row.protocols,
            assignment=row.assignment,
        )


class Membership:
    def __init__(self) -> None:
        self.members: dict[str, Member] = {}  # in the order in which they came
        self.static: dict[str, str] = {}  # instance id -> member id
        self.support: Counter[str] = Counter()
        self.leader: str | None = None
        self.joining_count = 0

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self.members.values())

    def __contains__(self, member_id: str) -> bool:
        return member_id in self.members

    def get(self, member_id: str) -> Member:
        return self.members[member_id]

    def check(self, member_id: str, instance_id: str | None) -> ErrorKind | None:
        """Whether the one who asks is who it says."""
        if instance_id is not None:
            current = self.static.get(instance_id)
            if current is None:
                return ErrorKind.UNKNOWN_MEMBER_ID
            if current != member_id:
                return ErrorKind.FENCED_INSTANCE_ID
        return None if member_id in self.members else ErrorKind.UNKNOWN_MEMBER_ID

    def find(self, leaver: Leaver) -> tuple[ErrorKind | None, str]:
        """Whose member id is meant by one who leaves."""
        if not leaver.member_id and leaver.instance_id is not None:
            current = self.static.get(leaver.instance_id)
            return (ErrorKind.UNKNOWN_MEMBER_ID, "") if current is None else (None, current)
        return self.check(leaver.member_id, leaver.instance_id), leaver.member_id

    def add(self, member: Member) -> None:
        assert member.member_id not in self.members, member.member_id
        self.members[member.member_id] = member
        if member.instance_id is not None:
            self.static[member.instance_id] = member.member_id
        self.support.update(_names(member.protocols))
        if self.leader is None:
            self.leader = member.member_id
        if member.joining is not None:
            self.joining_count += 1

    def remove(self, member_id: str) -> Member:
        member = self.members.pop(member_id)
        self.support.subtract(_names(member.protocols))
        if member.joining is not None:
            self.joining_count -= 1
        if member.instance_id is not None:
            del self.static[member.instance_id]
        if self.leader == member_id:
            self.leader = next(iter(self.members), None)
        return member

    def replace_static(self, old_id: str, new_id: str) -> Member:
        """The static member came back under a new id; its place, leadership and assignment stay."""
        member = self.members.pop(old_id)
        assert member.instance_id is not None
        member.member_id = new_id
        self.members[new_id] = member
        self.static[member.instance_id] = new_id
        if self.leader == old_id:
            self.leader = new_id
        return member

    def update(self, member: Member, join: Join) -> None:
        """What the member says of itself in a new JoinGroup."""
        self.support.subtract(_names(member.protocols))
        member.protocols = join.protocols
        self.support.update(_names(member.protocols))
        member.session_timeout_ms = join.session_timeout_ms
        member.rebalance_timeout_ms = max(join.rebalance_timeout_ms, rebalance_timeout_ms_min)
        member.client_id = join.client_id
        member.client_host = join.client_host

    def await_join(self, member: Member, token: Token) -> Token | None:
        """The member's JoinGroup waits. Gives an older one that waited, which is to be answered."""
        superseded = member.joining
        if superseded is None:
            self.joining_count += 1
        member.joining = token
        return superseded

    def take_joining(self, member: Member) -> Token | None:
        token, member.joining = member.joining, None
        if token is not None:
            self.joining_count -= 1
        return token

    def all_joined(self) -> bool:
        return self.joining_count == len(self.members)

    def elect_joined_leader(self) -> bool:
        """A leader that did not join again gives way to one that did. False: nobody did."""
        if self.leader is not None and self.members[self.leader].joining is not None:
            return True
        joined = next((member.member_id for member in self if member.joining is not None), None)
        if joined is None:
            return False
        self.leader = joined
        return True

    def supports(self, protocols: Protocols) -> bool:
        """Whether every member understands one of these."""
        count = len(self.members)
        return any(self.support[name] == count for name, _ in protocols)

    def vote(self) -> str:
        """Each member votes for the first on its list that all understand; on a tie, what was voted for first."""
        count = len(self.members)
        votes: Counter[str] = Counter()
        for member in self:
            choice = next((name for name, _ in member.protocols if self.support[name] == count), None)
            if choice is not None:
                votes[choice] += 1
        assert votes, "members without a protocol in common"
        return votes.most_common(1)[0][0]

    def rebalance_timeout_ms(self) -> int:
        """How long the group waits for its slowest member."""
        return max((member.rebalance_timeout_ms for member in self), default=0)

    def subscriptions(self, protocol_type: str | None, protocol: str | None) -> frozenset[str] | None:
        """The topics that the members read; None: not known."""
        if protocol_type != CONSUMER_PROTOCOL_TYPE:
            return None
        return subscribed_topics([member.metadata(protocol) for member in self])

    def roster(self, protocol: str | None) -> list[JoinedMember]:
        return [JoinedMember(member.member_id, member.instance_id, member.metadata(protocol)) for member in self]


def _names(protocols: Protocols) -> set[str]:
    return {name for name, _ in protocols}
