"""riverlog against itself: what an append and a read cost in a partition of a thousand and of ten million records.

The sizes are measured in turn, a round each, so that what else the machine does falls on all alike."""

from __future__ import annotations

import random
import statistics
import time
from typing import Final

from benchmarks.macro.bench import Bench
from benchmarks.macro.table import OURS, Table, figure
from benchmarks.peers import Broker, fetch, load, process, wire

limit: Final = 1.15
batch_records: Final = 100  # alike at every size, so that a read of one batch moves the same bytes
message_size: Final = 128
read_bytes_max: Final = 16 << 10
random_seed: Final = 3


def run(bench: Bench) -> None:
    """Fill one partition for each size, then measure appends and reads in turn."""
    if OURS not in bench.names:
        return
    sizes = bench.plan.growth_records
    appends: dict[int, list[float]] = {size: [] for size in sizes}
    append_cpu: dict[int, list[float]] = {size: [] for size in sizes}
    reads: dict[int, list[float]] = {size: [] for size in sizes}
    with bench.fresh(OURS, "growth") as broker:
        broker.start()
        for size in sizes:
            bench.say(f"growth: filling {size:,} records")
            fill(broker, f"growth-{size}", size)
        for number in range(bench.plan.rounds):
            bench.say(f"growth: round {number + 1} of {bench.plan.rounds}")
            for size in sizes if number % 2 == 0 else sizes[::-1]:
                topic = f"growth-{size}"
                bench.settle(0)
                reads[size].append(read_us(broker, topic, size, bench.plan.growth_requests))
                before = process.cpu_seconds(broker.pid)
                got = fetch.produce_one_in_flight(broker.bootstrap, topic, count=bench.plan.growth_requests)
                append_cpu[size].append(
                    (process.cpu_seconds(broker.pid) - before) / (got.samples + fetch.warm_up_requests) * 1e6
                )
                appends[size].append(got.p50_us)
    bench.report.tables.append(table(appends, append_cpu, reads))


def table(appends: dict[int, list[float]], append_cpu: dict[int, list[float]], reads: dict[int, list[float]]) -> Table:
    """Medians by size, each with its ratio to the smallest size and whether that is within the limit."""
    made = Table(
        title=f"riverlog by records in a partition (target: within {limit - 1:.0%} of the smallest)",
        columns=("records", "append, p50 µs", "append, CPU µs", "read of a batch at a random offset, p50 µs", ""),
    )
    smallest = min(appends)
    for size in sorted(appends):
        cells, met = [], True
        for samples in (appends, append_cpu, reads):
            value = statistics.median(samples[size])
            first = statistics.median(samples[smallest])
            ratio = value / first if first else 1.0
            cells.append(figure(value) + ("" if size == smallest else f" ({ratio:.2f} ×)"))
            met = met and (ratio <= limit or samples is append_cpu)
        made.rows.append((f"{size:,}", *cells, "" if size == smallest else "met" if met else "**missed**"))
    return made


def fill(broker: Broker, topic: str, records: int) -> None:
    """A new topic of one partition with so many records in batches of `batch_records`."""
    with wire.Connection(broker.bootstrap) as connection:
        connection.create_topic(topic, 1)
    settings = {"batch.num.messages": str(batch_records)}
    load.produce(broker.bootstrap, topic, count=records, size=message_size, acks="1", settings=settings)


def read_us(broker: Broker, topic: str, records: int, count: int) -> float:
    """The median time of one Fetch of about a batch at a random offset, in microseconds."""
    offsets = random.Random(random_seed)
    samples: list[float] = []
    with wire.Connection(broker.bootstrap) as connection:
        for index in range(-fetch.warm_up_requests, count):
            offset = offsets.randrange(records)
            started = time.perf_counter_ns()
            got = fetch.fetch_once(connection, topic, 0, offset, partition_bytes_max=read_bytes_max)
            ended = time.perf_counter_ns()
            if got == 0:
                raise RuntimeError(f"nothing came from offset {offset} of {records}")
            if index >= 0:
                samples.append((ended - started) / 1_000)
    return statistics.median(samples)
