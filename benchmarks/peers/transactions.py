"""Transactional producers of confluent-kafka (librdkafka): one transaction after the other, each producer on a thread.

A transaction's latency counts from its begin to the return of its commit, with its records in between.
`python -m benchmarks.peers.transactions JSON` (of a `Specification`) prints the result as JSON; the topic must be there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from benchmarks.peers import process
from benchmarks.peers.cache import REPOSITORY
from benchmarks.peers.load import percentiles

ready_seconds_max: Final = 60.0
commit_seconds_max: Final = 60.0
grace_seconds: Final = 180.0
warm_up_transactions: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Specification:
    """Each of the `producers` writes transactions of so many `records` of `size` bytes until `seconds` are over."""

    bootstrap: str
    topic: str
    id_prefix: str
    producers: int = 1
    records: int = 1
    size: int = 100
    seconds: float = 5.0
    pid: int = 0
    settings: dict[str, str] = field(default_factory=dict)  # of librdkafka


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    transactions_per_second: float
    transactions: int
    p50_ms: float
    p99_ms: float
    cpu_seconds: float


class Writer(threading.Thread):
    """One producer. `samples_ms` and `failure` are to be read once it has ended."""

    def __init__(self, specification: Specification, number: int, start: threading.Barrier) -> None:
        super().__init__(name=f"writer-{number}", daemon=True)
        self.specification = specification
        self.number = number
        self.start_barrier = start
        self.samples_ms: list[float] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self._run()
        except BaseException as failure:
            self.failure = failure
            self.start_barrier.abort()

    def _run(self) -> None:
        from confluent_kafka import Producer

        specification = self.specification
        producer = Producer(
            {
                "bootstrap.servers": specification.bootstrap,
                "transactional.id": f"{specification.id_prefix}-{self.number}",
                "linger.ms": 0,
                **specification.settings,
            }
        )
        producer.init_transactions(ready_seconds_max)
        value = b"x" * specification.size
        for _ in range(warm_up_transactions):
            self.transaction(producer, value)
        self.start_barrier.wait(ready_seconds_max)
        ends = time.perf_counter() + specification.seconds
        while (began := time.perf_counter()) < ends:
            self.transaction(producer, value)
            self.samples_ms.append((time.perf_counter() - began) * 1e3)

    def transaction(self, producer: Any, value: bytes) -> None:
        """Every record is acknowledged when its commit returns; what was not raises there."""
        topic = self.specification.topic
        producer.begin_transaction()
        for _ in range(self.specification.records):
            producer.produce(topic, value)
        producer.commit_transaction(commit_seconds_max)


def measure(specification: Specification) -> Result:
    barrier = threading.Barrier(specification.producers + 1)
    writers = [Writer(specification, number, barrier) for number in range(specification.producers)]
    for writer in writers:
        writer.start()
    try:
        barrier.wait(2 * ready_seconds_max)
    except threading.BrokenBarrierError:
        raise next((writer.failure for writer in writers if writer.failure), RuntimeError("no start")) from None
    started, cpu = time.perf_counter(), cpu_seconds(specification)
    for writer in writers:
        writer.join()
    elapsed, cpu = time.perf_counter() - started, cpu_seconds(specification) - cpu
    for writer in writers:
        if writer.failure is not None:
            raise writer.failure
    return summary([ms for writer in writers for ms in writer.samples_ms], elapsed, cpu)


def summary(samples_ms: Sequence[float], elapsed: float, cpu: float) -> Result:
    latency = percentiles([ms * 1e3 for ms in samples_ms])
    return Result(
        transactions_per_second=latency.samples / elapsed,
        transactions=latency.samples,
        p50_ms=latency.p50_us / 1e3,
        p99_ms=latency.p99_us / 1e3,
        cpu_seconds=cpu,
    )


def cpu_seconds(specification: Specification) -> float:
    return process.cpu_seconds(specification.pid) if specification.pid else 0.0


def run(specification: Specification) -> Result:
    """In a process of its own. RuntimeError with what it said where it failed."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers.transactions", json.dumps(asdict(specification))],
        cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=specification.seconds + grace_seconds,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the transactions failed: {done.stderr[-2_000:]}")
    return Result(**json.loads(done.stdout))


def main() -> int:
    print(json.dumps(asdict(measure(Specification(**json.loads(sys.argv[1]))))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
