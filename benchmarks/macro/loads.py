"""The sections that put a load through both brokers: produce, synced, consume, fetch, latency.

The brokers run side by side and only one works at a time, or, cold, each run has a process of its own.
Each run has a topic of its own and the same ground (`Bench.settle`).
CPU seconds are those of the broker's process between the start and the end of a run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from benchmarks.macro.bench import Bench
from benchmarks.macro.plan import PER_LOAD, Load
from benchmarks.macro.table import Bound, Metric, Target
from benchmarks.peers import Broker, fetch, load, process

produce_targets: Final = {128: 2.0, 1024: 3.0}
synced_targets: Final = {128: 2.0, 1024: 2.0}
cpu_limit: Final = 0.25
fetch_limit: Final = 1.5
consume_limit: Final = 1.0
latency_limit: Final = 1.0
warm_up_messages: Final = 200_000


def run(bench: Bench) -> None:
    """Run every chosen section of this file, over one pair of brokers or a new process each run."""
    wanted = [name for name in (*PER_LOAD, "latency") if name in bench.plan.sections]
    if not wanted:
        return
    if bench.plan.cold:
        _run_cold(bench, wanted)
        return
    with ExitStack() as stack:
        brokers = {name: stack.enter_context(bench.fresh(name, "loads")) for name in bench.names}
        for broker in brokers.values():
            broker.start()
        for broker in brokers.values():
            warm_up(bench, broker)
        if "latency" in wanted:
            for number in range(bench.plan.rounds):
                for name in bench.alternating(number):
                    latency(bench, brokers[name])
        for each in bench.plan.loads if set(wanted) - {"latency"} else ():
            for number in range(bench.plan.rounds):
                bench.say(f"{each.label} × {each.messages:,}, round {number + 1} of {bench.plan.rounds}")
                for name in bench.alternating(number):
                    put_through(bench, brokers[name], each, wanted)
                if "synced" in wanted:
                    for name in bench.alternating(number):
                        synced(bench, brokers[name], each)


def _run_cold(bench: Bench, wanted: Sequence[str]) -> None:
    """As `run`, with a broker that was just started for each run and ends with it."""
    for number in range(bench.plan.rounds):
        bench.say(f"cold, round {number + 1} of {bench.plan.rounds}")
        for name in bench.alternating(number):
            if "latency" in wanted:
                with bench.fresh(name, "cold") as broker:
                    latency(bench, broker.start())
            for each in bench.plan.loads if set(wanted) - {"latency"} else ():
                with bench.fresh(name, "cold") as broker:
                    put_through(bench, broker.start(), each, wanted)
                if "synced" in wanted:
                    with bench.fresh(name, "cold") as broker:
                        synced(bench, broker.start(), each)


def warm_up(bench: Bench, broker: Broker) -> None:
    """Let a JVM compile what it will run, and everybody open what stays open; not measured."""
    for size in (128, 1024):
        with bench.topic(broker, bench.plan.partitions) as topic:
            load.produce(broker.bootstrap, topic, count=warm_up_messages, size=size, acks="1")
            load.consume(broker.bootstrap, topic, count=warm_up_messages, partitions=bench.plan.partitions)
            fetch.drain(broker.bootstrap, topic, records=warm_up_messages, partitions=bench.plan.partitions)


def put_through(bench: Bench, broker: Broker, each: Load, wanted: Sequence[str]) -> None:
    """One load in with acks=1 and, where it is asked for, out by the C consumer and by the raw loop."""
    if not {"produce", "consume", "fetch"} & set(wanted):
        return
    partitions, report = bench.plan.partitions, bench.report
    bench.settle(each.size * each.messages)
    with bench.topic(broker, partitions) as topic:
        before = process.cpu_seconds(broker.pid)
        produced = load.produce(broker.bootstrap, topic, count=each.messages, size=each.size, acks="1")
        after = process.cpu_seconds(broker.pid)
        if "produce" in wanted:
            report.add(produce_metric(each), broker.name, produced.messages_per_second)
            report.add(cpu_metric("produce", "in", each, limited=True), broker.name, after - before)
        cpu_in = after - before
        if "consume" in wanted:
            before = process.cpu_seconds(broker.pid)
            consumed = load.consume(broker.bootstrap, topic, count=each.messages, partitions=partitions)
            after = process.cpu_seconds(broker.pid)
            report.add(consume_metric(each), broker.name, consumed.messages_per_second)
            report.add(cpu_metric("consume", "out", each), broker.name, after - before)
            both = cpu_metric("consume", "in and out", each, limited=True)
            report.add(both, broker.name, cpu_in + after - before)
        if "fetch" in wanted:
            drained = fetch.drain(broker.bootstrap, topic, records=each.messages, partitions=partitions)
            report.add(fetch_metric(each), broker.name, drained.bytes_per_second / 1e6)


def synced(bench: Bench, broker: Broker, each: Load) -> None:
    """One load in with acks=all."""
    bench.settle(each.size * each.messages)
    with bench.topic(broker, bench.plan.partitions) as topic:
        before = process.cpu_seconds(broker.pid)
        produced = load.produce(broker.bootstrap, topic, count=each.messages, size=each.size, acks="all")
        after = process.cpu_seconds(broker.pid)
        bench.report.add(synced_metric(each), broker.name, produced.messages_per_second)
        bench.report.add(cpu_metric("synced", "in, acks=all", each), broker.name, after - before)


def latency(bench: Bench, broker: Broker) -> None:
    """One request in flight."""
    bench.settle(0)
    with bench.topic(broker, 1) as topic:
        got = fetch.produce_one_in_flight(broker.bootstrap, topic, count=bench.plan.latency_requests)
    for label, value in (("p50", got.p50_us), ("p99", got.p99_us)):
        bench.report.add(latency_metric(label), broker.name, value)


def produce_metric(each: Load) -> Metric:
    limit = produce_targets.get(each.size)
    target = None if limit is None else Target(bound=Bound.RATIO_MIN, limit=limit)
    return Metric(section="produce", label=f"produce acks=1, {each.label}", unit="messages/s", target=target)


def synced_metric(each: Load) -> Metric:
    limit = synced_targets.get(each.size)
    target = None if limit is None else Target(bound=Bound.RATIO_MIN, limit=limit)
    label = f"produce acks=all (synced; Kafka's not), {each.label}"
    return Metric(section="synced", label=label, unit="messages/s", target=target)


def cpu_metric(section: str, direction: str, each: Load, *, limited: bool = False) -> Metric:
    """The target is for messages in, and in and out: on the way out alone both brokers leave the work to the kernel."""
    target = Target(bound=Bound.RATIO_MAX, limit=cpu_limit) if limited else None
    label = f"broker CPU, {each.messages:,} × {each.label} {direction}"
    return Metric(section=section, label=label, unit="CPU s", target=target)


def consume_metric(each: Load) -> Metric:
    target = Target(bound=Bound.RATIO_MIN, limit=consume_limit)
    return Metric(section="consume", label=f"C consumer, {each.label}", unit="messages/s", target=target)


def fetch_metric(each: Load) -> Metric:
    target = Target(bound=Bound.RATIO_MIN, limit=fetch_limit)
    return Metric(section="fetch", label=f"raw fetch, {each.label}", unit="MB/s", target=target)


def latency_metric(label: str) -> Metric:
    target = Target(bound=Bound.RATIO_MAX, limit=latency_limit)
    return Metric(section="latency", label=f"one request in flight, acks=1, 128 B, {label}", unit="µs", target=target)
