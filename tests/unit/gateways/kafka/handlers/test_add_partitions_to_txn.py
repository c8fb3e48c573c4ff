"""AddPartitionsToTxn: clients' versions, brokers' batches, all or none."""

from __future__ import annotations

from typing import Any

import pytest

from riverlog.gateways.kafka.handlers import add_partitions_to_txn
from riverlog.gateways.kafka.schema.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTransaction,
)
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import AllowAll, Caller, DenyAll, Operation, Resource, ResourceKind
from tests.transaction_calls import Transactional, play

assert add_partitions_to_txn.add_partitions_to_txn


def batched(client: Transactional, *, verify_only: bool, topics: dict[str, list[int]]) -> AddPartitionsToTxnRequest:
    def transaction(transactional_id: str) -> AddPartitionsToTxnTransaction:
        return AddPartitionsToTxnTransaction(
            transactional_id=transactional_id,
            producer_id=client.producer_id,
            producer_epoch=client.epoch,
            verify_only=verify_only,
            topics=[AddPartitionsToTxnTopic(name=name, partitions=each) for name, each in topics.items()],
        )

    return AddPartitionsToTxnRequest(transactions=[transaction("tx"), transaction("unknown")])


def codes(result: Any) -> list[int]:
    return [one.partition_error_code for topic in result.topic_results for one in topic.results_by_partition]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("version", range(4))
def test_partitions_are_in_the_transaction_once_they_were_added(version: int, late: bool) -> None:
    async def story(client: Transactional) -> None:
        await client.init()
        for _ in range(2):  # a repetition is the same
            assert await client.add(("t", [1, 0]), ("input", [0]), version=version) == [
                ("t", 1, 0),
                ("t", 0, 0),
                ("input", 0, 0),
            ]
        described = await client.describe()
        assert {topic.topic: list(topic.partitions) for topic in described.topics} == {"t": [0, 1], "input": [0]}

    play(story, late=late)


@pytest.mark.parametrize("version", range(4))
def test_where_one_is_refused_the_others_are_not_tried(version: int) -> None:
    async def story(client: Transactional) -> None:
        await client.init()
        assert await client.add(("t", [0, 5]), ("nothing", [0]), version=version) == [
            ("t", 0, ErrorCode.OPERATION_NOT_ATTEMPTED),
            ("t", 5, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
            ("nothing", 0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ]
        assert (await client.describe()).transaction_state == "Empty"

    play(story)


def test_strangers_and_zombies() -> None:
    async def story(client: Transactional) -> None:
        assert await client.add(("t", [0])) == [("t", 0, ErrorCode.INVALID_PRODUCER_ID_MAPPING)]
        await client.init()
        client.epoch -= 1
        assert await client.add(("t", [0]), version=3) == [("t", 0, ErrorCode.PRODUCER_FENCED)]
        assert await client.add(("t", [0]), version=1) == [("t", 0, ErrorCode.INVALID_PRODUCER_EPOCH)]

    play(story)


@pytest.mark.parametrize("version", [4, 5])
def test_brokers_add_and_verify_in_batches(version: int) -> None:
    async def story(client: Transactional) -> None:
        await client.init()
        key = ApiKey.ADD_PARTITIONS_TO_TXN
        verified = await client.calls.ask(key, version, batched(client, verify_only=True, topics={"t": [0]}))
        assert verified.error_code == 0
        assert [one.transactional_id for one in verified.results_by_transaction] == ["tx", "unknown"]
        assert [codes(one) for one in verified.results_by_transaction] == [
            [ErrorCode.TRANSACTION_ABORTABLE],
            [ErrorCode.INVALID_PRODUCER_ID_MAPPING],
        ]
        added = await client.calls.ask(key, version, batched(client, verify_only=False, topics={"t": [0]}))
        assert codes(added.results_by_transaction[0]) == [0]
        verified = await client.calls.ask(key, version, batched(client, verify_only=True, topics={"t": [0, 1]}))
        assert codes(verified.results_by_transaction[0]) == [0, ErrorCode.TRANSACTION_ABORTABLE]

    play(story)


class NoTopics(AllowAll):
    def allows(self, caller: Caller, operation: Operation, resource: Resource) -> bool:
        return resource.kind is not ResourceKind.TOPIC


def test_denied() -> None:
    async def story(client: Transactional) -> None:
        refused = ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        assert await client.add(("t", [0])) == [("t", 0, refused)]
        answer = await client.calls.ask(
            ApiKey.ADD_PARTITIONS_TO_TXN, 4, batched(client, verify_only=False, topics={"t": [0]})
        )
        assert answer.error_code == ErrorCode.CLUSTER_AUTHORIZATION_FAILED
        assert list(answer.results_by_transaction) == []

    play(story, denied=DenyAll())

    async def of_topics(client: Transactional) -> None:
        await client.init()
        assert await client.add(("t", [0])) == [("t", 0, ErrorCode.TOPIC_AUTHORIZATION_FAILED)]

    play(of_topics, denied=NoTopics())
