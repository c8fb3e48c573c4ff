"""What durability costs with many partitions: one commit, a paced load, full speed, and 1,000 partitions beside Kafka."""

from __future__ import annotations

import shutil
import statistics
from typing import Final

from benchmarks.macro import commits
from benchmarks.macro.bench import Bench
from benchmarks.macro.cases import Case, at_most, ratio_at_least, ratio_at_most, table
from benchmarks.macro.table import OURS, Bound, Metric, Target
from benchmarks.peers import Broker, load, paced

wide: Final = 1_000  # partitions
narrow: Final = 4
full_speed_partitions: Final = 100
messages_per_second: Final = 20_000
messages_per_request: Final = 100  # what a producer gathers in 5 ms at that rate
size: Final = 1024
commits_of_one: Final = 200
slow: Final = 5.0  # requests/s
slow_seconds: Final = 4.0


def run(bench: Bench) -> None:
    """riverlog alone; every case in alternating rounds with what stands beside it."""
    if OURS not in bench.names:
        return
    cases = [*commit(bench), *in_a_broker(bench)]
    bench.report.tables.append(table("riverlog: what durability costs with many partitions", cases))


def commit(bench: Bench) -> list[Case]:
    """The engine alone, without a socket."""
    wide_case = Case(
        label=f"one commit of {wide:,} partitions, 4 KiB each, p50 (engine, no socket)",
        unit="ms",
        than="as many bytes to one file, written and synced",
        target=at_most(10),
    )
    writes = Case(label=f"the {wide:,} appends before it, all written to their segments", unit="ms")
    one = Case(
        label="one commit of 1 partition, 4 KiB, p50 (engine, no socket)", unit="ms",
        than="a plain write and fdatasync", target=ratio_at_most(1),
    )  # fmt: skip
    for number in range(bench.plan.rounds):
        bench.say(f"journal: commits, round {number + 1} of {bench.plan.rounds}")
        for case, partitions, count in ((wide_case, wide, bench.plan.commits), (one, 1, commits_of_one)):
            directory = bench.directory / f"commits-{partitions}"
            try:
                bench.settle(0)
                found = commits.run(directory, partitions, count)
            finally:
                shutil.rmtree(directory, ignore_errors=True)
            case.beside.append(statistics.median(found.plain))
            if case is wide_case:
                case.measured.append(statistics.median(found.commits))
                writes.measured.append(statistics.median(found.appends))
            else:  # the plain loop writes too
                case.measured.append(statistics.median(map(sum, zip(found.appends, found.commits, strict=True))))
    return [wide_case, writes, one]


def in_a_broker(bench: Bench) -> list[Case]:
    """By sockets: at a pace, and at full speed."""
    paced_case = Case(
        label=f"{messages_per_second:,} messages/s of 1 KiB, acks=all, {wide:,} partitions, p99 (raw protocol)", unit="ms",
        than=f"over {narrow} partitions", target=ratio_at_most(5),
    )  # fmt: skip
    full = Case(
        label=f"full speed, acks=all, {full_speed_partitions} partitions, 1 KiB (C generator)", unit="messages/s",
        than="with acks=1", target=ratio_at_least(0.8),
    )  # fmt: skip
    with bench.fresh(OURS, "journal") as broker:
        broker.start()
        for number in range(bench.plan.rounds):
            bench.say(f"journal: loads, round {number + 1} of {bench.plan.rounds}")
            for partitions, samples in ((wide, paced_case.measured), (narrow, paced_case.beside)):
                samples.append(at_a_pace(bench, broker, partitions))
            for acks, samples in (("all", full.measured), ("1", full.beside)):
                bench.settle(size * bench.plan.full_speed_messages)
                with bench.topic(broker, full_speed_partitions) as topic:
                    load.produce(broker.bootstrap, topic, count=full_speed_partitions * 20, size=size, acks=acks)
                    got = load.produce(
                        broker.bootstrap, topic, count=bench.plan.full_speed_messages, size=size, acks=acks
                    )
                samples.append(got.messages_per_second)
    return [paced_case, full]


def at_a_pace(bench: Bench, broker: Broker, partitions: int) -> float:
    """The p99 of a produce, milliseconds; a slow load makes the files first, and the first second does not count."""
    bench.settle(0)
    with bench.topic(broker, partitions) as topic:
        for rate, seconds in ((slow, slow_seconds), (messages_per_second / messages_per_request, bench.plan.paced_seconds + 1)):
            found = paced.run(
                paced.Specification(
                    bootstrap=broker.bootstrap, topic=topic, partitions=partitions, acks=-1, requests_per_second=rate,
                    seconds=seconds, messages=messages_per_request, size=size,
                )
            )  # fmt: skip
    return found.latency(found.produced[0].due + 1).p99_us / 1e3


def beside_kafka(bench: Bench) -> None:
    """Produce over 1,000 partitions with both brokers, each in its turn."""
    metrics = {
        acks: Metric(
            section="wide", label=f"produce acks={acks}, {wide:,} partitions, 1 KiB{remark}", unit="messages/s",
            target=Target(bound=Bound.RATIO_MIN, limit=1),
        )
        for acks, remark in (("1", ""), ("all", " (synced; Kafka's not)"))
    }  # fmt: skip
    for number in range(bench.plan.rounds):
        for name in bench.alternating(number):
            bench.say(f"wide: {name}, round {number + 1} of {bench.plan.rounds}")
            with bench.fresh(name, "wide") as broker:
                broker.start()
                for acks, metric in metrics.items():
                    bench.settle(size * bench.plan.wide_messages)
                    with bench.topic(broker, wide) as topic:
                        load.produce(broker.bootstrap, topic, count=wide * 20, size=size, acks=acks)  # makes the files
                        got = load.produce(
                            broker.bootstrap, topic, count=bench.plan.wide_messages, size=size, acks=acks
                        )
                    bench.report.add(metric, name, got.messages_per_second)
