"""`riverlog serve` as a process of its own, for tests that kill, stop, trace and load it.

Invariant: `Serve.end` and leaving its `with` leave no process behind; a process is ended by its id and no other way."""

from __future__ import annotations

import logging
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.fetch import FetchPartition, FetchRequest, FetchTopic
from riverlog.records.batch import records_of
from riverlog.records.builder import build_batch
from riverlog.records.header import HEADER_BYTES, read_header
from riverlog.records.record import NewRecord
from riverlog.testing.kafka_client import KafkaClient

READY: Final = re.compile(
    r"riverlog (?P<version>\S+) ready: kafka (?P<kafka>\S+:\d+), http (?P<http>\S+:\d+), "
    r"data (?P<data>.+), started in (?P<seconds>\d+\.\d\d) s( \(pure Python kernels: .*\))?\n"
)
QUIET: Final = logging.getLogger("tests.process.client")  # a client says a lot while its broker is dead
QUIET.setLevel(logging.CRITICAL + 1)
start_seconds_max: Final = 20.0
stop_seconds_max: Final = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def serve_command(
    directory: Path, *, kafka: str = "127.0.0.1:0", http: str = "127.0.0.1:0", settings: Sequence[str] = ()
) -> list[str]:
    command = [sys.executable, "-m", "riverlog", "serve", "--data-dir", str(directory), "--kafka", kafka, "--http", http]
    for setting in settings:
        command += ["--set", setting]
    return command


class Serve:
    """One process over `directory`; what it says on stderr is appended to `log`, a file beside the directory.

    `start` may be called again after `kill` or `stop`: the port stays the same."""

    def __init__(self, directory: Path, *settings: str, prefix: Sequence[str] = ()) -> None:
        self.directory = directory
        self.settings = settings
        self.prefix = tuple(prefix)  # a program that runs the server, as strace
        self.address = f"127.0.0.1:{free_port()}"
        self.http = ""
        self.ready_line = ""
        self.started_seconds = 0.0  # by our clock, from before the fork to the ready line
        self.log_path = directory.parent / f"{directory.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Serve:
        assert self.process is None, "it runs already"
        began = time.monotonic()
        command = [*self.prefix, *serve_command(self.directory, kafka=self.address, settings=self.settings)]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        try:
            self.ready_line = self._first_line(began + start_seconds_max)
        except BaseException:
            self.kill()
            raise
        self.started_seconds = time.monotonic() - began
        match = READY.fullmatch(self.ready_line)
        assert match is not None, f"not a ready line: {self.ready_line!r}; {self.log()}"
        assert match["kafka"] == self.address
        self.http = match["http"]
        return self

    def _first_line(self, until: float) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        said = b""
        while not said.endswith(b"\n"):
            left = until - time.monotonic()
            assert left > 0, f"not ready in time: {self.log()}"
            if select.select([self.process.stdout], [], [], left)[0]:
                piece = os.read(self.process.stdout.fileno(), 4096)
                assert piece, f"ended before it was ready: {self.log()}"
                said += piece
        return said.decode()

    @property
    def pid(self) -> int:
        assert self.process is not None, "it does not run"
        return self.process.pid

    def log(self) -> str:
        return self.log_path.read_text("utf-8", "replace") if self.log_path.exists() else ""

    def kill(self) -> None:
        """SIGKILL: it has no chance to sync or to say goodbye."""
        self._end(signal.SIGKILL)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Gives the exit code. A process that does not end in time is killed, and the test fails."""
        return self._end(how)

    def _end(self, how: signal.Signals) -> int:
        process, self.process = self.process, None
        assert process is not None, "it does not run"
        process.send_signal(how)
        try:
            return process.wait(stop_seconds_max)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"it did not end within {stop_seconds_max} s of {how.name}: {self.log()}") from None
        finally:
            if process.stdout is not None:
                process.stdout.close()

    def client(self, *, timeout_seconds: float = 20) -> KafkaClient:
        return KafkaClient(self.address, timeout_seconds=timeout_seconds)

    def resident_bytes(self) -> int:
        statm = Path(f"/proc/{self.pid}/statm").read_text()
        return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def __enter__(self) -> Serve:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process is not None:
            self.kill()


def run_until_it_ends(*arguments: str, interpreter: Sequence[str] = ()) -> tuple[int, str]:
    """The exit code of `riverlog ARGUMENTS`, and what it said on stderr; nothing on stdout is expected."""
    command = [sys.executable, *interpreter, "-m", "riverlog", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
    assert done.stdout == b""
    return done.returncode, done.stderr.decode()


def refused(directory: Path, *, interpreter: Sequence[str] = (), kafka: str = "127.0.0.1:0") -> tuple[int, str]:
    """Runs a `serve` that is expected to end by itself: its exit code, and what it said on stderr."""
    return run_until_it_ends(*serve_command(directory, kafka=kafka)[3:], interpreter=interpreter)


def one_batch(*values: bytes, key: bytes | None = b"k") -> bytearray:
    """Of now: retention leaves it alone."""
    now_ms = time.time_ns() // 1_000_000
    return build_batch([NewRecord(now_ms, key, value) for value in values])


class Seen(NamedTuple):
    """What one fetch saw of a partition."""

    records: list[tuple[int, bytes]]  # offset and value
    high_watermark: int
    error_code: int


def fetch_request(
    topic: str, offset: int, *, partition: int = 0, wait_ms: int = 0, bytes_max: int = 1 << 20
) -> FetchRequest:
    wanted = FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=bytes_max)
    return FetchRequest(
        max_wait_ms=wait_ms,
        min_bytes=1,
        max_bytes=bytes_max,
        session_epoch=-1,
        topics=[FetchTopic(topic=topic, partitions=[wanted])],
    )


def fetch(client: KafkaClient, topic: str, offset: int, *, partition: int = 0, wait_ms: int = 0) -> Seen:
    request = fetch_request(topic, offset, partition=partition, wait_ms=wait_ms)
    return seen(client.ask(ApiKey.FETCH, 12, request).responses[0].partitions[0], offset)


def seen(answer: Any, offset: int) -> Seen:
    """The records at `offset` and above of a partition's part of an answer."""
    data = memoryview(answer.records or b"")
    records: list[tuple[int, bytes]] = []
    while len(data) >= HEADER_BYTES and len(data) >= (header := read_header(data)).size:
        records += [(one.offset, one.value or b"") for one in records_of(data[: header.size], header) if one.offset >= offset]
        data = data[header.size :]
    return Seen(records, answer.high_watermark, answer.error_code)


def read_all(client: KafkaClient, topic: str, *, partition: int = 0) -> list[tuple[int, bytes]]:
    """Everything up to the high watermark of the first answer or later."""
    records: list[tuple[int, bytes]] = []
    while True:
        got = fetch(client, topic, len(records), partition=partition)
        assert got.error_code == 0
        records += got.records
        if len(records) >= got.high_watermark:
            return records
