"""Transactions by the Java client (version 2) and by Kafka's own tools against a riverlog process.

All stories of Transactions.java run in one JVM; each test looks at what its story saw."""

from __future__ import annotations

import re
import subprocess

import pytest
from confluent_kafka import Producer

from benchmarks.peers import kafka
from tests.clients.conftest import Served
from tests.clients.matrix import HERE, require_java
from tests.clients.test_java_tools import Run, run
from tests.clients.test_transactions_confluent_kafka import producer_of, write
from tests.clients.transactions import read, read_one, seconds_max, wait_until
from tools.clients import require

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(240)]


@pytest.fixture(autouse=True)
def _there() -> None:
    require_java()


@pytest.fixture(scope="module")
def seen(process: Served) -> dict[str, list[str]]:
    """Story -> what it saw, line by line."""
    require_java()
    process.complaints()
    done = subprocess.run(
        ["java", *kafka.JVM_TOOL, "-cp", str(require("java")), str(HERE / "Transactions.java"), process.bootstrap, "java"],
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert process.complaints() == []
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        story, _, what = line.partition("\t")
        found.setdefault(story, []).append(what)
    assert not [one for lines in found.values() for one in lines if one.startswith("failed ")], done.stderr
    return found


def test_commits_and_aborts_over_four_partitions(seen: dict[str, list[str]]) -> None:
    assert seen["ends"] == ["[[0, 2], [0, 2], [0, 2], [0, 2]]", "[[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2]]"]


def test_interleaved_producers(seen: dict[str, list[str]]) -> None:
    assert seen["interleaved"] == ["[[], [], [], []]", "[[second 0, second 1, second 2], [], [], []]"]


def test_offsets_are_committed_with_the_transaction_and_not_by_a_stranger(seen: dict[str, list[str]]) -> None:
    assert seen["offsets"] == ["4", "4", "7", "CommitFailedException", "[[input], [4, 7], [], []]"]


def test_who_was_replaced_is_fenced(seen: dict[str, list[str]]) -> None:
    heirs = "[[of the heir], [], [], []]"
    assert seen["fenced"] == ["ProducerFencedException", heirs, "InvalidProducerEpochException", heirs]


def test_a_transaction_that_stays_open_too_long_is_aborted(seen: dict[str, list[str]]) -> None:
    assert seen["late"] == ["[[behind it], [], [], []]", "InvalidProducerEpochException", "[[behind it], [], [], []]"]


def test_empty_transactions_commit_and_abort(seen: dict[str, list[str]]) -> None:
    assert seen["empty"] == ["[[after them], [], [], []]"]


def test_each_of_many_transactions_has_its_own_epoch(seen: dict[str, list[str]]) -> None:
    kept = [[number for number in range(at, 100, 4) if number % 10 != 9] for at in range(4)]
    assert seen["many"] == [str(kept), "100"]


def test_administration(seen: dict[str, list[str]]) -> None:
    values = "[[], [], [], []] [[], [], [aborted by hand], []]"
    gone = "TransactionalIdNotFoundException"
    assert seen["admin"] == ["Ongoing true 60000 true", "[Ongoing true]", "0", "0 true true", values, gone]


def test_kafka_transactions_shows_finds_and_aborts(served: Served, topic: str) -> None:
    """TransactionsCommand: list, describe, describe-producers, find-hanging, abort; GetOffsetShell and groups beside it."""
    producer = producer_of(served.bootstrap, topic)
    producer.begin_transaction()
    write(producer, topic, {0: ["aborted by the tool"]})
    write(Producer({"bootstrap.servers": served.bootstrap}), topic, {0: ["behind it"]})
    assert read_one(served.bootstrap, topic) == []
    said = run(served, topic, [
        Run("TransactionsCommand", "--bootstrap-server {b} list"),
        Run("TransactionsCommand", "--bootstrap-server {b} list --transactional-id-pattern {t}.*"),
        Run("TransactionsCommand", "--bootstrap-server {b} list --duration-filter 3600000"),
        Run("TransactionsCommand", "--bootstrap-server {b} describe --transactional-id {t}"),
        Run("TransactionsCommand", "--bootstrap-server {b} describe-producers --topic {t} --partition 0"),
        Run("TransactionsCommand", "--bootstrap-server {b} find-hanging --broker-id 1"),
        Run("TransactionsCommand", "--bootstrap-server {b} abort --topic {t} --partition 0 --start-offset 0"),
        Run("TransactionsCommand", "--bootstrap-server {b} describe-producers --topic {t} --partition 0"),
        Run("GetOffsetShell", "--bootstrap-server {b} --topic {t}"),
    ])  # fmt: skip
    assert re.search(rf"^{topic}\s+1\s+\d+\s+Ongoing\s*$", said[0], re.MULTILINE), said[0]
    assert re.search(rf"^{topic}\s+1\s+\d+\s+Ongoing\s*$", said[1], re.MULTILINE), said[1]
    assert topic not in said[2].split()
    described = said[3].splitlines()[1].split("\t")
    assert [described[at].strip() for at in (0, 1, 4, 5, 8)] == ["1", topic, "Ongoing", "60000", f"{topic}-0"], said[3]
    rows = [line.split() for line in said[4].splitlines()[1:]]
    assert [row[-1] for row in rows] == ["0"], said[4]
    assert topic not in said[5].split()  # it is no older than its time-out, so it does not hang
    assert {line.split()[-1] for line in said[7].splitlines()[1:]} == {"None"}, said[7]
    assert said[8].split() == [f"{topic}:0:3"]
    assert wait_until(lambda: read_one(served.bootstrap, topic)) == ["behind it"]
    producer.abort_transaction(seconds_max)


def test_consumer_groups_tell_offsets_that_a_transaction_committed(served: Served, topic_of_four: str) -> None:
    """ConsumerGroupCommand after commits of a transaction: the offsets, and the lag up to the end of the log."""
    from tests.clients.test_transactions_confluent_kafka import TopicPartition, consumer_of

    producer = producer_of(served.bootstrap, topic_of_four)
    producer.begin_transaction()
    write(producer, topic_of_four, {index: ["one", "two", "three"] for index in range(4)})
    producer.commit_transaction(seconds_max)
    with consumer_of(served.bootstrap, topic_of_four, topic_of_four) as consumer:
        assert len(consumer.consume(12, seconds_max)) == 12
        producer.begin_transaction()
        offsets = [TopicPartition(topic_of_four, index, index) for index in range(4)]
        producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), seconds_max)
        producer.commit_transaction(seconds_max)
    said = run(served, topic_of_four, [
        Run("ConsumerGroupCommand", "--bootstrap-server {b} --describe --group {t}"),
        Run("ConsumerGroupCommand", "--bootstrap-server {b} --describe --group {t} --state"),
    ])  # fmt: skip
    rows = re.findall(rf"^{topic_of_four} +{topic_of_four} +(\d) +(\d+) +(\d+) +(\d+) ", said[0], re.MULTILINE)
    assert sorted(rows) == [(str(at), str(at), "4", str(4 - at)) for at in range(4)], said[0]
    assert re.search(r" Empty +0", said[1])
    assert read(served.bootstrap, topic_of_four, partitions=4) == [["one", "two", "three"]] * 4
