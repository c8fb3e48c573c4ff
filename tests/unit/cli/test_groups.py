"""`riverlog group …` against a broker."""

from __future__ import annotations

import json

import pytest
from confluent_kafka import Consumer, TopicPartition

from riverlog.cli.groups import spans
from riverlog.library import Broker
from tests.unit.cli.conftest import Run, member_of


def committed(run: Run, group: str) -> list[int | None]:
    (described,) = json.loads(run("group", "describe", group, "--json").out)
    return [one["committed"] for one in described["partitions"]]


def test_list_and_describe(run: Run, group: str) -> None:
    listed = {"group": group, "type": "classic", "state": "empty", "members": 0, "lag": 3}
    assert listed in json.loads(run("group", "list", "--json").out)
    assert any(line.split() == [group, "classic", "empty", "0", "3"] for line in run("group", "list").out.splitlines())
    told = run("group", "describe", group).out.splitlines()
    assert told[0] == f"group {group}, classic, empty, 0 members"
    assert [line.split() for line in told[1:]] == [
        ["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"], [group, "0", "2", "5", "3", "-"],
    ]  # fmt: skip
    (described,) = json.loads(run("group", "describe", group, "--json").out)
    assert described == {
        "group": group, "type": "classic", "state": "empty", "epoch": None, "assignment_epoch": None, "assignor": None,
        "lag": 3, "members": [],
        "partitions": [
            {"topic": group, "partition": 0, "committed": 2, "metadata": None, "end": 5, "lag": 3, "member": None}
        ],
    }  # fmt: skip


def test_metadata_of_a_commit_is_told(run: Run, group: str, riverlog_broker: Broker) -> None:
    consumer = Consumer({"bootstrap.servers": riverlog_broker.bootstrap_servers, "group.id": group})
    consumer.commit(offsets=[TopicPartition(group, 0, 4, "written by the nightly job")], asynchronous=False)
    consumer.close()
    (described,) = json.loads(run("group", "describe", group, "--json").out)
    assert [one["metadata"] for one in described["partitions"]] == ["written by the nightly job"]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_members_are_told_with_what_they_have(run: Run, group: str, riverlog_broker: Broker, protocol: str) -> None:
    settings = {"client.id": "billing", "group.instance.id": "billing-1", "group.protocol": protocol}
    with member_of(riverlog_broker, group, **settings):
        (described,) = json.loads(run("group", "describe", group, "--json").out)
        (member,) = described["members"]
        epoch = {"classic": None, "consumer": described["epoch"]}[protocol]
        assert epoch is None or epoch > 0
        share = [{"topic": group, "partitions": [0]}]
        assert member == {
            "member": described["partitions"][0]["member"], "client": "billing", "host": "127.0.0.1",
            "instance": "billing-1", "protocol": protocol, "epoch": epoch, "topics": [group], "regex": None,
            "assigned": share, "target": share if protocol == "consumer" else None,
        }  # fmt: skip
        assignor = {"classic": "range", "consumer": "uniform"}[protocol]
        assert (described["type"], described["state"], described["assignor"]) == (protocol, "stable", assignor)
        lines = run("group", "describe", group).out.splitlines()
        assert lines[0].startswith(f"group {group}, {protocol}, stable, 1 member")
        assert lines[0].endswith(f", {assignor} assignor")
        assert lines[-1].split()[1:] == [
            "billing", "127.0.0.1", "billing-1", "-" if epoch is None else str(epoch), group, f"{group}:0", "-",
        ]  # fmt: skip
        listed = {one["group"]: one for one in json.loads(run("group", "list", "--json").out)}[group]
        assert listed == {"group": group, "type": protocol, "state": "stable", "members": 1, "lag": 3}


def test_who_is_no_broker_is_told_of_in_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client gives such errors as values, not as exceptions."""
    monkeypatch.setattr("riverlog.cli.groups.answer_seconds_max", 1.0)
    with Broker(http="127.0.0.1:0") as broker:
        done = run("group", "list", "-b", str(broker.http_address))
    assert done.status == 1
    assert done.err.count("\n") == 1
    assert "does not answer as a Kafka broker would" in done.err


def test_a_group_with_members_is_not_deleted(run: Run, group: str, riverlog_broker: Broker) -> None:
    with member_of(riverlog_broker, group, **{"client.id": "billing"}):
        (described,) = json.loads(run("group", "describe", group, "--json").out)
        name = described["members"][0]["member"]
        done = run("group", "delete", group)
        assert done.status == 1
        assert done.err == (
            f"riverlog: {group}: it has members: stop {name} (billing at 127.0.0.1) first "
            "(one that was killed leaves when its session ends)\n"
        )
        done = run("group", "delete-offsets", group, "-t", group)
        assert done.status == 1
        assert f"members of group '{group}' read {group}: stop {name} (billing at 127.0.0.1) first" in done.err
    assert committed(run, group) == [2]


def test_delete_offsets(run: Run, group: str) -> None:
    assert json.loads(run("group", "delete-offsets", group, "-t", group, "--json").out) == {
        "group": group, "offsets": [{"topic": group, "partition": 0, "committed": 2, "deleted": True}],
    }  # fmt: skip
    assert committed(run, group) == []


def test_delete_offsets_says_what_it_deleted(run: Run, group: str) -> None:
    lines = run("group", "delete-offsets", group, "-t", group, "-p", "0").out.splitlines()
    assert lines[0] == f"deleted offsets of group {group}"
    assert lines[-1].split() == [group, "0", "2"]


@pytest.mark.parametrize(
    ("tokens", "status", "said"),
    [
        (("-t", "{t}", "-p", "7"), 1, "group '{t}' has committed nothing in partition 7 of {t}"),
        (("-t", "nowhere"), 1, "there is no topic 'nowhere'"),
        (("-t", "{t}-other"), 1, "group '{t}' has committed nothing in topic '{t}-other'"),
        ((), 2, "requires an argument"),
    ],
)
def test_offsets_that_are_not_there_are_not_deleted(
    run: Run, group: str, tokens: tuple[str, ...], status: int, said: str
) -> None:
    run("topic", "create", f"{group}-other")
    done = run("group", "delete-offsets", group, *(one.format(t=group) for one in tokens))
    assert done.status == status
    assert said.format(t=group) in done.err
    assert committed(run, group) == [2]


@pytest.mark.parametrize(
    ("numbers", "told"), [([], ""), ([3], "3"), ([0, 1, 2], "0-2"), ([0, 2, 3, 4, 9], "0,2-4,9"), ([1, 2], "1-2")]
)
def test_spans(numbers: list[int], told: str) -> None:
    assert spans(numbers) == told


def test_delete(run: Run, group: str) -> None:
    assert run("group", "delete", group).out == f"deleted group {group}\n"
    assert "there is no group" in run("group", "describe", group).err
    assert run("group", "delete", group).status == 1
