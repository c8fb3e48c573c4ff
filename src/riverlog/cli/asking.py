"""Requests that confluent-kafka has no call for, to whichever broker answers them: members' epochs, deletion of offsets,
transactions.

A blocking connection a broker, opened when it is first needed; the newest version of a request that both sides know is spoken.
A coordinator that is not ready yet is asked again for a while. Not here: retries after an answer was lost (the caller is told
that the broker does not answer), TLS and passwords.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from struct import Struct
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from riverlog.cli.client import answer_seconds_max, check_reachable, connect_seconds_max
from riverlog.cli.errors import CommandError
from riverlog.gateways.kafka.schema.api_keys import VERSIONS, ApiKey
from riverlog.gateways.kafka.schema.api_versions import ApiVersionsRequest
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.find_coordinator import FindCoordinatorRequest
from riverlog.gateways.kafka.schema.metadata import MetadataRequest
from riverlog.gateways.kafka.wire import DecodeError, Message, decode_response, encode_request

_LENGTH: Final = Struct(">i")
_NOT_YET: Final = frozenset(
    {ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.NOT_COORDINATOR}
)
_retry_seconds: Final = 0.1
_answer_bytes_max: Final = 1 << 30
_versions_spoken_first: Final = 0  # of ApiVersions; every broker answers it
GROUP: Final = 0  # the kinds of keys that have a coordinator
TRANSACTION: Final = 1


class Address(NamedTuple):
    host: str
    port: int


class Cluster:
    """The brokers behind `bootstrap`. Raises CommandError for whatever keeps a request from being answered."""

    def __init__(self, bootstrap: str) -> None:
        check_reachable(bootstrap)
        self.bootstrap = bootstrap
        self._connections: dict[Address, _Connection] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for connection in self._connections.values():
            connection.socket.close()

    def served(self) -> frozenset[int]:
        """The api keys that a broker of it knows."""
        return frozenset(self._connections[self._any()].versions)

    def brokers(self) -> Sequence[Address]:
        answer = self.ask(self._any(), ApiKey.METADATA, MetadataRequest(topics=[]))
        return [Address(one.host, one.port) for one in answer.brokers]

    def leaders(self) -> dict[tuple[str, int], Address]:
        """(topic, partition) -> who leads it, of all topics."""
        answer = self.ask(self._any(), ApiKey.METADATA, MetadataRequest(topics=None))
        brokers = {one.node_id: Address(one.host, one.port) for one in answer.brokers}
        return {
            (topic.name or "", one.partition_index): brokers[one.leader_id]
            for topic in answer.topics
            for one in topic.partitions
            if one.leader_id in brokers
        }

    def ask_coordinator(
        self, kind: int, key: str, api_key: ApiKey, request: Message, code_of: Callable[[Any], int]
    ) -> Any:
        """The answer of the group's or the transactional id's coordinator; `code_of` finds the answer's error code."""
        deadline = time.monotonic() + answer_seconds_max
        while True:
            found = self.ask(self._any(), ApiKey.FIND_COORDINATOR, _find(kind, key), version_max=3)
            code = found.error_code
            if not code:
                answer = self.ask(Address(found.host, found.port), api_key, request)
                if (code := code_of(answer)) not in _NOT_YET:
                    return answer
            if code not in _NOT_YET or time.monotonic() > deadline:
                raise CommandError(f"no coordinator of {key!r} answers at {self.bootstrap}: {name_of(code)}")
            time.sleep(_retry_seconds)

    def ask(self, address: Address, api_key: ApiKey, request: Message, *, version_max: int | None = None) -> Any:
        try:
            if address not in self._connections:
                self._connections[address] = _Connection(address)
            return self._connections[address].ask(api_key, request, version_max)
        except (OSError, DecodeError) as error:
            raise CommandError(_no_broker(f"{address.host}:{address.port}", error)) from error

    def _any(self) -> Address:
        """A broker that can be reached: one that was, else the first of the bootstrap addresses that takes a connection."""
        if self._connections:
            return next(iter(self._connections))
        reason: Exception | None = None
        for text in self.bootstrap.split(","):
            host, _, port = text.strip().rpartition(":")
            address = Address(host.strip("[]"), int(port))
            try:
                self._connections[address] = _Connection(address)
            except (OSError, DecodeError) as error:
                reason = error
                continue
            return address
        raise CommandError(_no_broker(self.bootstrap, reason))


class _Connection:
    def __init__(self, address: Address) -> None:
        self.socket = socket.create_connection(address, connect_seconds_max)
        self.socket.settimeout(answer_seconds_max)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.correlation_id = 0
        try:
            answer = self._exchange(ApiKey.API_VERSIONS, _versions_spoken_first, ApiVersionsRequest())
        except BaseException:
            self.socket.close()
            raise
        self.versions = {one.api_key: (one.min_version, one.max_version) for one in answer.api_keys}

    def ask(self, api_key: ApiKey, request: Message, version_max: int | None) -> Any:
        lowest, highest, _ = VERSIONS[api_key]
        theirs = self.versions.get(api_key, (0, -1))
        version = min(highest, theirs[1], highest if version_max is None else version_max)
        if version < max(lowest, theirs[0]):
            raise CommandError(f"the broker does not know {api_key.name.lower()}: it needs a newer version")
        return self._exchange(api_key, version, request)

    def _exchange(self, api_key: ApiKey, version: int, request: Message) -> Any:
        self.correlation_id += 1
        self.socket.sendall(encode_request(api_key, version, self.correlation_id, "riverlog-cli", request))
        (size,) = _LENGTH.unpack(self._exactly(4))
        if not 4 <= size <= _answer_bytes_max:
            raise ConnectionError(f"it announces an answer of {size} bytes")
        correlation_id, answer = decode_response(api_key, version, self._exactly(size))
        if correlation_id != self.correlation_id:
            raise ConnectionError("its answer belongs to no request")
        return answer

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            more = self.socket.recv(min(count - len(data), 1 << 16))
            if not more:
                raise ConnectionError("it has closed the connection")
            data += more
        return bytes(data)


def _no_broker(where: str, reason: object) -> str:
    return f"the broker at {where} does not answer as a Kafka broker would ({reason}): is the address right?"


def name_of(code: int) -> str:
    """An error code in words that can be looked up."""
    return ErrorCode(code).name if code in ErrorCode.__members__.values() else f"error {code}"


def _find(kind: int, key: str) -> FindCoordinatorRequest:
    return FindCoordinatorRequest(key=key, key_type=kind)
