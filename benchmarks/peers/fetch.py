"""Two drivers on plain blocking sockets: a raw fetch loop, and Produce with one request in flight.

Both do as little as they can for each byte or request, alike for every broker; what they look at is the batch headers
that say where the next fetch begins. Not a consumer: records are neither checked nor decoded."""

from __future__ import annotations

import struct
import time
from typing import Final, NamedTuple

from benchmarks.peers import wire
from benchmarks.peers.load import Latency, percentiles

partition_bytes_default: Final = 1 << 20  # max.partition.fetch.bytes of Kafka's consumers
fetch_versions: Final = (4, 11)
warm_up_requests: Final = 500

_batch_head = struct.Struct(">qi")
_offset_delta = struct.Struct(">i")
_count = struct.Struct(">i")


class Drained(NamedTuple):
    """What a fetch loop got: `size_bytes` of record batches, records, requests, and the time from first to last."""

    size_bytes: int
    records: int
    requests: int
    seconds: float

    @property
    def bytes_per_second(self) -> float:
        return self.size_bytes / self.seconds


class Fetched(NamedTuple):
    """One partition's part of an answer, walked: bytes and records of its whole batches, and the offset after them."""

    size_bytes: int
    records: int
    next_offset: int


def fetch_request(
    topic: str, partition: int, offset: int, *, version: int, correlation_id: int, partition_bytes_max: int
) -> bytes:
    """A whole Fetch request for one partition without a session."""
    bytes_max = max(partition_bytes_max, 50 << 20)
    if version == 4:
        body = wire.fetch_body(
            topic, [(partition, offset)], bytes_max=bytes_max, partition_bytes_max=partition_bytes_max
        )
    else:
        body = (
            struct.pack(">iiiibiii", -1, 500, 1, bytes_max, 0, 0, -1, 1)
            + wire.text(topic)
            + struct.pack(">iiiqqi", 1, partition, -1, offset, -1, partition_bytes_max)
            + struct.pack(">i", 0)
            + wire.text("")
        )
    return wire.frame(wire.FETCH, version, correlation_id, body)


def records_span(answer: memoryview, *, version: int) -> tuple[int, int]:
    """(position, size) of the record bytes in an answer (without correlation id) for one partition."""
    position = 4  # throttle time
    if version >= 7:
        (code,) = struct.unpack_from(">h", answer, position)
        wire.refuse(wire.FETCH, code)
        position += 2 + 4  # error, session id
    _, name_length = struct.unpack_from(">ih", answer, position)
    position += 6 + name_length + 4  # topics, name, partitions
    _, code = struct.unpack_from(">ih", answer, position)
    wire.refuse(wire.FETCH, code)
    position += 6 + 8 + 8  # partition, error, high watermark, last stable offset
    position += 8 if version >= 5 else 0  # log start
    (aborted,) = _count.unpack_from(answer, position)
    position += 4 + 16 * max(aborted, 0)
    position += 4 if version >= 11 else 0  # preferred replica
    (size,) = _count.unpack_from(answer, position)
    return position + 4, max(size, 0)


def walk(data: memoryview, offset: int) -> Fetched:
    """Walk the batch headers of fetched bytes; a batch that was cut at the end is left for the next fetch."""
    position, records, size = 0, 0, len(data)
    while position + wire.header_size <= size:
        base_offset, length = _batch_head.unpack_from(data, position)
        if position + 12 + length > size:
            break
        (delta,) = _offset_delta.unpack_from(data, position + 23)
        (count,) = _count.unpack_from(data, position + 57)
        offset = base_offset + delta + 1
        records += count
        position += 12 + length
    return Fetched(position, records, offset)


def drain(
    bootstrap: str, topic: str, *, records: int, partitions: int, version: int = 11,
    partition_bytes_max: int = partition_bytes_default,
) -> Drained:  # fmt: skip
    """Fetch the topic from offset 0 to its end, one partition a request in turn, over one connection.

    The ends are asked for first, so that no request waits at one. RuntimeError on an error of the broker, when fewer
    than `records` records are there, or when nothing comes where something must."""
    buffer = memoryview(bytearray(partition_bytes_max + (1 << 16)))
    with wire.Connection(bootstrap) as connection:
        ends = _ends(connection, topic, partitions, records)
        offsets = [0] * partitions
        live = [partition for partition in range(partitions) if ends[partition]]
        total_bytes = total_records = requests = 0
        started = time.perf_counter()
        while live:
            for partition in tuple(live):
                requests += 1
                connection.socket.sendall(
                    fetch_request(
                        topic,
                        partition,
                        offsets[partition],
                        version=version,
                        correlation_id=requests,
                        partition_bytes_max=partition_bytes_max,
                    )
                )
                connection.receive_into(buffer[:4])
                (size,) = _count.unpack_from(buffer)
                if size > len(buffer):
                    buffer = memoryview(bytearray(size * 2))
                connection.receive_into(buffer[:size])
                answer = buffer[4:size]
                position, length = records_span(answer, version=version)
                got = walk(answer[position : position + length], offsets[partition])
                if got.records == 0:
                    raise RuntimeError(f"nothing came at offset {offsets[partition]} of partition {partition}")
                total_bytes += got.size_bytes
                total_records += got.records
                offsets[partition] = got.next_offset
                if got.next_offset >= ends[partition]:
                    live.remove(partition)
        return Drained(total_bytes, total_records, requests, time.perf_counter() - started)


def _ends(connection: wire.Connection, topic: str, partitions: int, records: int) -> list[int]:
    """The offset after the last record of each partition; RuntimeError where they add up to fewer than `records`."""
    ends = []
    for partition in range(partitions):
        code, end = connection.end_offset(topic, partition)
        wire.refuse(wire.LIST_OFFSETS, code)
        ends.append(end)
    if sum(ends) < records:
        raise RuntimeError(f"{sum(ends)} of {records} records are there")
    return ends


def fetch_once(
    connection: wire.Connection, topic: str, partition: int, offset: int, *, partition_bytes_max: int
) -> int:
    """One Fetch v11 on an open connection; the bytes of whole batches that came."""
    connection.correlation_id += 1
    connection.socket.sendall(
        fetch_request(
            topic,
            partition,
            offset,
            version=11,
            correlation_id=connection.correlation_id,
            partition_bytes_max=partition_bytes_max,
        )
    )
    answer = memoryview(connection.receive())
    position, length = records_span(answer, version=11)
    return walk(answer[position : position + length], offset).size_bytes


def produce_one_in_flight(
    bootstrap: str, topic: str, *, count: int, size: int = 128, partition: int = 0, acks: int = 1
) -> Latency:
    """Send `count` Produce requests of one record, each after the answer to the one before, after a warm-up.

    From just before the request is written to when its whole answer is there, in microseconds."""
    data = wire.batch([b"x" * size], timestamp_ms=time.time_ns() // 1_000_000)
    body = wire.produce_body(topic, [(partition, data)], acks=acks)
    request = wire.frame(wire.PRODUCE, 3, 1, body)
    answer = memoryview(bytearray(1 << 12))
    samples: list[float] = []
    clock = time.perf_counter_ns
    with wire.Connection(bootstrap) as connection:
        sock = connection.socket
        for index in range(-warm_up_requests, count):
            started = clock()
            sock.sendall(request)
            got = sock.recv_into(answer)
            while got < 4 or got < 4 + _count.unpack_from(answer)[0]:
                if (more := sock.recv_into(answer[got:])) == 0:
                    raise ConnectionError("the broker closed the connection")
                got += more
            ended = clock()
            wire.produced(bytes(answer[8:got]))
            if index >= 0:
                samples.append((ended - started) / 1_000)
    return percentiles(samples)
