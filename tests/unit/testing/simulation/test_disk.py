"""Files that crash at a chosen operation."""

from __future__ import annotations

import errno

import pytest

from riverlog.env.files import write_file
from riverlog.testing.fakes import Unsynced
from riverlog.testing.simulation.disk import SimulatedFiles
from riverlog.testing.simulation.loop import Crashed


def test_the_machine_is_gone_before_the_operation_and_stays_so() -> None:
    for count in range(4):
        trace: list[str] = []
        stopped: list[bool] = []
        files = SimulatedFiles(trace.append)
        files.on_crash = lambda stopped=stopped: stopped.append(True)  # type: ignore[misc]
        files.make_directory("/d")
        session = files.session()
        files.operations_left = count
        with pytest.raises(Crashed):  # create, truncate, write, sync
            write_file(session, "/d/a", b"abc")
        assert stopped == [True]
        assert len(trace) == count + 1
        with pytest.raises(OSError, match="Bad file"):
            session.exists("/d/a")
        files.crash(Unsynced.KEPT)
        assert files.exists("/d/a") is (count > 0)
        assert files.dump("/d") == ({} if not count else {"a": b"abc" if count > 2 else b""})


def test_faults_are_traced() -> None:
    trace: list[str] = []
    files = SimulatedFiles(trace.append)
    files.make_directory("/d")
    files.inject("write", "/d", errno.EIO)
    with pytest.raises(OSError, match="Input"):
        write_file(files, "/d/a", b"abc")
    assert trace[-1] == "fault write /d/a"
