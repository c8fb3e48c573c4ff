"""`riverlog produce` against a broker; what came of it is read by `riverlog consume`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from riverlog.cli import produce as produce_module
from riverlog.cli.shape import NewRecord
from tests.unit.cli.conftest import Run


def test_lines_become_records(run: Run, riverlog_topic: str) -> None:
    assert run("produce", riverlog_topic, stdin=b"one\ntwo\n\nlast without newline").status == 0
    assert run("consume", riverlog_topic, "-e").out == "one\ntwo\n\nlast without newline\n"


def test_a_file_with_keys(run: Run, riverlog_topic: str, tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_bytes(b"a::1\nb::2::3\n::4\n")
    assert run("produce", riverlog_topic, str(file), "-K", "::").status == 0
    assert run("consume", riverlog_topic, "-e", "-K", "=").out == "a=1\nb=2::3\n=4\n"


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed(run: Run, riverlog_topic: str, compression: str) -> None:
    assert run("produce", riverlog_topic, "-z", compression, stdin=b"a\n" * 1000).status == 0
    assert run("consume", riverlog_topic, "-e").out == "a\n" * 1000


def test_into_one_partition(run: Run) -> None:
    run("topic", "create", "placed", "-p", "3")
    assert run("produce", "placed", "-p", "2", stdin=b"x\n").status == 0
    assert json.loads(run("consume", "placed", "-e", "--json").out)["partition"] == 2


def test_json_keeps_keys_headers_times_and_nulls(run: Run, riverlog_topic: str) -> None:
    line = {
        "key": None,
        "value": "v",
        "timestamp": 1_357_034_400_000,
        "headers": [{"key": "h", "value_base64": "/w=="}],
    }
    done = run("produce", riverlog_topic, "--json", stdin=json.dumps(line).encode() + b"\n\n")
    assert json.loads(done.out) == {"topic": riverlog_topic, "records": 1}
    found = json.loads(run("consume", riverlog_topic, "-e", "--json").out)
    assert {name: found[name] for name in line} == line


def test_a_malformed_line_is_named_and_what_came_before_is_kept(run: Run, riverlog_topic: str) -> None:
    done = run("produce", riverlog_topic, "--json", stdin=b'{"value":"a"}\n{"value":5}\n')
    assert (done.status, done.err) == (
        1,
        "riverlog: line 2: value is not a text: write JSON inside it as a quoted text\n",
    )
    assert run("consume", riverlog_topic, "-e").out == "a\n"


@pytest.mark.parametrize(
    ("tokens", "status", "said"),
    [
        (("-K", ":"), 1, "line 1 has no separator ':'"),
        (("-K", ""), 2, "-K needs a separator"),
        (("-K", ":", "--json"), 2, "leave -K out"),
        (("-z", "rar"), 2, "give one of none, gzip"),
        (("-p", "-1"), 2, "give a partition's number"),
        (("-p", "7"), 1, "`riverlog topic describe` shows those that there are"),
        (("/none/there",), 1, "cannot read /none/there: No such file"),
        (("-b", "127.0.0.1:1"), 1, "no broker at 127.0.0.1:1 (connection refused): start one with `riverlog serve`"),
        (("-b", "nowhere"), 2, "give HOST:PORT"),
    ],
)
def test_mistakes(run: Run, riverlog_topic: str, tokens: tuple[str, ...], status: int, said: str) -> None:
    done = run("produce", riverlog_topic, *tokens, stdin=b"no separator\n")
    assert done.status == status
    assert said in done.err
    assert done.err.count("\n") == 1


def test_a_compacted_topic_wants_keys_and_that_is_said(run: Run) -> None:
    run("topic", "create", "compacted", "-c", "cleanup.policy=compact")
    done = run("produce", "compacted", stdin=b"no key\n")
    assert done.status == 1
    assert "takes no record without a key" in done.err


def test_what_is_too_large_is_refused_by_the_broker_and_said(run: Run) -> None:
    run("topic", "create", "small", "-c", "max.message.bytes=1000")
    done = run("produce", "small", stdin=b"x" * 2000)
    assert done.status == 1
    assert "raise the topic's max.message.bytes" in done.err


def test_ctrl_c_waits_a_moment_only_for_what_was_read(
    run: Run, riverlog_topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> Iterator[NewRecord]:
        yield NewRecord(None, b"read", None, ())
        raise KeyboardInterrupt

    waited: list[float] = []

    def finish(delivery: produce_module._Delivery, seconds_max: float) -> None:
        waited.append(seconds_max)
        delivery.producer.flush(10)

    monkeypatch.setattr(produce_module, "_records", interrupted)
    monkeypatch.setattr(produce_module._Delivery, "finish", finish)
    with pytest.raises(SystemExit, match="130"):
        run("produce", riverlog_topic)
    assert waited == [produce_module.goodbye_seconds_max]
    assert run("consume", riverlog_topic, "-e").out == "read\n"
