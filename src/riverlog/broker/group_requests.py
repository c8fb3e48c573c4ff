"""What is asked of the coordinator of groups, and what it answers, in its own words: values, no protocol's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import TopicId
from riverlog.state.groups.commands import CommittedOffset, GroupState, Protocols
from riverlog.state.groups.topics import GroupTopic, TopicsView

CLASSIC_TYPE: Final = "classic"


class TopicUnauthorized(RiverlogError):
    """What was asked of a group has to do with a topic that the caller may not see."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorKind.UNAUTHORIZED, message)


class KnownTopics(TopicsView, Protocol):
    """What this process knows of topics (`broker/topics.py`)."""

    def watch(self, changed: Callable[[GroupTopic | None, GroupTopic | None], None]) -> None:
        """`changed(before, after)` on the loop after each change; after None: the topic was deleted."""
        ...


class JoinAsked(NamedTuple):
    """One JoinGroup; what the protocol's versions differ in is said in words (`state.groups.commands.Join`)."""

    member_id: str
    instance_id: str | None
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocol_type: str
    protocols: Protocols
    member_id_required: bool = True
    skip_assignment_known: bool = True
    reason: str = ""


class ConsumerAsked(NamedTuple):
    """One ConsumerGroupHeartbeat, as `state.groups.commands.ConsumerHeartbeat` says it. `id_wanted`: a member that brings
    no id is given one (version 0)."""

    member_id: str
    member_epoch: int
    instance_id: str | None = None
    rack_id: str | None = None
    rebalance_timeout_ms: int = -1
    subscribed_names: Sequence[str] | None = None
    subscribed_regex: str | None = None
    assignor: str | None = None
    owned: Mapping[TopicId, Sequence[int]] | None = None
    id_wanted: bool = False


class MemberAsked(NamedTuple):
    """Who says that it is which member of which generation (member epoch, in a consumer group). -1 and "": nobody of
    the group."""

    generation: int = -1
    member_id: str = ""
    instance_id: str | None = None


class PartitionCommit(NamedTuple):
    partition_index: int
    offset: int
    leader_epoch: int = -1
    metadata: str = ""


class TopicCommit(NamedTuple):
    """`topic_id` None: the topic is named."""

    name: str
    topic_id: TopicId | None
    partitions: Sequence[PartitionCommit]


class TopicAsked(NamedTuple):
    """Partitions by index. `topic_id` None: the topic is named."""

    name: str
    topic_id: TopicId | None
    partitions: Sequence[int]


class FetchedOffset(NamedTuple):
    """`committed` None: nothing was committed for that partition, or `error` says why it cannot be told."""

    partition_index: int
    committed: CommittedOffset | None
    error: ErrorKind | None = None


class FetchedTopic(NamedTuple):
    name: str
    topic_id: TopicId | None
    partitions: Sequence[FetchedOffset]


class GroupListing(NamedTuple):
    group_id: str
    state: GroupState
    protocol_type: str
    group_type: str = CLASSIC_TYPE
