"""The README never shows a line that fails: its Python runs here, its shell lines too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from riverlog.library import Broker
from tests.tidy.tree import text

BLOCKS: Final = re.findall(r"```(\w+)\n(.*?)```", text("README.md"), re.S)
PYTHON: Final = [code for language, code in BLOCKS if language == "python"]
SHELL: Final = [
    line.removeprefix("$ ")
    for language, code in BLOCKS
    if language == "console"
    for line in code.splitlines()
    if line.startswith("$ riverlog") or "| riverlog" in line
]


@pytest.mark.parametrize("code", PYTHON)
def test_the_python_runs(code: str, riverlog_broker: Broker) -> None:
    code = code.replace("127.0.0.1:9092", riverlog_broker.bootstrap_servers)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() in ("b'world'",) or done.stdout.startswith("127.0.0.1:")


def test_the_shell_lines_run(riverlog_broker: Broker, tmp_path: Path) -> None:
    (tmp_path / "riverlog").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m riverlog "$@"\n')
    (tmp_path / "riverlog").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "RIVERLOG_BOOTSTRAP": riverlog_broker.bootstrap_servers,
    }
    lines = [line for line in SHELL if not line.startswith("riverlog serve")]
    assert len(lines) >= 4
    for line in lines:
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {line}"],
            capture_output=True, text=True, timeout=60, check=False, env=environment, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert (line, done.returncode, done.stderr) == (line, 0, "")
