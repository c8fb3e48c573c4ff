"""Requests by hand: which version is spoken, who is asked, what is said where nobody answers as a broker."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from riverlog.cli.asking import GROUP, Cluster, name_of
from riverlog.cli.errors import CommandError
from riverlog.gateways.kafka.schema import api_versions, describe_groups, find_coordinator
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.wire import Message, encode_response
from riverlog.library import Broker

Answer = Callable[[int, int], Message | bytes]


class Scripted(threading.Thread):
    """One connection after the other; `answer` gives what is said to (api key, version)."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(name="scripted", daemon=True)
        self.answer = answer
        self.asked: list[tuple[int, int]] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def run(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            with peer, peer.makefile("rb") as stream:
                while head := stream.read(4):
                    request = stream.read(int.from_bytes(head, "big"))
                    key, version = int.from_bytes(request[:2], "big"), int.from_bytes(request[2:4], "big")
                    self.asked.append((key, version))
                    said = self.answer(key, version)
                    if isinstance(said, bytes):
                        peer.sendall(said)
                        break
                    parts = encode_response(key, version, int.from_bytes(request[4:8], "big"), said)
                    peer.sendall(b"".join(part for part in parts if isinstance(part, bytes | bytearray)))


@pytest.fixture
def scripted() -> Iterator[Callable[[Answer], Scripted]]:
    made: list[Scripted] = []

    def start(answer: Answer) -> Scripted:
        made.append(Scripted(answer))
        made[-1].start()
        return made[-1]

    yield start
    for one in made:
        one.listener.shutdown(socket.SHUT_RDWR)
        one.listener.close()
        one.join(10)


def versions(**ranges: tuple[int, int]) -> Message:
    keys = [
        api_versions.ApiVersion(api_key=ApiKey[name], min_version=low, max_version=high)
        for name, (low, high) in ranges.items()
    ]
    return api_versions.ApiVersionsResponse(api_keys=keys)


def test_a_real_broker(riverlog_broker: Broker) -> None:
    with Cluster(riverlog_broker.bootstrap_servers) as cluster:
        assert [f"{one.host}:{one.port}" for one in cluster.brokers()] == [riverlog_broker.bootstrap_servers]
        riverlog_broker.create_topic("asking", partitions=2)
        leaders = cluster.leaders()
        assert {leaders["asking", 0], leaders["asking", 1]} == set(cluster.brokers())
        assert ApiKey.FIND_COORDINATOR in cluster.served()


def test_the_newest_version_that_both_know_is_spoken_to_the_coordinator(scripted: Callable[[Answer], Scripted]) -> None:
    codes = [ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.NONE]

    def answer(key: int, version: int) -> Message:
        if key == ApiKey.API_VERSIONS:
            return versions(API_VERSIONS=(0, 4), FIND_COORDINATOR=(0, 99), DESCRIBE_GROUPS=(0, 2))
        if key == ApiKey.FIND_COORDINATOR:
            return find_coordinator.FindCoordinatorResponse(host="127.0.0.1", port=broker.port)
        group = describe_groups.DescribedGroup(group_id="g", error_code=codes.pop(0))
        return describe_groups.DescribeGroupsResponse(groups=[group])

    broker = scripted(answer)
    with Cluster(f"127.0.0.1:{broker.port}") as cluster:
        request = describe_groups.DescribeGroupsRequest(groups=["g"])
        found = cluster.ask_coordinator(
            GROUP, "g", ApiKey.DESCRIBE_GROUPS, request, lambda answer: int(answer.groups[0].error_code)
        )
    assert found.groups[0].error_code == ErrorCode.NONE
    find, describe = (ApiKey.FIND_COORDINATOR, 3), (ApiKey.DESCRIBE_GROUPS, 2)
    assert broker.asked == [(ApiKey.API_VERSIONS, 0), find, describe, find, describe], "it was loading at first"


def test_an_old_broker_is_told_of(scripted: Callable[[Answer], Scripted]) -> None:
    broker = scripted(lambda key, version: versions(API_VERSIONS=(0, 0)))
    with Cluster(f"127.0.0.1:{broker.port}") as cluster, pytest.raises(CommandError, match="does not know metadata"):
        cluster.brokers()


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\x00\x00\x06\x00\x00\x00\x01\xff\xff"]
)
def test_who_is_no_broker(scripted: Callable[[Answer], Scripted], said: bytes) -> None:
    broker = scripted(lambda key, version: said)
    with (
        Cluster(f"127.0.0.1:{broker.port}") as cluster,
        pytest.raises(CommandError, match=r"does not answer as a Kafka broker would .*: is the address right"),
    ):
        cluster.brokers()


def test_error_codes_have_names() -> None:
    assert name_of(25) == "UNKNOWN_MEMBER_ID"
    assert name_of(30_000) == "error 30000"
