"""kcat against a riverlog process: produce, consume, list, query and a group."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.clients.conftest import Served
from tests.clients.matrix import run_kcat, seconds_max
from tools.clients import require


@pytest.fixture(autouse=True)
def _there() -> None:
    require("kcat")


LINES = b"".join(b"%d\n" % at for at in range(100))


@pytest.mark.parametrize("acks", ["0", "1", "-1"])
def test_what_goes_in_comes_out(served: Served, topic: str, acks: str) -> None:
    run_kcat(served.bootstrap, "-P", "-t", topic, "-X", f"acks={acks}", given=LINES)
    assert run_kcat(served.bootstrap, "-C", "-t", topic, "-o", "beginning", "-c", "100") == LINES
    assert run_kcat(served.bootstrap, "-C", "-t", topic, "-o", "-3", "-c", "3") == b"97\n98\n99\n"
    assert run_kcat(served.bootstrap, "-C", "-t", topic, "-o", "42", "-e") == LINES[LINES.index(b"42\n") :]


def test_it_reads_up_to_the_end_and_stops(served: Served, topic_of_four: str) -> None:
    run_kcat(served.bootstrap, "-P", "-t", topic_of_four, "-X", "sticky.partitioning.linger.ms=0", given=LINES)
    printed = run_kcat(served.bootstrap, "-C", "-t", topic_of_four, "-o", "beginning", "-e")
    assert sorted(printed.split()) == sorted(LINES.split())


def test_metadata_is_listed(served: Served, topic_of_four: str) -> None:
    listed = json.loads(run_kcat(served.bootstrap, "-L", "-J"))
    assert listed["brokers"] == [{"id": 1, "name": served.bootstrap}]
    (mine,) = [one for one in listed["topics"] if one["topic"] == topic_of_four]
    assert mine["partitions"] == [
        {"partition": at, "leader": 1, "replicas": [{"id": 1}], "isrs": [{"id": 1}]} for at in range(4)
    ]
    (mine,) = json.loads(run_kcat(served.bootstrap, "-L", "-J", "-t", topic_of_four))["topics"]
    assert len(mine["partitions"]) == 4


def test_offsets_are_queried_by_time(served: Served, topic: str) -> None:
    run_kcat(served.bootstrap, "-P", "-t", topic, given=LINES)
    stamps = run_kcat(served.bootstrap, "-C", "-t", topic, "-o", "beginning", "-c", "100", "-f", "%T\n").split()
    expected = stamps.index(stamps[60])
    asked = [f"{topic}:0:{time}" for time in (stamps[60].decode(), "-1", "-2")]
    printed = run_kcat(served.bootstrap, "-Q", "-t", asked[0], "-J")
    assert (
        json.loads(printed) == {topic: {"0": {"offset": expected, "error": "Success"}}}
        or str(expected) in printed.decode()
    )
    assert b"100" in run_kcat(served.bootstrap, "-Q", "-t", asked[1])
    assert b"0" in run_kcat(served.bootstrap, "-Q", "-t", asked[2])


def test_a_group_reads_every_partition(served: Served, topic_of_four: str) -> None:
    run_kcat(served.bootstrap, "-P", "-t", topic_of_four, "-X", "sticky.partitioning.linger.ms=0", given=LINES)
    command = [str(require("kcat")), "-b", served.bootstrap, "-G", topic_of_four, "-c", "100"]
    done = subprocess.run(
        [*command, "-X", "auto.offset.reset=earliest", topic_of_four], capture_output=True, timeout=seconds_max
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == sorted(LINES.split())
