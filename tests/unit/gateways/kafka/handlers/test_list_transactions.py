"""ListTransactions: filters of each version."""

from __future__ import annotations

from typing import Any

import pytest

from riverlog.gateways.kafka.handlers import list_transactions
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.list_transactions import ListTransactionsRequest
from riverlog.state.access import DenyAll
from riverlog.testing.clock import ManualClock
from tests.transaction_calls import Transactional, play

assert list_transactions.list_transactions


async def ask(client: Transactional, version: int = 2, **filters: Any) -> Any:
    return await client.calls.ask(ApiKey.LIST_TRANSACTIONS, version, ListTransactionsRequest(**filters))


def ids(answer: Any) -> list[str]:
    assert answer.error_code == 0
    return [state.transactional_id for state in answer.transaction_states]


@pytest.mark.parametrize("version", range(3))
def test_states_producers_and_what_is_unknown(version: int) -> None:
    async def story(client: Transactional) -> None:
        other = Transactional(client.calls, "other")
        await client.init()
        await other.init()
        await client.add(("t", [0]))
        everything = await ask(client, version)
        found = [(one.transactional_id, one.producer_id, one.transaction_state) for one in everything.transaction_states]
        assert found == [("other", other.producer_id, "Empty"), ("tx", client.producer_id, "Ongoing")]
        assert ids(await ask(client, version, state_filters=["Ongoing"])) == ["tx"]
        assert ids(await ask(client, version, producer_id_filters=[other.producer_id])) == ["other"]
        some = await ask(client, version, state_filters=["Empty", "Sleepy"])
        assert (ids(some), list(some.unknown_state_filters)) == (["other"], ["Sleepy"])
        none = await ask(client, version, state_filters=["Sleepy"])
        assert (ids(none), list(none.unknown_state_filters)) == ([], ["Sleepy"])

    play(story)


def test_durations_and_patterns() -> None:
    async def story(client: Transactional) -> None:
        await client.init()
        await client.add(("t", [0]))
        await Transactional(client.calls, "tx2").init()
        clock = client.broker.clock
        assert isinstance(clock, ManualClock)
        clock.advance(500)
        assert ids(await ask(client, 1, duration_filter=499)) == ["tx"]
        assert ids(await ask(client, 1, duration_filter=500)) == []
        assert ids(await ask(client, 2, transactional_id_pattern="tx[0-9]")) == ["tx2"]
        assert ids(await ask(client, 2, transactional_id_pattern="t")) == []
        bad = await ask(client, 2, transactional_id_pattern="tx[")
        assert bad.error_code == ErrorCode.INVALID_REGULAR_EXPRESSION

    play(story)


def test_denied() -> None:
    async def story(client: Transactional) -> None:
        assert ids(await ask(client)) == []

    play(story, denied=DenyAll())
