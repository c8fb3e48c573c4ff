"""The coordinator's half that keeps offsets: committed, fetched, deleted, and those of open transactions.

Invariants: offsets are kept by topic id; names become ids here, by what the process knows of topics. An answer that
says "committed" follows the durable row. The offsets of a transaction count once it is committed, whoever ended
meanwhile: `commit_pending` is refused where the transaction is not open any more, `end_pending` may be told again.
Not here: what became of a transaction (`transactions.py`), the rules of groups (`state/groups`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, cast

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import PartitionId, TopicId
from riverlog.base.units import INT64_MAX
from riverlog.broker.coordinator_base import CoordinatorBase
from riverlog.broker.group_requests import (
    FetchedOffset,
    FetchedTopic,
    MemberAsked,
    TopicAsked,
    TopicCommit,
)
from riverlog.state.access import Caller, Operation, ResourceKind
from riverlog.state.groups.commands import (
    CommitOffsets,
    CommitPending,
    CommittedOffset,
    CutOffsets,
    DeleteOffsets,
    DeleteOffsetsResult,
    EndPending,
    FetchedOffsets,
    FetchOffsets,
)

log = logging.getLogger(__name__)

Errors = list[list["ErrorKind | None"]]

# What a client is told of a partition that cannot be answered until a transaction is decided.
UNSTABLE: Final = ErrorKind.UNSTABLE_OFFSET_COMMIT


class OffsetsCoordinator(CoordinatorBase):
    async def commit_offsets(
        self,
        caller: Caller,
        group_id: str,
        member: MemberAsked,
        topics: Sequence[TopicCommit],
        retention_ms: int = -1,
        epochs_known: bool = True,
    ) -> Sequence[Sequence[ErrorKind | None]]:
        """One error a partition, in the order of the request. `retention_ms` -1: the broker's. `epochs_known`: the client
        speaks of member epochs where the group has them."""
        self._check_group(caller, Operation.READ, group_id)
        offsets, errors = self._resolved(caller, topics, retention_ms)
        if offsets:
            token = self._machines.token()
            generation, member_id, instance_id = member
            command = CommitOffsets(token, member_id, instance_id, generation, offsets, epochs_known)
            refusal = await self._machines.ask(group_id, command, token)
            if refusal is not None:
                return _refused(errors, refusal)
        return errors

    async def commit_pending(
        self,
        caller: Caller,
        group_id: str,
        transactional_id: str,
        number: int,
        member: MemberAsked,
        topics: Sequence[TopicCommit],
        still_open: Callable[[], bool] | None = None,
    ) -> Sequence[Sequence[ErrorKind | None]]:
        """As `commit_offsets`; they count once transaction `number` of that id is committed. `still_open` is asked right
        before the group is, so that nothing is kept of a transaction that ended while its group was loaded: raises
        INVALID_TXN_STATE."""
        self._check_member_call(caller, group_id)
        offsets, errors = self._resolved(caller, topics, -1)
        if offsets:
            runner = await self._machines.ready(group_id)
            if still_open is not None and not still_open():
                message = f"the transaction of {transactional_id!r} ended before its offsets of group {group_id!r} came"
                raise RiverlogError(ErrorKind.INVALID_TXN_STATE, message)
            token = self._machines.token()
            generation, member_id, instance_id = member
            answer = runner.ask(
                CommitPending(token, transactional_id, number, member_id, instance_id, generation, offsets), token
            )
            refusal = await answer if isinstance(answer, asyncio.Future) else answer
            if refusal is not None:
                return _refused(errors, refusal)
        return errors

    async def end_pending(self, group_id: str, transactional_id: str, number: int, committed: bool) -> None:
        """The transaction was decided. Returns when the group's rows say so; may be told again. Raises RiverlogError:
        tell it again."""
        token = self._machines.token()
        await self._machines.ask(group_id, EndPending(token, transactional_id, number, committed), token)

    def _resolved(
        self, caller: Caller, topics: Sequence[TopicCommit], retention_ms: int
    ) -> tuple[dict[PartitionId, CommittedOffset], Errors]:
        """What can be committed, and an error a partition, in the order of the request."""
        now_ms = self._clock.now_ms()
        expire_ms = -1 if retention_ms < 0 else min(now_ms + retention_ms, INT64_MAX)
        metadata_length_max = self.settings.offset_metadata_bytes_max
        offsets: dict[PartitionId, CommittedOffset] = {}
        errors: Errors = []
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
        return offsets, errors

    async def fetch_offsets(
        self,
        caller: Caller,
        group_id: str,
        topics: Sequence[TopicAsked] | None,
        require_stable: bool = False,
        member: MemberAsked | None = None,
    ) -> Sequence[FetchedTopic]:
        """`topics` None: all of which something was committed and that the caller may see. `member` with its epoch: who
        asks says that it is that member of a consumer group; raises UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH."""
        self._check_group(caller, Operation.DESCRIBE, group_id)
        if topics is None:
            answer = await self._fetch(group_id, None, require_stable, member)
            return self._fetched_all(caller, answer)
        found = [self._topic(caller, Operation.DESCRIBE, asked.name, asked.topic_id) for asked in topics]
        wanted = [
            PartitionId(topic.topic_id, index)
            for topic, asked in zip(found, topics, strict=True)
            if not isinstance(topic, ErrorKind)
            for index in asked.partitions
        ]
        answer = await self._fetch(group_id, wanted, require_stable, member)
        fetched = []
        for topic, asked in zip(found, topics, strict=True):
            if not isinstance(topic, ErrorKind):
                offsets = [_fetched(answer, PartitionId(topic.topic_id, index)) for index in asked.partitions]
            else:
                # A name that nobody knows has no offsets; an id that nobody knows is an error.
                error = None if topic is ErrorKind.UNKNOWN_TOPIC else topic
                offsets = [FetchedOffset(index, None, error) for index in asked.partitions]
            fetched.append(FetchedTopic(asked.name, asked.topic_id, offsets))
        return fetched

    async def _fetch(
        self, group_id: str, partitions: Sequence[PartitionId] | None, require_stable: bool, member: MemberAsked | None
    ) -> FetchedOffsets:
        token = self._machines.token()
        who = MemberAsked() if member is None else member
        command = FetchOffsets(token, partitions, require_stable, who.member_id or None, who.generation)
        fetched = cast(FetchedOffsets, await self._machines.ask(group_id, command, token))
        if fetched.error is not None:
            raise RiverlogError(fetched.error, f"member {who.member_id!r} may not ask group {group_id!r} for its offsets")
        return fetched

    def _fetched_all(self, caller: Caller, answer: FetchedOffsets) -> Sequence[FetchedTopic]:
        by_topic: dict[TopicId, list[FetchedOffset]] = {}
        for partition in dict.fromkeys((*answer.committed, *answer.unstable)):
            by_topic.setdefault(partition.topic_id, []).append(_fetched(answer, partition))
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
        errors: Errors = []
        for topic, asked in zip(found, topics, strict=True):
            if isinstance(topic, ErrorKind):
                errors.append([topic] * len(asked.partitions))
                continue
            known = range(topic.partition_count)
            of_topic = [(index, next(decided)) for index in asked.partitions]
            errors.append([error if index in known else ErrorKind.UNKNOWN_TOPIC for index, error in of_topic])
        return errors

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
                cut += 1
            runner.tell(CutOffsets(partition, log_end))
        return cut


def _fetched(answer: FetchedOffsets, partition: PartitionId) -> FetchedOffset:
    if partition in answer.unstable:
        return FetchedOffset(partition.index, None, UNSTABLE)
    return FetchedOffset(partition.index, answer.committed.get(partition))


def _refused(errors: Sequence[Sequence[ErrorKind | None]], refusal: ErrorKind) -> Errors:
    """The group refused it: so is each partition that had no error of its own."""
    return [[error or refusal for error in of_topic] for of_topic in errors]
