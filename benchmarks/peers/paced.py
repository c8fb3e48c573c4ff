"""A paced load in a process of its own: Produce requests at fixed times over one connection, and the tail read beside it.

Each latency counts from when its request was due, not from when it was sent, so that a broker that stops for a while is
not spared the requests that it kept from being sent. Answers come in the order of the requests. Not a client: no
retries, no routing; a refused request ends the run.
`python -m benchmarks.peers.paced SPECIFICATION` (JSON) prints what it found as JSON; `start` and `run` do that."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from benchmarks.peers import wire
from benchmarks.peers.cache import REPOSITORY
from benchmarks.peers.load import Latency, percentiles

finish_seconds_max: Final = 60.0  # from the last request to its answer
tail_bytes_max: Final = 1 << 20
_stamp = struct.Struct(">q")
_partition = struct.Struct(">ihqq")


@dataclass(frozen=True, slots=True, kw_only=True)
class Specification:
    """`messages` of `size` bytes a request, message by message to the next partition. `tail`: a second connection waits
    for the records of partition 0 (the only one then) and notes when each request's came."""

    bootstrap: str
    topic: str
    partitions: int
    acks: int
    requests_per_second: float
    seconds: float
    messages: int = 1
    size: int = 1024
    tail: bool = False


class Sample(NamedTuple):
    """When a request was due (CLOCK_MONOTONIC, seconds), and how long after that its answer came."""

    due: float
    us: float


class Paced(NamedTuple):
    """What a run found: a sample a request, and with `tail` one a request that was read again."""

    produced: list[Sample]
    read: list[Sample]

    def latency(self, first: float = 0.0, last: float = float("inf")) -> Latency:
        """Of the requests that were due in that time."""
        return percentiles([one.us for one in self.produced if first <= one.due < last])

    def tail(self, first: float = 0.0, last: float = float("inf")) -> Latency:
        return percentiles([one.us for one in self.read if first <= one.due < last])


@dataclass(slots=True)
class Running:
    """A load that goes on beside what is measured with it."""

    process: subprocess.Popen[str]
    seconds_max: float

    def result(self) -> Paced:
        """Waits for its end. RuntimeError with what it said where it failed."""
        try:
            out, errors = self.process.communicate(timeout=self.seconds_max)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise RuntimeError(f"the paced load did not end within {self.seconds_max:.0f} s") from None
        if self.process.returncode:
            raise RuntimeError(f"the paced load failed: {errors[-2_000:]}")
        found = json.loads(out)
        return Paced([Sample(*one) for one in found["produced"]], [Sample(*one) for one in found["read"]])


def start(specification: Specification) -> Running:
    """Begins a load and does not wait for it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.peers.paced", json.dumps(asdict(specification))],
        cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    return Running(process, specification.seconds + 2 * finish_seconds_max)


def run(specification: Specification) -> Paced:
    return start(specification).result()


# In the process


@lru_cache
def filler(records: int, size: int) -> bytes:
    """A batch of so many records of `size` bytes."""
    return wire.batch([b"x" * size] * records, timestamp_ms=time.time_ns() // 1_000_000)


def request_body(one: Specification, number: int) -> bytes:
    """The produce request `number`: its messages go to the partitions that follow those of the request before."""
    if one.tail:
        value = _stamp.pack(number) + b"x" * (one.size - _stamp.size)
        return wire.produce_body(
            one.topic, [(0, wire.batch([value], timestamp_ms=time.time_ns() // 1_000_000))], acks=one.acks
        )
    counts: dict[int, int] = {}
    for message in range(number * one.messages, (number + 1) * one.messages):
        partition = message % one.partitions
        counts[partition] = counts.get(partition, 0) + 1
    batches = [(partition, filler(count, one.size)) for partition, count in counts.items()]
    return wire.produce_body(one.topic, batches, acks=one.acks)


def refuse_errors(answer: bytes) -> None:
    """RuntimeError where any partition of an answer to Produce v3 has an error."""
    (length,) = struct.unpack_from(">h", answer, 4)
    (count,) = struct.unpack_from(">i", answer, 6 + length)
    for at in range(count):
        _, code, _, _ = _partition.unpack_from(answer, 10 + length + at * _partition.size)
        wire.refuse(wire.PRODUCE, code)


class Driver:
    """One run."""

    def __init__(self, one: Specification) -> None:
        self.one = one
        self.requests = max(1, round(one.requests_per_second * one.seconds))
        self.due: list[float] = []
        self.produced: list[Sample] = []
        self.read: list[Sample] = []
        self.errors: list[BaseException] = []

    def run(self) -> Paced:
        one = self.one
        with wire.Connection(one.bootstrap) as producing, wire.Connection(one.bootstrap) as reading:
            threads = [threading.Thread(target=self._guarded, args=(self._send, producing))]
            if one.tail:
                code, end = reading.end_offset(one.topic, 0)
                wire.refuse(wire.LIST_OFFSETS, code)
                threads.append(threading.Thread(target=self._guarded, args=(self._follow, reading, end)))
            begin = time.monotonic() + 0.05
            self.due = [begin + number / one.requests_per_second for number in range(self.requests)]
            for thread in threads:
                thread.start()
            self._guarded(self._receive, producing)
            for thread in threads:
                thread.join(finish_seconds_max)
        if self.errors:
            raise self.errors[0]
        return Paced(self.produced, self.read)

    def _guarded(self, work: object, *arguments: object) -> None:
        assert callable(work)
        try:
            work(*arguments)
        except BaseException as error:
            self.errors.append(error)

    def _send(self, connection: wire.Connection) -> None:
        for number, due in enumerate(self.due):
            request = wire.frame(wire.PRODUCE, 3, number, request_body(self.one, number))  # made before it is due
            while (wait := due - time.monotonic()) > 0:
                time.sleep(wait)
            connection.socket.sendall(request)

    def _receive(self, connection: wire.Connection) -> None:
        for number, due in enumerate(self.due):
            connection.correlation_id = number
            answer = connection.receive()
            self.produced.append(Sample(due, (time.monotonic() - due) * 1e6))
            refuse_errors(answer)

    def _follow(self, connection: wire.Connection, offset: int) -> None:
        """Waits for every request's record. Each is the only one of its batch, and holds the request's number."""
        while len(self.read) < self.requests and not self.errors:
            body = wire.fetch_body(
                self.one.topic, [(0, offset)], bytes_max=tail_bytes_max, partition_bytes_max=tail_bytes_max
            )
            data = records_of(connection.ask(wire.FETCH, 4, body))
            now = time.monotonic()
            for offset_after, number in stamps(data, self.one.size):
                offset = offset_after
                due = self.due[number]
                self.read.append(Sample(due, (now - due) * 1e6))


def records_of(answer: bytes) -> memoryview:
    """The batches in an answer to Fetch v4 for one partition."""
    view = memoryview(answer)
    (name_length,) = struct.unpack_from(">h", view, 8)
    at = 10 + name_length + 4
    _, code = struct.unpack_from(">ih", view, at)
    wire.refuse(wire.FETCH, code)
    at += 6 + 16
    (aborted,) = struct.unpack_from(">i", view, at)
    at += 4 + 16 * max(aborted, 0)
    (size,) = struct.unpack_from(">i", view, at)
    return view[at + 4 : at + 4 + max(size, 0)]


def stamps(data: memoryview, size: int) -> Sequence[tuple[int, int]]:
    """(offset after it, number of its request) of each whole batch. A batch ends with its only record: value, no header."""
    found: list[tuple[int, int]] = []
    at = 0
    while at + wire.header_size <= len(data):
        base_offset, length = struct.unpack_from(">qi", data, at)
        if at + 12 + length > len(data):
            break
        at += 12 + length
        (number,) = _stamp.unpack_from(data, at - 1 - size)
        found.append((base_offset + 1, number))
    return found


def main() -> int:
    """Run what the argument says, print what was found."""
    found = Driver(Specification(**json.loads(sys.argv[1]))).run()
    json.dump({"produced": found.produced, "read": found.read}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
