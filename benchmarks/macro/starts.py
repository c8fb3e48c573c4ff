"""riverlog alone: how long a start takes with much behind it, and what an empty directory costs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from benchmarks.macro.bench import Bench
from benchmarks.macro.cases import Case, at_most, table
from benchmarks.macro.footprint import MB, start_seconds
from benchmarks.macro.table import OURS
from benchmarks.peers import fill, process, wire
from benchmarks.peers.riverlog import Riverlog

crash_partitions: Final = 100
crash_batch_bytes: Final = 16 << 10
clean_batch_bytes: Final = 64 << 10
settings_without_checkpoints: Final = {"riverlog.checkpoint.interval.ms": "3600000"}


def run(bench: Bench) -> None:
    if OURS not in bench.names:
        return
    bench.report.tables.append(
        table("riverlog: starts with much behind them", [fresh(bench), *after_kill(bench), *after_stop(bench)])
    )


def fresh(bench: Bench) -> Case:
    """What an empty directory takes on the disk while it is served, in blocks."""
    case = Case(label="a fresh directory on the disk, served", unit="MB", target=at_most(1))
    with bench.fresh(OURS, "empty") as broker:
        assert isinstance(broker, Riverlog)
        broker.start()
        start_of_first = process.cpu_seconds(broker.pid)
        time.sleep(1)
        case.measured.append(blocks_bytes(broker.directory / "data") / MB)
        bench.say(f"starts: an idle second costs {process.cpu_seconds(broker.pid) - start_of_first:.2f} CPU s")
    return case


def after_kill(bench: Bench) -> list[Case]:
    """kill -9 with a checkpoint that is before everything: all of it is read again."""
    plan = bench.plan
    case = Case(
        label=f"start after kill -9: {plan.crash_bytes / 1e9:.3g} GB of 16 KiB batches since the checkpoint, "
        f"{plan.crash_journal_bytes / 1e6:.0f} MB more by acks=all; to the first acknowledged produce",
        unit="s", target=at_most(2),
    )  # fmt: skip
    journal = Case(label="journal on the disk at that kill", unit="MB")
    for number in range(max(1, plan.rounds // 2)):
        bench.say(f"starts: after kill -9, round {number + 1}")
        with bench.fresh(OURS, "crash") as broker:
            assert isinstance(broker, Riverlog)
            broker.settings.update(settings_without_checkpoints)
            broker.start()
            with wire.Connection(broker.bootstrap) as connection:
                connection.create_topic("crash", crash_partitions)
            for acks, total in ((1, plan.crash_bytes), (-1, plan.crash_journal_bytes)):
                fill.fill(
                    broker.bootstrap, "crash", partitions=crash_partitions, total_bytes=total,
                    batch_bytes=crash_batch_bytes, acks=acks,
                )  # fmt: skip
            broker.kill()
            journal.measured.append(blocks_bytes(broker.directory / "data", "journal*") / MB)
            bench.settle(0)
            case.measured.append(start_seconds(broker, "crash"))
            broker.kill()
    return [case, journal]


def after_stop(bench: Bench) -> list[Case]:
    """A clean stop with many partitions, and a kill with nothing new since the start."""
    plan = bench.plan
    what = f"{plan.clean_partitions:,} partitions with {plan.clean_bytes / 1e9:.3g} GB"
    clean = Case(
        label=f"start after a clean stop, {what}; to the first acknowledged produce", unit="s", target=at_most(2)
    )
    killed = Case(label=f"start after kill -9, {what}, all before the checkpoint", unit="s")
    stop = Case(label=f"clean stop, {what}, nothing new", unit="s")
    memory = Case(label="memory a partition after a clean start", unit="KB", target=at_most(8))
    with bench.fresh(OURS, "clean") as broker:
        broker.start()
        bench.say(f"starts: filling {what}")
        empty_bytes = process.memory(broker.pid).resident
        with wire.Connection(broker.bootstrap) as connection:
            connection.create_topic("clean", plan.clean_partitions)
        each = max(1, plan.clean_bytes // plan.clean_partitions // clean_batch_bytes)
        fill.fill(
            broker.bootstrap, "clean", partitions=plan.clean_partitions, total_bytes=plan.clean_bytes,
            batch_bytes=clean_batch_bytes, runs=each,
        )  # fmt: skip
        broker.stop()
        bench.settle(0)
        for number in range(plan.rounds):
            bench.say(f"starts: after a clean stop, round {number + 1} of {plan.rounds}")
            clean.measured.append(start_seconds(broker, "clean"))
            memory.measured.append((process.memory(broker.pid).resident - empty_bytes) / plan.clean_partitions / 1e3)
            stopping = time.perf_counter()
            broker.stop()
            stop.measured.append(time.perf_counter() - stopping)
        for _ in range(2):
            start_seconds(broker, "clean")
            broker.kill()
            killed.measured.append(start_seconds(broker, "clean"))
            broker.stop()
    return [clean, memory, stop, killed]


def blocks_bytes(directory: Path, pattern: str = "**/*") -> int:
    """What the files that match take on the disk."""
    return sum(path.lstat().st_blocks * 512 for path in directory.glob(pattern))
