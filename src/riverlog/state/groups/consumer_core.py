"""Epochs, target, members and rows of a group of the consumer protocol (KIP-848); what clients ask stands above it.

The group's epoch rises whenever the target may have to change: somebody joins, goes or subscribes anew, topics change. A
target is decided for the group's epoch, at most once in `consumer_assignment_interval_ms`. Each member goes towards it by
its heartbeats (`reconciliation.py`), and holds what it was told until it says otherwise or is fenced.

Every change is a row at once, and only what changed is written; sessions are monotonic and start anew after a load.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from riverlog.base.errors import Corruption
from riverlog.base.ids import TopicId, TopicName
from riverlog.env.clock import Now
from riverlog.state.groups.assignment import NOTHING, partitions_of, united
from riverlog.state.groups.commands import GroupSettings, GroupState, Token
from riverlog.state.groups.consumer_members import ConsumerMember, Roster
from riverlog.state.groups.consumer_rows import (
    CONSUMER_KEY,
    CURRENT_PREFIX,
    SUBSCRIPTION_PREFIX,
    TARGET_PREFIX,
    ConsumerRow,
    SubscriptionRow,
    decode_current,
    decode_group,
    decode_subscription,
    decode_target,
    encode_current,
    encode_group,
    encode_subscription,
    encode_target,
)
from riverlog.state.groups.deadlines import Deadlines
from riverlog.state.groups.pending import RowChanges
from riverlog.state.groups.reconciliation import MemberState, reconcile
from riverlog.state.groups.regex import ResolvedRegexes
from riverlog.state.groups.side import Side
from riverlog.state.groups.target import Target, plan_target, subscribed_topics
from riverlog.state.groups.topics import TopicsView


class ConsumerCore(Side):
    def __init__(self, group_id: str, settings: GroupSettings, topics: TopicsView) -> None:
        super().__init__(group_id, settings)
        self.group_epoch = 0
        self.target = Target()
        self.roster = Roster(ResolvedRegexes(topics))
        self.deadlines = Deadlines(self._due_ms)
        self._topics = topics
        self._assign_from_ms: int | None = None  # monotonic; the next target is not decided before
        self._is_loaded = False  # from rows, and nobody has looked yet whether the topics are still the same
        self._stored_group = b""

    # ------------------------------------------------------------------ what the group asks

    @property
    def current_state(self) -> GroupState:
        if not len(self.roster):
            return GroupState.EMPTY
        if self.group_epoch > self.target.epoch:
            return GroupState.ASSIGNING
        epoch = self.target.epoch
        is_stable = all(member.standing.is_reconciled(epoch) for member in self.roster)
        return GroupState.STABLE if is_stable else GroupState.RECONCILING

    @property
    def exists(self) -> bool:
        return bool(self._stored_group or len(self.roster))

    @property
    def member_count(self) -> int:
        return len(self.roster)

    @property
    def has_newcomers(self) -> bool:
        return False

    def waiting(self) -> list[Token]:
        return []  # every request is answered in its step

    def tick(self) -> None:
        self.look_at_topics()
        if due := self.deadlines.take_due(self._now.monotonic_ms):
            self.remove(due)
        self.assign_if_due()
        self.set_deadline()

    def topics_changed(self, names: Collection[str]) -> None:
        concerned = False
        for name in names:
            by_regex = self.roster.regexes.changed(name)
            topic = self._topics.by_name.get(TopicName(name))
            seen = None if topic is None else (topic.topic_id, topic.partition_count)
            if (by_regex or self.roster.named[name]) and self.target.seen.get(name) != seen:
                concerned = True
        if concerned and not self._is_loaded:
            self.bump()
            self.assign_if_due()
            self.set_deadline()

    # ------------------------------------------------------------------ epochs and target

    def bump(self) -> None:
        """The target may have to change."""
        self.group_epoch += 1
        self.store_group()

    def assign_if_due(self) -> None:
        if self.group_epoch == self.target.epoch or not len(self.roster):
            return
        now_ms = self._now.monotonic_ms
        if self._assign_from_ms is not None and now_ms < self._assign_from_ms:
            return
        self._assign_from_ms = now_ms + self.settings.consumer_assignment_interval_ms
        target = self.target
        target.assignor = self.roster.assignor(self.settings.consumer_assignors)
        target.seen = subscribed_topics(self.roster, self._topics)
        plan = plan_target(self.roster, target.seen, target, target.assignor)
        rows: RowChanges = {}
        for member_id, assignment in plan.items():
            if assignment != target.of(member_id):
                rows[TARGET_PREFIX + member_id] = encode_target(assignment) if assignment else None
        target.of_member = {member_id: assignment for member_id, assignment in plan.items() if assignment}
        target.epoch = self.group_epoch
        self._write(rows)
        self.store_group()

    def look_at_topics(self) -> None:
        """Once after a load: topics may have changed while nobody ran the group."""
        if self._is_loaded:
            self._is_loaded = False
            self.roster.regexes.look_again()
            self.target.seen = subscribed_topics(self.roster, self._topics)
            if self.group_epoch == self.target.epoch and len(self.roster) and not self.target.covers(self.target.seen):
                self.bump()

    def set_deadline(self) -> None:
        deadline_ms = self.deadlines.next_ms if len(self.roster) else None
        if self._is_loaded:
            deadline_ms = self._now.monotonic_ms
        elif self.group_epoch > self.target.epoch and len(self.roster):
            assign_ms = self._now.monotonic_ms if self._assign_from_ms is None else self._assign_from_ms
            deadline_ms = assign_ms if deadline_ms is None else min(deadline_ms, assign_ms)
        self.deadline_ms = deadline_ms

    # ------------------------------------------------------------------ members

    def add(self, member: ConsumerMember) -> None:
        self.roster.add(member)
        self.store_member(member)
        self._write({CURRENT_PREFIX + member.member_id: encode_current(member.standing)})

    def describe_member(self, member: ConsumerMember, row: SubscriptionRow, is_new: bool) -> bool:
        """What the member says of itself from now on. Whether the target may have to change."""
        before = member.to_row()
        if is_new:
            member.describe_as(row)
            self.add(member)
            return True
        if row == before:
            return False
        self.roster.update(member, row)
        self.store_member(member)
        return (row.names, row.regex, row.assignor) != (before.names, before.regex, before.assignor)

    def remove(self, member_ids: Iterable[str]) -> None:
        """They are out, by their own will or not: what they had is free."""
        rows: RowChanges = {}
        for member_id in member_ids:
            rows.update(self._take_out(member_id))
            if self.target.of_member.pop(member_id, None) is not None:
                rows[TARGET_PREFIX + member_id] = None
        self._write(rows)
        self.bump()

    def replace(self, old: ConsumerMember, new_id: str) -> ConsumerMember:
        """A static member comes back under another id, and takes its place and what it had."""
        rows = self._take_out(old.member_id)
        target = self.target.of_member.pop(old.member_id, NOTHING)
        rows[TARGET_PREFIX + old.member_id] = None
        member = ConsumerMember.of_row(new_id, old.to_row())
        member.standing = old.standing._replace(
            epoch=0, previous_epoch=-1, state=MemberState.STABLE, revoking=NOTHING
        )
        self._write(rows)
        self.add(member)
        if target:
            self.target.of_member[new_id] = target
            self._write({TARGET_PREFIX + new_id: encode_target(target)})
        return member

    def reconcile(self, member: ConsumerMember, owned: Mapping[TopicId, Sequence[int]] | None) -> None:
        before = member.standing
        member_id = member.member_id
        is_free = self.roster.is_free
        standing = reconcile(
            before,
            self.target.epoch,
            self.target.of(member_id),
            lambda topic_id, index: is_free(member_id, topic_id, index),
            owned,
        )
        if standing == before:
            return
        self.roster.move(member, standing)
        self._write({CURRENT_PREFIX + member_id: encode_current(standing)})
        if standing.state is not MemberState.UNREVOKED_PARTITIONS or member.classic is not None:
            member.revoke_by_ms = None
        elif before.state is not MemberState.UNREVOKED_PARTITIONS or before.epoch != standing.epoch:
            member.revoke_by_ms = self._now.monotonic_ms + member.rebalance_timeout_ms

    def renew(self, member: ConsumerMember) -> None:
        """The member gave a sign of life."""
        classic = member.classic
        session_ms = self.settings.consumer_session_timeout_ms if classic is None else classic.session_timeout_ms
        member.expires_ms = self._now.monotonic_ms + session_ms
        self.deadlines.watch(member.member_id, member.due_ms())

    def _take_out(self, member_id: str) -> RowChanges:
        self.roster.remove(member_id)
        return {SUBSCRIPTION_PREFIX + member_id: None, CURRENT_PREFIX + member_id: None}

    def _due_ms(self, member_id: str) -> int | None:
        member = self.roster.members.get(member_id)
        return None if member is None else member.due_ms()

    # ------------------------------------------------------------------ rows

    def store_group(self) -> None:
        row = encode_group(ConsumerRow(self.group_epoch, self.target.epoch, self.target.assignor))
        if row != self._stored_group:
            self._stored_group = row
            self._write({CONSUMER_KEY: row})

    def store_member(self, member: ConsumerMember) -> None:
        self._write({SUBSCRIPTION_PREFIX + member.member_id: encode_subscription(member.to_row())})

    def forget(self) -> RowChanges:
        assert not len(self.roster)
        self._stored_group = b""
        return {CONSUMER_KEY: None}

    def row_keys(self) -> list[str]:
        """Of all rows that there are of this side."""
        prefixes = (SUBSCRIPTION_PREFIX, CURRENT_PREFIX)
        keys = [prefix + member_id for member_id in self.roster.members for prefix in prefixes]
        return [CONSUMER_KEY, *keys, *(TARGET_PREFIX + member_id for member_id in self.target.of_member)]

    def store_all(self) -> None:
        """A side that was made of another one: its rows, and the sessions of its members begin."""
        self.store_group()
        for member in self.roster:
            self.store_member(member)
            self._write({CURRENT_PREFIX + member.member_id: encode_current(member.standing)})
            self.renew(member)
        targets = self.target.of_member.items()
        self._write({TARGET_PREFIX + member_id: encode_target(assignment) for member_id, assignment in targets})

    def load(self, rows: Mapping[str, bytes], now: Now) -> None:
        """Raises Corruption."""
        self._now = now
        self._stored_group = rows[CONSUMER_KEY]
        self._is_loaded = True
        self.group_epoch, self.target.epoch, self.target.assignor = decode_group(CONSUMER_KEY, self._stored_group)
        for key, value in sorted(rows.items()):
            if key.startswith(SUBSCRIPTION_PREFIX):
                self._load_member(key, value, rows)
            elif key.startswith(TARGET_PREFIX):
                self.target.of_member[key[len(TARGET_PREFIX) :]] = decode_target(key, value)
        if unknown := self.target.of_member.keys() - self.roster.members.keys():
            raise Corruption(TARGET_PREFIX + min(unknown), 0, "a target of nobody")
        self.set_deadline()

    def _load_member(self, key: str, value: bytes, rows: Mapping[str, bytes]) -> None:
        member_id = key[len(SUBSCRIPTION_PREFIX) :]
        current_key = CURRENT_PREFIX + member_id
        if current_key not in rows:
            raise Corruption(current_key, 0, "the row is missing")
        member = ConsumerMember.of_row(member_id, decode_subscription(key, value))
        member.standing = decode_current(current_key, rows[current_key])
        for topic_id, index in partitions_of(united(member.standing.assigned, member.standing.revoking)):
            if not self.roster.is_free(member_id, topic_id, index):
                raise Corruption(current_key, 0, f"partition {index} of {topic_id.hex()} belongs to two members")
        self.roster.add(member)
        if member.standing.state is MemberState.UNREVOKED_PARTITIONS and member.classic is None:
            member.revoke_by_ms = self._now.monotonic_ms + member.rebalance_timeout_ms
        self.renew(member)
