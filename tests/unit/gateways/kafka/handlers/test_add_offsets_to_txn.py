"""AddOffsetsToTxn: the group is in the transaction; what is refused."""

from __future__ import annotations

import pytest

from riverlog.gateways.kafka.handlers import add_offsets_to_txn
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import AllowAll, Caller, DenyAll, Operation, Resource, ResourceKind
from tests.transaction_calls import Transactional, play

assert add_offsets_to_txn.add_offsets_to_txn


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("version", range(5))
def test_a_group_that_was_added_may_commit_offsets(version: int, late: bool) -> None:
    async def story(client: Transactional) -> None:
        await client.init()
        assert await client.add_group(version) == 0
        assert (await client.describe()).transaction_state == "Ongoing"
        assert await client.commit_offset(version=3) == 0

    play(story, late=late)


def test_refused() -> None:
    async def story(client: Transactional) -> None:
        assert await client.add_group() == ErrorCode.INVALID_PRODUCER_ID_MAPPING
        await client.init()
        assert await client.add_group(group_id="") == ErrorCode.INVALID_GROUP_ID
        client.epoch += 1
        assert await client.add_group(version=2) == ErrorCode.PRODUCER_FENCED
        assert await client.add_group(version=1) == ErrorCode.INVALID_PRODUCER_EPOCH

    play(story)


class NoGroups(AllowAll):
    def allows(self, caller: Caller, operation: Operation, resource: Resource) -> bool:
        return resource.kind is not ResourceKind.GROUP


def test_denied() -> None:
    async def of_id(client: Transactional) -> None:
        assert await client.add_group() == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED

    async def of_group(client: Transactional) -> None:
        await client.init()
        assert await client.add_group() == ErrorCode.GROUP_AUTHORIZATION_FAILED

    play(of_id, denied=DenyAll())
    play(of_group, denied=NoGroups())
