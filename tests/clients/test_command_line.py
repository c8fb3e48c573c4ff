"""`riverlog group` and `riverlog transaction` as processes, on groups that are alive. With RIVERLOG_PEER=kafka they ask
Apache Kafka, with which the command line works as well."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Producer

from tests.clients.conftest import Served
from tests.clients.members import company, produce, seconds_max


class Done(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)


def riverlog(served: Served, *tokens: str) -> Done:
    done = subprocess.run(
        [sys.executable, "-m", "riverlog", *tokens, "-b", served.bootstrap],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds_max, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_group_from_its_first_member_to_its_end(served: Served, topic_of_four: str, protocol: str) -> None:
    name = topic_of_four
    produce(served.bootstrap, name, 4, 10)
    with company(served.bootstrap, name, name) as group:
        for _ in range(2):
            group.join(protocol=protocol)
        group.ledger.wait_for_shares(2, 2)
        group.ledger.wait_for_records(40)
        (described,) = riverlog(served, "group", "describe", name, "--json").json
        assert (described["type"], described["state"]) == (protocol, "stable")
        assert [one["client"] for one in described["members"]] == [f"{protocol}-1", f"{protocol}-2"]
        assert [one["topics"] for one in described["members"]] == [[name], [name]]
        shares = [one["assigned"] for one in described["members"]]
        assert sorted(at for share in shares for each in share for at in each["partitions"]) == [0, 1, 2, 3]
        if protocol == "consumer":
            assert [one["target"] for one in described["members"]] == shares
            assert {one["epoch"] for one in described["members"]} == {described["epoch"]}
        for refused in (
            ("reset", name, "--to", "earliest", "--execute"),
            ("delete", name),
            ("delete-offsets", name, "-t", name),
        ):
            done = riverlog(served, "group", *refused)
            assert done.status == 1
            assert f"stop {described['members'][0]['member']}" in done.err, done.err
        (listed,) = [one for one in riverlog(served, "group", "list", "--json").json if one["group"] == name]
        assert (listed["type"], listed["members"]) == (protocol, 2)
    assert riverlog(served, "group", "reset", name, "--by", "-3", "--execute", "--json").json["plan"] == [
        {"topic": name, "partition": at, "committed": 10, "to": 7} for at in range(4)
    ]
    riverlog(served, "group", "delete-offsets", name, "-t", name, "-p", "1", "--json")
    (described,) = riverlog(served, "group", "describe", name, "--json").json
    assert [(one["partition"], one["committed"], one["lag"]) for one in described["partitions"]] == [
        (0, 7, 3), (2, 7, 3), (3, 7, 3),
    ]  # fmt: skip
    assert riverlog(served, "group", "delete", name).status == 0
    assert riverlog(served, "group", "describe", name).status == 1


def test_transactions(served: Served, topic: str) -> None:
    producer = Producer({"bootstrap.servers": served.bootstrap, "transactional.id": topic})
    producer.init_transactions(seconds_max)
    producer.begin_transaction()
    producer.produce(topic, b"one")
    assert producer.flush(seconds_max) == 0
    (listed,) = [one for one in riverlog(served, "transaction", "list", "--json").json if one["transaction"] == topic]
    assert listed["state"] == "ongoing"
    (described,) = riverlog(served, "transaction", "describe", topic, "--json").json
    assert described["topics"] == [{"topic": topic, "partitions": [0]}]
    (there,) = riverlog(served, "transaction", "open", "-t", topic, "--json").json
    assert (there["start"], there["transaction"], there["hanging"]) == (0, topic, False)
    done = riverlog(served, "transaction", "abort", topic, "-p", "0", "--start", "0", "--execute")
    assert (done.status, "does not hang" in done.err) == (1, True)
    producer.commit_transaction(seconds_max)
    assert riverlog(served, "transaction", "open", "-t", topic, "--json").json == []
    (described,) = riverlog(served, "transaction", "describe", topic, "--json").json
    assert described["state"] in ("completecommit", "preparecommit")
