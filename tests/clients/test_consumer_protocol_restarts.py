"""Groups of the consumer protocol over a restart of the broker, through confluent-kafka, and what is said to late commits.

The protocol itself is in test_consumer_protocol_confluent_kafka.py."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatRequestTopicPartitions,
)
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.find_coordinator import FindCoordinatorRequest
from riverlog.gateways.kafka.schema.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from riverlog.testing.kafka_client import KafkaClient
from tests.clients.conftest import SETTINGS, Served
from tests.clients.members import company, produce, until
from tests.process.serving import Serve


@pytest.mark.skipif(os.environ.get("RIVERLOG_PEER") == "kafka", reason="kills a riverlog process")
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_restart_of_the_broker_is_no_change_of_members(tmp_path: Path, how: str) -> None:
    settings = [f"{name}={value}" for name, value in SETTINGS.items()]
    with Serve(tmp_path / "data", *settings) as serve, company(serve.address, "steady", "steady") as group:
        with serve.client() as client:
            client.create_topic("steady")
        members = [group.join(), group.join()]
        group.ledger.wait_for_shares(2, 2)
        produce(serve.address, "steady", 4, 5)
        group.ledger.wait_for_records(20)
        before = [(list(one.given), list(one.taken)) for one in members]
        for number in range(2):
            if how == "kill":
                serve.kill()
            else:
                assert serve.stop() == 0
            serve.start()
            produce(serve.address, "steady", 4, 5, at=5)
            group.ledger.wait_for_records(40 + 20 * number)
        with serve.client() as client:
            epochs = described(client, "steady")
        assert [(one.given, one.taken) for one in members] == before
        assert len(epochs) == 2
        assert len(set(epochs.values())) == 1


def described(client: KafkaClient, group: str) -> dict[str, int]:
    """Member id -> epoch."""
    from riverlog.gateways.kafka.schema.consumer_group_describe import ConsumerGroupDescribeRequest

    request = ConsumerGroupDescribeRequest(group_ids=[group])
    answer = client.ask(ApiKey.CONSUMER_GROUP_DESCRIBE, 1, request).groups[0]
    assert answer.error_code == 0, answer.error_message
    return {one.member_id: one.member_epoch for one in answer.members}


class Hand:
    """A member by hand: it says what a test wants said."""

    def __init__(self, client: KafkaClient, group: str, topic: str) -> None:
        self.client = client
        self.group = group
        self.topic = topic
        self.member_id = str(uuid.uuid4())
        self.epoch = 0
        self.assigned: tuple[bytes, list[int]] = b"", []
        client.ask(ApiKey.FIND_COORDINATOR, 3, FindCoordinatorRequest(key=group))  # Kafka has none before it is asked for

    def beat(self) -> int:
        """Takes what it is given and says so at once; the error code."""
        joins = self.epoch == 0
        owned = []
        if self.assigned[1]:
            topic_id, partitions = self.assigned
            owned = [ConsumerGroupHeartbeatRequestTopicPartitions(topic_id=topic_id, partitions=partitions)]
        request = ConsumerGroupHeartbeatRequest(
            group_id=self.group, member_id=self.member_id, member_epoch=self.epoch, topic_partitions=owned,
            rebalance_timeout_ms=60_000, subscribed_topic_names=[self.topic] if joins else None,
        )  # fmt: skip
        answer = self.client.ask(ApiKey.CONSUMER_GROUP_HEARTBEAT, 1, request)
        if answer.error_code == 0:
            self.epoch = answer.member_epoch
            if answer.assignment is not None:
                shares = [(bytes(one.topic_id), list(one.partitions)) for one in answer.assignment.topic_partitions]
                self.assigned = shares[0] if shares else (b"", [])
        return int(answer.error_code)

    def commit(self, partition: int, offset: int, *, epoch: int | None = None, member_id: str | None = None) -> int:
        row = OffsetCommitRequestPartition(partition_index=partition, committed_offset=offset)
        request = OffsetCommitRequest(
            group_id=self.group, member_id=self.member_id if member_id is None else member_id,
            generation_id_or_member_epoch=self.epoch if epoch is None else epoch,
            topics=[OffsetCommitRequestTopic(name=self.topic, partitions=[row])],
        )  # fmt: skip
        answer = self.client.ask(ApiKey.OFFSET_COMMIT, 9, request)
        return int(answer.topics[0].partitions[0].error_code)


def test_a_commit_of_an_old_epoch_is_refused(served: Served, topic_of_four: str) -> None:
    with KafkaClient(served.bootstrap) as client, KafkaClient(served.bootstrap) as another:
        one = Hand(client, topic_of_four, topic_of_four)
        until(lambda: one.beat() == 0 and len(one.assigned[1]) == 4, "all of the topic")
        assert one.commit(0, 1) == 0
        first_epoch, had = one.epoch, set(one.assigned[1])
        two = Hand(another, topic_of_four, topic_of_four)

        def shared() -> bool:
            assert one.beat() == 0
            assert two.beat() == 0
            return len(one.assigned[1]) == len(two.assigned[1]) == 2 and one.epoch == two.epoch

        until(shared, "two shares")
        assert one.epoch > first_epoch
        (taken, *_) = had - set(one.assigned[1])
        assert one.commit(taken, 9, epoch=first_epoch) == ErrorCode.STALE_MEMBER_EPOCH
        assert two.commit(taken, 2, epoch=two.epoch + 1) == ErrorCode.STALE_MEMBER_EPOCH
        assert two.commit(taken, 2, member_id="nobody") == ErrorCode.UNKNOWN_MEMBER_ID
        assert two.commit(taken, 2, member_id="", epoch=-1) == ErrorCode.UNKNOWN_MEMBER_ID, (
            "others' offsets are not set by hand"
        )
        assert two.commit(taken, 2) == 0
        one.epoch = first_epoch - 1 if first_epoch > 1 else first_epoch + 100
        assert one.beat() == ErrorCode.FENCED_MEMBER_EPOCH
