"""The machine of one group id: `step(command, now)` gives the effects.

A group owns its committed offsets and has one side, which owns the members: classic (`classic.py`) or of the consumer
protocol (`consumer.py`). A group that nobody has joined has an empty classic one. An empty side gives way to whoever joins,
a live one where it can (`migration.py`); offsets stay.

Not here: topic names, access, who runs the effects (`broker/coordinator.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from riverlog.base.errors import ErrorKind
from riverlog.env.clock import Now
from riverlog.state.groups.classic import ClassicSide
from riverlog.state.groups.commands import (
    Command,
    CommitOffsets,
    CommitPending,
    Configure,
    ConsumerDescription,
    ConsumerHeartbeat,
    ConsumerHeartbeatResult,
    CutOffsets,
    DeleteGroup,
    DeleteOffsets,
    DeleteOffsetsResult,
    Describe,
    DescribeConsumer,
    Description,
    DropTopics,
    EndPending,
    ExpireOffsets,
    FetchedOffsets,
    FetchOffsets,
    GroupSettings,
    GroupState,
    Heartbeat,
    Join,
    Leave,
    Result,
    Sync,
    Tick,
    Token,
    TopicsChanged,
)
from riverlog.state.groups.consumer import ConsumerSide
from riverlog.state.groups.consumer_checks import JOINING, check_heartbeat, refused
from riverlog.state.groups.consumer_rows import CONSUMER_KEY
from riverlog.state.groups.effects import Commit, Effect, Reply, Schedule
from riverlog.state.groups.migration import CannotUpgrade, classic_members, upgraded, wants_downgrade
from riverlog.state.groups.offsets import Offsets
from riverlog.state.groups.pending import PENDING_PREFIX
from riverlog.state.groups.rows import OFFSET_PREFIX, decode_offset, partition_of_key
from riverlog.state.groups.topics import TopicsView


class Group:
    def __init__(self, group_id: str, settings: GroupSettings, topics: TopicsView) -> None:
        self.group_id = group_id
        self.settings = settings
        self.offsets = Offsets()
        self.side: ClassicSide | ConsumerSide = ClassicSide(group_id, settings)
        self._topics = topics
        self._now = Now(0, 0)
        self._effects: list[Effect] = []

    # ------------------------------------------------------------------ what the outside may ask

    @property
    def exists(self) -> bool:
        return self.side.exists or len(self.offsets) > 0

    @property
    def deadline_ms(self) -> int | None:
        """When the next `Tick` is due, monotonic."""
        return self.side.deadline_ms

    @property
    def state(self) -> GroupState:
        return self.side.current_state

    @property
    def group_type(self) -> str:
        return self.side.group_type

    @property
    def protocol_type(self) -> str | None:
        return self.side.protocol_type

    @property
    def member_count(self) -> int:
        return self.side.member_count

    def waiting(self) -> list[Token]:
        """The requests that wait for an answer."""
        return self.side.waiting()

    def step(self, command: Command, now: Now) -> list[Effect]:
        self._now = now
        effects: list[Effect] = []
        self._effects = effects
        self.side.begin(now, effects)
        deadline_ms = self.side.deadline_ms
        match command:
            case ConsumerHeartbeat():
                self._reply(command.token, self._consumer_heartbeat(command))
            case Heartbeat():
                self._reply(command.token, self.side.heartbeat(command))
            case CommitOffsets():
                self._commit_offsets(command)
            case CommitPending():
                self._commit_pending(command)
            case EndPending():
                self._write(
                    self.offsets.end_pending(command.transactional_id, command.number, command.committed)
                )
                self._reply(command.token, None)
            case FetchOffsets():
                self._fetch_offsets(command)
            case Join():
                self._join(command)
            case Sync():
                self.side.sync(command)
            case Leave():
                self.side.leave(command)
            case Tick():
                self.side.tick()
            case TopicsChanged():
                if isinstance(self.side, ConsumerSide):
                    self.side.topics_changed(command.names)
            case Configure():
                self.settings = command.settings
                self.side.configure(command.settings)
            case Describe():
                self._reply(command.token, self._describe())
            case DescribeConsumer():
                self._reply(command.token, self._describe_consumer())
            case DeleteGroup():
                self._delete_group(command.token)
            case DeleteOffsets():
                self._delete_offsets(command)
            case ExpireOffsets():
                self._expire_offsets(command)
            case DropTopics():
                self._write(self.offsets.drop_topics(command.topic_ids))
            case CutOffsets():
                self._write(self.offsets.cut(command.partition, command.log_end))
            case _:
                assert_never(command)
        if isinstance(self.side, ConsumerSide) and wants_downgrade(self.side):
            self._downgrade(self.side)
        if self.side.deadline_ms != deadline_ms or isinstance(command, Tick):
            effects.append(Schedule(self.side.deadline_ms))
        return effects

    def _reply(self, token: Token, result: Result) -> None:
        self._effects.append(Reply(token, result))

    def _write(self, rows: Mapping[str, bytes | None]) -> None:
        if rows:
            self._effects.append(Commit(rows))

    # ------------------------------------------------------------------ members of both kinds

    def _consumer_heartbeat(self, beat: ConsumerHeartbeat) -> ConsumerHeartbeatResult:
        if isinstance(self.side, ClassicSide):
            if beat.member_epoch != JOINING:
                message = f"there is no group {self.group_id!r} of the consumer protocol: join it"
                return refused(ErrorKind.GROUP_ID_NOT_FOUND, message, beat.member_id)
            if (refusal := check_heartbeat(beat, self.settings)) is not None:
                return refusal
            try:
                self._upgrade(self.side, beat.instance_id)
            except CannotUpgrade as cause:
                message = f"group {self.group_id!r} stays a classic one: {cause}"
                return refused(ErrorKind.GROUP_ID_NOT_FOUND, message, beat.member_id)
        assert isinstance(self.side, ConsumerSide)
        return self.side.consumer_heartbeat(beat)

    def _upgrade(self, classic: ClassicSide, instance_id: str | None) -> None:
        """Raises CannotUpgrade."""
        if classic.member_count >= self.settings.consumer_members_max and instance_id not in classic.membership.static:
            raise CannotUpgrade("it is full")
        if not classic.member_count:
            self._write(classic.forget())
            self._turn(ConsumerSide(self.group_id, self.settings, self._topics))
            return
        side = upgraded(classic, self.settings, self._topics)
        self._write(classic.dissolve())
        self._turn(side)
        side.store_all()

    def _downgrade(self, consumer: ConsumerSide) -> None:
        members = classic_members(consumer, self._topics)
        self._write(dict.fromkeys(consumer.row_keys()))
        side = ClassicSide(self.group_id, self.settings)
        self._turn(side)
        side.adopt(max(member.standing.epoch for member in consumer.roster), members)

    def _join(self, join: Join) -> None:
        if isinstance(self.side, ConsumerSide) and not self.side.member_count:
            self._forget_members()
        self.side.join(join)

    # ------------------------------------------------------------------ offsets

    def _commit_offsets(self, command: CommitOffsets) -> None:
        error: ErrorKind | None = ErrorKind.GROUP_ID_NOT_FOUND
        if self.exists or command.generation < 0:
            error = self.side.commit_error(command)
        if error is None:
            self._write(self.offsets.commit(command.offsets))
        self._reply(command.token, error)

    def _commit_pending(self, command: CommitPending) -> None:
        error: ErrorKind | None = ErrorKind.ILLEGAL_GENERATION
        if self.exists or command.generation < 0:
            error = self.side.pending_error(command)
        if error is None:
            number = command.number
            self._write(self.offsets.commit_pending(command.transactional_id, number, command.offsets))
        self._reply(command.token, error)

    def _fetch_offsets(self, command: FetchOffsets) -> None:
        if (error := self.side.fetch_error(command)) is not None:
            self._reply(command.token, FetchedOffsets(error, {}))
            return
        unstable = self.offsets.unstable(command.partitions) if command.require_stable else ()
        self._reply(command.token, FetchedOffsets(None, self.offsets.fetch(command.partitions), unstable))

    def _delete_offsets(self, command: DeleteOffsets) -> None:
        error: ErrorKind | None = None
        if not self.exists:
            error = ErrorKind.GROUP_ID_NOT_FOUND
        elif not self.side.offsets_deletable():
            error = ErrorKind.NON_EMPTY_GROUP
        if error is not None:
            self._reply(command.token, DeleteOffsetsResult(error))
            return
        is_subscribed = self.side.is_subscribed
        self._write(self.offsets.remove([p for topic, p in command.partitions if not is_subscribed(topic)]))
        refused = ErrorKind.GROUP_SUBSCRIBED_TO_TOPIC
        errors = [refused if is_subscribed(topic) else None for topic, _ in command.partitions]
        self._reply(command.token, DeleteOffsetsResult(None, errors))

    def _expire_offsets(self, command: ExpireOffsets) -> None:
        rows = self.offsets.expire(
            now_ms=self._now.wall_ms,
            retention_ms=self.settings.offsets_retention_ms,
            names=command.names,
            idle_since_ms=self.side.idle_since_ms,
        )
        self._write(rows)
        if self.state is GroupState.EMPTY and not self.side.has_newcomers and not len(self.offsets):
            self._forget_members()  # a group of nobody that has read nothing

    # ------------------------------------------------------------------ the group as a whole

    def _describe(self) -> Description:
        if isinstance(self.side, ClassicSide) and self.exists:
            return self.side.describe()
        return Description(GroupState.DEAD)

    def _describe_consumer(self) -> ConsumerDescription:
        if isinstance(self.side, ConsumerSide):
            return self.side.describe_consumer()
        return ConsumerDescription(GroupState.DEAD)

    def _delete_group(self, token: Token) -> None:
        if not self.exists:
            self._reply(token, ErrorKind.GROUP_ID_NOT_FOUND)
        elif self.state is not GroupState.EMPTY:
            self._reply(token, ErrorKind.NON_EMPTY_GROUP)
        else:
            self._forget_members()
            self._write(self.offsets.clear())
            self._reply(token, None)

    def _forget_members(self) -> None:
        """Nobody is there, and nothing is left of who was."""
        self._write(self.side.forget())
        self._turn(ClassicSide(self.group_id, self.settings))

    def _turn(self, side: ClassicSide | ConsumerSide) -> None:
        self.side = side
        side.begin(self._now, self._effects)

    @classmethod
    def load(
        cls, group_id: str, rows: Mapping[str, bytes], settings: GroupSettings, topics: TopicsView, now: Now
    ) -> Group:
        """The machine as its rows say; `deadline_ms` is to be scheduled. Raises Corruption."""
        group = cls(group_id, settings, topics)
        group._now = now
        for key, value in sorted(rows.items()):
            if key.startswith(OFFSET_PREFIX):
                group.offsets.load(partition_of_key(key), decode_offset(key, value))
            elif key.startswith(PENDING_PREFIX):
                group.offsets.load_pending(key, value)
        if CONSUMER_KEY in rows:
            group.side = ConsumerSide.loaded(group_id, rows, settings, topics, now)
        else:
            group.side = ClassicSide.load(group_id, rows, settings, now)
        return group
