"""InitProducerId: new ids, epochs that rise, what is not served yet."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from riverlog.gateways.kafka.handlers import init_producer_id
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.init_producer_id import InitProducerIdRequest
from riverlog.state.access import DenyAll
from riverlog.testing.brokers import memory_broker
from riverlog.testing.kafka_calls import Calls

assert init_producer_id.init_producer_id


def ask(*requests: tuple[int, dict[str, Any]], denied: bool = False) -> list[Any]:
    """The answers to requests (version, fields) of one client."""

    async def story() -> list[Any]:
        async with memory_broker() as broker:
            if denied:
                broker.access = DenyAll()
            calls = Calls(broker)
            return [
                await calls.ask(
                    ApiKey.INIT_PRODUCER_ID,
                    version,
                    InitProducerIdRequest(**({"transactional_id": None, "transaction_timeout_ms": 0} | fields)),
                )
                for version, fields in requests
            ]

    return asyncio.run(story())


@pytest.mark.parametrize("version", range(6))
def test_each_producer_gets_an_id_of_its_own(version: int) -> None:
    answers = ask(*[(version, {})] * 3)
    assert [answer.error_code for answer in answers] == [0, 0, 0]
    assert len({answer.producer_id for answer in answers}) == 3
    assert {answer.producer_epoch for answer in answers} == {0}


def test_a_producer_that_comes_again_gets_the_next_epoch_until_there_is_none() -> None:
    bumped, exhausted = ask(
        (4, {"producer_id": 3, "producer_epoch": 8}), (4, {"producer_id": 3, "producer_epoch": 32766})
    )
    assert (bumped.producer_id, bumped.producer_epoch) == (3, 9)
    assert exhausted.producer_epoch == 0


@pytest.mark.parametrize("version", range(6))
def test_a_transactional_id_keeps_its_producer_id_and_gets_the_next_epoch_each_time(version: int) -> None:
    fields = {"transactional_id": "tx", "transaction_timeout_ms": 60_000}
    answers = ask((version, fields), (version, fields), (version, fields | {"transactional_id": "other"}))
    assert [answer.error_code for answer in answers] == [0, 0, 0]
    first, second, other = answers
    assert (second.producer_id, second.producer_epoch) == (first.producer_id, first.producer_epoch + 1)
    assert other.producer_id != first.producer_id


def test_who_was_fenced_is_told_so_in_the_words_of_its_version() -> None:
    fields = {"transactional_id": "tx", "transaction_timeout_ms": 60_000}
    stale = fields | {"producer_id": 0, "producer_epoch": 0}
    *_, old, new = ask((4, fields), (4, fields), (3, stale), (4, stale))
    assert (old.error_code, old.producer_id) == (ErrorCode.INVALID_PRODUCER_EPOCH, -1)
    assert new.error_code == ErrorCode.PRODUCER_FENCED


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"transactional_id": "", "transaction_timeout_ms": 1000}, ErrorCode.INVALID_REQUEST),
        ({"transactional_id": "x" * 8001, "transaction_timeout_ms": 1000}, ErrorCode.INVALID_REQUEST),
        ({"transactional_id": "tx", "transaction_timeout_ms": 0}, ErrorCode.INVALID_TRANSACTION_TIMEOUT),
        ({"transactional_id": "tx", "transaction_timeout_ms": 900_001}, ErrorCode.INVALID_TRANSACTION_TIMEOUT),
        ({"transactional_id": "tx", "transaction_timeout_ms": 1, "producer_id": 4}, ErrorCode.INVALID_REQUEST),
        ({"producer_epoch": 4}, ErrorCode.INVALID_REQUEST),
    ],
)
def test_refused(fields: dict[str, Any], code: ErrorCode) -> None:
    (answer,) = ask((4, fields))
    assert (answer.error_code, answer.producer_id, answer.producer_epoch) == (code, -1, -1)


def test_denied() -> None:
    (answer,) = ask((4, {}), denied=True)
    assert answer.error_code == ErrorCode.CLUSTER_AUTHORIZATION_FAILED
