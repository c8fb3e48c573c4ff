"""As much of the Kafka protocol as a load driver needs, by hand: ApiVersions, CreateTopics, Metadata, Produce, Fetch.

Independent of riverlog's codec on purpose: what measures both brokers must not share code with one of them.
Not a client: no retries, no routing, no groups; blocking sockets, one connection."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Self

from crc32c import crc32c

PRODUCE: Final = 0
FETCH: Final = 1
LIST_OFFSETS: Final = 2
METADATA: Final = 3
API_VERSIONS: Final = 18
CREATE_TOPICS: Final = 19
DELETE_TOPICS: Final = 20
INCREMENTAL_ALTER_CONFIGS: Final = 44

NOT_YET: Final = (3, 5, 6)  # unknown topic or partition, leader not available, not leader: ask again
poll_seconds: Final = 0.002

client_id: Final = b"bench"
timeout_ms: Final = 30_000
header_size: Final = 61
_batch_head = struct.Struct(">qiibIhiqqqhii")
_request_head = struct.Struct(">ihhih")
_produce_partition = struct.Struct(">ii")
assert _batch_head.size == header_size


class ApiVersion(NamedTuple):
    """The range of versions that a broker answers for an api key."""

    key: int
    version_min: int
    version_max: int


def text(value: str) -> bytes:
    """A non-flexible STRING."""
    encoded = value.encode()
    return struct.pack(">h", len(encoded)) + encoded


def frame(key: int, version: int, correlation_id: int, body: bytes) -> bytes:
    """A whole request with header v1 and its length in front."""
    head = _request_head.pack(10 + len(client_id) + len(body), key, version, correlation_id, len(client_id))
    return head + client_id + body


def zigzag(value: int) -> bytes:
    """A signed varint as records hold it."""
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def batch(values: Sequence[bytes], *, timestamp_ms: int, keys: Sequence[bytes] = ()) -> bytes:
    """One uncompressed record batch v2 without headers, from base offset 0; `keys` are as many as values, or none."""
    records = bytearray()
    for index, value in enumerate(values):
        key = zigzag(len(keys[index])) + keys[index] if keys else zigzag(-1)
        body = b"\x00\x00" + zigzag(index) + key + zigzag(len(value)) + value + b"\x00"
        records += zigzag(len(body)) + body
    last = len(values) - 1
    under_crc = struct.pack(">hiqqqhii", 0, last, timestamp_ms, timestamp_ms, -1, -1, -1, len(values)) + records
    return struct.pack(">qiibI", 0, len(under_crc) + 9, -1, 2, crc32c(under_crc)) + under_crc


def produce_body(topic: str, batches: Sequence[tuple[int, bytes]], *, acks: int) -> bytes:
    """The body of Produce v3 for one topic: a batch for each (partition, batch)."""
    parts = [struct.pack(">hhii", -1, acks, timeout_ms, 1), text(topic), struct.pack(">i", len(batches))]
    for partition, data in batches:
        parts += [_produce_partition.pack(partition, len(data)), data]
    return b"".join(parts)


def fetch_body(
    topic: str,
    positions: Sequence[tuple[int, int]],
    *,
    bytes_max: int,
    partition_bytes_max: int,
    wait_ms: int = 500,
    bytes_min: int = 1,
) -> bytes:
    """The body of Fetch v4 for one topic: (partition, offset) each."""
    parts = [
        struct.pack(">iiiibi", -1, wait_ms, bytes_min, bytes_max, 0, 1),
        text(topic),
        struct.pack(">i", len(positions)),
    ]
    parts += [struct.pack(">iqi", partition, offset, partition_bytes_max) for partition, offset in positions]
    return b"".join(parts)


class Connection:
    """One blocking connection to `host:port`. Errors of the broker are RuntimeError with api key and code."""

    def __init__(self, bootstrap: str, *, timeout_seconds: float = 60) -> None:
        host, _, port = bootstrap.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout_seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.correlation_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def receive_into(self, view: memoryview) -> None:
        """Fill the view; ConnectionError when the broker closes before it is full."""
        while view:
            count = self.socket.recv_into(view)
            if count == 0:
                raise ConnectionError("the broker closed the connection")
            view = view[count:]

    def receive(self) -> bytes:
        """The body of the next answer, without length and correlation id."""
        head = bytearray(8)
        self.receive_into(memoryview(head))
        size, correlation_id = struct.unpack(">ii", head)
        if correlation_id != self.correlation_id:
            raise RuntimeError(f"answer {correlation_id} came where {self.correlation_id} was asked")
        body = bytearray(size - 4)
        self.receive_into(memoryview(body))
        return bytes(body)

    def ask(self, key: int, version: int, body: bytes) -> bytes:
        """Send one request and return the body of its answer."""
        self.correlation_id += 1
        self.socket.sendall(frame(key, version, self.correlation_id, body))
        return self.receive()

    def api_versions(self) -> list[ApiVersion]:
        """What the broker answers (ApiVersions v0)."""
        answer = self.ask(API_VERSIONS, 0, b"")
        code, count = struct.unpack_from(">hi", answer)
        refuse(API_VERSIONS, code)
        return [ApiVersion(*struct.unpack_from(">hhh", answer, 6 + 6 * index)) for index in range(count)]

    def create_topic(
        self, topic: str, partitions: int, *, configs: Mapping[str, str] | None = None, seconds_max: float = 30
    ) -> None:
        """CreateTopics v2, replication factor 1; returns when every partition can be fetched from.

        Kafka answers a creation before its leaders take requests, so the end is asked for, not assumed."""
        pairs = b"".join(text(name) + text(value) for name, value in (configs or {}).items())
        body = struct.pack(">i", 1) + text(topic) + struct.pack(">ihii", partitions, 1, 0, len(configs or {}))
        body += pairs + struct.pack(">ib", timeout_ms, 0)
        answer = self.ask(CREATE_TOPICS, 2, body)
        (length,) = struct.unpack_from(">h", answer, 8)
        (code,) = struct.unpack_from(">h", answer, 10 + length)
        refuse(CREATE_TOPICS, code)
        deadline = time.monotonic() + seconds_max
        for partition in range(partitions):
            while (code := self.end_offset(topic, partition)[0]) in NOT_YET and time.monotonic() < deadline:
                time.sleep(poll_seconds)
            refuse(LIST_OFFSETS, code)

    def delete_topic(self, topic: str) -> None:
        """DeleteTopics v1. The broker removes the files in its own time."""
        answer = self.ask(DELETE_TOPICS, 1, struct.pack(">i", 1) + text(topic) + struct.pack(">i", timeout_ms))
        (length,) = struct.unpack_from(">h", answer, 8)
        (code,) = struct.unpack_from(">h", answer, 10 + length)
        refuse(DELETE_TOPICS, code)

    def alter_topic(self, topic: str, configs: Mapping[str, str]) -> None:
        """IncrementalAlterConfigs v0: sets these configs of the topic."""
        pairs = b"".join(text(name) + b"\x00" + text(value) for name, value in configs.items())
        body = struct.pack(">ib", 1, 2) + text(topic) + struct.pack(">i", len(configs)) + pairs + b"\x00"
        answer = self.ask(INCREMENTAL_ALTER_CONFIGS, 0, body)
        (code,) = struct.unpack_from(">h", answer, 8)
        refuse(INCREMENTAL_ALTER_CONFIGS, code)

    def end_offset(self, topic: str, partition: int) -> tuple[int, int]:
        """(error code, offset after the last record that a reader may see) by ListOffsets v1."""
        body = struct.pack(">ii", -1, 1) + text(topic) + struct.pack(">iiq", 1, partition, -1)
        answer = self.ask(LIST_OFFSETS, 1, body)
        (length,) = struct.unpack_from(">h", answer, 4)
        _, code, _, offset = struct.unpack_from(">ihqq", answer, 10 + length)
        return code, offset

    def partitions_with_leader(self, topic: str) -> int:
        """How many partitions of the topic have a leader by Metadata v1; 0 while it is unknown (and may be created)."""
        answer = self.ask(METADATA, 1, struct.pack(">i", 1) + text(topic))
        position = 0
        (brokers,) = struct.unpack_from(">i", answer, position)
        position += 4
        for _ in range(brokers):
            (host_length,) = struct.unpack_from(">h", answer, position + 4)
            position += 6 + host_length + 4
            (rack_length,) = struct.unpack_from(">h", answer, position)
            position += 2 + max(rack_length, 0)
        position += 8  # controller id, number of topics (one)
        code, name_length = struct.unpack_from(">hh", answer, position)
        position += 4 + name_length + 1
        (count,) = struct.unpack_from(">i", answer, position)
        position += 4
        led = 0
        for _ in range(count):
            partition_code, _, leader, replicas = struct.unpack_from(">hiii", answer, position)
            position += 14 + 4 * replicas
            (in_sync,) = struct.unpack_from(">i", answer, position)
            position += 4 + 4 * in_sync
            led += partition_code == 0 and leader >= 0
        return led if code == 0 else 0

    def produce(self, topic: str, partition: int, data: bytes, *, acks: int = 1) -> int:
        """Produce v3 of one batch; its base offset. RuntimeError with the code when it is refused."""
        return produced(self.ask(PRODUCE, 3, produce_body(topic, [(partition, data)], acks=acks)))

    def try_produce(self, topic: str, partition: int, data: bytes, *, acks: int = 1) -> int:
        """Produce v3 of one batch; the error code, 0 where it was acknowledged."""
        return _produced(self.ask(PRODUCE, 3, produce_body(topic, [(partition, data)], acks=acks)))[0]


def produced(answer: bytes) -> int:
    """The first partition's base offset in an answer to Produce v3 for one topic; RuntimeError where it was refused."""
    code, offset = _produced(answer)
    refuse(PRODUCE, code)
    return offset


def _produced(answer: bytes) -> tuple[int, int]:
    (length,) = struct.unpack_from(">h", answer, 4)
    _, code, offset = struct.unpack_from(">ihq", answer, 10 + length)
    return code, offset


def refuse(key: int, code: int) -> None:
    """RuntimeError where the code of an answer is an error."""
    if code:
        raise RuntimeError(f"the broker refused a request of api key {key} with error {code}")
