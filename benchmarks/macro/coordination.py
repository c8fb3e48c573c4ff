"""What a coordinator does, beside Kafka: groups that form, transactions, commits of offsets.

Each section has both brokers over new directories at once and takes them in turn; what comes first is a warm-up and not measured.
riverlog has synced what it answers, Kafka has it in the page cache of one replica."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from benchmarks.macro.bench import Bench
from benchmarks.macro.table import Bound, Metric, Target
from benchmarks.peers import Broker, members, offsets, transactions

settle_seconds_limit: Final = 10.0  # of a thousand members, and as many CPU seconds
offsets_per_second_limit: Final = 20_000.0
targeted_members: Final = 1_000
partitions_per_commit: Final = 10
transaction_partitions: Final = 4
record_bytes: Final = 100
warm_up_members: Final = 20
warm_up_seconds: Final = 2.0
synced: Final = "synced; Kafka's not"


def groups(bench: Bench) -> None:
    """Everybody joins at once; then one leaves, and another joins."""
    plan = bench.plan
    cases = [(members.CONSUMER, count) for count in plan.group_members] + [(members.CLASSIC, plan.group_members[0])]

    def measure(broker: Broker, protocol: str, count: int, partitions: int) -> members.Result:
        with bench.topic(broker, partitions) as topic:
            return members.run(
                members.Specification(
                    bootstrap=broker.bootstrap, topic=topic, group=f"of-{topic}", protocol=protocol, members=count,
                    partitions=partitions, heartbeat_seconds=plan.heartbeat_seconds, pid=broker.pid, changes=True,
                )
            )  # fmt: skip

    def warm_up(broker: Broker) -> None:
        for protocol, count in dict(cases).items():
            measure(broker, protocol, min(count, warm_up_members), min(plan.group_partitions, warm_up_members))

    with brokers(bench, "groups", warm_up) as running:
        for name in rounds(bench, "groups"):
            for protocol, count in cases:
                result = measure(running[name], protocol, count, plan.group_partitions)
                if result.shared:
                    remark = (
                        f"{name}: {result.shared} partitions had two owners for a while ({protocol}, {count} members)."
                    )
                    bench.report.remarks.append(remark)
                for metric, value in group_figures(protocol, count, plan.group_partitions, result):
                    bench.report.add(metric, name, value)


def group_figures(protocol: str, count: int, partitions: int, result: members.Result) -> list[tuple[Metric, float]]:
    """The rows of one run."""
    of = f"{protocol} protocol, {count:,} members, {partitions:,} partitions"
    limit = None
    if protocol == members.CONSUMER and count == targeted_members:
        limit = Target(bound=Bound.VALUE_MAX, limit=settle_seconds_limit)

    def metric(what: str, unit: str, target: Target | None = None) -> Metric:
        return Metric(section="groups", label=f"{of}: {what}", unit=unit, target=target)

    return [
        (metric("all join at once, until settled", "s", limit), result.settled_seconds),
        (metric("broker CPU until settled", "CPU s", limit), result.cpu_seconds),
        (metric("broker CPU of heartbeats alone", "CPU s/s"), result.idle_cpu),
        (metric("one leaves, until settled", "s"), result.left_seconds),
        (metric("one joins, until settled", "s"), result.joined_seconds),
        (metric("members that were fenced or unknown", ""), result.lost),
    ]


def transactional(bench: Bench) -> None:
    """librdkafka's producers, each transaction after the other."""
    plan = bench.plan

    def measure(broker: Broker, producers: int, records: int, seconds: float) -> transactions.Result:
        with bench.topic(broker, transaction_partitions) as topic:
            return transactions.run(
                transactions.Specification(
                    bootstrap=broker.bootstrap, topic=topic, id_prefix=topic, producers=producers, records=records,
                    size=record_bytes, seconds=seconds, pid=broker.pid,
                )
            )  # fmt: skip

    def warm_up(broker: Broker) -> None:
        measure(broker, max(plan.transaction_producers), 1, min(warm_up_seconds, plan.transaction_seconds))

    with brokers(bench, "transactions", warm_up) as running:
        for name in rounds(bench, "transactions"):
            for records in plan.transaction_records:
                for producers in plan.transaction_producers:
                    bench.settle(0)
                    result = measure(running[name], producers, records, plan.transaction_seconds)
                    for metric, value in transaction_figures(records, producers, result):
                        bench.report.add(metric, name, value)


def transaction_figures(records: int, producers: int, result: transactions.Result) -> list[tuple[Metric, float]]:
    """The rows of one run."""
    of = f"transactions of {records:,} × {record_bytes} B, {producers} producer{'s' if producers > 1 else ''}"

    def metric(what: str, unit: str) -> Metric:
        return Metric(section="transactions", label=f"{of}{what}", unit=unit)

    return [
        (metric(f" ({synced})", "transactions/s"), result.transactions_per_second),
        (metric(", p50", "ms"), result.p50_ms),
        (metric(", p99", "ms"), result.p99_ms),
        (metric(", broker CPU of one", "ms"), result.cpu_seconds / result.transactions * 1e3),
    ]


def committed(bench: Bench) -> None:
    """Many groups that commit, each one commit after the other."""
    plan = bench.plan

    def measure(broker: Broker, seconds: float) -> offsets.Result:
        with bench.topic(broker, partitions_per_commit) as topic:
            return offsets.run(
                offsets.Specification(
                    bootstrap=broker.bootstrap, topic=topic, group_prefix=topic, groups=plan.offset_groups,
                    partitions=partitions_per_commit, seconds=seconds, pid=broker.pid,
                )
            )  # fmt: skip

    def warm_up(broker: Broker) -> None:
        measure(broker, min(warm_up_seconds, plan.offset_seconds))

    with brokers(bench, "offsets", warm_up) as running:
        for name in rounds(bench, "offsets"):
            bench.settle(0)
            for metric, value in offset_figures(plan.offset_groups, measure(running[name], plan.offset_seconds)):
                bench.report.add(metric, name, value)


def offset_figures(groups: int, result: offsets.Result) -> list[tuple[Metric, float]]:
    """The rows of one run."""
    of = f"{groups} groups commit {partitions_per_commit} partitions each"
    many = Target(bound=Bound.VALUE_MIN, limit=offsets_per_second_limit)
    total = result.commits * partitions_per_commit

    def metric(what: str, unit: str, target: Target | None = None) -> Metric:
        return Metric(section="offsets", label=f"{of}{what}", unit=unit, target=target)

    return [
        (metric(f" ({synced})", "partition offsets/s", many), result.offsets_per_second),
        (metric(", p50", "ms"), result.p50_ms),
        (metric(", p99", "ms"), result.p99_ms),
        (metric(", broker CPU of 1,000 partition offsets", "ms"), result.cpu_seconds / total * 1e6),
    ]


@contextmanager
def brokers(bench: Bench, label: str, warm_up: Callable[[Broker], None]) -> Iterator[dict[str, Broker]]:
    """All that are to be measured, started and warm, by name."""
    with ExitStack() as stack:
        running = {name: stack.enter_context(bench.fresh(name, label)) for name in bench.names}
        for name, broker in running.items():
            bench.say(f"{label}: warming {name} up")
            warm_up(broker.start())
        yield running


def rounds(bench: Bench, label: str) -> Iterator[str]:
    """The broker to measure next."""
    for number in range(bench.plan.rounds):
        for name in bench.alternating(number):
            bench.say(f"{label}: {name}, round {number + 1} of {bench.plan.rounds}")
            yield name
