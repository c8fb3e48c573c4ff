"""Workers that consume, process and produce, a broker under them, and what must be true of their output.

Invariant: a worker or broker is killed at a phase that it said it had reached, so that each round cuts what it means to cut.
RIVERLOG_PEER=kafka puts Apache Kafka in riverlog's place."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.peers import kafka, process
from benchmarks.peers.kafka import Kafka
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.fetch import FetchPartition, FetchRequest, FetchTopic
from riverlog.records.batch import records_of
from riverlog.records.control import ControlType, control_type
from riverlog.records.header import HEADER_BYTES, read_header
from riverlog.testing.kafka_client import KafkaClient
from tests.process.serving import QUIET, Serve

PYTHON_WORKER: Final = Path(__file__).with_name("exactly_once_worker.py")
JAVA_WORKER: Final = Path(__file__).with_name("ExactlyOnceWorker.java")
partition_count: Final = 4
SOURCE, TARGET, GROUP = "source", "target", "workers"
phase_seconds_max: Final = 60.0
SETTINGS: Final = ("group.min.session.timeout.ms=300", "group.initial.rebalance.delay.ms=0", "num.partitions=4")


class KafkaServe:
    """Kafka with the face of `Serve`: the port stays the same over `kill` and `start`."""

    def __init__(self, directory: Path) -> None:
        settings = dict(one.split("=") for one in SETTINGS)
        settings["transaction.abort.timed.out.transaction.cleanup.interval.ms"] = "100"
        self.kafka = Kafka(directory, settings=settings)

    @property
    def address(self) -> str:
        return self.kafka.bootstrap

    def kill(self) -> None:
        self.kafka.kill()

    def start(self) -> KafkaServe:
        self.kafka.spawn()
        assert self.kafka._process is not None
        process.wait_until(self.kafka.answers, self.kafka._process, seconds_max=60, log=self.kafka.log)
        return self

    def __enter__(self) -> KafkaServe:
        self.kafka.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kafka.stop()


def broker_over(directory: Path) -> Serve | KafkaServe:
    return KafkaServe(directory) if os.environ.get("RIVERLOG_PEER") == "kafka" else Serve(directory, *SETTINGS)


def make_topics(address: str, *names: str) -> None:
    wanted = [NewTopic(name, partition_count, 1, config={"retention.ms": "-1"}) for name in names]
    admin = AdminClient({"bootstrap.servers": address}, logger=QUIET)
    for future in admin.create_topics(wanted).values():
        future.result(20)


class NotReached(AssertionError):
    """A worker did not say in time what was waited for."""


class Worker:
    """One worker's process. `with` leaves none behind; after `kill` it may be started again."""

    def __init__(self, command: Sequence[str], address: str, log: Path, **settings: str) -> None:
        told = {"source": SOURCE, "target": TARGET, "group": GROUP, **settings}
        self.command = [*command, address, *(f"{name}={value}" for name, value in told.items())]
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.said = b""
        self.phases: list[str] = []

    def start(self) -> Worker:
        assert self.process is None, "it runs already"
        self.said = b""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )
        return self

    def tell(self, line: str) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        os.write(self.process.stdin.fileno(), line.encode() + b"\n")

    def wait_for(self, *phases: str, seconds: float = phase_seconds_max) -> str:
        """The first line that begins with one of the phases."""
        assert self.process is not None
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        while True:
            while b"\n" in self.said:
                line, _, self.said = self.said.partition(b"\n")
                self.phases.append(line.decode())
                if self.phases[-1].startswith(phases):
                    return self.phases[-1]
            left = deadline - time.monotonic()
            if left <= 0:
                raise NotReached(f"{phases} within {seconds:.0f} s; it said {self.phases[-8:]}; {self.words()}")
            if select.select([self.process.stdout], [], [], left)[0]:
                piece = os.read(self.process.stdout.fileno(), 65536)
                assert piece, f"it ended; it said {self.phases[-8:]}; {self.words()}"
                self.said += piece

    def hold(self, phase: str, feed: Callable[[], None]) -> None:
        """Returns when it stands at the phase. Another worker may have taken what there is: then there is more."""
        self.tell(f"hold {phase}")
        deadline = time.monotonic() + phase_seconds_max
        while True:
            feed()
            try:
                self.wait_for(f"held {phase}", seconds=1.0)
                return
            except NotReached:
                if time.monotonic() > deadline:
                    raise

    def send(self, what: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(what)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                assert pipe is not None
                pipe.close()
            self.process = None

    def words(self) -> str:
        return self.log.read_text("utf-8", "replace")[-4000:]

    def __enter__(self) -> Worker:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()


class Feeder:
    """Writes the input, acknowledged: `taken` has each partition's values in order. Its values are never the same twice."""

    def __init__(self, address: str, topic: str = SOURCE) -> None:
        settings = {"enable.idempotence": True, "linger.ms": 1, "reconnect.backoff.max.ms": 200}
        self.producer = Producer({"bootstrap.servers": address, **settings}, logger=QUIET)
        self.topic = topic
        self.taken: list[list[bytes]] = [[] for _ in range(partition_count)]

    def feed(self, count: int) -> None:
        """`count` records to each partition."""
        errors: list[object] = []
        for partition, taken in enumerate(self.taken):
            for _ in range(count):
                value = b"%d:%d" % (partition, len(taken))
                taken.append(value)
                self.producer.produce(
                    self.topic, value, partition=partition, on_delivery=lambda error, _: error and errors.append(error)
                )
        assert self.producer.flush(60) == 0
        assert errors == []

    def expected(self) -> list[list[bytes]]:
        return [[b"[" + value + b"]" for value in taken] for taken in self.taken]


class Marker(NamedTuple):
    """An end marker in a log."""

    producer_id: int
    producer_epoch: int
    committed: bool


class Log(NamedTuple):
    """A partition as a raw fetch shows it."""

    values: list[bytes]  # of all data batches
    markers: list[Marker]
    last_stable_offset: int
    high_watermark: int


def read_log(address: str, topic: str, partition: int, *, isolation_level: int = 0) -> Log:
    """All of a partition, its control batches too. At level 1 up to the last stable offset, aborted records included."""
    values: list[bytes] = []
    markers: list[Marker] = []
    offset, stable, end = 0, 0, 0
    with KafkaClient(address) as client:
        while True:
            wanted = FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=1 << 20)
            request = FetchRequest(
                max_wait_ms=0, min_bytes=1, max_bytes=1 << 20, isolation_level=isolation_level, session_epoch=-1,
                topics=[FetchTopic(topic=topic, partitions=[wanted])],
            )  # fmt: skip
            answer = client.ask(ApiKey.FETCH, 12, request).responses[0].partitions[0]
            assert answer.error_code == 0, answer
            stable, end = answer.last_stable_offset, answer.high_watermark
            data = memoryview(answer.records or b"")
            began = offset
            while len(data) >= HEADER_BYTES and len(data) >= (header := read_header(data)).size:
                for one in records_of(data[: header.size], header):
                    if one.offset < offset:
                        continue
                    if header.is_control:
                        committed = control_type(one.key) == ControlType.COMMIT
                        markers.append(Marker(header.producer_id, header.producer_epoch, committed))
                    else:
                        values.append(one.value or b"")
                offset = header.base_offset + header.last_offset_delta + 1
                data = data[header.size :]
            if offset == began:
                return Log(values, markers, stable, end)


def read_committed(address: str, topic: str) -> list[list[bytes]]:
    """The values of each partition up to its last stable offset, aborted ones left out, by a consumer."""
    from tests.clients.transactions import read

    return [[value.encode() for value in one] for one in read(address, topic, partitions=partition_count)]


def committed_offsets(address: str, topic: str, group: str = GROUP) -> list[int]:
    consumer = Consumer({"bootstrap.servers": address, "group.id": group, "isolation.level": "read_committed"}, logger=QUIET)
    try:
        asked = [TopicPartition(topic, index) for index in range(partition_count)]
        return [max(0, one.offset) for one in consumer.committed(asked, 20)]
    finally:
        consumer.close()


def wait_until(done: Callable[[], bool], what: Callable[[], object], *, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what()}"
        time.sleep(0.05)


def wait_until_processed(address: str, feeder: Feeder, workers: Mapping[str, Worker]) -> None:
    """Until the group has committed the end of all input."""
    ends = [len(taken) for taken in feeder.taken]  # the input has no transactions: offsets count records

    def told() -> object:
        return committed_offsets(address, SOURCE), ends, {name: (one.phases[-5:], one.words()) for name, one in workers.items()}

    wait_until(lambda: committed_offsets(address, SOURCE) == ends, told)


def python_worker() -> list[str]:
    return [sys.executable, str(PYTHON_WORKER)]


def java_worker(directory: Path) -> list[str]:
    """Compiled into the directory, because a start from its source takes a second more each time."""
    classes = f"{kafka.classpath()}:{directory}"
    done = subprocess.run(
        ["javac", "-nowarn", "-cp", classes, "-d", str(directory), str(JAVA_WORKER)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return ["java", *kafka.JVM_TOOL, "-Xshare:auto", "-cp", classes, "ExactlyOnceWorker"]
