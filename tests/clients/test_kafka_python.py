"""kafka-python against a riverlog process: what its own integration tests (test_kafka_python_suite.py) do not ask."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.clients.conftest import Served

pytest.importorskip("kafka")

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic
from kafka.errors import (
    InvalidPartitionsError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)

START_MS: Final = 1_385_000_000_000
seconds_max: Final = 20.0

pytestmark = pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning")


def produce(served: Served, topic: str, count: int, **config: object) -> list[int]:
    """Values b"0", b"1", … one ms apart to partition 0; their offsets as they were acknowledged."""
    with KafkaProducer(bootstrap_servers=served.bootstrap, linger_ms=5, **config) as producer:
        futures = [
            producer.send(topic, b"%d" % at, b"%d" % at, partition=0, timestamp_ms=START_MS + at) for at in range(count)
        ]
        producer.flush(seconds_max)
        return [future.get(0).offset for future in futures]


def consumer_of(served: Served, group: str | None, **config: object) -> Any:
    settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "consumer_timeout_ms": 20_000, **config}
    return KafkaConsumer(bootstrap_servers=served.bootstrap, group_id=group, **settings)


@pytest.mark.parametrize("acks", [0, 1, "all"])
@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_produces_with_any_acks_and_codec(served: Served, topic: str, acks: int | str, codec: str | None) -> None:
    offsets = produce(served, topic, 100, acks=acks, compression_type=codec, enable_idempotence=False)
    if acks != 0:
        assert offsets == list(range(100))
    with consumer_of(served, None) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        read = [next(consumer) for _ in range(100)]
    assert [(one.value, one.timestamp) for one in read] == [(b"%d" % at, START_MS + at) for at in range(100)]


def test_an_idempotent_producer(served: Served, topic: str) -> None:
    settings = {"enable_idempotence": True, "batch_size": 500, "max_in_flight_requests_per_connection": 5}
    assert produce(served, topic, 500, **settings) == list(range(500))


def test_a_record_above_the_limit_is_refused(served: Served, name: str) -> None:
    served.create_topics([name], configs={"max.message.bytes": "1000"})
    with KafkaProducer(bootstrap_servers=served.bootstrap) as producer:
        with pytest.raises(MessageSizeTooLargeError):
            producer.send(name, b"x" * 2000, partition=0).get(seconds_max)


def test_offsets_at_the_ends_and_by_time(served: Served, topic: str) -> None:
    produce(served, topic, 300, compression_type="gzip")
    partition = TopicPartition(topic, 0)
    with consumer_of(served, None) as consumer:
        assert consumer.beginning_offsets([partition]) == {partition: 0}
        assert consumer.end_offsets([partition]) == {partition: 300}
        found = consumer.offsets_for_times({partition: START_MS + 123})
        assert (found[partition].offset, found[partition].timestamp) == (123, START_MS + 123)
        consumer.assign([partition])
        consumer.seek(partition, 250)
        assert next(consumer).offset == 250


def test_topics_configs_records_and_groups_are_administered(served: Served, name: str) -> None:
    with KafkaAdminClient(bootstrap_servers=served.bootstrap) as admin:
        admin.create_topics([NewTopic(name, 1, 1, topic_configs={"retention.ms": "-1"})])
        with pytest.raises(TopicAlreadyExistsError):
            admin.create_topics([NewTopic(name, 1, 1)])
        with pytest.raises(InvalidTopicError):
            admin.create_topics([NewTopic("not a name", 1, 1)])
        assert name in admin.list_topics()
        produce(served, name, 20)
        with consumer_of(served, name) as consumer:
            consumer.subscribe([name])
            assert [next(consumer).offset for _ in range(20)] == list(range(20))
            consumer.commit()
        assert [one["partition_index"] for one in admin.describe_topics([name])[0]["partitions"]] == [0]
        admin.create_partitions({name: NewPartitions(3)})
        assert len(admin.describe_topics([name])[0]["partitions"]) == 3
        with pytest.raises(InvalidPartitionsError):
            admin.create_partitions({name: NewPartitions(2)})
        resource = ConfigResource(ConfigResourceType.TOPIC, name)
        assert admin.describe_configs([resource], config_filter="all")["topic"][name]["retention.ms"]["value"] == "-1"
        altered = ConfigResource(ConfigResourceType.TOPIC, name, configs={"segment.bytes": "1048576"})
        admin.alter_configs([altered])
        configs = admin.describe_configs([resource], config_filter="all")["topic"][name]
        assert configs["segment.bytes"]["value"] == "1048576"
        assert name in [one["group_id"] for one in admin.list_groups()]
        assert admin.describe_groups([name])[name]["group_state"] == "Empty"
        partition = TopicPartition(name, 0)
        assert admin.list_group_offsets(name)[name][partition].offset == 20
        admin.delete_records({partition: 12})
        with consumer_of(served, None) as consumer:
            assert consumer.beginning_offsets([partition]) == {partition: 12}
        assert admin.delete_groups([name]) == {name: "OK"}
        assert admin.delete_groups([name]) == {name: "GroupIdNotFoundError"}
        admin.delete_topics([name])
        with pytest.raises(UnknownTopicOrPartitionError):
            admin.delete_topics([name])
        assert admin.describe_cluster()["brokers"][0]["broker_id"] == 1


def test_what_one_node_says_of_directories_leaders_moves_and_producers(served: Served, topic: str) -> None:
    produce(served, topic, 20)
    partition = TopicPartition(topic, 0)
    with KafkaAdminClient(bootstrap_servers=served.bootstrap) as admin:
        (told,) = admin.describe_log_dirs()
        (directory,) = told["log_dirs"]
        assert directory["total_bytes"] > directory["usable_bytes"] > 0
        (size,) = [one["partitions"][0] for one in directory["topics"] if one["name"] == topic]
        assert size["partition_size"] > 0
        assert (size["offset_lag"], size["is_future_key"]) == (0, False)
        (writer,) = admin.describe_producers([partition])[partition].active_producers
        assert (writer.producer_epoch, writer.last_sequence, writer.current_transaction_start_offset) == (0, 19, -1)
        resources = admin.list_config_resources()
        assert resources["broker"] == ["1"]
        assert topic in resources["topic"]
        elected = admin.elect_leaders(0, {topic: [0]}, raise_errors=False).replica_election_results
        assert elected[0].partition_result[0].error_code == 84  # ELECTION_NOT_NEEDED
        assert admin.list_partition_reassignments() == {}
        assert admin.alter_partition_reassignments({partition: [1]}) == {partition: None}
