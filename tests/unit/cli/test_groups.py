"""`riverlog group …` against a broker."""

from __future__ import annotations

import json

import pytest
from confluent_kafka import Consumer

from riverlog.library import Broker
from tests.unit.cli.conftest import Run


@pytest.fixture
def group(run: Run, riverlog_topic: str) -> str:
    """A group that has read 2 of 5 records of the topic of the same name."""
    run("produce", riverlog_topic, stdin=b"a\nb\nc\nd\ne\n")
    assert run("consume", riverlog_topic, "-g", riverlog_topic, "-n", "2").status == 0
    return riverlog_topic


def committed(run: Run, group: str) -> list[int | None]:
    (described,) = json.loads(run("group", "describe", group, "--json").out)
    return [one["committed"] for one in described["partitions"]]


def test_list_and_describe(run: Run, group: str) -> None:
    assert {"group": group, "state": "empty"} in json.loads(run("group", "list", "--json").out)
    assert group in run("group", "list").out
    assert run("group", "describe", group).out.splitlines()[0] == f"group {group}, empty, 0 members"
    (described,) = json.loads(run("group", "describe", group, "--json").out)
    assert described["partitions"] == [
        {"topic": group, "partition": 0, "committed": 2, "end": 5, "lag": 3, "member": None}
    ]


def test_who_is_no_broker_is_told_of_in_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client gives such errors as values, not as exceptions."""
    monkeypatch.setattr("riverlog.cli.groups.answer_seconds_max", 1.0)
    with Broker(http="127.0.0.1:0") as broker:
        done = run("group", "list", "-b", str(broker.http_address))
    assert done.status == 1
    assert done.err.count("\n") == 1
    assert "does not answer as a Kafka broker would" in done.err


def test_reset_tells_its_plan_and_does_it_when_told(run: Run, group: str) -> None:
    done = run("group", "reset", group, "--to", "earliest")
    assert "nothing was changed: --execute does it" in done.out
    assert committed(run, group) == [2]
    assert json.loads(run("group", "reset", group, "--to", "-1", "--execute", "--json").out) == {
        "group": group, "executed": True, "plan": [{"topic": group, "partition": 0, "committed": 2, "to": 4}],
    }  # fmt: skip
    assert committed(run, group) == [4]
    assert run("consume", group, "-g", group, "-e").out == "e\n"


@pytest.mark.parametrize(("to", "offset"), [("earliest", 0), ("latest", 5), ("3", 3), ("99", 5), ("1h", 0), ("@0", 0)])
def test_reset_to_every_kind_of_place(run: Run, group: str, to: str, offset: int) -> None:
    run("group", "reset", group, "--to", to, "--execute")
    assert committed(run, group) == [offset]


def test_a_new_group_can_be_set_somewhere(run: Run, group: str) -> None:
    new = f"{group}-new"
    assert "name the topics with -t TOPIC" in run("group", "reset", new, "--to", "latest").err
    assert run("group", "reset", new, "--to", "3", "-t", group, "--execute").status == 0
    assert run("consume", group, "-g", new, "-e").out == "d\ne\n"


def test_a_group_with_members_is_not_reset(run: Run, group: str, riverlog_broker: Broker) -> None:
    member = Consumer({"bootstrap.servers": riverlog_broker.bootstrap_servers, "group.id": group})
    try:
        member.subscribe([group])
        member.consume(1, 10)
        (described,) = json.loads(run("group", "describe", group, "--json").out)
        assert described["state"] == "stable"
        assert described["partitions"][0]["member"] == described["members"][0]["member"]
        done = run("group", "reset", group, "--to", "earliest", "--execute")
        assert done.status == 1
        assert "stop them first" in done.err
        assert run("group", "delete", group).status == 1
    finally:
        member.close()


def test_delete(run: Run, group: str) -> None:
    assert run("group", "delete", group).out == f"deleted group {group}\n"
    assert "there is no group" in run("group", "describe", group).err
    assert run("group", "delete", group).status == 1
