"""What `kill -9` cannot show: that the disk was asked before the client was told. The process runs under strace."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.create_topics import CreatableTopic, CreateTopicsRequest
from riverlog.gateways.kafka.schema.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from riverlog.testing.kafka_client import KafkaClient
from tests.process.serving import Serve, fetch, one_batch
from tools.clients import require

WRITES: Final = ("pwrite64", "pwritev", "pwritev2", "write", "writev")
SYNCS: Final = ("fdatasync", "fsync")
SENDS: Final = ("sendto", "sendmsg")
WHOLE: Final = re.compile(r"(?P<pid>\d+) +(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+|\?)")
BEGUN: Final = re.compile(r"(?P<pid>\d+) +(?P<name>\w+)\((?P<arguments>.*) <unfinished \.\.\.>")
ENDED: Final = re.compile(r"(?P<pid>\d+) +<\.\.\. (?P<name>\w+) resumed>.*\) += (?P<result>-?\d+|\?)")
DESCRIPTOR: Final = re.compile(r"\d+<(?P<what>.*?)>(?=,|$|\))")


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemCall:
    name: str
    what: str  # the file or the ends of the connection
    begun: int  # numbers of lines of the trace
    ended: int
    result: int


def system_calls(trace: str) -> list[SystemCall]:
    """In the order of their ends; those that never ended are left out. The end may have been that of the process (`= ?`),
    also where the other side had its bytes: the result is -1 then."""
    calls: list[SystemCall] = []
    open_calls: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(trace.splitlines()):
        if (match := BEGUN.fullmatch(line)) is not None:
            open_calls[match["pid"]] = number, match["arguments"]
        elif (match := ENDED.match(line)) is not None:
            begun, arguments = open_calls.pop(match["pid"])
            calls.append(_call(match["name"], arguments, begun, number, match["result"]))
        elif (match := WHOLE.match(line)) is not None:
            calls.append(_call(match["name"], match["arguments"], number, number, match["result"]))
    return calls


def _call(name: str, arguments: str, begun: int, ended: int, result: str) -> SystemCall:
    descriptor = DESCRIPTOR.match(arguments)
    what = descriptor["what"] if descriptor is not None else ""
    return SystemCall(name=name, what=what, begun=begun, ended=ended, result=-1 if result == "?" else int(result))


class Traced:
    """A server whose system calls are written down."""

    def __init__(self, serve: Serve, path: Path) -> None:
        self.serve = serve
        self.path = path

    def calls_after_the_end(self) -> list[SystemCall]:
        last_line = re.compile(rf"^{self.serve.pid} +\+\+\+ killed by SIGKILL", re.M)
        self.serve.kill()
        until = time.monotonic() + 20
        while last_line.search(text := self.path.read_text("utf-8", "replace")) is None:
            assert time.monotonic() < until, "strace did not end"
            time.sleep(0.01)
        return system_calls(text)


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[Traced]:
    strace = str(require("strace"))
    path = tmp_path / "trace"
    kinds = "trace=" + ",".join((*WRITES, *SYNCS, *SENDS))
    prefix = [strace, "-D", "-f", "-yy", "-s", "0", "-e", kinds, "-o", str(path)]
    with Serve(tmp_path / "data", prefix=prefix) as serve:
        yield Traced(serve, path)


def answers_to(client_port: int, calls: list[SystemCall]) -> list[SystemCall]:
    """What was sent to that client, oldest first."""
    return [one for one in calls if one.name in SENDS and one.what.endswith(f":{client_port}]")]


def port_of(client: KafkaClient) -> int:
    port: int = client.socket.getsockname()[1]
    return port


def make_topic(client: KafkaClient, name: str) -> None:
    topic = CreatableTopic(name=name, num_partitions=1, replication_factor=1)
    answer = client.ask(ApiKey.CREATE_TOPICS, 5, CreateTopicsRequest(topics=[topic], timeout_ms=10_000))
    assert answer.topics[0].error_code == 0


def log_of(serve: Serve, topic: str) -> str:
    return str((serve.directory / "topics" / f"{topic}-0" / f"{0:020}.log").resolve())


def test_acks_all_is_written_synced_and_then_answered(traced: Traced) -> None:
    serve = traced.serve
    with serve.client() as other:
        make_topic(other, "all")
    with serve.client() as client:
        port, path = port_of(client), log_of(serve, "all")
        assert client.produce("all", one_batch(b"first")).error_code == 0
        assert client.produce("all", one_batch(b"second")).error_code == 0
    calls = traced.calls_after_the_end()
    writes = [one for one in calls if one.name in WRITES and one.what == path]
    syncs = [one for one in calls if one.name in SYNCS and one.what == path]
    answers = answers_to(port, calls)
    assert len(writes) == len(answers) == 2
    for write, answer in zip(writes, answers, strict=True):
        between = [one for one in syncs if write.ended < one.begun and one.ended < answer.begun]
        assert [one.result for one in between] == [0]
    names = [one for one in calls if one.name in SYNCS and one.ended < answers[0].begun and one.result == 0]
    directory = Path(path).parent
    assert {str(directory), str(directory.parent)} <= {one.what for one in names}, "a new file's name is synced, too"


def test_acks_1_is_answered_without_waiting_for_the_disk(traced: Traced) -> None:
    serve = traced.serve
    with serve.client() as client:
        make_topic(client, "one")
        assert client.produce("one", one_batch(b"first")).error_code == 0
        port, path = port_of(client), log_of(serve, "one")
        for number in range(5):
            assert client.produce("one", one_batch(b"%d" % number), acks=1).error_code == 0
            until = time.monotonic() + 10
            while not _is_durable(client, number + 2):
                assert time.monotonic() < until, "it is synced all the same, a moment later"
    calls = traced.calls_after_the_end()
    writes = [one for one in calls if one.name in WRITES and one.what == path][1:]
    syncs = [one for one in calls if one.name in SYNCS and one.what == path][1:]
    answers = answers_to(port, calls)
    assert len(writes) == 5
    assert len(syncs) >= 5
    for write in writes:
        answer = next(one for one in answers if one.begun > write.ended)
        assert [one for one in syncs if write.ended < one.ended < answer.begun] == []


def _is_durable(client: KafkaClient, end: int) -> bool:
    """Readers see what is durable: the high watermark."""
    return fetch(client, "one", 0).high_watermark >= end


def test_committed_offsets_are_synced_and_then_answered(traced: Traced) -> None:
    serve = traced.serve
    with serve.client() as other:
        make_topic(other, "read")
    with serve.client() as client:
        partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=0)
        topic = OffsetCommitRequestTopic(name="read", partitions=[partition])
        for _ in range(3):
            answer = client.ask(ApiKey.OFFSET_COMMIT, 8, OffsetCommitRequest(group_id="readers", topics=[topic]))
            assert answer.topics[0].partitions[0].error_code == 0
        port = port_of(client)
    calls = traced.calls_after_the_end()
    path = str((serve.directory / "catalog.db-wal").resolve())
    writes = [one for one in calls if one.name in WRITES and one.what == path]
    syncs = [one for one in calls if one.name in SYNCS and one.what == path]
    answers = answers_to(port, calls)
    assert len(answers) == 3
    before = 0
    for answer in answers:
        written = [one for one in writes if before < one.begun < answer.begun]
        assert written, "the commit was written"
        assert [one for one in syncs if written[-1].ended < one.begun and one.ended < answer.begun and one.result == 0]
        before = answer.ended


def test_a_topic_is_synced_before_its_making_is_answered(traced: Traced) -> None:
    serve = traced.serve
    with serve.client() as client:
        make_topic(client, "made")
        port = port_of(client)
    calls = traced.calls_after_the_end()
    path = str((serve.directory / "catalog.db-wal").resolve())
    (answer,) = answers_to(port, calls)
    writes = [one for one in calls if one.name in WRITES and one.what == path and one.begun < answer.begun]
    syncs = [one for one in calls if one.name in SYNCS and one.what == path and one.ended < answer.begun]
    assert syncs[-1].result == 0
    assert syncs[-1].begun > writes[-1].ended
