"""kafkajs (no flexible version at all) against a riverlog process, by way of kafkajs.js."""

from __future__ import annotations

import base64
from typing import Any, Final

import pytest

from tests.clients.conftest import Served
from tests.clients.matrix import RECORDS, run_kafkajs, to_json
from tests.clients.transactions import committed_offset, read
from tools.clients import require

SAID: Final = [to_json(one) for one in RECORDS if all(name for name, _ in one.headers)]


@pytest.fixture(autouse=True)
def _there() -> None:
    require("node")


def test_produces_with_any_acks_and_its_codecs(served: Served, name: str) -> None:
    batches = [
        {"topic": f"{name}-{codec}-{acks + 1}", "codec": codec, "acks": acks, "records": SAID}
        for codec in ("none", "gzip")
        for acks in (-1, 0, 1)
    ]
    topics = [str(batch["topic"]) for batch in batches]
    served.create_topics(topics)
    answers = run_kafkajs(served.bootstrap, "produce", batches)
    assert [[one["baseOffset"] for one in answer] for answer in answers if answer] == [["0"]] * 4
    found = run_kafkajs(served.bootstrap, "consume", {"group": name, "counts": dict.fromkeys(topics, len(SAID))})
    assert found == dict.fromkeys(topics, SAID)


def test_two_members_of_a_group_share_the_topics(served: Served, name: str) -> None:
    topics = [f"{name}-{at}" for at in range(4)]
    served.create_topics(topics)
    found = run_kafkajs(served.bootstrap, "share", {"group": name, "topics": topics, "records": SAID[:4]})
    assert [set(one) for one in found["read"]] == [set(one) for one in found["assignments"]]
    assert sorted([*found["read"][0], *found["read"][1]]) == topics
    assert {count for one in found["read"] for count in one.values()} == {4}


def test_transactions_with_offsets_and_a_fenced_producer(served: Served, name: str) -> None:
    served.create_topics([name], partitions=2)
    outcomes = ["commit", "abort", "commit", "abort"]
    given = {"topic": name, "partitions": 2, "group": f"{name}-group", "outcomes": outcomes}
    said = run_kafkajs(served.bootstrap, "transact", given)
    assert said == {"fenced": "INVALID_PRODUCER_EPOCH"}  # what EndTxn before version 2 knows
    assert read(served.bootstrap, name, partitions=2) == [["0", "2", "heir"]] * 2
    seen = read(served.bootstrap, name, partitions=2, committed=False)
    assert seen == [["0", "1", "2", "3", "fenced", "heir"]] * 2
    assert committed_offset(served.bootstrap, f"{name}-group", name) == 3
    found = run_kafkajs(served.bootstrap, "consume", {"group": name, "counts": {name: 6}})
    assert sorted(to_text(one) for one in found[name]) == ["0", "0", "2", "2", "heir", "heir"]


def test_administration(served: Served, name: str) -> None:
    said = run_kafkajs(served.bootstrap, "admin", {"topic": name, "group": f"{name}-group"})
    assert (said["created"], said["again"], said["listed"], said["listed_after"]) == (True, False, True, False)
    assert [len(one["partitions"]) for one in said["metadata"]["topics"]] == [3]
    assert offsets(said["offsets"]) == {0: "10", 1: "0", 2: "0"}
    assert {one["partition"]: one["low"] for one in said["after_delete"]} == {0: "6", 1: "0", 2: "0"}
    assert offsets(said["by_time"])[0] == "4"  # the record of 4,000 ms
    assert said["groups"] == [{"groupId": f"{name}-group", "protocolType": "consumer"}]
    assert [(one["state"], one["errorCode"]) for one in said["described"]] == [("Empty", 0)]
    assert [offsets(said[when][0]["partitions"])[0] for when in ("committed", "set")] == ["10", "4"]
    configs = {one["configName"]: one["configValue"] for one in said["configs"][0]["configEntries"]}
    assert configs == {"max.message.bytes": "1234567", "retention.ms": "-1"}
    assert said["cluster"]["brokers"] == [
        {"nodeId": 1, "host": "127.0.0.1", "port": int(served.bootstrap.split(":")[1])}
    ]
    assert said["groups_deleted"] == [{"groupId": f"{name}-group", "errorCode": 0}]


def to_text(record: dict[str, Any]) -> str:
    return base64.b64decode(record["value"]).decode()


def offsets(partitions: list[dict[str, Any]]) -> dict[int, str]:
    return {one["partition"]: one["offset"] for one in partitions}
