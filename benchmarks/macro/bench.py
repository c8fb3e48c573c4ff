"""What every section uses: the brokers, their directories, fresh topics, the disk's state before a run, progress."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.macro.plan import Plan
from benchmarks.macro.table import OURS, THEIRS, Report
from benchmarks.peers import Broker, wire
from benchmarks.peers.kafka import Kafka
from benchmarks.peers.riverlog import Riverlog

start_seconds_max: Final = 60.0
poll_seconds: Final = 0.001
_chunk = b"\xa5" * (1 << 20)


# Deleted topics leave the disk within a second, so that runs do not fill it; Kafka's own default is a minute.
KAFKA_SETTINGS: Final = {"log.segment.delete.delay.ms": "1000"}


def make_peer(name: str, directory: Path) -> Broker:
    """A broker that is not started yet."""
    if name == THEIRS:
        return Kafka(directory, settings=KAFKA_SETTINGS)
    assert name == OURS, name
    return Riverlog(directory)


@dataclass(slots=True, kw_only=True)
class Bench:
    """One run of the benchmarks."""

    plan: Plan
    names: tuple[str, ...]  # the brokers to measure
    directory: Path  # everything that brokers write lies below it
    report: Report = field(default_factory=Report)
    make: Callable[[str, Path], Broker] = make_peer
    topics: Iterator[int] = field(default_factory=itertools.count)

    def say(self, line: str) -> None:
        """Progress, for whoever waits."""
        print(line, file=sys.stderr, flush=True)

    def alternating(self, round_number: int) -> tuple[str, ...]:
        """The brokers in this round's order: each comes first in every other round."""
        return self.names if round_number % 2 == 0 else self.names[::-1]

    @contextmanager
    def fresh(self, name: str, label: str) -> Iterator[Broker]:
        """A prepared broker over a new directory, not started; at the end it is stopped and its files are removed."""
        directory = self.directory / f"{name}-{label}-{next(self.topics)}"
        peer = self.make(name, directory)
        peer.prepare()
        try:
            yield peer
        finally:
            peer.stop()
            shutil.rmtree(directory, ignore_errors=True)

    @contextmanager
    def topic(self, peer: Broker, partitions: int) -> Iterator[str]:
        """A new topic, deleted afterwards."""
        name = f"bench-{next(self.topics)}"
        with wire.Connection(peer.bootstrap) as connection:
            connection.create_topic(name, partitions)
        yield name
        with wire.Connection(peer.bootstrap) as connection:
            connection.delete_topic(name)

    def settle(self, size_bytes: int) -> None:
        """Give a run of `size_bytes` the same ground as the one before it: nothing left to write back, and memory
        that the virtual machine has already been given for as many bytes of page cache."""
        os.sync()
        path = self.directory / "warm"
        with path.open("wb", buffering=0) as file:
            for _ in range(-(-size_bytes // len(_chunk))):
                file.write(_chunk)
        path.unlink()


def first_acknowledged(peer: Broker, topic: str, *, since: float) -> float:
    """Seconds from `since` (perf_counter) to the first acknowledged produce; its topic is created by asking for it."""
    data = wire.batch([b"x" * 128], timestamp_ms=time.time_ns() // 1_000_000)
    while True:
        try:
            with wire.Connection(peer.bootstrap, timeout_seconds=10) as connection:
                while not connection.partitions_with_leader(topic):  # Metadata makes the topic
                    _poll(since)
                code = connection.try_produce(topic, 0, data)
                while code in wire.NOT_YET:
                    _poll(since)
                    code = connection.try_produce(topic, 0, data)
                wire.refuse(wire.PRODUCE, code)
                return time.perf_counter() - since
        except OSError:
            _poll(since)


def _poll(since: float) -> None:
    if time.perf_counter() - since > start_seconds_max:
        raise RuntimeError(f"the broker acknowledged nothing within {start_seconds_max:.0f} s")
    time.sleep(poll_seconds)
