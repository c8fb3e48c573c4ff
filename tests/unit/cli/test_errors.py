"""How commands end."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.cli.errors import CommandError, guarded


def raises(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (CommandError("do this"), 1, "riverlog: do this\n"),
        (CommandError("two\nlines", 2), 2, "riverlog: two lines\n"),
        (RiverlogError(ErrorKind.STORAGE, "the disk is full"), 1, "riverlog: the disk is full\n"),
        (RiverlogError(ErrorKind.INVALID_CONFIG, "not so"), 2, "riverlog: not so\n"),
        (KeyboardInterrupt(), 1, ""),
        (OSError(28, "No space left on device"), 1, "riverlog: No space left on device\n"),
        (FileNotFoundError(2, "No such file or directory", "/x"), 1, "riverlog: /x: No such file or directory\n"),
    ],
)
def test_each_failure_has_its_exit_code_and_one_line(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(lambda: raises(error)) == status
    assert capsys.readouterr().err == said


def test_a_reader_who_has_had_enough_ends_it_quietly() -> None:
    """As `riverlog … | head`: the pipe is closed while there is still much to write."""
    code = (
        "from riverlog.cli.errors import guarded\ndef much():\n for _ in range(100_000): print('x' * 100)\n return 1\n"
    )
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", code + "raise SystemExit(guarded(much))"], stdout=writing, stderr=subprocess.PIPE
    )
    os.close(writing)
    assert os.read(reading, 1) == b"x"
    os.close(reading)
    assert process.communicate(timeout=30)[1] == b""
    assert process.returncode == 0


@pytest.mark.parametrize("closed", ["1", "0"])
def test_a_closed_standard_stream_is_no_traceback(closed: str) -> None:
    """As `riverlog --help >&-`."""
    line = f'exec {closed}>&-; exec "$@"'
    command = [sys.executable, "-c", "from riverlog.cli import main; main()", "--help"]
    done = subprocess.run(["sh", "-c", line, "sh", *command], capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
