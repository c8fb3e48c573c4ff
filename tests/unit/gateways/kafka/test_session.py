"""The Kafka session over a real socket: order of answers, limits, and what bad input gets."""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Iterator

import pytest

from riverlog.gateways.kafka.pacing import OF_A_MEMBER
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.api_versions import ApiVersionsRequest
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.fetch import FetchPartition, FetchRequest, FetchTopic
from riverlog.gateways.kafka.schema.heartbeat import HeartbeatRequest
from riverlog.gateways.kafka.wire import encode_request
from riverlog.library import Broker
from riverlog.records.builder import build_batch
from riverlog.records.compression import Compression
from riverlog.records.header import HEADER_BYTES
from riverlog.records.record import NewRecord
from riverlog.testing.kafka_client import KafkaClient

TIME = 1_700_000_000_000
SMALL_FRAMES = {"socket.request.max.bytes": 2_000_000}


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with Broker(settings=SMALL_FRAMES) as broker:
        yield broker


@pytest.fixture
def client(broker: Broker) -> Iterator[KafkaClient]:
    with KafkaClient(broker.bootstrap_servers) as client:
        yield client


def batch(value: bytes = b"v", key: bytes | None = b"k", **options: object) -> bytearray:
    return build_batch([NewRecord(TIME, key, value)], **options)  # type: ignore[arg-type]


def fetch_request(topic: str, offset: int = 0, wait_ms: int = 0, bytes_min: int = 1) -> FetchRequest:
    partition = FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 20)
    return FetchRequest(
        max_wait_ms=wait_ms,
        min_bytes=bytes_min,
        max_bytes=1 << 20,
        session_epoch=-1,
        topics=[FetchTopic(topic=topic, partitions=[partition])],
    )


def test_answers_come_in_the_order_of_requests(client: KafkaClient) -> None:
    """A long poll in front holds back what is behind it, and is ended by a produce from elsewhere."""
    client.create_topic("ordered")
    client.send(ApiKey.FETCH, 12, fetch_request("ordered", wait_ms=15_000))
    client.send(ApiKey.API_VERSIONS, 3, ApiVersionsRequest(client_software_name="x", client_software_version="1"))
    with KafkaClient(client.socket.getpeername()[0] + f":{client.socket.getpeername()[1]}") as other:
        assert other.produce("ordered", batch()).error_code == 0
    assert client.receive().responses[0].partitions[0].high_watermark == 1
    assert client.receive().error_code == 0


def test_a_client_that_hangs_up_during_a_long_poll_leaves_the_others_alone(broker: Broker, client: KafkaClient) -> None:
    client.create_topic("left")
    with KafkaClient(broker.bootstrap_servers) as leaving:
        leaving.send(ApiKey.FETCH, 12, fetch_request("left", wait_ms=60_000))
    assert client.produce("left", batch()).error_code == 0


def test_many_requests_in_one_write_and_one_request_in_many(client: KafkaClient) -> None:
    client.create_topic("pipelined")
    frames = b"".join(
        encode_request(ApiKey.PRODUCE, 9, number, "test", client.produce_request("pipelined", [(0, batch())], acks=1))
        for number in range(1, 201)
    )
    client.socket.sendall(frames[:7])
    client.socket.sendall(frames[7:-3])
    client.socket.sendall(frames[-3:])
    for number in range(1, 201):
        client.asked.append((ApiKey.PRODUCE, 9, number))
        assert client.receive().responses[0].partition_responses[0].base_offset == number - 1


def test_acks_0_gets_no_answer_and_a_failure_closes(client: KafkaClient) -> None:
    client.create_topic("silent")
    client.send(ApiKey.PRODUCE, 9, client.produce_request("silent", [(0, batch())], acks=0), answered=False)
    assert client.ask(ApiKey.FETCH, 12, fetch_request("silent")).responses[0].partitions[0].high_watermark == 1
    client.send(ApiKey.PRODUCE, 9, client.produce_request("silent", [(9, batch())], acks=0), answered=False)
    assert client.is_hung_up()


def test_a_frame_larger_than_the_receive_buffer(client: KafkaClient) -> None:
    client.create_topic("large")
    assert client.produce("large", batch(b"x" * 900_000)).error_code == 0
    partition = client.ask(ApiKey.FETCH, 12, fetch_request("large")).responses[0].partitions[0]
    assert len(partition.records) > 900_000


def lengths(size: int) -> bytes:
    return struct.pack(">i", size)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP", id="http"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40), "TLS", id="tls"),
        pytest.param(lengths(2_000_001) + bytes(100), "socket.request.max.bytes", id="too large"),
        pytest.param(lengths(-1) + bytes(100), "-1 bytes", id="negative"),
        pytest.param(lengths(10) + struct.pack(">hhih", 999, 0, 1, -1), "unknown api key 999", id="unknown api key"),
        pytest.param(lengths(12) + struct.pack(">hhih", 3, 1, 1, -1) + b"\x7f\xff", "MetadataRequest version 1", id="body"),
        pytest.param(lengths(10) + struct.pack(">hhih", 0, 2, 1, -1), "version 2 of PRODUCE", id="version"),
    ],
)
def test_what_is_no_request_closes_the_connection_with_one_log_line(
    broker: Broker, caplog: pytest.LogCaptureFixture, sent: bytes, reason: str
) -> None:
    host, _, port = broker.bootstrap_servers.rpartition(":")
    with caplog.at_level(logging.WARNING), socket.create_connection((host, int(port)), timeout=20) as peer:
        name = "{}:{}".format(*peer.getsockname())
        peer.sendall(sent)
        assert peer.recv(100) == b""
    lines = [record.getMessage() for record in caplog.records if name in record.getMessage()]
    assert len(lines) == 1
    assert reason in lines[0]


def test_an_unknown_version_of_api_versions_is_answered_in_version_0(client: KafkaClient) -> None:
    frame = struct.pack(">hhih", ApiKey.API_VERSIONS, 99, 7, -1)
    client.socket.sendall(lengths(len(frame)) + frame)
    client.asked.append((ApiKey.API_VERSIONS, 0, 7))
    answer = client.receive()
    assert answer.error_code == ErrorCode.UNSUPPORTED_VERSION
    assert [(key.api_key, key.min_version, key.max_version) for key in answer.api_keys] == [(18, 0, 4)]
    assert client.ask(ApiKey.API_VERSIONS, 0, ApiVersionsRequest()).error_code == 0


def damaged() -> bytearray:
    data = batch()
    data[-1] ^= 1
    return data


def of_magic(magic: int) -> bytearray:
    data = batch()
    data[16] = magic
    return data


def with_count(count: int) -> bytearray:
    data = batch()
    data[HEADER_BYTES - 4 : HEADER_BYTES] = lengths(count)
    return resigned(data)


def resigned(data: bytearray) -> bytearray:
    from riverlog.records.checksum import crc32c

    data[17:21] = struct.pack(">I", crc32c(bytes(data[21:])))
    return data


@pytest.mark.parametrize(
    ("records", "code"),
    [
        pytest.param(damaged(), ErrorCode.CORRUPT_MESSAGE, id="crc"),
        pytest.param(of_magic(0), ErrorCode.INVALID_RECORD, id="magic 0"),
        pytest.param(of_magic(1), ErrorCode.INVALID_RECORD, id="magic 1"),
        pytest.param(batch() + batch(), ErrorCode.INVALID_RECORD, id="two batches"),
        pytest.param(b"", ErrorCode.INVALID_RECORD, id="no batch"),
        pytest.param(None, ErrorCode.INVALID_RECORD, id="null"),
        pytest.param(with_count(-5), ErrorCode.INVALID_RECORD, id="negative count"),
        pytest.param(with_count(7), ErrorCode.INVALID_RECORD, id="counts that do not add up"),
        pytest.param(batch(b"x" * 1_100_000), ErrorCode.MESSAGE_TOO_LARGE, id="too large"),
        pytest.param(batch(log_append_time_ms=5), ErrorCode.INVALID_TIMESTAMP, id="timestamp type"),
    ],
)
def test_a_bad_batch_gets_its_error_and_the_connection_lives(
    client: KafkaClient, records: bytes | None, code: ErrorCode
) -> None:
    client.create_topic("bad")
    answer = client.produce("bad", records)
    assert answer.error_code == code
    assert answer.error_message
    assert client.produce("bad", batch()).error_code == 0


def test_the_failing_record_is_named(client: KafkaClient, broker: Broker) -> None:
    broker.create_topic("keyed", configs={"cleanup.policy": "compact"})
    data = build_batch([NewRecord(TIME, b"k", b""), NewRecord(TIME, None, b"")], compression=Compression.GZIP)
    answer = client.produce("keyed", data)
    assert answer.error_code == ErrorCode.INVALID_RECORD
    assert [one.batch_index for one in answer.record_errors] == [1]


def test_wrong_acks_unknown_topics_and_invalid_names(client: KafkaClient) -> None:
    client.create_topic("known")
    assert client.produce("known", batch(), acks=3).error_code == ErrorCode.INVALID_REQUIRED_ACKS
    assert client.produce("known", batch(), partition=5).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert client.produce("nobody-made-this", batch()).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert client.produce("not a name", batch()).error_code == ErrorCode.INVALID_TOPIC_EXCEPTION


def test_a_flood_of_requests_waits_instead_of_filling_memory(broker: Broker) -> None:
    """With a long poll in front nothing can be answered: after requests.in.flight.max the socket is not read any more."""
    with KafkaClient(broker.bootstrap_servers) as client:
        client.create_topic("flooded")
        client.send(ApiKey.FETCH, 12, fetch_request("flooded", wait_ms=60_000))
        frame = encode_request(ApiKey.HEARTBEAT, 4, 1, "x" * 30_000, HeartbeatRequest(group_id="g", member_id="m"))
        client.socket.settimeout(1)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 200 << 20:
                sent += client.socket.send(frame)
        assert sent < 100 << 20


def beat(group_id: str, member_id: str = "m") -> HeartbeatRequest:
    return HeartbeatRequest(group_id=group_id, generation_id=1, member_id=member_id)


def test_a_member_that_floods_is_heard_at_its_rate_and_answered_in_order(broker: Broker, client: KafkaClient) -> None:
    telemetry = broker._running().gateway.broker.telemetry
    delayed = telemetry.delayed_requests
    for _ in range(OF_A_MEMBER.burst + 10):
        client.send(ApiKey.HEARTBEAT, 4, beat("flooded"))
    client.send(ApiKey.API_VERSIONS, 3, ApiVersionsRequest(client_software_name="x", client_software_version="1"))
    for _ in range(OF_A_MEMBER.burst + 10):
        assert client.receive().error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert client.receive().error_code == 0  # what stood behind them
    assert telemetry.delayed_requests > delayed


def test_others_are_answered_while_fifty_connections_flood(broker: Broker, client: KafkaClient) -> None:
    """By then each of the fifty has thousands of requests that wait, nearly all of them in its socket."""
    server = broker._running()
    frames = b"".join(encode_request(ApiKey.HEARTBEAT, 4, number, "test", beat("drowned")) for number in range(4_000))
    flooders = [KafkaClient(broker.bootstrap_servers) for _ in range(50)]
    heard = server.broker.telemetry.request(ApiKey.HEARTBEAT)
    before = heard.count
    try:
        for flooder in flooders:
            flooder.socket.sendall(frames)
        for _ in range(20):
            assert client.ask(ApiKey.HEARTBEAT, 4, beat("calm")).error_code == ErrorCode.UNKNOWN_MEMBER_ID
        assert heard.count - before < 4_000  # of 200,000
        assert server.gateway.bytes_in_flight < 50 * 512 * 1024
    finally:
        for flooder in flooders:
            flooder.close()
