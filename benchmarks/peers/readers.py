"""Consumers of old data in a process of their own: a raw fetch loop a thread, each with its own partition.

Each reads its partition from the start to its end, or until the time is over; records are neither checked nor decoded.
`python -m benchmarks.peers.readers BOOTSTRAP TOPIC PARTITIONS SECONDS` prints the bytes that came."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Final

from benchmarks.peers import fetch, wire
from benchmarks.peers.cache import REPOSITORY

partition_bytes_max: Final = 1 << 20
grace_seconds: Final = 60.0


@dataclass(slots=True)
class Running:
    process: subprocess.Popen[str]
    seconds_max: float

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def result(self) -> int:
        """The bytes that came. RuntimeError with what it said where it failed."""
        try:
            out, errors = self.process.communicate(timeout=self.seconds_max + grace_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise RuntimeError("the readers did not end in time") from None
        if self.process.returncode:
            raise RuntimeError(f"the readers failed: {errors[-2_000:]}")
        return int(out)


def start(bootstrap: str, topic: str, partitions: int, seconds_max: float) -> Running:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.peers.readers", bootstrap, topic, str(partitions), str(seconds_max)],
        cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    return Running(process, seconds_max)


def read_partition(bootstrap: str, topic: str, partition: int, deadline: float) -> int:
    """The bytes that came of one partition until its end, or until the deadline (CLOCK_MONOTONIC)."""
    total = offset = 0
    buffer = memoryview(bytearray(partition_bytes_max + (1 << 17)))
    with wire.Connection(bootstrap) as connection:
        code, end = connection.end_offset(topic, partition)
        wire.refuse(wire.LIST_OFFSETS, code)
        while offset < end and time.monotonic() < deadline:
            connection.socket.sendall(
                fetch.fetch_request(
                    topic, partition, offset, version=11, correlation_id=1, partition_bytes_max=partition_bytes_max
                )
            )
            connection.receive_into(buffer[:4])
            size = int.from_bytes(buffer[:4], "big")
            if size > len(buffer):
                buffer = memoryview(bytearray(size))
            connection.receive_into(buffer[:size])
            answer = buffer[4:size]
            position, length = fetch.records_span(answer, version=11)
            got = fetch.walk(answer[position : position + length], offset)
            total += got.size_bytes
            offset = got.next_offset
    return total


def main() -> int:
    """One thread a partition."""
    bootstrap, topic, partitions, seconds_max = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    deadline = time.monotonic() + seconds_max
    totals: list[int] = []
    threads = [
        threading.Thread(target=lambda index=index: totals.append(read_partition(bootstrap, topic, index, deadline)))
        for index in range(partitions)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(totals) != partitions:
        return 1
    print(sum(totals))
    return 0


if __name__ == "__main__":
    sys.exit(main())
