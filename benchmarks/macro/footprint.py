"""The sections that need a new process for each sample: memory, start, and riverlog at 1, 100 and 1,000 partitions."""

from __future__ import annotations

import time
from typing import Final

from benchmarks.macro.bench import Bench, first_acknowledged
from benchmarks.macro.table import OURS, Bound, Metric, Table, Target, figure
from benchmarks.peers import Broker, fetch, load, process, wire

MB: Final = 1_000_000
idle_seconds: Final = 1.0

_idle_limit = Target(bound=Bound.VALUE_MAX, limit=60)
_loaded_limit = Target(bound=Bound.VALUE_MAX, limit=120)
IDLE: Final = Metric(section="memory", label="memory (RSS), idle", unit="MB", target=_idle_limit)
START: Final = Metric(
    section="start",
    label="start to the first acknowledged produce, new directory",
    unit="s",
    target=Target(bound=Bound.VALUE_MAX, limit=0.5),
)
RESTART: Final = Metric(
    section="start", label="the same after a kill -9", unit="s", target=Target(bound=Bound.VALUE_MAX, limit=0.5)
)


def memory(bench: Bench) -> None:
    """Resident memory a second after the start, and after a load went in and out (and the highest on the way)."""
    each = bench.plan.memory_load
    volume = f"{each.size * each.messages / 1e9:.1f} GB in and out"
    loaded = Metric(section="memory", label=f"memory (RSS), after {volume}", unit="MB", target=_loaded_limit)
    highest = Metric(section="memory", label=f"memory (RSS), highest during {volume}", unit="MB")
    for name in bench.names:
        bench.say(f"memory: {name}")
        with bench.fresh(name, "memory") as broker:
            broker.start()
            time.sleep(idle_seconds)
            bench.report.add(IDLE, name, process.memory(broker.pid).resident / MB)
            with bench.topic(broker, bench.plan.partitions) as topic:
                load.produce(broker.bootstrap, topic, count=each.messages, size=each.size, acks="1")
                load.consume(broker.bootstrap, topic, count=each.messages, partitions=bench.plan.partitions)
                fetch.drain(broker.bootstrap, topic, records=each.messages, partitions=bench.plan.partitions)
                now = process.memory(broker.pid)
            bench.report.add(loaded, name, now.resident / MB)
            bench.report.add(highest, name, now.resident_peak / MB)


def start(bench: Bench) -> None:
    """From spawn to the first acknowledged produce by a raw socket: over a new directory, and again after a kill."""
    for number in range(bench.plan.rounds):
        for name in bench.alternating(number):
            bench.say(f"start: {name}, round {number + 1} of {bench.plan.rounds}")
            with bench.fresh(name, "start") as broker:
                for metric in (START, RESTART):
                    bench.report.add(metric, name, start_seconds(broker, "first"))
                    broker.kill()


def start_seconds(broker: Broker, topic: str) -> float:
    """Spawn a prepared broker; seconds to the first acknowledged produce."""
    started = time.perf_counter()
    broker.spawn()
    return first_acknowledged(broker, topic, since=started)


def partitions(bench: Bench) -> None:
    """riverlog alone, at growing numbers of partitions."""
    if OURS not in bench.names:
        return
    count = bench.plan.partition_messages
    table = Table(
        title=f"riverlog by partitions ({count:,} × 128 B round-robin)",
        columns=("partitions", "create, s", "RSS after create, MB", "produce acks=1, messages/s",
                 "produce acks=all, messages/s", "fetch of all, MB/s", "RSS, MB",
                 "clean stop, s", "start after it, s", "start after kill -9, s"),
    )  # fmt: skip
    for number in bench.plan.partition_counts:
        bench.say(f"partitions: {number}")
        table.rows.append((f"{number:,}", *map(figure, _at_partitions(bench, number, count))))
    bench.report.tables.append(table)


def _at_partitions(bench: Bench, number: int, count: int) -> tuple[float, ...]:
    with bench.fresh(OURS, f"partitions-{number}") as broker:
        broker.start()
        created_at = time.perf_counter()
        topics = {acks: f"partitions-{acks}" for acks in ("1", "all")}
        with wire.Connection(broker.bootstrap) as connection:
            connection.create_topic(topics["1"], number)
            create_seconds = time.perf_counter() - created_at
            created_bytes = process.memory(broker.pid).resident
            rates = [_produce(bench, broker, topics["1"], count, "1")]
            drained = fetch.drain(broker.bootstrap, topics["1"], records=count, partitions=number)
            connection.delete_topic(topics["1"])
            connection.create_topic(topics["all"], number)
            rates.append(_produce(bench, broker, topics["all"], count, "all"))
        loaded_bytes = process.memory(broker.pid).resident
        stopping = time.perf_counter()
        broker.stop()
        stop_seconds = time.perf_counter() - stopping
        after_stop = start_seconds(broker, topics["all"])
        broker.kill()
        after_kill = start_seconds(broker, topics["all"])
        return (create_seconds, created_bytes / MB, *rates, drained.bytes_per_second / 1e6, loaded_bytes / MB,
                stop_seconds, after_stop, after_kill)  # fmt: skip


def _produce(bench: Bench, broker: Broker, topic: str, count: int, acks: str) -> float:
    bench.settle(count * 128)
    return load.produce(broker.bootstrap, topic, count=count, size=128, acks=acks).messages_per_second
