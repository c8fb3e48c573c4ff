"""Processes of ours, and what /proc says about them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.peers import process


def test_cpu_seconds_of_a_command_with_blanks_and_parentheses() -> None:
    stat = "42 (a (b) c) S 1 1 1 0 -1 0 0 0 0 0 250 150 9 9 20 0 1 0 100 0 0"
    assert process.parse_cpu_seconds(stat) == 400 / os.sysconf("SC_CLK_TCK")


def test_memory_is_in_bytes() -> None:
    status = "Name:\tx\nVmPeak:\t  9 kB\nVmHWM:\t  20 kB\nVmRSS:\t  10 kB\nThreads:\t1\n"
    assert process.parse_memory(status) == process.Memory(10_240, 20_480)


def test_our_own_process_can_be_read() -> None:
    assert process.cpu_seconds(os.getpid()) > 0
    assert 0 < process.memory(os.getpid()).resident <= process.memory(os.getpid()).resident_peak


def test_free_ports_differ() -> None:
    assert len(set(process.free_ports(5))) == 5


def test_a_process_that_dies_is_reported_with_what_it_said(tmp_path: Path) -> None:
    log = tmp_path / "log"
    started = process.spawn([sys.executable, "-c", "raise SystemExit('no room')"], log=log)
    with pytest.raises(RuntimeError, match=r"(?s)exit 1.*no room"):
        process.wait_until(lambda: False, started, seconds_max=60, log=log)


def test_end_stops_a_process_and_is_harmless_twice(tmp_path: Path) -> None:
    started = process.spawn([sys.executable, "-c", "import threading; threading.Event().wait()"], log=tmp_path / "log")
    assert process.end(started) == -15
    assert process.end(started) == -15
