"""Running commands against the broker in this process."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from confluent_kafka import Consumer

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


@pytest.fixture
def group(run: Run, riverlog_topic: str) -> str:
    """A group that has read 2 of 5 records of the topic of the same name."""
    run("produce", riverlog_topic, stdin=b"a\nb\nc\nd\ne\n")
    assert run("consume", riverlog_topic, "-g", riverlog_topic, "-n", "2").status == 0
    return riverlog_topic


@contextmanager
def member_of(broker: Broker, group: str, **settings: str) -> Iterator[Consumer]:
    """A consumer that has its share of the topic of the group's name; it leaves at the end, and commits nothing."""
    config = {"bootstrap.servers": broker.bootstrap_servers, "group.id": group, "enable.auto.commit": "false"}
    member = Consumer({**config, **settings})
    try:
        member.subscribe([group])
        assert len(member.consume(1, 20)) == 1
        yield member
    finally:
        member.close()
