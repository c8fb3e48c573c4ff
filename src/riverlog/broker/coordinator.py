"""The coordinator of groups: what may be asked of them, in words that no protocol owns.

Every method takes a `Caller` first and asks `Access`. What concerns a whole request raises `RiverlogError`
(UNAUTHORIZED, INVALID_GROUP_ID, NOT_COORDINATOR, COORDINATOR_NOT_AVAILABLE); what the group decides is in the result.
Not here: offsets (`coordinator_offsets.py`), the rules of groups (`state/groups`), their machines (`group_machines.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import cast

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import TopicId
from riverlog.base.limits import kept_text_length_max
from riverlog.broker.coordinator_offsets import OffsetsCoordinator
from riverlog.broker.group_requests import (
    CLASSIC_TYPE,
    ConsumerAsked,
    GroupListing,
    JoinAsked,
    MemberAsked,
    TopicUnauthorized,
)
from riverlog.state.access import CLUSTER, Caller, Operation, Resource, ResourceKind
from riverlog.state.groups.commands import (
    Configure,
    ConsumerDescription,
    ConsumerHeartbeat,
    ConsumerHeartbeatResult,
    DeleteGroup,
    Describe,
    DescribeConsumer,
    Description,
    DropTopics,
    ExpireOffsets,
    GroupState,
    Heartbeat,
    Join,
    JoinResult,
    Leave,
    Leaver,
    LeaveResult,
    Sync,
    SyncResult,
    TopicsChanged,
)
from riverlog.state.groups.topics import GroupTopic

log = logging.getLogger(__name__)


class Coordinator(OffsetsCoordinator):
    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Loads the groups that there are in the background, so that the sessions of their members begin to count."""
        await self.configs.load()
        self.configs.watchers.append(self._configured)
        self._topics.watch(self._topic_changed)
        self._machines.tasks.start(self.configs.follow(), name="follow the configs")
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
            client_host=_host_of(caller),
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

    async def consumer_heartbeat(self, caller: Caller, group_id: str, asked: ConsumerAsked) -> ConsumerHeartbeatResult:
        """One heartbeat of a member of the consumer protocol, which also joins, leaves and says what it has. Raises
        TopicUnauthorized where it asks for a topic that the caller may not see."""
        self._check_member_call(caller, group_id)
        self._check_topics(caller, asked.subscribed_names or ())
        _check_lengths(asked.member_id, asked.instance_id, asked.rack_id, asked.assignor, asked.subscribed_regex)
        if (longest := max(map(len, asked.subscribed_names or ()), default=0)) > kept_text_length_max:
            raise RiverlogError(ErrorKind.INVALID_REQUEST, f"the name of a topic is not {longest} characters long")
        token = self._machines.token()
        command = ConsumerHeartbeat(
            token=token,
            member_id=asked.member_id,
            member_epoch=asked.member_epoch,
            instance_id=asked.instance_id,
            client_id=caller.client_id[:kept_text_length_max],
            client_host=_host_of(caller),
            rack_id=asked.rack_id,
            rebalance_timeout_ms=asked.rebalance_timeout_ms,
            subscribed_names=asked.subscribed_names,
            subscribed_regex=asked.subscribed_regex,
            assignor=asked.assignor,
            owned=asked.owned,
            fresh_id=self._uuid() if asked.id_wanted and not asked.member_id else "",
        )
        return cast(ConsumerHeartbeatResult, await self._machines.ask(group_id, command, token))

    # ------------------------------------------------------------------ for people, metrics and the rest of the broker

    async def describe(self, caller: Caller, group_id: str) -> Description:
        """As a classic group. State DEAD: there is no such group."""
        self._check_group(caller, Operation.DESCRIBE, group_id)
        token = self._machines.token()
        return cast(Description, await self._machines.ask(group_id, Describe(token), token))

    async def describe_consumer(self, caller: Caller, group_id: str) -> ConsumerDescription:
        """As a group of the consumer protocol. State DEAD: there is no such group. Raises TopicUnauthorized where it has
        to do with a topic that the caller may not see."""
        self._check_group(caller, Operation.DESCRIBE, group_id)
        token = self._machines.token()
        described = cast(ConsumerDescription, await self._machines.ask(group_id, DescribeConsumer(token), token))
        names = {name for member in described.members for name in member.subscribed_names}
        ids = {id for member in described.members for id in (*member.assignment, *member.target)}
        names.update(topic.name for id in ids if (topic := self._topics.by_id.get(id)) is not None)
        self._check_topics(caller, names)
        return described

    def _check_topics(self, caller: Caller, names: Iterable[str]) -> None:
        for name in names:
            if not self._allows(caller, Operation.DESCRIBE, ResourceKind.TOPIC, name):
                raise TopicUnauthorized(f"{caller.principal} may not see every topic that this group reads")

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
                and (not types or machine.group_type in types)
            ):
                listed.append(GroupListing(group_id, machine.state, machine.protocol_type or "", machine.group_type))
        return listed

    async def delete_group(self, caller: Caller, group_id: str) -> ErrorKind | None:
        self._check_group(caller, Operation.DELETE, group_id)
        token = self._machines.token()
        return cast("ErrorKind | None", await self._machines.ask(group_id, DeleteGroup(token), token))

    def topic_name(self, topic_id: TopicId) -> str | None:
        topic = self._topics.by_id.get(topic_id)
        return None if topic is None else topic.name

    def committed(self) -> Iterator[tuple[str, TopicId, int, int]]:
        """Group, topic id, partition and offset of all that was committed, of the groups that are loaded."""
        for group_id, runner in list(self._machines.runners.items()):
            for partition, committed in list(runner.machine.offsets.items()):
                yield group_id, partition.topic_id, partition.index, committed.offset

    def members(self) -> Iterator[tuple[str, GroupState, int]]:
        """Group, state and number of members, of the groups that are loaded."""
        for group_id, runner in list(self._machines.runners.items()):
            yield group_id, runner.machine.state, runner.machine.member_count

    # ------------------------------------------------------------------ what changes around the groups

    def _topic_changed(self, before: GroupTopic | None, after: GroupTopic | None) -> None:
        if before is not None and after is None:
            self.topics_deleted([before.topic_id])
        if before is None or after is None or before.partition_count != after.partition_count:
            changed = after or before
            assert changed is not None
            command = TopicsChanged([changed.name])
            for runner in list(self._machines.runners.values()):
                if runner.machine.group_type != CLASSIC_TYPE:  # a classic group's leader looks at topics itself
                    self._machines.tell(runner, command)

    def topics_deleted(self, topic_ids: Collection[TopicId]) -> None:
        """Their offsets go."""
        for runner in list(self._machines.runners.values()):
            self._machines.tell(runner, DropTopics(topic_ids))

    def _configured(self, group_id: str) -> None:
        if (runner := self._machines.runners.get(group_id)) is not None:
            self._machines.tell(runner, Configure(self._settings_of(group_id)))

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
                await self._machines.settle(runner)
                self._machines.tell(runner, ExpireOffsets(names))


def _host_of(caller: Caller) -> str:
    return "/" + (caller.peer.rpartition(":")[0] or caller.peer).strip("[]")


def _check_lengths(*texts: str | None) -> None:
    if max(len(text or "") for text in texts) > kept_text_length_max:
        message = f"ids, racks, assignors and regular expressions have at most {kept_text_length_max} characters"
        raise RiverlogError(ErrorKind.INVALID_REQUEST, message)


def _check_texts(asked: JoinAsked) -> None:
    """What is kept of a member is told to others, who may speak an older version of the protocol."""
    texts = [asked.instance_id or "", asked.protocol_type, *(name for name, _ in asked.protocols)]
    if max(map(len, texts)) > kept_text_length_max:
        raise RiverlogError(
            ErrorKind.INVALID_REQUEST,
            f"group.instance.id, protocol type and protocol names have at most {kept_text_length_max} characters each",
        )
