"""The connection as bytes in, requests out, answers in order."""

from __future__ import annotations

import struct
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riverlog.gateways.kafka import wire
from riverlog.gateways.kafka.buffer_pool import BufferPool, pooled_buffer_bytes_max
from riverlog.gateways.kafka.connection import (
    Connection,
    ProtocolError,
    Request,
    Slot,
    unsupported_version_answer,
)
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.api_versions import ApiVersionsRequest
from riverlog.gateways.kafka.schema.fetch import FetchRequest
from riverlog.gateways.kafka.schema.heartbeat import HeartbeatRequest
from riverlog.gateways.kafka.schema.produce import PartitionProduceData, ProduceRequest, TopicProduceData


def produce(records: bytes, version: int = 9, correlation_id: int = 7) -> bytes:
    data = TopicProduceData(name="t", partition_data=[PartitionProduceData(index=0, records=records)])
    request = ProduceRequest(acks=-1, timeout_ms=1000, topic_data=[data])
    return wire.encode_request(ApiKey.PRODUCE, version, correlation_id, "client", request)


def heartbeat(correlation_id: int, client_id: str | None = "é") -> bytes:
    request = HeartbeatRequest(group_id="g", generation_id=correlation_id, member_id="m")
    return wire.encode_request(ApiKey.HEARTBEAT, 4, correlation_id, client_id, request)


def summary(request: Request) -> tuple[int, int, int, str | None, bytes]:
    body = bytes(request.frame[request.position :])
    return request.api_key, request.version, request.correlation_id, request.client_id, body


def shared(data: bytes) -> memoryview:
    return memoryview(bytearray(data))


def test_whole_frames_are_parsed_in_place() -> None:
    connection = Connection(BufferPool())
    buffer = shared(heartbeat(1) + produce(b"x" * 2000, correlation_id=2) + heartbeat(3, None))
    requests = []
    for request in connection.receive(buffer):
        requests.append(summary(request)[:4])
        assert request.frame.obj is buffer.obj
        if request.api_key == ApiKey.PRODUCE:
            records = request.decode().topic_data[0].partition_data[0].records
            assert records.obj is buffer.obj
            assert bytes(records) == b"x" * 2000
    assert requests == [(12, 4, 1, "é"), (0, 9, 2, "client"), (12, 4, 3, None)]
    assert connection.buffer_for_input() is None


STREAM = heartbeat(1) + produce(b"y" * 3000, 3, 2) + produce(b"z" * 50, 13, 3) + heartbeat(4, None) + heartbeat(5, "")


def whole() -> list[tuple[int, int, int, str | None, bytes]]:
    return [summary(request) for request in Connection(BufferPool()).receive(STREAM)]


def test_one_byte_at_a_time_gives_the_same_requests() -> None:
    connection = Connection(BufferPool())
    found = [summary(request) for byte in STREAM for request in connection.receive(bytes((byte,)))]
    assert found == whole()
    assert connection.bytes_in_flight == 0


@settings(derandomize=True, database=None, max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 4000), min_size=1), st.booleans())
def test_any_cut_gives_the_same_requests(cuts: list[int], straight: bool) -> None:
    """`straight`: what the connection has room for goes where it says, as a socket's bytes do."""
    connection = Connection(BufferPool())
    common = bytearray(5000)
    found = []
    position = 0
    turn = 0
    while position < len(STREAM):
        size = cuts[turn % len(cuts)]
        turn += 1
        into = connection.buffer_for_input() if straight else None
        if into is None:
            into = memoryview(common)
        piece = STREAM[position : position + min(size, len(into))]
        into[: len(piece)] = piece
        position += len(piece)
        found += [summary(request) for request in connection.receive(into[: len(piece)])]
    assert found == whole()
    assert connection.bytes_in_flight == 0


def test_the_rest_of_a_large_frame_goes_straight_to_its_place() -> None:
    pool = BufferPool()
    connection = Connection(pool)
    frame = produce(b"r" * 100_000)
    assert list(connection.receive(shared(frame[:1000]))) == []
    into = connection.buffer_for_input()
    assert into is not None
    assert len(into) == len(frame) - 1000
    into[:] = frame[1000:]
    (request,) = connection.receive(into)
    assert bytes(request.frame) == frame[4:]
    assert request.frame.obj is into.obj
    assert connection.bytes_in_flight == 0
    assert pool.size == 0
    assert connection.buffer_for_input() is None
    assert pool.size == len(into.obj), "given back at the next read"
    assert pool.take(100_000) is into.obj


def test_an_announced_frame_gets_its_memory_as_it_comes() -> None:
    connection = Connection(BufferPool())
    size = 50 << 20
    assert list(connection.receive(struct.pack(">i", size) + b"\0\0\0\3")) == []
    assert connection.bytes_in_flight <= 1 << 20
    sent = 4
    while sent < size:
        into = connection.buffer_for_input()
        assert into is not None
        assert len(into) <= max(sent, 1 << 20)
        assert connection.bytes_in_flight <= max(2 * sent, 1 << 20) + len(into)
        sent += len(into)
        requests = list(connection.receive(into))
    assert [len(request.frame) for request in requests] == [size]


def test_a_detached_request_keeps_its_bytes() -> None:
    pool = BufferPool()
    connection = Connection(pool)
    buffer = shared(produce(b"a" * 100))
    (request,) = connection.receive(buffer)
    request.detach()
    buffer[:] = bytes(len(buffer))
    assert bytes(request.decode().topic_data[0].partition_data[0].records) == b"a" * 100

    frame = produce(b"b" * 5000)
    list(connection.receive(frame[:100]))
    (request,) = connection.receive(frame[100:])
    own = request.frame.obj
    request.detach()
    assert request.frame.obj is own, "handed over, not copied"
    connection.buffer_for_input()
    assert pool.size == 0
    assert bytes(request.decode().topic_data[0].partition_data[0].records) == b"b" * 5000


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", "HTTP"),
        (b"POST /topics HTTP/1.1\r\n", "HTTP"),
        (b"PRI * HTTP/2.0\r\n", "HTTP"),
        (b"\x16\x03\x01\x02\x00\x01\x00", "TLS"),
        (struct.pack(">i", -1), "frame of -1 bytes"),
        (struct.pack(">i", 0), "holds no request"),
        (struct.pack(">i", 1_000_001), "socket.request.max.bytes=1000000"),
        (struct.pack(">ihhi", 8, 18, 0, 1), "header cannot be read"),
        (struct.pack(">ihhih", 10, 4711, 0, 1, -1), "unknown api key 4711"),
        (struct.pack(">ihhih", 10, 18, 0, 1, 99), "client id of 99 bytes"),
        (struct.pack(">ihhih", 12, 18, 0, 1, 2) + b"\xff\xff", "header cannot be read"),
        (struct.pack(">ihhih", 10, 12, 4, 1, -1), "header cannot be read"),  # flexible, and no tags
    ],
)
def test_what_is_not_kafka_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        connection = Connection(BufferPool(), request_bytes_max=1_000_000)
        with pytest.raises(ProtocolError, match=reason):
            for piece in pieces:
                assert list(connection.receive(piece)) == []


def test_the_requests_before_a_bad_frame_are_given() -> None:
    connection = Connection(BufferPool())
    requests = connection.receive(heartbeat(1) + heartbeat(2) + b"GET / HTTP/1.1")
    assert [next(requests).correlation_id, next(requests).correlation_id] == [1, 2]
    with pytest.raises(ProtocolError, match=r"over socket\.request\.max\.bytes"):
        next(requests)


def test_a_body_that_cannot_be_decoded_is_a_protocol_error() -> None:
    frame = bytearray(heartbeat(1))[:-1]
    struct.pack_into(">i", frame, 0, len(frame) - 4)
    (request,) = Connection(BufferPool()).receive(bytes(frame))
    with pytest.raises(ProtocolError, match=r"HeartbeatRequest version 4: "):
        request.decode()


def test_a_version_out_of_range_is_told_apart() -> None:
    connection = Connection(BufferPool(), served={0: range(3, 14), 18: range(5)})
    old, new, wanted = connection.receive(
        produce(b"", 3)[:6] + b"\0\2" + produce(b"", 3)[8:]
        + struct.pack(">ihhih", 11, 18, 9, 55, -1) + b"?"
        + wire.encode_request(18, 3, 56, "c", ApiVersionsRequest())
    )  # fmt: skip
    assert [old.is_supported, new.is_supported, wanted.is_supported] == [False, False, True]
    assert unsupported_version_answer(old) is None
    answer = unsupported_version_answer(new, range(5))
    assert answer is not None
    correlation_id, response = wire.decode_response(18, 0, b"".join(bytes(part) for part in answer)[4:])
    assert correlation_id == 55
    assert response.error_code == 35
    assert [(key.api_key, key.min_version, key.max_version) for key in response.api_keys] == [(18, 0, 4)]


class Pinned:
    def __init__(self) -> None:
        self.size = 5
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def test_answers_leave_in_the_order_of_their_requests() -> None:
    connection = Connection(BufferPool())
    slots = [connection.expect(100) for _ in range(4)]
    assert (connection.requests_in_flight, connection.bytes_in_flight) == (4, 400)
    assert not slots[1].fill([b"1"])
    assert not slots[3].fill([b"3", b"4"])
    assert connection.data_to_send() == []
    assert connection.requests_in_flight == 4, "an answer that waits for its turn is in flight too"
    assert slots[0].fill([b"0"])
    assert connection.data_to_send() == [b"0", b"1"]
    assert connection.data_to_send() == []
    assert slots[2].fill(), "acks=0: no answer, but its turn"
    assert connection.data_to_send() == [b"3", b"4"]
    assert (connection.requests_in_flight, connection.bytes_in_flight) == (0, 0)


def test_what_is_not_sent_is_let_go_of() -> None:
    pool = BufferPool()
    connection = Connection(pool)
    first, second, third = Pinned(), Pinned(), Pinned()
    slots = [connection.expect(1) for _ in range(3)]
    slots[1].fill([b"head", first])
    list(connection.receive(produce(bytes(500))[:100]))
    connection.close()
    assert first.closed == 1
    assert pool.size > 0
    assert not slots[0].fill([second])
    assert not slots[2].fill([third])
    assert (second.closed, third.closed) == (1, 1)
    assert (connection.requests_in_flight, connection.bytes_in_flight) == (0, 0)
    assert connection.data_to_send() == []


def test_an_answer_is_given_once() -> None:
    slot: Slot = Connection(BufferPool()).expect()
    slot.fill([b"1"])
    with pytest.raises(AssertionError, match="twice"):
        slot.fill([b"2"])


def test_the_pool_keeps_no_more_than_its_limit() -> None:
    pool = BufferPool(bytes_max=40_000)
    first, second, third = pool.take(10), pool.take(16 * 1024), pool.take(16 * 1024 + 1)
    assert (len(first), len(second), len(third)) == (16384, 16384, 32768)
    for buffer in (first, second, third):
        pool.give(buffer)
    assert pool.size == 32768, "the third does not fit beside the others"
    assert pool.take(1) is second
    assert len(pool.take(pooled_buffer_bytes_max + 1)) == pooled_buffer_bytes_max + 1
    pool.give(bytearray(pooled_buffer_bytes_max * 2))
    assert pool.size == 16384


def test_requests_beyond_the_limit_are_held_until_answers_have_gone_out() -> None:
    connection = Connection(BufferPool(), requests_in_flight_max=2)
    data = b"".join(heartbeat(number) for number in range(1, 6))
    seen: list[int] = []
    while True:
        slots = []
        for request in connection.receive(memoryview(data)):
            seen.append(request.correlation_id)
            slots.append(connection.expect())
        assert len(slots) <= 2
        for slot in slots:
            slot.fill([b"answer"])
        connection.data_to_send()
        if connection.held is None:
            break
        data, connection.held = bytes(connection.held), None
    assert seen == [1, 2, 3, 4, 5]


def test_the_buffer_of_a_large_frame_is_given_back_without_another_read() -> None:
    pool = BufferPool()
    connection = Connection(pool)
    frame = produce(b"x" * 50_000)
    assert list(connection.receive(shared(frame[:1000]))) == []
    for request in connection.receive(shared(frame[1000:])):
        assert request.size == len(frame) - 4
    assert pool.size == 0
    connection.reclaim()
    assert pool.size >= len(frame)
    assert connection.bytes_in_flight == 0


def test_an_idle_connection_is_small() -> None:
    connection = Connection(BufferPool())
    for _ in range(10):
        for request in connection.receive(heartbeat(1)):
            connection.expect(request.size).fill([b"answer"])
        connection.data_to_send()
    held = [getattr(connection, name) for name in Connection.__slots__ if name not in ("_pool", "_served")]
    assert sys.getsizeof(connection) + sum(map(sys.getsizeof, held)) < 800


def test_an_empty_fetch_is_decoded_with_its_defaults() -> None:
    frame = wire.encode_request(ApiKey.FETCH, 18, 1, None, FetchRequest(max_wait_ms=5))
    (request,) = Connection(BufferPool()).receive(frame)
    assert request.decode() == FetchRequest(max_wait_ms=5)


@pytest.mark.parametrize("cut", [1, 3, 30, 60, 1_000])
def test_a_request_that_is_put_back_comes_again_with_all_that_is_behind_it(cut: int) -> None:
    """However the bytes were cut: where the frame came whole, or in a buffer of its own, or with half a prefix."""
    connection = Connection(BufferPool())
    frames = [produce(b"x" * size, correlation_id=size) for size in (20, 40, 60)]
    stream = b"".join(frames)
    seen: list[int] = []
    refused = 0
    for start in range(0, len(stream), cut):
        assert connection.held is None
        waiting: bytes | memoryview = stream[start : start + cut]
        while True:
            for request in connection.receive(waiting):
                if refused <= len(seen):  # each is refused once
                    refused += 1
                    connection.put_back(request)
                else:
                    seen.append(request.correlation_id)
            if connection.held is None:
                break
            assert connection.bytes_in_flight >= len(connection.held)
            waiting = connection.take_held()
    assert seen == [20, 40, 60]
    assert refused == 3
    assert connection.bytes_in_flight == 0
    assert connection.requests_received == 3


def test_what_was_put_back_counts_until_the_connection_closes() -> None:
    connection = Connection(BufferPool())
    frame = produce(b"x")
    for request in connection.receive(frame * 3):
        connection.put_back(request)
    assert connection.held == frame * 3
    assert connection.bytes_in_flight == 3 * len(frame)
    connection.close()
    assert connection.held is None
    assert connection.bytes_in_flight == 0
