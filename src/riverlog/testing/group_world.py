"""One process's groups without a server: `topic_world` with a coordinator, asked through handlers and their codec."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from riverlog.base.ids import TopicId
from riverlog.broker.coordinator import Coordinator
from riverlog.broker.settings import BrokerSettings
from riverlog.env.entropy import SeededEntropy
from riverlog.gateways.kafka.dispatch import load_handlers
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.join_group import JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse
from riverlog.gateways.kafka.schema.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from riverlog.gateways.kafka.schema.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from riverlog.gateways.kafka.wire import Message
from riverlog.testing.clock import ManualClock
from riverlog.testing.group_driver import subscription
from riverlog.testing.topic_world import TopicWorld, topic_world


class GroupMember(NamedTuple):
    member_id: str
    generation: int


class GroupWorld:
    """Topic `t` with four partitions, and group `g` as a test makes it."""

    def __init__(self, topics: TopicWorld, settings: BrokerSettings, topic_id: TopicId) -> None:
        self.topics = topics
        self.topic_id = topic_id
        self.clock = ManualClock()
        self.groups = Coordinator(
            settings=settings,
            catalog=topics.catalog,
            topics=topics.topics,
            clock=self.clock,
            entropy=SeededEntropy(2),
            access=topics,
        )
        topics.broker.groups = self.groups

    async def ask(self, api_key: ApiKey, version: int, request: Message) -> Any:
        """The decoded answer."""
        return await self.topics.ask(api_key, version, request)

    async def join(self, version: int = 9, member_id: str = "", **fields: Any) -> JoinGroupResponse:
        """A consumer of topic `t` joins; twice where an id is given first."""
        asked: dict[str, Any] = {
            "group_id": "g",
            "session_timeout_ms": 10_000,
            "rebalance_timeout_ms": 60_000 if version >= 1 else -1,
            "protocol_type": "consumer",
            "protocols": [JoinGroupRequestProtocol(name="range", metadata=subscription("t"))],
        } | fields
        answer: JoinGroupResponse = await self.ask(
            ApiKey.JOIN_GROUP, version, JoinGroupRequest(member_id=member_id, **asked)
        )
        if answer.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            return await self.join(version, answer.member_id, **fields)
        return answer

    async def stable(self, **fields: Any) -> GroupMember:
        """Group `g` with one member, which has been assigned b"part"."""
        joined = await self.join(**fields)
        assert joined.error_code == 0
        part = SyncGroupRequestAssignment(member_id=joined.member_id, assignment=b"part")
        synced = await self.ask(
            ApiKey.SYNC_GROUP,
            3,
            SyncGroupRequest(
                group_id="g",
                generation_id=joined.generation_id,
                member_id=joined.member_id,
                group_instance_id=fields.get("group_instance_id"),
                assignments=[part],
            ),
        )
        assert synced.assignment == b"part"
        return GroupMember(joined.member_id, joined.generation_id)

    async def commit(self, offset: int, group_id: str = "g", member: GroupMember | None = None) -> int:
        """Partition 0 of `t`; gives the error code."""
        partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=offset)
        answer = await self.ask(
            ApiKey.OFFSET_COMMIT,
            8,
            OffsetCommitRequest(
                group_id=group_id,
                generation_id_or_member_epoch=-1 if member is None else member.generation,
                member_id="" if member is None else member.member_id,
                topics=[OffsetCommitRequestTopic(name="t", partitions=[partition])],
            ),
        )
        code: int = answer.topics[0].partitions[0].error_code
        return code

    async def pass_ms(self, milliseconds: int) -> None:
        """Time passes, and everything that can go on goes on."""
        self.clock.advance(milliseconds)
        loop = asyncio.get_running_loop()
        for _ in range(50):
            turn: asyncio.Future[None] = loop.create_future()
            loop.call_soon(turn.set_result, None)
            await turn


@asynccontextmanager
async def group_world(settings: BrokerSettings | None = None) -> AsyncIterator[GroupWorld]:
    load_handlers()
    settings = settings or BrokerSettings()
    async with topic_world(settings=settings) as topics:
        topic = await topics.made("t", 4)
        world = GroupWorld(topics, settings, topic.topic_id)
        await world.groups.start()
        try:
            yield world
        finally:
            await world.groups.close()
