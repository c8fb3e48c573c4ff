"""riverlog alone: what the tail feels while consumers read old data that is in no page cache.

The data is written back and evicted (`posix_fadvise`) before it is read, and what the broker read from the disk is
noted, so that a page cache larger than the data hides nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.macro.bench import Bench
from benchmarks.macro.cases import Case, ratio_at_most, table
from benchmarks.macro.table import OURS
from benchmarks.peers import Broker, fill, paced, readers, wire
from benchmarks.peers.riverlog import Riverlog

requests_per_second: Final = 200.0
batch_bytes: Final = 64 << 10
reading_factor: Final = 4  # how much longer than without a load goes on while consumers read
LOADS: Final = ("acks=1", "acks=all", "tail")


def run(bench: Bench) -> None:
    if OURS not in bench.names:
        return
    plan = bench.plan
    gigabytes = f"{plan.cold_bytes / 1e9:.3g} GB"
    cases = {
        name: Case(
            label=f"p99 of {what} while {plan.cold_consumers} consumers read {gigabytes} cold (raw protocol)",
            unit="ms", than="without them", target=ratio_at_most(limit),
        )
        for name, what, limit in (
            ("acks=1", "produce acks=1", 1.5), ("tail", "the tail read, acks=1", 1.5), ("acks=all", "produce acks=all", 3),
        )
    }  # fmt: skip
    rate = Case(label="what the consumers got", unit="MB/s")
    disk = Case(label="what the broker read from the disk meanwhile", unit="GB")
    with bench.fresh(OURS, "cold") as broker:
        assert isinstance(broker, Riverlog)
        broker.start()
        bench.say(f"cold: filling {gigabytes}")
        with wire.Connection(broker.bootstrap) as connection:
            connection.create_topic("cold", plan.cold_consumers, configs={"retention.ms": "-1"})
            for name in LOADS:
                connection.create_topic(name.replace("=", "-"), 1)
        fill.fill(
            broker.bootstrap,
            "cold",
            partitions=plan.cold_consumers,
            total_bytes=plan.cold_bytes,
            batch_bytes=batch_bytes,
        )
        load(broker, 1.0)  # makes the files
        for cold in (False, True, False):
            evict(broker.data_directory)
            bench.say(f"cold: the tail {'beside the consumers' if cold else 'alone'}")
            if not cold:
                for name, p99 in load(broker, plan.cold_seconds).items():
                    cases[name].beside.append(p99)
                continue
            seconds = plan.cold_seconds * reading_factor
            before, began = disk_bytes(broker.pid), time.monotonic()
            consuming = readers.start(broker.bootstrap, "cold", plan.cold_consumers, seconds)
            for name, p99 in load(broker, seconds, consuming).items():
                cases[name].measured.append(p99)
            got = consuming.result()
            disk.measured.append((disk_bytes(broker.pid) - before) / 1e9)
            rate.measured.append(got / 1e6 / (time.monotonic() - began))
            bench.say(f"cold: the consumers got {got / 1e9:.2f} GB")
    bench.report.tables.append(table("riverlog: the tail while old data is read", [*cases.values(), rate, disk]))


def load(broker: Broker, seconds: float, consuming: readers.Running | None = None) -> dict[str, float]:
    """The p99 of each load in milliseconds, all three at a time; of what was due while the consumers were reading."""
    running = {
        name: paced.start(
            paced.Specification(
                bootstrap=broker.bootstrap, topic=name.replace("=", "-"), partitions=1, acks=-1 if name == "acks=all" else 1,
                requests_per_second=requests_per_second, seconds=seconds, tail=name == "tail",
            )
        )
        for name in LOADS
    }  # fmt: skip
    last = float("inf")
    if consuming is not None:
        while not consuming.ended and any(one.process.poll() is None for one in running.values()):
            time.sleep(0.1)
        last = time.monotonic()
    found = {name: one.result() for name, one in running.items()}
    return {
        name: (one.tail(last=last) if name == "tail" else one.latency(last=last)).p99_us / 1e3
        for name, one in found.items()
    }


def evict(directory: Path) -> None:
    """Nothing of the segments is in the page cache afterwards."""
    os.sync()
    for path in segments(directory):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def segments(directory: Path) -> Sequence[Path]:
    return sorted(directory.glob("*/*.log"))


def disk_bytes(pid: int) -> int:
    """What a process has had read from disks, by /proc/PID/io."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.partition(":")[2]) for line in lines if line.startswith("read_bytes"))
