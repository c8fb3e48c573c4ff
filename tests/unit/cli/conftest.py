"""Running commands against the broker in this process."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import NamedTuple

import pytest

from riverlog.cli import run as run_cli
from riverlog.library import Broker


class Done(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str


Run = Callable[..., Done]


class _Stdin:
    """stdin as bytes."""

    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


@pytest.fixture
def run(riverlog_broker: Broker, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("topic", "list")`; `stdin` is what the command is given to read."""
    monkeypatch.setenv("RIVERLOG_BOOTSTRAP", riverlog_broker.bootstrap_servers)

    def command(*tokens: str, stdin: bytes = b"") -> Done:
        monkeypatch.setattr("sys.stdin", _Stdin(stdin))
        status = run_cli(tokens)
        out, err = capfdbinary.readouterr()
        return Done(status, out.decode("utf-8", "backslashreplace"), err.decode())

    return command
