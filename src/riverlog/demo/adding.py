"""The worker of `worker.py` as a process that is killed in its middle and started again, and the sums that it leaves.

Invariant: after `add_up` returned, or raised, no worker is left. Sums are read as the two isolation levels show them: those
that are committed, and all that were written.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from riverlog.demo.flights import Tally
from riverlog.demo.streaming import Progress, StreamFailed, answer_seconds_max, log_level
from riverlog.demo.worker import SUMS
from riverlog.env.clock import Clock

worker_seconds_max: Final = 60.0  # without a word of the worker


class Cut(NamedTuple):
    """What the kill found."""

    committed: int  # flights
    open: int  # flights of the transaction that was open
    pause_seconds: float  # from the kill to the first commit of the next worker


@dataclass(slots=True)
class Sums:
    """What the records of the topic add up to, by carrier."""

    flights_of: dict[str, int] = field(default_factory=dict)
    miles_of: dict[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return sum(self.flights_of.values())

    def differences(self, expected: Tally) -> list[str]:
        """A sentence for each carrier whose sums are not those of the CSV."""
        return [
            f"carrier {carrier}: the worker added up {theirs.get(carrier, 0):,} {what}, the CSV has {ours.get(carrier, 0):,}"
            for what, ours, theirs in (
                ("flights", expected.flights_of, self.flights_of),
                ("miles", expected.miles_of, self.miles_of),
            )
            for carrier in sorted(ours.keys() | theirs.keys())
            if ours.get(carrier) != theirs.get(carrier)
        ]


class Adders:
    """One worker after another, over everything that is in the topic of flights."""

    def __init__(self, bootstrap: str, directory: Path, *, clock: Clock) -> None:
        self._bootstrap = bootstrap
        self._log = directory / "worker.log"
        self._clock = clock

    def add_up(self, halt_after: int, progress: Progress) -> Cut:
        """Returns when the second worker has reached the end. Raises StreamFailed where one fails or falls silent."""
        create_topic(self._bootstrap)
        with _Process(self._command("--halt-after", str(halt_after)), self._log) as first:
            committed, opened = 0, 0
            while not opened:
                word, number = first.next_line()
                if word == "committed":
                    committed = number
                    progress(committed)
                elif word == "open":
                    opened = number
                else:
                    raise StreamFailed("the worker reached the end before it was to be killed")
            killed_ms = self._clock.monotonic_ms()
            first.kill()
        pause_seconds = 0.0
        with _Process(self._command(), self._log) as second:
            while (said := second.next_line())[0] == "committed":
                pause_seconds = pause_seconds or (self._clock.monotonic_ms() - killed_ms) / 1000
                progress(committed + said[1])
        return Cut(committed, opened, pause_seconds)

    def _command(self, *more: str) -> list[str]:
        return [sys.executable, "-m", "riverlog.demo.worker", self._bootstrap, *more]


def create_topic(bootstrap: str) -> None:
    """Of one partition: the sums of a batch are few."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient, NewTopic

    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": log_level})
    try:
        client.create_topics([NewTopic(SUMS, num_partitions=1)])[SUMS].result(answer_seconds_max)
    except (KafkaException, TimeoutError) as error:
        raise StreamFailed(f"the topic {SUMS} could not be made: {error}") from error


def read_sums(bootstrap: str, *, committed: bool) -> Sums:
    """From the beginning of the topic to its end, as one isolation level sees both. Raises StreamFailed."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

    level = "read_committed" if committed else "read_uncommitted"
    settings = {"group.id": SUMS, "enable.auto.commit": False, "enable.partition.eof": True, "isolation.level": level}
    consumer = Consumer({"bootstrap.servers": bootstrap, "log_level": log_level, **settings})
    sums = Sums()
    try:
        consumer.assign([TopicPartition(SUMS, 0, OFFSET_BEGINNING)])
        while True:
            message: Any = consumer.poll(answer_seconds_max)
            if message is None:
                raise StreamFailed(f"no end of the topic {SUMS} within {answer_seconds_max:.0f} s")
            if (error := message.error()) is None:
                carrier = message.key().decode()
                flights, miles = json.loads(message.value())
                sums.flights_of[carrier] = sums.flights_of.get(carrier, 0) + flights
                sums.miles_of[carrier] = sums.miles_of.get(carrier, 0) + miles
            elif error.code() == KafkaError._PARTITION_EOF:
                return sums
            elif not error.retriable():
                raise StreamFailed(error.str())
    finally:
        consumer.close()


class _Process:
    """A worker that is watched. Leaving its `with` ends it, by SIGKILL where it still runs."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._log = log
        with log.open("ab") as said:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, start_new_session=True
            )

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None, "both were asked for"
            pipe.close()

    def kill(self) -> None:
        """SIGKILL: it has no chance to commit, to abort or to say goodbye."""
        self._process.kill()
        self._process.wait()

    def next_line(self) -> tuple[str, int]:
        """A word and a number; `end` and the exit code, 0, when it has ended well. Raises StreamFailed."""
        assert self._process.stdout is not None, "it was asked for"
        silence = threading.Timer(worker_seconds_max, self._process.kill)
        silence.start()
        try:
            line = self._process.stdout.readline()
        finally:
            silence.cancel()
        if line:
            word, _, number = line.partition(" ")
            return word, int(number)
        if (code := self._process.wait()) != 0:
            last = self._log.read_text("utf-8", "replace").strip().splitlines()
            raise StreamFailed(f"the worker ended with {code}: {last[-1] if last else 'it said nothing'}")
        return "end", 0
