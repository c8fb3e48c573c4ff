"""The coordinator of groups: what may be asked of them, in words that no protocol owns.

Every method takes a `Caller` first and asks `Access`. What concerns a whole request raises `RiverlogError`
(UNAUTHORIZED, INVALID_GROUP_ID, NOT_COORDINATOR, COORDINATOR_NOT_AVAILABLE); what the group decides is in the result.

Invariant: offsets are kept by topic id; names become ids here, by what the process knows of topics.
Not here: the rules of groups (`state/groups`), their machines (`group_machines.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, cast

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import PartitionId, TopicId, TopicName
from riverlog.base.limits import kept_text_length_max
from riverlog.base.units import INT64_MAX
from riverlog.broker.group_machines import GroupMachines
from riverlog.broker.group_requests import (
    CLASSIC_TYPE,
    FetchedOffset,
    FetchedTopic,
    GroupListing,
    JoinAsked,
    KnownTopics,
    MemberAsked,
    TopicAsked,
    TopicCommit,
    TopicFacts,
)
from riverlog.broker.settings import BrokerSettings
from riverlog.catalog.contract import Catalog
from riverlog.env.clock import Clock
from riverlog.env.entropy import Entropy
from riverlog.state.access import CLUSTER, Access, Caller, Operation, Resource, ResourceKind
from riverlog.state.groups.commands import (
    CommitOffsets,
    CommittedOffset,
    CutOffsets,
    DeleteGroup,
    DeleteOffsets,
    DeleteOffsetsResult,
    Describe,
    Description,
    DropTopics,
    ExpireOffsets,
    FetchedOffsets,
    FetchOffsets,
    GroupSettings,
    GroupState,
    Heartbeat,
    Join,
    JoinResult,
    Leave,
    Leaver,
    LeaveResult,
    Sync,
    SyncResult,
)

log = logging.getLogger(__name__)

GROUP_SCOPE: Final = "group"


class Coordinator:
    def __init__(
        self,
        *,
        settings: BrokerSettings,
        catalog: Catalog,
        topics: KnownTopics,
        clock: Clock,
        entropy: Entropy,
        access: Access,
    ) -> None:
        self.settings = settings
        self.group_settings = GroupSettings(
            session_timeout_ms_min=settings.group_session_timeout_ms_min,
            session_timeout_ms_max=settings.group_session_timeout_ms_max,
            members_max=settings.group_members_max,
            initial_rebalance_delay_ms=settings.group_initial_rebalance_delay_ms,
            offsets_retention_ms=settings.offsets_retention_ms,
        )
        self._topics = topics
        self._clock = clock
        self._entropy = entropy
        self._access = access
        self._machines = GroupMachines(self.group_settings, topics, catalog, clock, entropy)

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Loads the groups that there are in the background, so that the sessions of their members begin to count."""
        self._topics.watch(self._topic_changed)
        self._machines.tasks.start(self._machines.load_all(), name="load")
        self._machines.tasks.start(self._expire_regularly(), name="offset expiry")

    async def close(self) -> None:
        """Finishes the commits in flight; who waits for something else is told to ask again."""
        await self._machines.close()

    # ------------------------------------------------------------------ members

    def find(self, caller: Caller, kind: ResourceKind, name: str) -> ErrorKind | None:
        """Whether this process coordinates the group or transactional id, which it does until there is a cluster."""
        return None if self._access.allows(caller, Operation.DESCRIBE, Resource(kind, name)) else ErrorKind.UNAUTHORIZED

    async def join(self, caller: Caller, group_id: str, asked: JoinAsked) -> JoinResult:
        """Waits until the group has rebalanced."""
        self._check_member_call(caller, group_id)
        _check_texts(asked)
        token = self._machines.token()
        join = Join(
            token=token,
            member_id=asked.member_id,
            instance_id=asked.instance_id,
            client_id=caller.client_id[:kept_text_length_max],
            client_host="/" + (caller.peer.rpartition(":")[0] or caller.peer).strip("[]"),
            session_timeout_ms=asked.session_timeout_ms,
            rebalance_timeout_ms=asked.rebalance_timeout_ms,
            protocol_type=asked.protocol_type,
            protocols=asked.protocols,
            fresh_id="" if asked.member_id else self._uuid(),
            member_id_required=asked.member_id_required,
            skip_assignment_known=asked.skip_assignment_known,
            reason=asked.reason,
        )
        return cast(JoinResult, await self._machines.ask(group_id, join, token))

    async def sync(
        self,
        caller: Caller,
        group_id: str,
        member: MemberAsked,
        assignments: Mapping[str, bytes],
        protocol_type: str | None = None,
        protocol: str | None = None,
    ) -> SyncResult:
        """Waits until the leader has assigned. `protocol_type` and `protocol`, where given, must be the group's."""
        self._check_member_call(caller, group_id)
        token = self._machines.token()
        generation, member_id, instance_id = member
        sync = Sync(token, member_id, instance_id, generation, protocol_type, protocol, assignments)
        return cast(SyncResult, await self._machines.ask(group_id, sync, token))

    async def heartbeat(self, caller: Caller, group_id: str, member: MemberAsked) -> ErrorKind | None:
        self._check_member_call(caller, group_id)
        token = self._machines.token()
        generation, member_id, instance_id = member
        beat = Heartbeat(token, member_id, instance_id, generation)
        return cast("ErrorKind | None", await self._machines.ask(group_id, beat, token))

    async def leave(self, caller: Caller, group_id: str, leavers: Sequence[Leaver]) -> LeaveResult:
        self._check_member_call(caller, group_id)
        token = self._machines.token()
        return cast(LeaveResult, await self._machines.ask(group_id, Leave(token, leavers), token))

    # ------------------------------------------------------------------ offsets

    async def commit_offsets(
        self,
        caller: Caller,
        group_id: str,
        member: MemberAsked,
        topics: Sequence[TopicCommit],
        retention_ms: int = -1,
    ) -> Sequence[Sequence[ErrorKind | None]]:
        """One error a partition, in the order of the request. `retention_ms` -1: the broker's."""
        self._check_group(caller, Operation.READ, group_id)
        now_ms = self._clock.now_ms()
        expire_ms = -1 if retention_ms < 0 else min(now_ms + retention_ms, INT64_MAX)
        metadata_length_max = self.settings.offset_metadata_bytes_max
        offsets: dict[PartitionId, CommittedOffset] = {}
        errors: list[list[ErrorKind | None]] = []
        for name, asked_id, partitions in topics:
            topic = self._topic(caller, Operation.READ, name, asked_id)
            if isinstance(topic, ErrorKind):
                errors.append([topic] * len(partitions))
                continue
            topic_id, partition_count = topic.topic_id, topic.partition_count
            of_topic: list[ErrorKind | None] = []
            for index, offset, leader_epoch, metadata in partitions:
                if not 0 <= index < partition_count:
                    of_topic.append(ErrorKind.UNKNOWN_TOPIC)
                elif len(metadata) > metadata_length_max:  # characters, as Kafka counts them
                    of_topic.append(ErrorKind.OFFSET_METADATA_TOO_LARGE)
                else:
                    of_topic.append(None)
                    committed = CommittedOffset(offset, leader_epoch, metadata, now_ms, expire_ms)
                    offsets[PartitionId(topic_id, index)] = committed
            errors.append(of_topic)
        if offsets:
            token = self._machines.token()
            generation, member_id, instance_id = member
            command = CommitOffsets(token, member_id, instance_id, generation, offsets)
            refusal = await self._machines.ask(group_id, command, token)
            if refusal is not None:
                return [[error or cast(ErrorKind, refusal) for error in of_topic] for of_topic in errors]
        return errors

    async def fetch_offsets(
        self, caller: Caller, group_id: str, topics: Sequence[TopicAsked] | None, require_stable: bool = False
    ) -> Sequence[FetchedTopic]:
        """`topics` None: all of which something was committed and that the caller may see."""
        self._check_group(caller, Operation.DESCRIBE, group_id)
        token = self._machines.token()
        if topics is None:
            answer = await self._machines.ask(group_id, FetchOffsets(token, None, require_stable), token)
            return self._fetched_all(caller, cast(FetchedOffsets, answer).committed)
        found = [self._topic(caller, Operation.DESCRIBE, asked.name, asked.topic_id) for asked in topics]
        wanted = [
            PartitionId(topic.topic_id, index)
            for topic, asked in zip(found, topics, strict=True)
            if not isinstance(topic, ErrorKind)
            for index in asked.partitions
        ]
        answer = await self._machines.ask(group_id, FetchOffsets(token, wanted, require_stable), token)
        committed = cast(FetchedOffsets, answer).committed
        fetched = []
        for topic, asked in zip(found, topics, strict=True):
            if not isinstance(topic, ErrorKind):
                offsets = [FetchedOffset(i, committed.get(PartitionId(topic.topic_id, i))) for i in asked.partitions]
            else:
                # A name that nobody knows has no offsets; an id that nobody knows is an error.
                error = None if topic is ErrorKind.UNKNOWN_TOPIC else topic
                offsets = [FetchedOffset(i, None, error) for i in asked.partitions]
            fetched.append(FetchedTopic(asked.name, asked.topic_id, offsets))
        return fetched

    def _fetched_all(
        self, caller: Caller, committed: Mapping[PartitionId, CommittedOffset]
    ) -> Sequence[FetchedTopic]:
        by_topic: dict[TopicId, list[FetchedOffset]] = {}
        for partition, offset in committed.items():
            by_topic.setdefault(partition.topic_id, []).append(FetchedOffset(partition.index, offset))
        fetched = []
        for topic_id, offsets in by_topic.items():
            topic = self._topics.by_id.get(topic_id)
            if topic is not None and self._allows(caller, Operation.DESCRIBE, ResourceKind.TOPIC, topic.name):
                fetched.append(FetchedTopic(topic.name, topic_id, sorted(offsets, key=lambda one: one.partition_index)))
        return fetched

    async def delete_offsets(
        self, caller: Caller, group_id: str, topics: Sequence[TopicAsked]
    ) -> Sequence[Sequence[ErrorKind | None]]:
        """One error a partition, in the order of the request. Raises GROUP_ID_NOT_FOUND and NON_EMPTY_GROUP."""
        self._check_group(caller, Operation.DELETE, group_id)
        found = [self._topic(caller, Operation.READ, asked.name, asked.topic_id) for asked in topics]
        partitions = [
            (topic.name, PartitionId(topic.topic_id, index))
            for topic, asked in zip(found, topics, strict=True)
            if not isinstance(topic, ErrorKind)
            for index in asked.partitions
        ]
        token = self._machines.token()
        answer = await self._machines.ask(group_id, DeleteOffsets(token, partitions), token)
        result = cast(DeleteOffsetsResult, answer)
        if result.error is not None:
            raise RiverlogError(result.error, f"the offsets of group {group_id!r} cannot be deleted")
        decided = iter(result.errors)
        errors: list[list[ErrorKind | None]] = []
        for topic, asked in zip(found, topics, strict=True):
            if isinstance(topic, ErrorKind):
                errors.append([topic] * len(asked.partitions))
                continue
            known = range(topic.partition_count)
            of_topic = [(index, next(decided)) for index in asked.partitions]
            errors.append([error if index in known else ErrorKind.UNKNOWN_TOPIC for index, error in of_topic])
        return errors

    # ------------------------------------------------------------------ for people, metrics and the rest of the broker

    async def describe(self, caller: Caller, group_id: str) -> Description:
        """State DEAD: there is no such group."""
        self._check_group(caller, Operation.DESCRIBE, group_id)
        token = self._machines.token()
        return cast(Description, await self._machines.ask(group_id, Describe(token), token))

    async def list_groups(
        self, caller: Caller, states: Collection[str] = (), types: Collection[str] = ()
    ) -> Sequence[GroupListing]:
        """Those that the caller may see, by id. Filters are without regard to case; an empty one lets all through."""
        await self._machines.load_all()
        sees_all = self._access.allows(caller, Operation.DESCRIBE, CLUSTER)
        states = {state.lower() for state in states}
        types = {one.lower() for one in types}
        listed = []
        for group_id, runner in sorted(self._machines.runners.items()):
            machine = runner.machine
            if (
                machine.exists
                and (sees_all or self._allows(caller, Operation.DESCRIBE, ResourceKind.GROUP, group_id))
                and (not states or machine.state.value.lower() in states)
                and (not types or CLASSIC_TYPE in types)
            ):
                listed.append(GroupListing(group_id, machine.state, machine.protocol_type or ""))
        return listed

    async def delete_group(self, caller: Caller, group_id: str) -> ErrorKind | None:
        self._check_group(caller, Operation.DELETE, group_id)
        token = self._machines.token()
        return cast("ErrorKind | None", await self._machines.ask(group_id, DeleteGroup(token), token))

    def committed(self) -> Iterator[tuple[str, TopicId, int, int]]:
        """Group, topic id, partition and offset of all that was committed, of the groups that are loaded."""
        for group_id, runner in list(self._machines.runners.items()):
            for partition, committed in list(runner.machine.offsets.items()):
                yield group_id, partition.topic_id, partition.index, committed.offset

    def members(self) -> Iterator[tuple[str, GroupState, int]]:
        """Group, state and number of members, of the groups that are loaded."""
        for group_id, runner in list(self._machines.runners.items()):
            yield group_id, runner.machine.state, runner.machine.member_count

    def _topic_changed(self, before: TopicFacts | None, after: TopicFacts | None) -> None:
        if before is not None and after is None:
            self.topics_deleted([before.topic_id])

    def topics_deleted(self, topic_ids: Collection[TopicId]) -> None:
        """Their offsets go."""
        for runner in list(self._machines.runners.values()):
            self._machines.tell(runner, DropTopics(topic_ids))

    async def cut_offsets_beyond(self, partition: PartitionId, log_end: int) -> int:
        """The partition lost its tail: what groups have committed beyond its end is cut back. Gives how many had."""
        await self._machines.load_all()
        cut = 0
        for group_id, runner in list(self._machines.runners.items()):
            committed = runner.machine.offsets.fetch([partition]).get(partition)
            if committed is not None and committed.offset > log_end:
                log.warning(
                    "group %r had committed offset %d of %s, whose log ends at %d: cut back",
                    group_id,
                    committed.offset,
                    partition,
                    log_end,
                )
                runner.tell(CutOffsets(partition, log_end))
                cut += 1
        return cut

    # ------------------------------------------------------------------ access and topics

    def _allows(self, caller: Caller, operation: Operation, kind: ResourceKind, name: str) -> bool:
        return self._access.allows(caller, operation, Resource(kind, name))

    def _check_group(self, caller: Caller, operation: Operation, group_id: str) -> None:
        if not self._access.allows(caller, operation, Resource(ResourceKind.GROUP, group_id)):
            message = f"{caller.principal} may not {operation.name} group {group_id!r}"
            raise RiverlogError(ErrorKind.UNAUTHORIZED, message)
        if len(group_id) > kept_text_length_max:
            raise RiverlogError(
                ErrorKind.INVALID_GROUP_ID, f"a group id has at most {kept_text_length_max} characters, not {len(group_id)}"
            )

    def _check_member_call(self, caller: Caller, group_id: str) -> None:
        self._check_group(caller, Operation.READ, group_id)
        if not group_id:
            raise RiverlogError(ErrorKind.INVALID_GROUP_ID, "a group with members needs a name: set group.id")

    def _topic(
        self, caller: Caller, operation: Operation, name: str, topic_id: TopicId | None
    ) -> TopicFacts | ErrorKind:
        if topic_id is not None:
            topic = self._topics.by_id.get(topic_id)
            if topic is None:
                return ErrorKind.UNKNOWN_TOPIC_ID
            name = topic.name
        else:
            topic = self._topics.by_name.get(TopicName(name))
        if not self._access.allows(caller, operation, Resource(ResourceKind.TOPIC, name)):
            return ErrorKind.UNAUTHORIZED
        return ErrorKind.UNKNOWN_TOPIC if topic is None else topic

    def _uuid(self) -> str:
        """Random, in the form of a UUID of version 4, as Kafka's member ids end."""
        raw = bytearray(self._entropy.token_bytes(16))
        raw[6] = raw[6] & 0x0F | 0x40
        raw[8] = raw[8] & 0x3F | 0x80
        text = raw.hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    # ------------------------------------------------------------------ time

    async def _expire_regularly(self) -> None:
        while True:
            await self._clock.sleep(self.settings.offsets_retention_check_interval_ms / 1000)
            try:
                await self._machines.load_all()
            except RiverlogError as error:
                log.warning("offsets are not expired this time: %s", error.message)
                continue
            names = {topic_id: topic.name for topic_id, topic in self._topics.by_id.items()}
            for runner in list(self._machines.runners.values()):
                self._machines.tell(runner, ExpireOffsets(names))


def _check_texts(asked: JoinAsked) -> None:
    """What is kept of a member is told to others, who may speak an older version of the protocol."""
    texts = [asked.instance_id or "", asked.protocol_type, *(name for name, _ in asked.protocols)]
    if max(map(len, texts)) > kept_text_length_max:
        raise RiverlogError(
            ErrorKind.INVALID_REQUEST,
            f"group.instance.id, protocol type and protocol names have at most {kept_text_length_max} characters each",
        )
