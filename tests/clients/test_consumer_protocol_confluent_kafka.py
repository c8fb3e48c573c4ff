"""The consumer protocol (KIP-848) through confluent-kafka: comings and goings, expressions, commits, changes of protocol.

RIVERLOG_PEER=kafka runs the same against Apache Kafka. Restarts of the broker are in test_consumer_protocol_restarts.py."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from confluent_kafka import Consumer, ConsumerGroupType, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from tests.clients.conftest import Served
from tests.clients.members import QUIET, Stream, company, produce, seconds_max, until

PAUSED = """
import sys
from confluent_kafka import Consumer, KafkaException
consumer = Consumer({"bootstrap.servers": sys.argv[1], "group.id": sys.argv[2], "group.protocol": "consumer",
                     "auto.offset.reset": "earliest", "enable.auto.commit": False})
consumer.subscribe([sys.argv[2]])
while (message := consumer.poll(0.1)) is None or message.error():
    pass
print("has a record", flush=True)
sys.stdin.readline()
try:
    consumer.commit(message, asynchronous=False)
    print("committed", flush=True)
except KafkaException as refused:
    print(refused.args[0].name(), flush=True)
consumer.close()
"""


def committed(served: Served, group: str, topic: str, partitions: int) -> list[int]:
    consumer = Consumer({"bootstrap.servers": served.bootstrap, "group.id": group}, logger=QUIET)
    try:
        found = consumer.committed([TopicPartition(topic, at) for at in range(partitions)], seconds_max)
        return [one.offset for one in found]
    finally:
        consumer.close()


def members_of(served: Served, group: str) -> int:
    """How many members a group of the consumer protocol has."""
    described = served.admin.describe_consumer_groups([group])[group].result(seconds_max)
    assert described.type == ConsumerGroupType.CONSUMER
    return len(described.members)


def test_members_share_a_topic_and_read_each_record_once(served: Served, name: str) -> None:
    served.create_topics([name], partitions=6)
    with company(served.bootstrap, name, name) as group:
        for _ in range(3):
            group.join()
        group.ledger.wait_for_shares(2, 2, 2)
        produce(served.bootstrap, name, 6, 20)
        group.ledger.wait_for_records(120)
    assert set(group.ledger.read.values()) == {1}
    assert committed(served, name, name, 6) == [20] * 6


def test_members_come_and_go_and_nothing_is_lost_or_read_twice(served: Served, name: str) -> None:
    served.create_topics([name], partitions=6)
    with company(served.bootstrap, name, name) as group:
        stream = Stream(served.bootstrap, name, 6)
        first = group.join()
        stream.start()
        group.ledger.wait_for_shares(6)
        second = group.join()
        group.ledger.wait_for_shares(3, 3)
        third = group.join()
        group.ledger.wait_for_shares(2, 2, 2)
        assert sum(map(len, first.taken)) == 4, "an assignment keeps what it can"
        second.end()
        group.ledger.wait_for_shares(3, 3)
        first.end()
        group.ledger.wait_for_shares(6)
        sent = stream.end()
        group.ledger.wait_for(lambda: group.ledger.read.keys() >= sent, "everything read")
        assert third.taken == []
    assert set(group.ledger.read.values()) == {1}


@pytest.mark.parametrize("assignor", ["uniform", "range"])
def test_a_member_chooses_the_assignor(served: Served, name: str, assignor: str) -> None:
    one, two = f"{name}-1", f"{name}-2"
    served.create_topics([one, two], partitions=3)
    with company(served.bootstrap, name, one, two) as group:
        for _ in range(2):
            group.join(group_remote_assignor=assignor)
        # range deals each topic by itself, and the first member has more of each
        group.ledger.wait_for_shares(*{"uniform": (3, 3), "range": (2, 4)}[assignor])
        if assignor == "range":
            group.ledger.wait_for_shares(1, 2, topic=one)


def test_a_static_member_comes_back_to_its_share(served: Served, name: str) -> None:
    served.create_topics([name], partitions=4)
    with company(served.bootstrap, name, name) as group:
        first = group.join(group_instance_id="a")
        other = group.join(group_instance_id="b")
        group.ledger.wait_for_shares(2, 2)
        had, others = group.ledger.of(first), group.ledger.of(other)
        changes = len(other.given), len(other.taken)
        first.end()
        produce(served.bootstrap, name, 4, 5)
        group.ledger.wait_for_records(10)
        assert {(topic, at) for topic, at, _ in group.ledger.read} == others, "nobody else has what it had"
        back = group.join(group_instance_id="a")
        group.ledger.wait_for_records(20)
        assert group.ledger.of(back) == had
        assert (len(other.given), len(other.taken)) == changes
    assert set(group.ledger.read.values()) == {1}


def test_an_instance_that_is_alive_is_not_replaced(served: Served, topic: str) -> None:
    with company(served.bootstrap, topic, topic) as group:
        group.join(group_instance_id="a")
        group.ledger.wait_for_shares(1)
        second = Consumer(
            {"bootstrap.servers": served.bootstrap, "group.id": topic, "group.protocol": "consumer", "group.instance.id": "a"},
            logger=QUIET,
        )  # fmt: skip
        try:
            second.subscribe([topic])
            refused: list[str] = []

            def is_refused() -> bool:
                try:
                    message = second.poll(0.1)
                except KafkaException as error:
                    refused.append(error.args[0].name())
                else:
                    refused.extend([message.error().name()] if message is not None and message.error() else [])
                return bool(refused)

            until(is_refused, "a refusal")
            assert refused[0] in ("UNRELEASED_INSTANCE_ID", "_FATAL"), refused
        finally:
            second.close()
        produce(served.bootstrap, topic, 1, 3)
        group.ledger.wait_for_records(3)


def test_an_expression_finds_topics_that_come_later(served: Served, name: str) -> None:
    served.create_topics([f"{name}-early", f"other-{name}"], partitions=2)
    with company(served.bootstrap, name) as group:
        for _ in range(2):
            group.join(topics=[f"^{name}-[a-z]+$"])
        group.ledger.wait_for_shares(1, 1)
        served.create_topics([f"{name}-late", f"{name}-2"], partitions=2)
        group.ledger.wait_for_shares(2, 2)
        assert {topic for topic, _ in group.ledger.owners} == {f"{name}-early", f"{name}-late"}
        produce(served.bootstrap, f"{name}-late", 2, 3)
        group.ledger.wait_for_records(6)


def test_an_expression_that_is_none_is_refused(served: Served, name: str) -> None:
    consumer = Consumer(
        {"bootstrap.servers": served.bootstrap, "group.id": name, "group.protocol": "consumer"}, logger=QUIET
    )
    try:
        consumer.subscribe([r"^(a)\1$"])  # librdkafka takes it, RE2 has no backreferences
        refused: list[str] = []

        def is_refused() -> bool:
            try:
                message = consumer.poll(0.1)
            except KafkaException as error:
                refused.append(error.args[0].name())
            else:
                refused.extend([message.error().name()] if message is not None and message.error() else [])
            return bool(refused)

        until(is_refused, "a refusal")
        assert refused[0] in ("INVALID_REGULAR_EXPRESSION", "_FATAL"), refused
    finally:
        consumer.close()


def test_a_new_member_goes_on_where_the_group_was(served: Served, topic: str) -> None:
    produce(served.bootstrap, topic, 1, 5)
    with company(served.bootstrap, topic, topic) as group:
        group.join()
        group.ledger.wait_for_records(5)
    assert committed(served, topic, topic, 1) == [5]
    produce(served.bootstrap, topic, 1, 5)
    with company(served.bootstrap, topic, topic) as group:
        group.join()
        group.ledger.wait_for_records(5)
    assert sorted(offset for _, _, offset in group.ledger.read) == [5, 6, 7, 8, 9]


def test_more_partitions_are_shared_when_they_come(served: Served, name: str) -> None:
    from confluent_kafka.admin import NewPartitions

    served.create_topics([name], partitions=2)
    with company(served.bootstrap, name, name) as group:
        for _ in range(2):
            group.join()
        group.ledger.wait_for_shares(1, 1)
        served.admin.create_partitions([NewPartitions(name, 6)])[name].result(seconds_max)
        group.ledger.wait_for_shares(3, 3)


def test_a_member_that_slept_too_long_cannot_commit(served: Served, topic: str) -> None:
    """SIGSTOP for longer than its session; another has its partition meanwhile."""
    produce(served.bootstrap, topic, 1, 5)
    group_settings(served, topic, {"consumer.session.timeout.ms": "1500"})
    sleeper = subprocess.Popen(
        [sys.executable, "-c", PAUSED, served.bootstrap, topic],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert sleeper.stdout is not None
    try:
        assert sleeper.stdout.readline() == "has a record\n"
        sleeper.send_signal(signal.SIGSTOP)
        with company(served.bootstrap, topic, topic) as group:
            member = group.join()
            group.ledger.wait_for_records(5)
            member.end()
        sleeper.send_signal(signal.SIGCONT)
        out, _ = sleeper.communicate("\n", timeout=seconds_max)
    finally:
        sleeper.kill()
        sleeper.wait()
    assert out.strip() in ("STALE_MEMBER_EPOCH", "UNKNOWN_MEMBER_ID", "FENCED_MEMBER_EPOCH", "_FENCED"), out
    assert committed(served, topic, topic, 1) == [5], "what the other has committed stays"


def group_settings(served: Served, group: str, values: dict[str, str]) -> None:
    entries = [ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in values.items()]
    resource = ConfigResource(ResourceType.GROUP, group, incremental_configs=entries)
    served.admin.incremental_alter_configs([resource])[resource].result(seconds_max)


def test_configs_of_a_group(served: Served, name: str) -> None:
    group_settings(served, name, {"consumer.session.timeout.ms": "7000", "consumer.heartbeat.interval.ms": "150"})
    resource = ConfigResource(ResourceType.GROUP, name)
    found = served.admin.describe_configs([resource])[resource].result(seconds_max)
    assert found["consumer.session.timeout.ms"].value == "7000"
    assert found["consumer.heartbeat.interval.ms"].value == "150"
    with pytest.raises(KafkaException) as refused:
        group_settings(served, name, {"consumer.session.timeout.ms": "1"})
    assert refused.value.args[0].code() in (KafkaError.INVALID_CONFIG, KafkaError.INVALID_REQUEST)


@pytest.mark.parametrize("assignor", ["range", "roundrobin"])  # its own data in assignments keeps the sticky one classic
def test_a_live_group_goes_to_the_consumer_protocol_and_back(served: Served, name: str, assignor: str) -> None:
    """Its members are replaced one by one while records come: no partition has two readers, none goes unread."""
    served.create_topics([name], partitions=4)
    classic = {"partition_assignment_strategy": assignor, "session_timeout_ms": "6000", "heartbeat_interval_ms": "200"}
    with company(served.bootstrap, name, name) as group:
        stream = Stream(served.bootstrap, name, 4)
        old = [group.join(protocol="classic", **classic) for _ in range(2)]
        group.ledger.wait_for_shares(2, 2)
        stream.start()
        new = []
        for member in old:
            new.append(group.join())
            group.ledger.wait_for_shares(1, 1, 2)
            assert members_of(served, name) == 3
            member.end()
            group.ledger.wait_for_shares(2, 2)
        back = []
        for member in new:
            back.append(group.join(protocol="classic", **classic))
            group.ledger.wait_for_shares(1, 1, 2)
            member.end()
            group.ledger.wait_for_shares(2, 2)
        described = served.admin.describe_consumer_groups([name])[name].result(seconds_max)
        assert described.type == ConsumerGroupType.CLASSIC
        sent = stream.end()
        group.ledger.wait_for(lambda: group.ledger.read.keys() >= sent, "everything read")
    assert set(group.ledger.read.values()) == {1}
