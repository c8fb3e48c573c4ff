"""A damaged partition through a real broker: it answers KAFKA_STORAGE_ERROR where it is damaged and serves everything else;
`riverlog repair` while it is stopped; then everything that is left is read, by a client that knows nothing of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from riverlog.cli import run
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.library import Broker
from riverlog.records.header import read_header
from riverlog.testing.kafka_client import KafkaClient
from tests.process.serving import fetch

COUNT = 30


def produce(broker: Broker, topic: str, lines: Path) -> None:
    for at in range(3):  # a batch each
        lines.write_text("".join(f"{topic}-{number}\n" for number in range(at * 10, at * 10 + 10)))
        assert run(["produce", topic, str(lines), "-b", broker.bootstrap_servers]) == 0


def consume(broker: Broker, topic: str, *more: str) -> int:
    return run(["consume", topic, "-e", "-b", broker.bootstrap_servers, *more])


def offsets(capfd: pytest.CaptureFixture[str]) -> list[int]:
    return [json.loads(line)["offset"] for line in capfd.readouterr().out.splitlines() if line.startswith("{")]


@pytest.mark.parametrize(("order", "left"), [("--skip", [*range(10), *range(20, 30)]), ("--truncate", list(range(10)))])
def test_from_damage_to_repair(tmp_path: Path, capfd: pytest.CaptureFixture[str], order: str, left: list[int]) -> None:
    data, lines = tmp_path / "data", tmp_path / "lines"
    with Broker(data) as broker:
        for topic in ("hurt", "well"):
            produce(broker, topic, lines)
    (log,) = (data / "topics" / "hurt-0").glob("*.log")
    content = bytearray(log.read_bytes())
    size = read_header(content).size
    assert read_header(content, size).base_offset == 10
    content[size + 16] = 9  # its magic
    log.write_bytes(content)
    assert run(["repair", str(data)]) == 1
    capfd.readouterr()
    with Broker(data) as broker:
        assert consume(broker, "well", "--json") == 0
        assert offsets(capfd) == list(range(COUNT))
        with KafkaClient(broker.bootstrap_servers) as client:
            assert fetch(client, "hurt", 10).error_code == ErrorCode.KAFKA_STORAGE_ERROR
            assert fetch(client, "hurt", 10) == fetch(client, "hurt", 15), "also behind it"
            before = fetch(client, "hurt", 0)
            assert before.error_code == 0
            assert [offset for offset, _ in before.records] == list(range(10))
        assert run(["repair", str(data), order]) == 1, "the directory is in use"
        assert "is in use by" in capfd.readouterr().err
    assert run(["verify", str(data)]) == 1
    assert run(["repair", str(data), order, "--dry-run"]) == 1
    assert run(["repair", str(data), order, "--topic", "well"]) == 0
    assert run(["repair", str(data), order, "--topic", "hurt", "--partition", "0"]) == 0
    assert f"{log}.dropped-" in capfd.readouterr().out
    assert run(["verify", str(data)]) == 0
    assert run(["repair", str(data), order]) == 0
    with Broker(data) as broker:
        capfd.readouterr()
        assert consume(broker, "hurt", "--json") == 0
        assert offsets(capfd) == left
        produce(broker, "hurt", lines)
        assert consume(broker, "hurt", "--from", "30", "--json") == 0
        assert offsets(capfd) == list(range(COUNT, 2 * COUNT)), "no offset is given twice"
    assert run(["verify", str(data)]) == 0
