"""A compacted topic: how long until it is clean, beside Kafka's log cleaner on the same data; and what producers feel
meanwhile.

The data is loaded with `cleanup.policy=delete`, then the topic is altered to `compact`. It is clean when the sizes of its
`.log` files have fallen and stay as they are; the time is that of the last change."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks.macro.bench import Bench
from benchmarks.macro.cases import Case, at_least, ratio_at_most, table
from benchmarks.macro.table import OURS, Bound, Metric, Target
from benchmarks.peers import Broker, fill, paced, process, wire
from benchmarks.peers.kafka import Kafka
from benchmarks.peers.riverlog import Riverlog

TOPIC: Final = "compacted"
BESIDE: Final = "beside"
value_bytes: Final = 1000
batch_records: Final = 16
segment_bytes: Final = 64 << 20
random_seed: Final = 5
fallen_to: Final = 0.7  # of the size before: by then the cleaner has begun to swap
quiet_seconds: Final = 2.0
clean_seconds_max: Final = 120.0
beside_seconds: Final = 5.0
beside_requests_per_second: Final = 200.0
beside_partitions: Final = 4

# A cleaner looks every 15 s by default: the wait is no part of what is compared.
SETTINGS: Final = {"log.cleaner.backoff.ms": "100"}
COMPACT: Final = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01"}

TIME: Final = Metric(
    section="compaction", label="compaction of 1 partition until it is clean", unit="s",
    target=Target(bound=Bound.RATIO_MAX, limit=1),
)  # fmt: skip
CPU: Final = Metric(section="compaction", label="broker CPU of that compaction", unit="CPU s")


def run(bench: Bench) -> None:
    """Time until clean for both, then produce beside it for riverlog."""
    plan = bench.plan
    speed = Case(
        label=f"compaction of {plan.compaction_bytes / 1e9:.3g} GB, {plan.compaction_keys:,} keys of 1 KB, "
        "uncompressed, a second of the broker's CPU", unit="MB/s", target=at_least(200),
    )  # fmt: skip
    rounds = max(1, plan.rounds // 2)
    for number in range(rounds):
        for name in bench.alternating(number):
            bench.say(f"compaction: {name}, round {number + 1} of {rounds}")
            with bench.fresh(name, "compaction") as broker:
                size = loaded(bench, broker)
                before = process.cpu_seconds(broker.pid)
                bench.report.add(TIME, name, seconds_until_clean(broker, size))
                cpu = process.cpu_seconds(broker.pid) - before
                bench.report.add(CPU, name, cpu)
                if name == OURS:
                    speed.measured.append(size / 1e6 / max(cpu, 0.01))
    if OURS in bench.names:
        cases = [speed, *produce_meanwhile(bench, rounds)]
        bench.report.tables.append(table("riverlog: compaction", cases))


def produce_meanwhile(bench: Bench, rounds: int) -> list[Case]:
    """The p99 of paced produces before and while a partition is compacted."""
    cases = {
        acks: Case(
            label=f"p99 of produce acks={acks} during compaction of {bench.plan.compaction_bytes / 1e9:.3g} GB (raw protocol)",
            unit="ms", than="without it", target=ratio_at_most(2),
        )
        for acks in ("1", "all")
    }  # fmt: skip
    for number in range(rounds):
        bench.say(f"compaction: produce meanwhile, round {number + 1} of {rounds}")
        with bench.fresh(OURS, "compaction") as broker:
            size = loaded(bench, broker)
            with wire.Connection(broker.bootstrap) as connection:
                for acks in cases:
                    connection.create_topic(f"{BESIDE}-{acks}", beside_partitions)
            bench.settle(0)
            running = {
                acks: paced.start(
                    paced.Specification(
                        bootstrap=broker.bootstrap, topic=f"{BESIDE}-{acks}", partitions=beside_partitions,
                        acks=-1 if acks == "all" else 1, requests_per_second=beside_requests_per_second,
                        seconds=1 + 3 * beside_seconds,
                    )
                )
                for acks in cases
            }  # fmt: skip
            time.sleep(1 + beside_seconds)
            altered = time.monotonic()
            seconds_until_clean(broker, size)
            clean = time.monotonic() - quiet_seconds
            for acks, case in cases.items():
                found = running[acks].result()
                case.beside.append(found.latency(altered - beside_seconds, altered).p99_us / 1e3)
                case.measured.append(found.latency(altered, max(clean, altered + 0.5)).p99_us / 1e3)
    return list(cases.values())


def loaded(bench: Bench, broker: Broker) -> int:
    """Starts the broker with the data in one partition; how many bytes its segments have."""
    assert isinstance(broker, Kafka | Riverlog)
    broker.settings.update(SETTINGS)
    broker.start()
    with wire.Connection(broker.bootstrap) as connection:
        connection.create_topic(TOPIC, 1, configs={"segment.bytes": str(segment_bytes), "retention.ms": "-1"})
    fill.send(broker.bootstrap, requests(bench.plan.compaction_bytes, bench.plan.compaction_keys), batch_records, 0)
    bench.settle(0)
    return log_bytes(broker.data_directory)


def requests(total_bytes: int, keys: int) -> Iterator[tuple[bytes, int]]:
    """Every key once in a random order, then again, until that many bytes are made."""
    shuffled = random.Random(random_seed)
    order = list(range(keys))
    now_ms = time.time_ns() // 1_000_000
    for _ in range(max(1, total_bytes // (keys * (value_bytes + 32)))):
        shuffled.shuffle(order)
        for first in range(0, keys, batch_records):
            chosen = order[first : first + batch_records]
            data = keyed_batch(chosen, now_ms)
            yield wire.produce_body(TOPIC, [(0, data)], acks=1), 1


def keyed_batch(chosen: Sequence[int], timestamp_ms: int) -> bytes:
    values = [b"x" * value_bytes] * len(chosen)
    return wire.batch(values, timestamp_ms=timestamp_ms, keys=[b"key-%012d" % key for key in chosen])


def seconds_until_clean(broker: Broker, size: int) -> float:
    """From the alteration to the last change of the partition's size. RuntimeError where nothing is cleaned."""
    assert isinstance(broker, Kafka | Riverlog)
    began = time.monotonic()
    with wire.Connection(broker.bootstrap) as connection:
        connection.alter_topic(TOPIC, COMPACT)
    last, changed = size, began
    while True:
        now, found = time.monotonic(), log_bytes(broker.data_directory)
        if found != last:
            last, changed = found, now
        if last < size * fallen_to and now - changed > quiet_seconds:
            return changed - began
        if now - began > clean_seconds_max:
            raise RuntimeError(f"{broker.name} has not cleaned {size} bytes within {clean_seconds_max:.0f} s")
        time.sleep(0.02)


def log_bytes(directory: Path) -> int:
    """Of all segments of the compacted topic."""
    total = 0
    for path in directory.glob(f"{TOPIC}-0/*.log"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total
