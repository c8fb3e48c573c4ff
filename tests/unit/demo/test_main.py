"""`python -m riverlog.demo`, as a newcomer runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest


def start(place: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "riverlog.demo", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(place)},
    )  # fmt: skip


def processes_over(place: Path) -> list[str]:
    """Command lines that name the directory."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = line.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if str(place) in command:
            found.append(command)
    return found


def test_everything_comes_back_through_a_kill(tmp_path: Path) -> None:
    process = start(tmp_path, "--flights", "30000")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert "the broker was killed (SIGKILL) with" in out
    assert "The same as in the CSV: 30,000 flights, the totals of" in out
    assert re.search(r"the worker was killed \(SIGKILL\) after 1[56],\d{3} flights, with [\d,]+ more in an open trans", out)
    assert re.search(r"Each flight counted once: the sums that are committed are the CSV's for all \d+ carriers", out)
    assert list(tmp_path.iterdir()) == []
    assert processes_over(tmp_path) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_no_process_and_no_files(tmp_path: Path, how: signal.Signals) -> None:
    process = start(tmp_path)
    assert process.stdout is not None
    assert "ready" in process.stdout.readline()  # the broker's own line
    assert len(processes_over(tmp_path)) == 1
    process.send_signal(how)
    assert process.wait(60) == 130
    assert processes_over(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
    process.communicate()
