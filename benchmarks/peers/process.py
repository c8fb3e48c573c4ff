"""Processes that we start, watch and end by their pid, and what /proc says about them. Linux only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

poll_seconds: Final = 0.005
stop_seconds_max: Final = 30.0
clock_ticks_per_second: Final = os.sysconf("SC_CLK_TCK")


class Memory(NamedTuple):
    """Resident memory of a process in bytes, now and at its highest."""

    resident: int
    resident_peak: int


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def spawn(
    command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None, stdout: int | None = None
) -> subprocess.Popen[bytes]:
    """Start a process whose stderr (and stdout, unless given) goes to `log`, in a session of its own."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output if stdout is None else stdout,
            stderr=output,
            env=None if environment is None else {**os.environ, **environment},
            start_new_session=True,
        )


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], *, seconds_max: float, log: Path) -> None:
    """Return when `ready` says so; RuntimeError with the end of the log when the process died or time is up."""
    deadline = time.monotonic() + seconds_max
    while not ready():
        try:
            process.wait(poll_seconds)
        except subprocess.TimeoutExpired:
            if time.monotonic() < deadline:
                continue
        tail = log.read_text(errors="replace")[-2_000:] if log.exists() else ""
        raise RuntimeError(f"process {process.pid} is not ready (exit {process.returncode}): {tail}")


def end(process: subprocess.Popen[bytes]) -> int:
    """Ask the process to stop, wait, kill it when it does not; its exit code. Harmless on one that has ended."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(stop_seconds_max)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process with all its threads, also those that have ended."""
    return parse_cpu_seconds(Path(f"/proc/{pid}/stat").read_text())


def parse_cpu_seconds(stat: str) -> float:
    """utime + stime of one line of /proc/PID/stat; the command in it may hold blanks and parentheses."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / clock_ticks_per_second


def memory(pid: int) -> Memory:
    """Resident memory of a process now and at its highest."""
    return parse_memory(Path(f"/proc/{pid}/status").read_text())


def parse_memory(status: str) -> Memory:
    """VmRSS and VmHWM of /proc/PID/status, in bytes (the file has kibibytes)."""
    kibibytes = {
        name: int(rest.split()[0])
        for name, _, rest in (line.partition(":") for line in status.splitlines())
        if name in ("VmRSS", "VmHWM")
    }
    return Memory(kibibytes["VmRSS"] * 1024, kibibytes["VmHWM"] * 1024)
