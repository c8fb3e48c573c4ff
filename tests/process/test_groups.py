"""What groups and topics keep over restarts: a stable group goes on, a topic made again begins empty."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.delete_topics import DeleteTopicsRequest
from riverlog.gateways.kafka.schema.describe_groups import DescribeGroupsRequest
from riverlog.gateways.kafka.schema.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from riverlog.gateways.kafka.schema.offset_fetch import OffsetFetchRequest, OffsetFetchRequestTopic
from riverlog.testing.kafka_client import KafkaClient
from tests.process.serving import QUIET, Serve, fetch, one_batch, read_all


class Member(threading.Thread):
    """A consumer in a group that polls until it is told to end, and keeps what befell it."""

    def __init__(self, address: str, topic: str) -> None:
        super().__init__(name="member", daemon=True)
        self.consumer = Consumer(
            {
                "bootstrap.servers": address,
                "group.id": "stable",
                "auto.offset.reset": "earliest",
                "session.timeout.ms": 10_000,
                "heartbeat.interval.ms": 200,
                "reconnect.backoff.max.ms": 100,
                "retry.backoff.ms": 20,
                "auto.commit.interval.ms": 200,
            },
            logger=QUIET,
        )
        self.assigned: list[list[TopicPartition]] = []
        self.taken = 0  # revoked or lost
        self.values: list[bytes] = []
        self.ending = threading.Event()
        self.consumer.subscribe([topic], on_assign=self._assigned, on_revoke=self._taken, on_lost=self._taken)

    def _assigned(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self.assigned.append(partitions)

    def _taken(self, *_: object) -> None:
        if not self.ending.is_set():
            self.taken += 1

    def run(self) -> None:
        while not self.ending.is_set():
            message = self.consumer.poll(0.05)
            if message is not None and message.error() is None:
                self.values.append(message.value() or b"")
        self.consumer.close()

    def wait_for(self, count: int) -> None:
        until = time.monotonic() + 20
        while len(self.values) < count:
            assert time.monotonic() < until, f"only {len(self.values)} of {count} came"
            time.sleep(0.01)


def described(client: KafkaClient) -> tuple[str, list[tuple[str, bytes]]]:
    group = client.ask(ApiKey.DESCRIBE_GROUPS, 5, DescribeGroupsRequest(groups=["stable"])).groups[0]
    return group.group_state, [(one.member_id, bytes(one.member_assignment)) for one in group.members]


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_stable_group_goes_on_without_a_rebalance(tmp_path: Path, how: str) -> None:
    with Serve(tmp_path / "data") as serve:
        with serve.client() as client:
            client.create_topic("steady")
            client.produce("steady", one_batch(b"before"))
        member = Member(serve.address, "steady")
        member.start()
        try:
            member.wait_for(1)
            with serve.client() as client:
                before = described(client)
            assert before[0] == "Stable"
            for number in range(2):
                if how == "kill":
                    serve.kill()
                else:
                    assert serve.stop() == 0
                serve.start()
                with serve.client() as client:
                    client.produce("steady", one_batch(b"after %d" % number))
                    member.wait_for(2 + number)
                    assert described(client) == before
            time.sleep(0.5)  # some heartbeats: a rebalance that is due would show by now
            assert member.values == [b"before", b"after 0", b"after 1"]
            assert len(member.assigned) == 1
            assert member.taken == 0
            with serve.client() as client:
                assert described(client) == before
        finally:
            member.ending.set()
            member.join(20)
        assert not member.is_alive()


def committed_offset(client: KafkaClient, topic: str) -> int:
    wanted = [OffsetFetchRequestTopic(name=topic, partition_indexes=[0])]
    answer = client.ask(ApiKey.OFFSET_FETCH, 7, OffsetFetchRequest(group_id="readers", topics=wanted))
    offset: int = answer.topics[0].partitions[0].committed_offset
    return offset


def commit(client: KafkaClient, topic: str, offset: int) -> None:
    partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=offset)
    request = OffsetCommitRequest(
        group_id="readers", topics=[OffsetCommitRequestTopic(name=topic, partitions=[partition])]
    )
    answer = client.ask(ApiKey.OFFSET_COMMIT, 8, request)
    assert answer.topics[0].partitions[0].error_code == 0


@pytest.mark.parametrize("how", ["neither", "stop", "kill"])
def test_a_topic_made_again_under_its_old_name_begins_empty(tmp_path: Path, how: str) -> None:
    def again(serve: Serve) -> None:
        if how == "kill":
            serve.kill()
            serve.start()
        elif how == "stop":
            assert serve.stop() == 0
            serve.start()

    with Serve(tmp_path / "data") as serve:
        with serve.client() as client:
            first = client.create_topic("again")
            for number in range(3):
                client.produce("again", one_batch(b"old %d" % number))
            commit(client, "again", 3)
            assert committed_offset(client, "again") == 3
            gone = client.ask(ApiKey.DELETE_TOPICS, 4, DeleteTopicsRequest(topic_names=["again"], timeout_ms=10_000))
            assert gone.responses[0].error_code == 0
        again(serve)
        with serve.client() as client:
            second = client.create_topic("again")
            assert second != first
            got = fetch(client, "again", 0)
            assert (got.records, got.high_watermark, got.error_code) == ([], 0, 0)
            assert committed_offset(client, "again") == -1
        again(serve)
        with serve.client() as client:
            assert committed_offset(client, "again") == -1
            assert client.produce("again", one_batch(b"new")).base_offset == 0
            assert read_all(client, "again") == [(0, b"new")]
            commit(client, "again", 1)
        again(serve)
        with serve.client() as client:
            assert client.create_topic("again") == second
            assert read_all(client, "again") == [(0, b"new")]
            assert committed_offset(client, "again") == 1
        consumer = Consumer({"bootstrap.servers": serve.address, "group.id": "readers"}, logger=QUIET)
        try:
            (place,) = consumer.committed([TopicPartition("again", 0)], 10)
            assert place.offset == 1
        finally:
            consumer.close()
