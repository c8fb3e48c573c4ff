"""Bulk into many partitions by the raw protocol: whole batches, some requests in flight, one connection.

For filling a broker before something is measured, not for measuring: the sender shares the machine with the broker.
Not a client: no retries, no routing; a refused batch ends it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from benchmarks.peers import wire
from benchmarks.peers.paced import refuse_errors

request_bytes: Final = 1 << 20
in_flight_max: Final = 6
value_bytes: Final = 1000


class Filled(NamedTuple):
    """What was sent and acknowledged."""

    size_bytes: int
    records: int
    seconds: float


def plain_batch(batch_bytes: int) -> tuple[bytes, int]:
    """A batch of about that size, and how many records it has."""
    count = max(1, batch_bytes // (value_bytes + 8))
    return wire.batch([b"x" * value_bytes] * count, timestamp_ms=time.time_ns() // 1_000_000), count


def fill(
    bootstrap: str, topic: str, *, partitions: int, total_bytes: int, batch_bytes: int, acks: int = 1,
    runs: int = 1, together_max: int = 1 << 30,
) -> Filled:  # fmt: skip
    """At least `total_bytes`, alike in every partition: `runs` batches to each before the next one's turn, and batches of at
    most `together_max` partitions in a request."""
    data, records = plain_batch(batch_bytes)
    rounds = max(1, -(-total_bytes // (partitions * len(data) * runs)))
    turns = (index for _ in range(rounds) for index in range(partitions) for _ in range(runs))
    together = max(1, min(request_bytes // len(data), together_max))
    return send(bootstrap, _requests(topic, turns, data, together, acks), records, len(data))


def send(bootstrap: str, requests: Iterator[tuple[bytes, int]], records: int, size: int) -> Filled:
    """Bodies of Produce v3 with their numbers of batches, each of so many records and bytes, in order."""
    batches = 0
    started = time.perf_counter()
    with wire.Connection(bootstrap) as connection:
        sent = answered = 0
        for body, count in requests:
            batches += count
            sent += 1
            connection.socket.sendall(wire.frame(wire.PRODUCE, 3, sent, body))
            if sent - answered >= in_flight_max:
                answered += 1
                connection.correlation_id = answered
                refuse_errors(connection.receive())
        while answered < sent:
            answered += 1
            connection.correlation_id = answered
            refuse_errors(connection.receive())
    return Filled(batches * size, batches * records, time.perf_counter() - started)


def _requests(topic: str, turns: Iterator[int], data: bytes, together: int, acks: int) -> Iterator[tuple[bytes, int]]:
    """A partition is in a request once: Kafka takes one batch of each."""
    waiting: dict[int, bytes] = {}
    for partition in turns:
        if partition in waiting or len(waiting) == together:
            yield wire.produce_body(topic, list(waiting.items()), acks=acks), len(waiting)
            waiting = {}
        waiting[partition] = data
    if waiting:
        yield wire.produce_body(topic, list(waiting.items()), acks=acks), len(waiting)
