"""`riverlog consume` against a broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer

from riverlog.demo.broker import DemoBroker
from riverlog.env.clock import SystemClock
from riverlog.library import Broker
from tests.unit.cli.conftest import Run

START_MS = 1_357_034_400_000


@pytest.fixture
def ten(run: Run, riverlog_topic: str) -> str:
    """A topic with the values 0 … 9, a minute apart."""
    lines = (json.dumps({"value": str(number), "timestamp": START_MS + 60_000 * number}) for number in range(10))
    assert run("produce", riverlog_topic, "--json", stdin="\n".join(lines).encode()).status == 0
    return riverlog_topic


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ((), range(10)),
        (("--from", "earliest"), range(10)),
        (("--from", "latest"), range(0)),
        (("--from", "7"), range(7, 10)),
        (("--from", "99"), range(0)),
        (("--from", "-3"), range(7, 10)),
        (("--from", "-99"), range(10)),
        (("--from", "2013-01-01T10:04:00Z"), range(4, 10)),
        (("--from", "2013-01-01T10:04:01Z"), range(5, 10)),
        (("--from", f"@{START_MS}"), range(10)),
        (("--from", "1h"), range(0)),
        (("-n", "3"), range(3)),
        (("-n", "3", "--from", "8"), range(8, 10)),
    ],
)
def test_from_where_and_how_many(run: Run, ten: str, tokens: tuple[str, ...], expected: range) -> None:
    assert run("consume", ten, "-e", *tokens).out.split() == list(map(str, expected))


def test_json_pipes_into_produce_binary_safe(run: Run, riverlog_topic: str) -> None:
    run("produce", riverlog_topic, "-K", ":", stdin=b"\xff\x00key:\xfevalue\nplain:text\n")
    said = run("consume", riverlog_topic, "-e", "--json").out
    assert run("produce", f"{riverlog_topic}-copy", "--json", stdin=said.encode()).status == 0
    again = run("consume", f"{riverlog_topic}-copy", "-e", "--json").out
    assert again.replace("-copy", "") == said


def test_a_full_queue_of_the_client_is_no_pause_of_a_second(
    run: Run, riverlog_topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """librdkafka stops fetching at 100,000 records; its default for going on again made large topics slow to print."""
    seen: list[dict[str, Any]] = []

    def noted(settings: dict[str, Any]) -> Consumer:
        seen.append(settings)
        return Consumer(settings)

    monkeypatch.setattr("confluent_kafka.Consumer", noted)
    assert run("consume", riverlog_topic, "-e").status == 0
    assert [one["fetch.queue.backoff.ms"] for one in seen] == [10]


def test_an_empty_topic_ends_at_once(run: Run, riverlog_topic: str) -> None:
    assert run("consume", riverlog_topic, "-e") == (0, "", "")


def test_a_group_goes_on_where_it_was_and_commits_what_was_printed(run: Run, ten: str) -> None:
    assert run("consume", ten, "-g", f"{ten}-readers", "-n", "4").out.split() == list("0123")
    assert run("consume", ten, "-g", f"{ten}-readers", "-e").out.split() == list("456789")
    assert run("consume", ten, "-g", f"{ten}-readers", "-e").out == ""


@pytest.mark.parametrize(
    ("tokens", "status", "said"),
    [
        (("--from", "soon"), 2, "is no place in a log"),
        (("-g", "g", "--from", "5"), 2, "`riverlog group reset g --to 5 --execute` moves it"),
        (("-n", "0"), 2, "at least 1"),
    ],
)
def test_mistakes(run: Run, riverlog_topic: str, tokens: tuple[str, ...], status: int, said: str) -> None:
    done = run("consume", riverlog_topic, "-e", *tokens)
    assert done.status == status
    assert said in done.err


def test_a_topic_that_is_not_there_is_not_made(run: Run) -> None:
    done = run("consume", "nowhere", "-e")
    assert done.status == 1
    assert "there is no topic 'nowhere'" in done.err
    assert "nowhere" not in run("topic", "list").out


def follow(bootstrap: str, topic: str) -> subprocess.Popen[bytes]:
    """A consumer that follows, as a process; its first record has been read."""
    process = subprocess.Popen(
        [sys.executable, "-m", "riverlog", "consume", topic, "-b", bootstrap],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert os.read(process.stdout.fileno(), 2) == b"0\n"
    return process


def test_ctrl_c_ends_it_quietly(riverlog_broker: Broker, ten: str) -> None:
    process = follow(riverlog_broker.bootstrap_servers, ten)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[1] == b""
    assert process.returncode == 0


def test_it_ends_when_nobody_reads_any_more_also_while_nothing_comes(riverlog_broker: Broker, ten: str) -> None:
    process = follow(riverlog_broker.bootstrap_servers, ten)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(30) == 0
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()


def test_whoever_follows_waits_for_the_broker_and_is_told(tmp_path: Path) -> None:
    broker = DemoBroker(tmp_path, clock=SystemClock())
    try:
        broker.start()
        produce_to(broker.bootstrap, b"0")
        process = follow(broker.bootstrap, "t")
        assert process.stderr is not None
        assert process.stdout is not None
        broker.kill()
        assert b"went away: waiting for it to come back" in process.stderr.readline()
        broker.start()
        produce_to(broker.bootstrap, b"1")
        assert os.read(process.stdout.fileno(), 2) == b"1\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[1] == b""
    finally:
        broker.stop()


def produce_to(bootstrap: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce("t", value)
    assert producer.flush(30) == 0
