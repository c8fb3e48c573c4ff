"""TxnOffsetCommit: offsets count with the commit; who needs what beforehand; what is refused."""

from __future__ import annotations

import pytest

from riverlog.broker.group_requests import TopicAsked
from riverlog.gateways.kafka.handlers import txn_offset_commit
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import LIBRARY_CALLER, AllowAll, Caller, DenyAll, Operation, Resource, ResourceKind
from tests.transaction_calls import Transactional, play

assert txn_offset_commit.txn_offset_commit


async def offset(client: Transactional) -> int | None:
    asked = [TopicAsked("input", None, [0])]
    (topic,) = await client.broker.groups.fetch_offsets(LIBRARY_CALLER, "g", asked)
    committed = topic.partitions[0].committed
    return None if committed is None else committed.offset


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("version", range(6))
def test_offsets_count_when_the_transaction_is_committed(version: int, committed: bool, late: bool) -> None:
    async def story(client: Transactional) -> None:
        await client.init()
        if version < 5:
            assert await client.add_group() == 0
        assert await client.commit_offset(version) == 0
        assert await offset(client) is None
        await client.end(committed)
        await client.add_group()  # waits until the group was told
        assert await offset(client) == (7 if committed else None)

    play(story, late=late)


@pytest.mark.parametrize(("version", "code"), [(3, ErrorCode.INVALID_TXN_STATE), (4, ErrorCode.TRANSACTION_ABORTABLE)])
def test_older_clients_add_the_group_first(version: int, code: ErrorCode) -> None:
    async def story(client: Transactional) -> None:
        await client.init()
        await client.add(("t", [0]))
        assert await client.commit_offset(version) == code

    play(story)


def test_refused() -> None:
    async def story(client: Transactional) -> None:
        assert await client.commit_offset() == ErrorCode.INVALID_PRODUCER_ID_MAPPING
        await client.init()
        assert await client.commit_offset(group_id="") == ErrorCode.INVALID_GROUP_ID
        assert await client.commit_offset(topic="nothing") == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        member = {"generation_id": 4, "member_id": "nobody"}
        assert await client.commit_offset(**member) in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION)
        client.epoch += 1
        assert await client.commit_offset() == ErrorCode.INVALID_PRODUCER_EPOCH

    play(story)


class NoGroups(AllowAll):
    def allows(self, caller: Caller, operation: Operation, resource: Resource) -> bool:
        return resource.kind is not ResourceKind.GROUP


def test_denied() -> None:
    async def of_id(client: Transactional) -> None:
        assert await client.commit_offset() == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED

    async def of_group(client: Transactional) -> None:
        await client.init()
        assert await client.commit_offset() == ErrorCode.GROUP_AUTHORIZATION_FAILED

    play(of_id, denied=DenyAll())
    play(of_group, denied=NoGroups())
