"""riverlog itself as a peer: `python -m riverlog serve` over a directory, with the same interface as `Kafka`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from benchmarks.peers import process, wire
from benchmarks.peers.cache import REPOSITORY

start_seconds_max: Final = 60.0
_address = re.compile(r"127\.0\.0\.1:(\d+)")


class Riverlog:
    """One riverlog process over `directory`. `settings` become `--set name=value`."""

    name = "riverlog"

    def __init__(
        self, directory: Path, *, settings: Mapping[str, str] | None = None, python: str = sys.executable
    ) -> None:
        self.directory = directory
        self.settings = dict(settings or {})
        self.python = python
        self.bootstrap = ""
        self.pid = 0
        self.ready_line = ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def data_directory(self) -> Path:
        """Where the partitions' directories (`<topic>-<partition>`) with their segments lie."""
        return self.directory / "data" / "topics"

    @property
    def log(self) -> Path:
        """What the process said on stderr."""
        return self.directory / "riverlog.log"

    def start(self) -> Self:
        """Start the process and return when it has printed its ready line."""
        self.prepare()
        self.spawn()
        try:
            self._read_ready_line()
        except BaseException:
            self.kill()
            raise
        return self

    def prepare(self) -> None:
        """Make the directory and choose a port: all that is not the start itself."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (port,) = process.free_ports(1)
        self.bootstrap = f"127.0.0.1:{port}"

    def spawn(self) -> None:
        """Start the prepared process and do not wait."""
        assert self._process is None, "it runs already"
        self._process = process.spawn(self.command(), log=self.log, environment=environment(), stdout=subprocess.PIPE)
        self.pid = self._process.pid

    def command(self) -> list[str]:
        """The command line that serves this directory on the chosen port."""
        settings = [part for name, value in self.settings.items() for part in ("--set", f"{name}={value}")]
        where = ["--data-dir", str(self.directory / "data"), "--kafka", self.bootstrap, "--http", "127.0.0.1:0"]
        return [self.python, "-m", "riverlog", "serve", *where, *settings]

    def answers(self) -> bool:
        """The broker takes a connection and answers ApiVersions now."""
        try:
            with wire.Connection(self.bootstrap, timeout_seconds=5) as connection:
                return bool(connection.api_versions())
        except OSError:
            return False

    def stop(self) -> None:
        """End the process by its pid (SIGTERM), or harder where that takes too long."""
        if self._process is not None:
            process.end(self._process)
            self._forget()

    def kill(self) -> None:
        """End the process at once, as a crash would (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._forget()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _forget(self) -> None:
        assert self._process is not None
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

    def _read_ready_line(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        self.ready_line = self._process.stdout.readline().decode(errors="replace").strip()
        if not _address.search(self.ready_line):
            said = self.log.read_text(errors="replace")[-2_000:]
            raise RuntimeError(f"riverlog did not become ready; stdout {self.ready_line!r}, stderr: {said}")


def environment() -> dict[str, str]:
    """What the process gets beside our own environment: the sources of this repository, installed or not."""
    return {"PYTHONPATH": str(REPOSITORY / "src")}


def missing() -> str | None:
    """What keeps riverlog from serving here, or None."""
    done = subprocess.run(
        [sys.executable, "-m", "riverlog", "serve", "--help"],
        capture_output=True, env={**os.environ, **environment()},
    )  # fmt: skip
    return None if done.returncode == 0 else "`python -m riverlog serve --help` fails"
