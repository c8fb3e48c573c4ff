"""What groups have committed, asked of a broker: several groups at once, partitions that are gone."""

from __future__ import annotations

from confluent_kafka import Consumer, TopicPartition

from riverlog.cli.client import admin
from riverlog.cli.committed import Committed, committed_of, ends_of, lag
from riverlog.cli.places import Ends
from riverlog.library import Broker
from tests.unit.cli.conftest import Run


def test_each_group_has_its_own(run: Run, group: str, riverlog_broker: Broker) -> None:
    other = f"{group}-other"
    consumer = Consumer({"bootstrap.servers": riverlog_broker.bootstrap_servers, "group.id": other})
    consumer.commit(offsets=[TopicPartition(group, 0, 1, "why")], asynchronous=False)
    consumer.close()
    client = admin(riverlog_broker.bootstrap_servers)
    assert committed_of(client, [group, other, "nobody"], riverlog_broker.bootstrap_servers) == {
        group: {(group, 0): Committed(2, "")}, other: {(group, 0): Committed(1, "why")}, "nobody": {},
    }  # fmt: skip
    assert committed_of(client, [], riverlog_broker.bootstrap_servers) == {}


def test_partitions_that_are_gone_have_no_end(group: str, riverlog_broker: Broker) -> None:
    client = admin(riverlog_broker.bootstrap_servers)
    wanted = {(group, 0), (group, 9), ("nowhere", 0)}
    assert ends_of(client, wanted, riverlog_broker.bootstrap_servers) == {(group, 0): Ends(0, 5)}


def test_lag() -> None:
    assert lag(Committed(2, ""), Ends(0, 5)) == 3
    assert lag(Committed(9, ""), Ends(0, 5)) == 0, "the topic was cut or made again"
    assert lag(None, Ends(0, 5)) is None
