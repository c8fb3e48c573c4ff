"""`python -m riverlog.demo`: the whole story, told as it goes. Exit 0: all is as in the CSV; 1: what differs; 130: Ctrl-C.

A broker starts over a fresh directory; a producer writes a year of flights; half-way the broker is killed with SIGKILL and
started again; a group of two consumers reads everything; what they counted is compared with the CSV itself. Then a worker
adds up flights and miles in transactions, is killed in one, and another goes on: its sums are compared with the CSV, too.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from riverlog.demo.adding import Adders, read_sums
from riverlog.demo.broker import BrokerFailed, DemoBroker
from riverlog.demo.flights import DataMissing, Tally, airlines, differences, rows, tally, to_flight
from riverlog.demo.streaming import TOPIC, Readers, StreamFailed, Writer, create_topic, partition_count
from riverlog.env.clock import Clock, SystemClock

GROUP_DELAY = "group.initial.rebalance.delay.ms=500"  # so that both consumers are there when partitions are dealt out
INTERRUPTED = 130


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m riverlog.demo", description="Real data through riverlog.")
    arguments.add_argument(
        "--flights", type=positive_number, metavar="N", help="only the first N flights [default: all]"
    )
    limit: int | None = arguments.parse_args().flights
    console = Console(highlight=False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt_once)
    clock = SystemClock()
    directory = Path(tempfile.mkdtemp(prefix="riverlog-demo-"))
    broker = DemoBroker(directory, clock=clock, settings=[GROUP_DELAY])
    keep = True
    try:
        wrong = Demo(broker, console, clock, limit).run()
        keep = bool(wrong)
    except KeyboardInterrupt:
        keep = False
        return INTERRUPTED
    except (BrokerFailed, DataMissing, StreamFailed) as error:
        wrong = [str(error)]
    finally:
        _undisturbed()
        broker.stop()
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
    for line in wrong:
        Console(stderr=True, highlight=False).print(f"[red]differs:[/] {line}")
    if wrong:
        Console(stderr=True, highlight=False).print(f"Everything is kept in {directory}")
    return 1 if wrong else 0


class Demo:
    """One run. Values are gathered by `run`'s steps and shown at the end."""

    def __init__(self, broker: DemoBroker, console: Console, clock: Clock, limit: int | None) -> None:
        self.broker = broker
        self.console = console
        self.clock = clock
        self.limit = limit

    def run(self) -> list[str]:
        """What differs, in sentences; none if all is well."""
        with self.console.status("computing from the CSV what must come out …"):
            expected = tally(rows(self.limit))
        with ThreadPoolExecutor(1) as pool:  # a signal cannot come between the process and our knowing of it
            pool.submit(self.broker.start).result()
        self.console.print(f"{self.broker.ready_line or self.broker.bootstrap}", soft_wrap=True, markup=False)
        create_topic(self.broker.bootstrap)
        self._write(expected.count)
        readers = Readers(self.broker.bootstrap, clock=self.clock)
        with self._bar("reading, a group of two", expected.count) as progress:
            found = readers.read_back(progress)
        self.console.print(f"consumers read {' and '.join(f'{count:,}' for count in readers.read_by)} records")
        wrong = differences(expected, found)
        self.console.print(_table(expected, found))
        if not wrong:
            keyed = len(expected.order)
            self.console.print(
                f"[green]The same as in the CSV:[/] {found.count:,} flights, the totals of {len(found.flights_of)} carriers, "
                f"and the order of each of {keyed:,} aircraft's flights.",
                soft_wrap=True,
            )
        return wrong + self._add_up(expected)

    def _add_up(self, expected: Tally) -> list[str]:
        """Exactly once: what differs between the sums of a worker that is killed and the CSV."""
        adders = Adders(self.broker.bootstrap, self.broker.directory, clock=self.clock)
        with self._bar("adding up, exactly once", expected.count) as progress:
            cut = adders.add_up(expected.count // 2, progress)
        committed, written = (read_sums(self.broker.bootstrap, committed=only) for only in (True, False))
        self.console.print(
            f"the worker was killed (SIGKILL) after {cut.committed:,} flights, with {cut.open:,} more in an open transaction; "
            f"another one went on after {cut.pause_seconds:.2f} s",
            soft_wrap=True,
        )
        wrong = committed.differences(expected)
        if written.count != expected.count + cut.open:
            wrong.append(f"the log has sums of {written.count:,} flights, not those of the cut transaction beside the others")
        if not wrong:
            self.console.print(
                f"[green]Each flight counted once:[/] the sums that are committed are the CSV's for all "
                f"{len(committed.flights_of)} carriers, {sum(committed.miles_of.values()):,} miles; "
                f"the log has {written.count - committed.count:,} flights more, of the transaction that was aborted.",
                soft_wrap=True,
            )
        return wrong

    def _write(self, count: int) -> None:
        """With the kill when half of the flights are acknowledged: on a thread, so that the producer never stops for it."""
        writer = Writer(self.broker.bootstrap)
        crash: list[Future[str]] = []
        with ThreadPoolExecutor(1) as pool, self._bar(f"writing to topic {TOPIC}", count) as progress:

            def watched(acknowledged: int) -> None:
                progress(acknowledged)
                if acknowledged >= count // 2 and not crash:
                    crash.append(pool.submit(self._crash, acknowledged))

            writer.write(map(to_flight, rows(self.limit)), watched)
        self.console.print(crash[0].result(), soft_wrap=True)

    def _crash(self, acknowledged: int) -> str:
        self.broker.kill()
        seconds = self.broker.start()
        return (
            f"half-way the broker was killed (SIGKILL) with {acknowledged:,} flights acknowledged; "
            f"it was back after {seconds:.2f} s, and the producer went on by itself"
        )

    @contextmanager
    def _bar(self, what: str, total: int) -> Iterator[_Count]:
        columns = (
            TextColumn("{task.description:<25}"),
            BarColumn(30),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(what, total=total)
            yield _Count(progress, task)


def positive_number(text: str) -> int:
    """A number of flights, for the command line."""
    if (count := int(text)) < 1:
        raise ValueError(text)
    return count


class _Count:
    """The progress that the streaming functions call with the count so far."""

    def __init__(self, progress: Progress, task: int) -> None:
        self._progress = progress
        self._task = task

    def __call__(self, count: int) -> None:
        self._progress.update(self._task, completed=count)  # type: ignore[arg-type]  # a TaskID is an int


class _Rate(ProgressColumn):
    """Records a second since the beginning."""

    def render(self, task: Task) -> Text:
        seconds = task.finished_time if task.finished else task.elapsed
        return Text(f"{task.completed / seconds:>9,.0f}/s" if seconds else "")


def _table(expected: Tally, found: Tally) -> Table:
    names = airlines()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("carrier", no_wrap=True)
    for column in ("flights", "read back", "miles", "read back"):
        table.add_column(column, justify="right", no_wrap=True)
    for carrier, flights in sorted(expected.flights_of.items(), key=lambda one: -one[1]):
        table.add_row(
            f"{carrier} {names.get(carrier, '')}",
            f"{flights:,}",
            f"{found.flights_of.get(carrier, 0):,}",
            f"{expected.miles_of[carrier]:,}",
            f"{found.miles_of.get(carrier, 0):,}",
        )
    table.add_section()
    totals = (expected.count, found.count, sum(expected.miles_of.values()), sum(found.miles_of.values()))
    table.add_row(f"all, in {partition_count} partitions", *(f"{total:,}" for total in totals))
    return table


def _interrupt_once(signum: int, frame: FrameType | None) -> None:
    _undisturbed()
    raise KeyboardInterrupt


def _undisturbed() -> None:
    """From here on the broker is being stopped: a further Ctrl-C must not cut that short."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
