"""The broker that the demo kills: `riverlog serve` as a process of its own, on one port over one directory.

Invariant: after `kill` or `stop` returned, and after the program ended in any way that runs `finally`, no process is left.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from riverlog.env.clock import Clock

start_seconds_max: Final = 30.0
stop_seconds_max: Final = 15.0


class BrokerFailed(Exception):
    """It did not start, or ended. The message has what it said last."""


def free_port() -> int:
    """One that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class DemoBroker:
    """`start`, `kill` and `stop` may come from different threads; each waits until it is true."""

    def __init__(self, directory: Path, *, clock: Clock, settings: Sequence[str] = ()) -> None:
        self.directory = directory
        self.bootstrap = f"127.0.0.1:{free_port()}"
        self.ready_line = ""
        self._clock = clock
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False
        self._lock = threading.Lock()

    def start(self) -> float:
        """Returns when it serves: the seconds that took. Raises BrokerFailed."""
        with self._lock:
            if self._ended:
                raise BrokerFailed("the demo is ending")
            began_ms = self._clock.monotonic_ms()
            command = [
                sys.executable, "-m", "riverlog", "serve",
                "--data-dir", str(self.directory / "data"), "--kafka", self.bootstrap, "--http", "127.0.0.1:0",
            ]  # fmt: skip
            for setting in self._settings:
                command += ["--set", setting]
            with (self.directory / "broker.log").open("ab") as log:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
                )
            self._wait_until_ready(self._process)
            return (self._clock.monotonic_ms() - began_ms) / 1000

    def kill(self) -> None:
        """SIGKILL: it has no chance to sync or to say goodbye."""
        with self._lock:
            self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Cleanly; harder where that takes too long. It cannot be started again."""
        with self._lock:
            self._ended = True
            self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if (process := self._process) is None:
            return
        self._process = None
        process.send_signal(how)
        try:
            process.wait(stop_seconds_max)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        finally:
            if process.stdout is not None:
                process.stdout.close()

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        """The broker says so in one line on stdout."""
        assert process.stdout is not None, "it was asked for"
        os.set_blocking(process.stdout.fileno(), False)
        deadline_ms = self._clock.monotonic_ms() + round(start_seconds_max * 1000)
        line = b""
        while not line.endswith(b"\n"):
            left = (deadline_ms - self._clock.monotonic_ms()) / 1000
            if left <= 0:
                self._end(signal.SIGKILL)
                raise BrokerFailed(f"the broker was not ready within {start_seconds_max:.0f} s: {self._last_words()}")
            if not select.select([process.stdout], [], [], left)[0]:
                continue
            if not (said := process.stdout.read()):
                self._end(signal.SIGKILL)
                raise BrokerFailed(f"the broker ended before it was ready: {self._last_words()}")
            line += said
        self.ready_line = line.decode("utf-8", "replace").strip()

    def _last_words(self) -> str:
        lines = (self.directory / "broker.log").read_text("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"
