"""The demo's broker as a process."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from riverlog.demo.broker import BrokerFailed, DemoBroker
from riverlog.env.clock import SystemClock


def pid_of(broker: DemoBroker) -> int:
    process = broker._process
    assert process is not None
    return process.pid


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_it_comes_back_on_the_same_port_after_a_kill_and_leaves_nothing_at_the_end(tmp_path: Path) -> None:
    broker = DemoBroker(tmp_path, clock=SystemClock())
    try:
        broker.start()
        first = pid_of(broker)
        assert broker.bootstrap in broker.ready_line
        broker.kill()
        assert not is_there(first)
        broker.start()
        second = pid_of(broker)
        assert broker.bootstrap in broker.ready_line
    finally:
        broker.stop()
    assert not is_there(second)
    with pytest.raises(BrokerFailed, match="ending"):
        broker.start()


def test_ctrl_c_at_the_terminal_does_not_reach_it(tmp_path: Path) -> None:
    """It has a session of its own; the demo ends it."""
    broker = DemoBroker(tmp_path, clock=SystemClock())
    try:
        broker.start()
        assert os.getsid(pid_of(broker)) != os.getsid(0)
    finally:
        broker.stop()


def test_what_it_said_last_is_told_where_it_does_not_start(tmp_path: Path) -> None:
    broker = DemoBroker(tmp_path, clock=SystemClock(), settings=["num.partition=3"])
    with pytest.raises(BrokerFailed, match=r"ended before it was ready: riverlog: unknown setting 'num.partition'"):
        broker.start()
    broker.stop()


def test_a_broker_that_hangs_is_killed_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("riverlog.demo.broker.stop_seconds_max", 0.2)
    broker = DemoBroker(tmp_path, clock=SystemClock())
    broker.start()
    pid = pid_of(broker)
    os.kill(pid, signal.SIGSTOP)
    broker.stop()
    assert not is_there(pid)
