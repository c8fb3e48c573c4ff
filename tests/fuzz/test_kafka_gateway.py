"""Bytes on real sockets: mutated requests, cut anywhere, connections that die in the middle of anything, many at once.

Whatever one connection does costs at most itself: another is served all the time, the process never says "internal
error", no callback of its loop fails, and when all have gone nothing is left of them: no session, no transport, no
bytes in flight, no parked fetch, no pinned region, no descriptor. Not here: what handlers make of decoded nonsense
(`test_kafka_handlers.py`).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from riverlog.env.sockets import address_text
from riverlog.gateways.kafka.dispatch import HANDLERS, load_handlers
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.api_versions import ApiVersionsRequest
from riverlog.gateways.kafka.schema.fetch import FetchPartition, FetchRequest, FetchTopic
from riverlog.gateways.kafka.schema.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from riverlog.gateways.kafka.wire import encode_request
from riverlog.library import Broker
from riverlog.records.builder import build_batch
from riverlog.records.record import NewRecord
from riverlog.testing.kafka_client import KafkaClient
from tests.fuzz.test_kafka_wire import mutations, some_values
from tests.properties.kafka_schema_values import MESSAGES, THOROUGH, build

SEED: Final = int(os.environ.get("RIVERLOG_FUZZ_SEED", "2013"))
ROUNDS: Final = 3000 if THOROUGH else 150
TIME: Final = 1_700_000_000_000
SETTLED_SECONDS_MAX: Final = 20
SETTINGS: Final = {"socket.request.max.bytes": 2_000_000, "log.retention.ms": -1}
# Partitions by the thousand, which a mutation asks for now and then, are no matter of this test.
NOT_ASKED: Final = frozenset({ApiKey.CREATE_TOPICS, ApiKey.CREATE_PARTITIONS})
load_handlers()
SERVED: Final = [
    (module, message)
    for module, message in MESSAGES.values()
    if message.kind == "request" and module.api_key in HANDLERS and module.api_key not in NOT_ASKED
]


# ------------------------------------------------------------------ the broker, and what must be true of it


class Watched:
    """A broker in this process. `client` is the connection that must be served whatever the others do."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.server: Any = broker._server
        self.failures: list[object] = []
        self.loop: Any = broker._loop
        self.loop.call_soon_threadsafe(self.loop.set_exception_handler, lambda _, context: self.failures.append(context))
        host, _, port = broker.bootstrap_servers.rpartition(":")
        self.address = (host, int(port))
        self.client = KafkaClient(broker.bootstrap_servers)
        self.sent = 0

    def connect(self, *, receive_bytes: int = 0) -> socket.socket:
        connected = socket.socket()
        if receive_bytes:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connected.settimeout(20)
        connected.connect(self.address)
        return connected

    def is_served(self) -> None:
        """One record more, acknowledged, on the connection that was there from the start."""
        told = self.client.produce("witness", batch(b"%d" % self.sent), acks=-1)
        assert (told.error_code, told.base_offset) == (0, self.sent), told
        self.sent += 1

    def on_loop(self, look: Callable[[], Any]) -> Any:
        """What `look` sees on the broker's own loop."""

        async def looking() -> Any:
            return look()

        return asyncio.run_coroutine_threadsafe(looking(), self.loop).result(20)

    def left_over(self) -> dict[str, Any]:
        """What is not as it was before anybody came; empty in the end, but for our own connection."""
        broker, gateway = self.server.broker, self.server.gateway
        ours = address_text(self.client.socket.getsockname())
        descriptors = getattr(broker.engine, "descriptors", ())
        pinned = sum(segment.users for segment in getattr(descriptors, "_open", ()))
        left = {
            "sessions": [one.transport.peer for one in gateway.open if one.transport.peer != ours],
            "transports": len(self.server.listeners[0].transports) - 1,
            "waiting for bytes": len(gateway.waiting),
            "bytes in flight": gateway.bytes_in_flight,
            "parked fetches": len(broker.fetching.parked),
            "pinned regions": pinned,
            "tasks of produce": len(broker.tasks.running),
        }
        return {name: value for name, value in left.items() if value}

    def settles(self) -> None:
        until = time.monotonic() + SETTLED_SECONDS_MAX
        while left := self.on_loop(self.left_over):
            assert time.monotonic() < until, left
        self.on_loop(gc.collect)
        assert not self.failures, self.failures
        assert self.server.broker.telemetry.internal_errors == 0

    def keeps(self) -> None:
        """All that was acknowledged on our connection is read again."""
        asked = FetchTopic(
            topic="witness", partitions=[FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1 << 24)]
        )
        request = FetchRequest(max_wait_ms=0, min_bytes=0, max_bytes=1 << 24, session_epoch=-1, topics=[asked])
        (told,) = self.client.ask(ApiKey.FETCH, 12, request).responses[0].partitions
        assert (told.error_code, told.high_watermark) == (0, self.sent)


def batch(value: bytes) -> bytes:
    return bytes(build_batch([NewRecord(TIME, b"k", value)]))


@contextmanager
def watched(directory: Path | None = None) -> Iterator[Watched]:
    errors: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: errors.append(handler.format(record))  # type: ignore[method-assign]
    log = logging.getLogger("riverlog")
    log.addHandler(handler)
    try:
        with Broker(directory, settings=SETTINGS) as broker:
            broker.create_topic("witness")
            broker.create_topic("topic", 2)
            broker.create_topic("a")
            seen = Watched(broker)
            seen.is_served()
            yield seen
            seen.is_served()
            seen.settles()
            seen.keeps()
            seen.client.close()
        assert not errors, errors
    finally:
        log.removeHandler(handler)


# ------------------------------------------------------------------ what is sent


def frame(dice: random.Random) -> bytes:
    """One request that can be decoded."""
    module, message = dice.choice(SERVED)
    version = dice.choice(HANDLERS[module.api_key].versions)
    values = some_values(message.root, dice)
    if module.api_key == ApiKey.FETCH:
        values["max_wait_ms"] = dice.choice([0, 1, 100, 60_000])
    client_id = dice.choice([None, "", "rdkafka", "é" * 90])
    request = build(module, message.root, values, version)
    return encode_request(module.api_key, version, dice.randrange(99), client_id, request)


def garbage(dice: random.Random) -> bytes:
    """One that was changed: as it is, or behind a length that is right again."""
    body = dice.choice(list(mutations(frame(dice)[4:], dice)))
    if dice.random() < 0.7:
        return struct.pack(">i", len(body)) + body
    if dice.random() < 0.5:
        return struct.pack(">i", dice.choice([-1, 0, 7, 8, 1_999_999, 2_000_001, 2**31 - 1])) + body
    return dice.choice([body, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b""])


def stream(dice: random.Random) -> bytes:
    return b"".join(garbage(dice) if dice.random() < 0.3 else frame(dice) for _ in range(dice.randrange(1, 7)))


def pieces(data: bytes, dice: random.Random) -> Iterator[bytes]:
    while data:
        size = dice.choice([1, 2, 3, 5, dice.randrange(1, 200), len(data)])
        yield data[:size]
        data = data[size:]


def end(connected: socket.socket, dice: random.Random) -> None:
    """Hangs up: politely, at once, half, or after it has read something."""
    match dice.randrange(4):
        case 0:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
        case 1:
            connected.settimeout(0.005)
            try:
                connected.recv(dice.choice([1, 100, 65536]))
            except OSError:
                pass
        case 2:
            try:
                connected.shutdown(socket.SHUT_WR)
            except OSError:
                pass
    connected.close()


def say(connected: socket.socket, data: bytes) -> bool:
    """False: the broker has hung up, as it may."""
    try:
        connected.sendall(data)
    except OSError:
        return False
    return True


def descriptor_count() -> int:
    return len(os.listdir("/proc/self/fd"))


# ------------------------------------------------------------------ tests


def test_nonsense_costs_its_own_connection_alone() -> None:
    dice = random.Random(SEED)
    with watched() as seen:
        for round_ in range(ROUNDS):
            connected = seen.connect()
            for piece in pieces(stream(dice), dice):
                if not say(connected, piece):
                    break
            end(connected, dice)
            if round_ % 5 == 0:
                seen.is_served()


def test_many_connections_talk_at_once_and_go() -> None:
    """Their pieces come in any order; some say nothing, some stop within a frame."""
    dice = random.Random(SEED + 1)
    with watched() as seen:
        for _ in range(20 if THOROUGH else 3):
            talks = [(seen.connect(), list(pieces(stream(dice), dice))) for _ in range(60)]
            idle = [seen.connect() for _ in range(60)]
            turns = [talk for talk in talks for _ in talk[1]]
            dice.shuffle(turns)
            for turn, (connected, left) in enumerate(turns):
                if dice.random() > 0.01:
                    say(connected, left.pop(0))
                if turn % 200 == 0:
                    seen.is_served()
            everybody = [connected for connected, _ in talks] + idle
            dice.shuffle(everybody)
            for connected in everybody:
                end(connected, dice)


@pytest.mark.parametrize("in_directory", [False, True], ids=["in memory", "in a directory"])
def test_readers_that_go_while_they_are_sent_to_hold_nothing(in_directory: bool, tmp_path: Path) -> None:
    """Regions of files are under way to them, or they wait for more; the descriptors are those from before."""
    dice = random.Random(SEED + 2)
    value = dice.randbytes(200_000)
    with watched(tmp_path if in_directory else None) as seen:
        for _ in range(20):
            assert seen.client.produce("topic", batch(value)).error_code == 0
        before = descriptor_count()
        for _ in range(100 if THOROUGH else 10):
            readers = [seen.connect(receive_bytes=4096) for _ in range(15)]
            for reader in readers:
                requests = b"".join(read(dice) for _ in range(dice.randrange(1, 4)))
                say(reader, requests[: dice.choice([len(requests), len(requests), dice.randrange(len(requests))])])
            seen.is_served()
            seen.client.produce("topic", batch(b"wakes who waits"))
            for reader in readers:
                end(reader, dice)
        seen.settles()
        assert descriptor_count() == before


def read(dice: random.Random) -> bytes:
    """A fetch of a lot, or a long poll."""
    offset = dice.choice([0, 0, 7, 20, 21, 10**6])
    partition = FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 22)
    topic = FetchTopic(topic="topic", partitions=[partition])
    request = FetchRequest(
        max_wait_ms=dice.choice([0, 60_000]), min_bytes=1, max_bytes=1 << 22, session_epoch=dice.choice([-1, 0]), topics=[topic]
    )
    return encode_request(ApiKey.FETCH, 12, 1, "reader", request)


def test_members_that_vanish_while_they_wait_leave_nothing_waiting() -> None:
    """Each joins the same group, waits for the others, and is gone; the last one to stay is served."""
    dice = random.Random(SEED + 3)
    with watched() as seen:
        for _ in range(30):
            connected = seen.connect()
            say(connected, encode_request(ApiKey.JOIN_GROUP, 3, 1, "member", join("group")))
            end(connected, dice)
        seen.is_served()


def join(group: str) -> JoinGroupRequest:
    return JoinGroupRequest(
        group_id=group,
        session_timeout_ms=6_000,
        rebalance_timeout_ms=6_000,
        member_id="",
        protocol_type="consumer",
        protocols=[JoinGroupRequestProtocol(name="range", metadata=b"")],
    )


@pytest.mark.parametrize("client_id", ["", "x" * 32_767, "\0" * 32_767, "é" * 16_383, "\U0010ffff" * 8_191], ids=len)
def test_a_client_id_may_be_as_long_as_its_length_can_say(client_id: str) -> None:
    """It becomes part of a member's id, which old versions must be able to tell."""
    with watched() as seen:
        for version in HANDLERS[ApiKey.JOIN_GROUP].versions:
            with KafkaClient(seen.broker.bootstrap_servers, client_id=client_id) as client:
                assert client.ask(ApiKey.API_VERSIONS, 3, ApiVersionsRequest()).error_code == 0
                client.ask(ApiKey.JOIN_GROUP, version, join(f"group {version}"))


def test_large_frames_that_never_end_give_their_memory_back() -> None:
    dice = random.Random(SEED + 4)
    with watched() as seen:
        for _ in range(30):
            connected = seen.connect()
            announced = dice.choice([100_000, 1_500_000, 2_000_000])
            say(connected, struct.pack(">ihhih", announced, ApiKey.PRODUCE, 9, 1, -1))
            say(connected, bytes(dice.randrange(announced - 10)))
            end(connected, dice)
        seen.is_served()


def test_a_broker_that_was_talked_nonsense_to_closes_all_its_descriptors(tmp_path: Path) -> None:
    dice = random.Random(SEED + 5)
    with Broker(tmp_path / "first"):  # what is opened once a process: imports, codecs
        pass
    gc.collect()
    before = descriptor_count()
    with watched(tmp_path / "second") as seen:
        for round_ in range(ROUNDS // 3):
            connected = seen.connect()
            for piece in pieces(stream(dice), dice):
                if not say(connected, piece):
                    break
            end(connected, dice)
            if round_ % 10 == 0:
                seen.is_served()
    gc.collect()
    assert descriptor_count() == before
