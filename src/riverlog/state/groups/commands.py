"""What is asked of a group's machine, and what it answers. Values only.

A command that wants an answer carries a `token`, which its `Reply` names. Machines draw no random numbers and know no
topic names: whoever asks brings fresh member ids and resolved partitions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple, NewType, TypeAlias

from riverlog.base import limits
from riverlog.base.errors import ErrorKind
from riverlog.base.ids import PartitionId, TopicId
from riverlog.base.units import DAY_MS, MINUTE_MS

Token = NewType("Token", int)  # names one request that waits for an answer

NO_GENERATION: Final = -1
CONSUMER_PROTOCOL_TYPE: Final = "consumer"
new_member_join_ms_max: Final = 5 * MINUTE_MS  # a first join waits no longer: it cannot send heartbeats
rebalance_timeout_ms_min: Final = 100  # less would have the group rebalance without end

Protocols: TypeAlias = tuple[tuple[str, bytes], ...]  # name and metadata, the most wanted first


class GroupState(Enum):
    """A value is the name that Kafka's tools print."""

    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    ASSIGNING = "Assigning"  # the last two only of groups of the consumer protocol
    RECONCILING = "Reconciling"
    DEAD = "Dead"  # only ever said of a group that is not there


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings:
    """What an operator may tune of a group."""

    session_timeout_ms_min: int = 6_000
    session_timeout_ms_max: int = 1_800_000
    members_max: int = limits.group_members_max
    initial_rebalance_delay_ms: int = 0
    offsets_retention_ms: int = 7 * DAY_MS
    consumer_session_timeout_ms: int = 45_000  # from here on: of the consumer protocol (KIP-848)
    consumer_heartbeat_interval_ms: int = 5_000
    consumer_assignment_interval_ms: int = 1_000  # between two target assignments of a group
    consumer_members_max: int = limits.group_members_max
    consumer_assignors: tuple[str, ...] = ("uniform", "range")  # the first one is for who asks for none
    migration_policy: str = "bidirectional"  # of a live group's protocol; or upgrade, downgrade, disabled


class Join(NamedTuple):
    token: Token
    member_id: str  # "" from who has none yet
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocol_type: str
    protocols: Protocols
    fresh_id: str  # random text, for a new member's id
    member_id_required: bool = True  # a member without an id is given one and must come again with it
    skip_assignment_known: bool = True  # the client understands `JoinResult.skip_assignment`
    reason: str = ""


class Sync(NamedTuple):
    token: Token
    member_id: str
    instance_id: str | None
    generation: int
    protocol_type: str | None
    protocol: str | None
    assignments: Mapping[str, bytes]  # member id -> assignment; empty from all but the leader


class Heartbeat(NamedTuple):
    token: Token
    member_id: str
    instance_id: str | None
    generation: int


class Leaver(NamedTuple):
    """`member_id` "" with an instance id: whoever is that static member now."""

    member_id: str
    instance_id: str | None = None
    reason: str = ""


class Leave(NamedTuple):
    token: Token
    leavers: Sequence[Leaver]


class CommittedOffset(NamedTuple):
    """How far a group has read a partition, as it was committed."""

    offset: int
    leader_epoch: int  # -1: not known
    metadata: str
    commit_ms: int  # wall time
    expire_ms: int = -1  # wall time; only requests before version 5 set it


class CommitOffsets(NamedTuple):
    """`generation` below 0, no member id and no instance id: from somebody who manages partitions without the group."""

    token: Token
    member_id: str
    instance_id: str | None
    generation: int
    offsets: Mapping[PartitionId, CommittedOffset]
    epochs_known: bool = True  # the request is of a version (9) that knows member epochs


class FetchOffsets(NamedTuple):
    """`partitions` None: all that there are. `require_stable`: a partition with an offset of an open transaction is
    told as unstable. `member_epoch` below 0 and no member id: from nobody of the group."""

    token: Token
    partitions: Sequence[PartitionId] | None
    require_stable: bool = False
    member_id: str | None = None
    member_epoch: int = NO_GENERATION


class CommitPending(NamedTuple):
    """TxnOffsetCommit: offsets that count once transaction `number` of the transactional id is committed.

    The transaction's coordinator was asked before; `generation` is a member epoch in a consumer group."""

    token: Token
    transactional_id: str
    number: int
    member_id: str
    instance_id: str | None
    generation: int
    offsets: Mapping[PartitionId, CommittedOffset]


class EndPending(NamedTuple):
    """The transaction was decided: its pending offsets become the group's, or go. May be told again; answered with
    None once that is durable."""

    token: Token
    transactional_id: str
    number: int
    committed: bool


class ConsumerHeartbeat(NamedTuple):
    """ConsumerGroupHeartbeat (KIP-848). `member_epoch` 0 joins, -1 leaves, -2 leaves as a static member that comes back.

    None, and -1 for the time-out, where nothing changed since the last one. `fresh_id` names a member that brings no id
    (version 0)."""

    token: Token
    member_id: str
    member_epoch: int
    instance_id: str | None
    client_id: str
    client_host: str
    rack_id: str | None = None
    rebalance_timeout_ms: int = -1
    subscribed_names: Sequence[str] | None = None
    subscribed_regex: str | None = None
    assignor: str | None = None
    owned: Mapping[TopicId, Sequence[int]] | None = None
    fresh_id: str = ""


class TopicsChanged(NamedTuple):
    """Topics were made, deleted or given more partitions; the machine's view of topics shows them already."""

    names: Collection[str]


class Configure(NamedTuple):
    """The group's settings are these from now on."""

    settings: GroupSettings


class Describe(NamedTuple):
    """As a classic group; one of the consumer protocol is answered as DEAD."""

    token: Token


class DescribeConsumer(NamedTuple):
    """As a group of the consumer protocol; a classic one is answered as DEAD."""

    token: Token


class DeleteGroup(NamedTuple):
    token: Token


class DeleteOffsets(NamedTuple):
    """Each partition with the name of its topic, because members subscribe to names."""

    token: Token
    partitions: Sequence[tuple[str, PartitionId]]


class Tick(NamedTuple):
    """The deadline that was asked for has come (or an earlier moment: ticks may come for nothing)."""


class ExpireOffsets(NamedTuple):
    """Forget what is older than the retention. `names` are the topics that there are."""

    names: Mapping[TopicId, str]


class DropTopics(NamedTuple):
    """These topics were deleted: their offsets go."""

    topic_ids: Collection[TopicId]


class CutOffsets(NamedTuple):
    """The partition's log ends there (it lost its tail): what was committed beyond is cut back to the end."""

    partition: PartitionId
    log_end: int


Command: TypeAlias = (
    Heartbeat
    | ConsumerHeartbeat
    | CommitOffsets
    | CommitPending
    | EndPending
    | FetchOffsets
    | Join
    | Sync
    | Leave
    | TopicsChanged
    | Configure
    | Describe
    | DescribeConsumer
    | DeleteGroup
    | DeleteOffsets
    | Tick
    | ExpireOffsets
    | DropTopics
    | CutOffsets
)


class JoinedMember(NamedTuple):
    """What a leader is told of each member."""

    member_id: str
    instance_id: str | None
    metadata: bytes


class JoinResult(NamedTuple):
    error: ErrorKind | None
    member_id: str
    generation: int = NO_GENERATION
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str = ""
    members: Sequence[JoinedMember] = ()  # for the leader only
    skip_assignment: bool = False  # a static leader came back: it need not assign


class SyncResult(NamedTuple):
    error: ErrorKind | None
    assignment: bytes = b""
    protocol_type: str | None = None
    protocol: str | None = None


class LeaveResult(NamedTuple):
    """One error a leaver, in the order of the request."""

    errors: Sequence[ErrorKind | None]


class DescribedMember(NamedTuple):
    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    metadata: bytes
    assignment: bytes


class Description(NamedTuple):
    """`state` DEAD: there is no such group."""

    state: GroupState
    protocol_type: str = ""
    protocol: str = ""
    members: Sequence[DescribedMember] = ()


class DescribedConsumer(NamedTuple):
    """`assignment`: what it holds, with what it has yet to give up; `target`: what it shall hold."""

    member_id: str
    instance_id: str | None
    rack_id: str | None
    member_epoch: int
    client_id: str
    client_host: str
    subscribed_names: Sequence[str]
    subscribed_regex: str | None
    assignment: Mapping[TopicId, Sequence[int]]
    target: Mapping[TopicId, Sequence[int]]
    is_classic: bool = False  # it speaks the classic protocol


class ConsumerDescription(NamedTuple):
    """`state` DEAD: there is no such group of the consumer protocol."""

    state: GroupState
    group_epoch: int = 0
    assignment_epoch: int = 0
    assignor: str = ""
    members: Sequence[DescribedConsumer] = ()


class DeleteOffsetsResult(NamedTuple):
    """`error` is of the whole group; else one error a partition, in the order of the request."""

    error: ErrorKind | None
    errors: Sequence[ErrorKind | None] = ()


class ConsumerHeartbeatResult(NamedTuple):
    """`assignment` None: as it was told last; else partitions by topic, ascending. `message` is for people."""

    error: ErrorKind | None
    message: str = ""
    member_id: str = ""
    member_epoch: int = 0
    heartbeat_interval_ms: int = 0
    assignment: Mapping[TopicId, Sequence[int]] | None = None


class FetchedOffsets(NamedTuple):
    """Of FetchOffsets: only those that were ever committed; `unstable` where that was asked for."""

    error: ErrorKind | None
    committed: Mapping[PartitionId, CommittedOffset]
    unstable: Collection[PartitionId] = ()


Result: TypeAlias = (
    JoinResult
    | SyncResult
    | LeaveResult
    | Description
    | ConsumerDescription
    | ConsumerHeartbeatResult
    | DeleteOffsetsResult
    | FetchedOffsets
    | ErrorKind  # of Heartbeat, CommitOffsets, CommitPending, DeleteGroup
    | None
)
