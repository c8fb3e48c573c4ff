"""Reaching a broker, and what its client's errors mean for a person."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, KafkaException

from riverlog.cli.client import check_reachable, configuration, explain, explained
from riverlog.cli.errors import CommandError


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Somebody who listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_one_of_several_addresses_is_enough(listener: socket.socket) -> None:
    check_reachable(f"127.0.0.1:1,127.0.0.1:{listener.getsockname()[1]}")


@pytest.mark.parametrize("address", ["", "host", "host:", ":9092", "host:port", "host:99999"])
def test_what_is_no_address_is_wrong_use(address: str) -> None:
    with pytest.raises(CommandError, match="give HOST:PORT") as caught:
        check_reachable(address)
    assert caught.value.status == 2


def test_a_name_that_nobody_knows_is_said() -> None:
    with pytest.raises(CommandError, match=r"no broker at broker\.invalid:9092 \("):
        check_reachable("broker.invalid:9092")


def test_the_client_is_told_to_be_silent(listener: socket.socket) -> None:
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    settings = configuration(address, **{"group.id": "g"})
    assert settings["bootstrap.servers"] == address
    assert settings["group.id"] == "g"
    assert not settings["logger"].propagate


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (KafkaError.UNKNOWN_TOPIC_OR_PART, "`riverlog topic list` shows what there is"),
        (KafkaError.NON_EMPTY_GROUP, "stop its consumers first"),
        (KafkaError._TRANSPORT, "the broker at h:1 does not answer as a Kafka broker would"),
        (KafkaError.LEADER_NOT_AVAILABLE, "the address be reached that the broker tells its clients"),
        (KafkaError._MSG_TIMED_OUT, "the address be reached that the broker tells its clients"),
        (KafkaError.INVALID_PARTITIONS, ""),
    ],
)
def test_errors_say_what_to_do(code: int, said: str) -> None:
    with pytest.raises(CommandError) as caught, explained("h:1"):
        raise KafkaException(KafkaError(code))
    assert said in caught.value.message
    assert caught.value.message == explain(KafkaError(code), "h:1")
