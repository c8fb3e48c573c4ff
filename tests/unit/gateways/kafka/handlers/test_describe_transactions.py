"""DescribeTransactions: state, producer, time and partitions of each id."""

from __future__ import annotations

from riverlog.gateways.kafka.handlers import describe_transactions
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.describe_transactions import DescribeTransactionsRequest
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import AllowAll, Caller, DenyAll, Operation, Resource
from tests.transaction_calls import NOW, Transactional, play

assert describe_transactions.describe_transactions


def test_each_id_is_answered() -> None:
    async def story(client: Transactional) -> None:
        await client.init(timeout_ms=12_345)
        empty = await client.describe()
        assert (empty.error_code, empty.transaction_state, empty.transaction_start_time_ms) == (0, "Empty", -1)
        await client.add(("t", [1, 0]), ("input", [0]))
        request = DescribeTransactionsRequest(transactional_ids=["nobody", "tx", ""])
        answer = await client.calls.ask(ApiKey.DESCRIBE_TRANSACTIONS, 0, request)
        nobody, found, nameless = answer.transaction_states
        assert nobody.error_code == ErrorCode.TRANSACTIONAL_ID_NOT_FOUND
        assert nameless.error_code == ErrorCode.INVALID_REQUEST
        assert (found.transactional_id, found.transaction_state) == ("tx", "Ongoing")
        assert (found.producer_id, found.producer_epoch) == (client.producer_id, client.epoch)
        assert (found.transaction_timeout_ms, found.transaction_start_time_ms) == (12_345, NOW)
        topics = [(topic.topic, list(topic.partitions)) for topic in found.topics]
        assert topics == [("input", [0]), ("t", [0, 1])]

    play(story)


class Hidden(AllowAll):
    def allows(self, caller: Caller, operation: Operation, resource: Resource) -> bool:
        return operation is not Operation.DESCRIBE or resource.name != "t"


def test_topics_that_the_caller_may_not_see_are_left_out() -> None:
    async def story(client: Transactional) -> None:
        await client.init()
        await client.add(("t", [0]), ("input", [0]))
        assert [topic.topic for topic in (await client.describe()).topics] == ["input"]

    play(story, denied=Hidden())


def test_denied() -> None:
    async def story(client: Transactional) -> None:
        assert (await client.describe()).error_code == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED

    play(story, denied=DenyAll())
