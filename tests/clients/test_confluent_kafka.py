"""confluent-kafka (librdkafka) against a riverlog process: producing, consuming, groups and administration."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import pytest
from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    ElectionType,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from tests.clients.conftest import Served

CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")
START_MS: Final = 1_385_000_000_000
seconds_max: Final = 20.0


def produce(
    served: Served, topic: str, count: int, *, partition: int = 0, start_ms: int = START_MS, **config: object
) -> list[Message]:
    """Messages "0", "1", … with timestamps one ms apart (start_ms 0: now); as they were acknowledged, in that order."""
    delivered: list[Message] = []

    def told(error: KafkaError | None, message: Message) -> None:
        assert error is None
        delivered.append(message)

    producer = Producer({"bootstrap.servers": served.bootstrap, "linger.ms": 5, **config})
    for at in range(count):
        producer.produce(topic, str(at), str(at), partition, on_delivery=told, timestamp=start_ms and start_ms + at)
        producer.poll(0)
    assert producer.flush(seconds_max) == 0
    return delivered


@contextmanager
def consumer_of(served: Served, group: str, **config: object) -> Iterator[Consumer]:
    settings = {"enable.auto.commit": False, "auto.offset.reset": "earliest", **config}
    consumer = Consumer({"bootstrap.servers": served.bootstrap, "group.id": group, **settings})
    try:
        yield consumer
    finally:
        consumer.close()


def consume(consumer: Consumer, count: int) -> list[Message]:
    messages = consumer.consume(count, seconds_max)
    assert [message.error() for message in messages] == [None] * count
    return list(messages)


def poll_until(consumers: Sequence[Consumer], done: Callable[[], bool], given: list[Message] | None = None) -> None:
    """Poll all of them in turn until `done`; what they give goes to the end of `given`."""
    deadline = time.monotonic() + seconds_max
    given = [] if given is None else given
    while not done():
        assert time.monotonic() < deadline
        for consumer in consumers:
            if (message := consumer.poll(0.05)) is not None:
                assert message.error() is None
                given.append(message)


def result(futures: dict[Any, Any]) -> Any:
    """The one answer of an admin call."""
    (future,) = futures.values()
    return future.result(seconds_max)


@pytest.mark.parametrize("acks", ["0", "1", "all"])
@pytest.mark.parametrize("codec", CODECS)
def test_produces_with_any_acks_and_codec(served: Served, topic: str, acks: str, codec: str) -> None:
    delivered = produce(served, topic, 200, **{"acks": acks, "compression.type": codec})
    if acks != "0":
        assert [message.offset() for message in delivered] == list(range(200))
    with consumer_of(served, topic) as consumer:
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        messages = consume(consumer, 200)
    assert [message.value() for message in messages] == [b"%d" % at for at in range(200)]
    assert [message.timestamp()[1] for message in messages] == [START_MS + at for at in range(200)]


def test_an_idempotent_producer_writes_each_record_once_and_in_order(served: Served, topic_of_four: str) -> None:
    settings = {"enable.idempotence": True, "batch.num.messages": 20, "linger.ms": 0}
    for partition in range(4):
        delivered = produce(served, topic_of_four, 1000, partition=partition, **settings)
        assert [message.offset() for message in delivered] == list(range(1000))


def test_a_record_above_the_limit_is_refused_and_the_others_go_through(served: Served, name: str) -> None:
    served.create_topics([name], configs={"max.message.bytes": "10000"})
    errors = []
    producer = Producer({"bootstrap.servers": served.bootstrap, "linger.ms": 0})
    for value in (b"small", b"x" * 20_000, b"also small"):
        producer.produce(name, value, partition=0, on_delivery=lambda error, _: errors.append(error))
        assert producer.flush(seconds_max) == 0
    assert [error and error.code() for error in errors] == [None, KafkaError.MSG_SIZE_TOO_LARGE, None]


def test_a_topic_appears_when_something_is_produced_to_it(served: Served, name: str) -> None:
    produce(served, name, 3, start_ms=0)
    assert len(served.admin.list_topics(name, seconds_max).topics[name].partitions) == 4


def test_a_group_of_one_reads_commits_and_goes_on_where_it_was(served: Served, topic_of_four: str) -> None:
    for partition in range(4):
        produce(served, topic_of_four, 25, partition=partition)
    with consumer_of(served, topic_of_four) as consumer:
        consumer.subscribe([topic_of_four])
        seen = {(one.partition(), one.offset()) for one in consume(consumer, 60)}
        consumer.commit(asynchronous=False)
        committed = consumer.committed([TopicPartition(topic_of_four, at) for at in range(4)], seconds_max)
        assert sum(max(one.offset, 0) for one in committed) == 60
    with consumer_of(served, topic_of_four) as consumer:
        consumer.subscribe([topic_of_four])
        seen |= {(one.partition(), one.offset()) for one in consume(consumer, 40)}
    assert len(seen) == 100


@pytest.mark.parametrize("strategy", ["range", "roundrobin", "cooperative-sticky"])
def test_two_consumers_share_the_partitions_and_one_gets_all_back(
    served: Served, topic_of_four: str, strategy: str
) -> None:
    settings = {"partition.assignment.strategy": strategy, "heartbeat.interval.ms": 100, "session.timeout.ms": 6000}
    with consumer_of(served, topic_of_four, **settings) as first:
        first.subscribe([topic_of_four])
        poll_until([first], lambda: len(first.assignment()) == 4)
        with consumer_of(served, topic_of_four, **settings) as second:
            second.subscribe([topic_of_four])
            poll_until([first, second], lambda: len(first.assignment()) == len(second.assignment()) == 2)
            partitions = {one.partition for one in (*first.assignment(), *second.assignment())}
            assert partitions == {0, 1, 2, 3}
            for partition in range(4):
                produce(served, topic_of_four, 10, partition=partition)
            given: list[Message] = []
            poll_until([first, second], lambda: len(given) == 40, given)
            assert len({(one.partition(), one.offset()) for one in given}) == 40
        poll_until([first], lambda: len(first.assignment()) == 4)


def test_a_static_member_comes_back_to_its_partitions_without_a_rebalance(served: Served, topic_of_four: str) -> None:
    rebalances: list[str] = []

    def settings(instance: str) -> dict[str, object]:
        return {"group.instance.id": instance, "heartbeat.interval.ms": 100, "session.timeout.ms": 20_000}

    with consumer_of(served, topic_of_four, **settings("a")) as first:
        first.subscribe([topic_of_four], on_assign=lambda *_: rebalances.append("a"))
        with consumer_of(served, topic_of_four, **settings("b")) as second:
            second.subscribe([topic_of_four])
            poll_until([first, second], lambda: len(first.assignment()) == len(second.assignment()) == 2)
            before = sorted(second.assignment())
            count = len(rebalances)
        with consumer_of(served, topic_of_four, **settings("b")) as second:
            second.subscribe([topic_of_four])
            poll_until([first, second], lambda: len(second.assignment()) > 0)
            assert sorted(second.assignment()) == before
        assert len(rebalances) == count
        described = result(served.admin.describe_consumer_groups([topic_of_four]))
        assert {member.group_instance_id for member in described.members} == {"a", "b"}


def test_seeks_and_watermarks(served: Served, topic: str) -> None:
    produce(served, topic, 50)
    partition = TopicPartition(topic, 0)
    with consumer_of(served, topic) as consumer:
        assert consumer.get_watermark_offsets(partition, seconds_max) == (0, 50)
        consumer.assign([TopicPartition(topic, 0, 40)])
        assert consume(consumer, 1)[0].offset() == 40
        consumer.seek(TopicPartition(topic, 0, 7))
        assert consume(consumer, 1)[0].offset() == 7
        consumer.seek(TopicPartition(topic, 0, OFFSET_END))
        assert consumer.poll(0.1) is None
        produce(served, topic, 1)
        assert consume(consumer, 1)[0].offset() == 50


def test_offsets_by_time_are_exact_to_the_record(served: Served, topic: str) -> None:
    produce(served, topic, 1000, **{"linger.ms": 100, "compression.type": "zstd"})
    wanted = [0, START_MS, START_MS + 1, START_MS + 567, START_MS + 999, START_MS + 1000]
    with consumer_of(served, topic) as consumer:
        found = [consumer.offsets_for_times([TopicPartition(topic, 0, at)], seconds_max)[0].offset for at in wanted]
    assert found == [0, 0, 1, 567, 999, OFFSET_END]


def test_reading_begins_where_records_were_deleted_up_to(served: Served, topic: str) -> None:
    produce(served, topic, 30)
    deleted = result(served.admin.delete_records([TopicPartition(topic, 0, 20)]))
    assert deleted.low_watermark == 20
    with consumer_of(served, topic) as consumer:
        consumer.assign([TopicPartition(topic, 0, 3)])
        assert consume(consumer, 1)[0].offset() == 20
        assert consumer.get_watermark_offsets(TopicPartition(topic, 0), seconds_max) == (20, 30)


def test_topics_are_made_listed_described_widened_and_deleted(served: Served, name: str) -> None:
    admin = served.admin
    assert result(admin.create_topics([NewTopic(name, 2, 3)], validate_only=True)) is None
    assert name not in admin.list_topics(timeout=seconds_max).topics
    result(admin.create_topics([NewTopic(name, 2, 3, config={"retention.ms": "-1"})]))
    with pytest.raises(KafkaException) as refused:
        result(admin.create_topics([NewTopic(name, 2, 1)]))
    assert refused.value.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS
    described = result(admin.describe_topics(TopicCollection([name])))
    assert [(one.id, one.leader.id, len(one.replicas), len(one.isr)) for one in described.partitions] == [
        (0, 1, 1, 1),
        (1, 1, 1, 1),
    ]
    result(admin.create_partitions([NewPartitions(name, 5)]))
    assert len(admin.list_topics(name, seconds_max).topics[name].partitions) == 5
    with pytest.raises(KafkaException) as refused:
        result(admin.create_partitions([NewPartitions(name, 3)]))
    assert refused.value.args[0].code() == KafkaError.INVALID_PARTITIONS
    result(admin.delete_topics([name]))
    assert name not in admin.list_topics(timeout=seconds_max).topics
    with pytest.raises(KafkaException) as refused:
        result(admin.delete_topics([name]))
    assert refused.value.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART


@pytest.mark.parametrize("bad", ["with space", "x" * 250, ".."])
def test_a_topic_cannot_have_a_bad_name(served: Served, bad: str) -> None:
    with pytest.raises(KafkaException) as refused:
        result(served.admin.create_topics([NewTopic(bad, 1, 1)]))
    assert refused.value.args[0].code() == KafkaError.TOPIC_EXCEPTION


def test_configs_are_described_set_incremented_and_reset(served: Served, topic: str) -> None:
    resource = ConfigResource(ResourceType.TOPIC, topic)

    def described() -> dict[str, ConfigEntry]:
        configs: dict[str, ConfigEntry] = result(served.admin.describe_configs([resource]))
        return configs

    def increment(*entries: tuple[str, str | None, AlterConfigOpType]) -> None:
        changes = [ConfigEntry(name, value, incremental_operation=how) for name, value, how in entries]
        wanted = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=changes)
        result(served.admin.incremental_alter_configs([wanted]))

    configs = described()
    assert configs["retention.ms"].value == "-1"
    assert configs["retention.ms"].source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value
    assert configs["cleanup.policy"].is_default
    assert len(configs) > 25
    increment(
        ("segment.bytes", "2000000", AlterConfigOpType.SET),
        ("cleanup.policy", "compact", AlterConfigOpType.APPEND),
        ("retention.ms", None, AlterConfigOpType.DELETE),
    )
    configs = described()
    assert configs["segment.bytes"].value == "2000000"
    assert configs["cleanup.policy"].value == "delete,compact"
    assert configs["retention.ms"].value == str(7 * 24 * 3600 * 1000)
    with pytest.raises(KafkaException) as refused:
        increment(("segment.bytes", "many", AlterConfigOpType.SET))
    assert refused.value.args[0].code() == KafkaError.INVALID_CONFIG
    resource.set_config("retention.ms", "12345678")
    with pytest.deprecated_call():  # it replaces all that is set
        result(served.admin.alter_configs([resource]))
    assert described()["retention.ms"].value == "12345678"
    assert described()["segment.bytes"].is_default


def test_the_brokers_configs_are_described(served: Served) -> None:
    configs = result(served.admin.describe_configs([ConfigResource(ResourceType.BROKER, "1")]))
    assert configs["num.partitions"].value == "4"
    assert configs["advertised.listeners"].value == f"PLAINTEXT://{served.bootstrap}"


def test_the_cluster_is_described(served: Served) -> None:
    cluster = served.admin.describe_cluster().result(seconds_max)
    assert [(node.id, f"{node.host}:{node.port}") for node in cluster.nodes] == [(1, served.bootstrap)]
    assert cluster.controller.id == 1
    assert len(cluster.cluster_id) == 22


def test_no_leader_needs_an_election(served: Served, topic: str) -> None:
    elected = served.admin.elect_leaders(ElectionType.PREFERRED, [TopicPartition(topic, 0)]).result(seconds_max)
    assert elected[TopicPartition(topic, 0)].code() == KafkaError.ELECTION_NOT_NEEDED


def test_groups_are_listed_described_and_deleted_and_their_offsets_altered(served: Served, topic: str) -> None:
    admin, group = served.admin, f"{topic}-group"
    produce(served, topic, 10)
    with consumer_of(served, group, **{"client.id": "told"}) as consumer:
        consumer.subscribe([topic])
        consume(consumer, 10)
        consumer.commit(offsets=[TopicPartition(topic, 0, 6, metadata="half way")], asynchronous=False)
        described = result(admin.describe_consumer_groups([group]))
        assert described.state == ConsumerGroupState.STABLE
        assert [(one.client_id, one.assignment.topic_partitions) for one in described.members] == [
            ("told", [TopicPartition(topic, 0)])
        ]
        with pytest.raises(KafkaException) as refused:
            result(admin.delete_consumer_groups([group]))
        assert refused.value.args[0].code() == KafkaError.NON_EMPTY_GROUP
    listed = {one.group_id: one.state for one in admin.list_consumer_groups().result(seconds_max).valid}
    assert listed[group] == ConsumerGroupState.EMPTY

    def offsets() -> list[tuple[int, str | None]]:
        wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0)])
        answer = result(admin.list_consumer_group_offsets([wanted]))
        return [(one.offset, one.metadata) for one in answer.topic_partitions]

    assert offsets() == [(6, "half way")]
    change = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 2)])
    result(admin.alter_consumer_group_offsets([change]))
    assert offsets()[0][0] == 2
    result(admin.delete_consumer_groups([group]))
    assert group not in {one.group_id for one in admin.list_consumer_groups().result(seconds_max).valid}
    with pytest.raises(KafkaException) as refused:
        result(admin.delete_consumer_groups([group]))
    assert refused.value.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND


def test_offsets_are_listed_by_every_question(served: Served, topic: str) -> None:
    produce(served, topic, 100)
    produce(served, topic, 5)  # older timestamps again
    questions = {
        OffsetSpec.earliest(): (0, None),
        OffsetSpec.latest(): (105, None),
        OffsetSpec.max_timestamp(): (99, START_MS + 99),
        OffsetSpec.for_timestamp(START_MS + 42): (42, START_MS + 42),
    }
    for isolation in (IsolationLevel.READ_UNCOMMITTED, IsolationLevel.READ_COMMITTED):
        for question, (offset, timestamp_ms) in questions.items():
            found = result(served.admin.list_offsets({TopicPartition(topic, 0): question}, isolation_level=isolation))
            assert found.offset == offset
            if timestamp_ms is not None:
                assert found.timestamp == timestamp_ms


def test_keys_spread_over_the_partitions(served: Served, topic_of_four: str) -> None:
    produce(served, topic_of_four, 100, partition=-1, partitioner="murmur2_random")
    found = served.admin.list_offsets({TopicPartition(topic_of_four, at): OffsetSpec.latest() for at in range(4)})
    ends = [found[TopicPartition(topic_of_four, at)].result(seconds_max).offset for at in range(4)]
    assert sum(ends) == 100
    assert min(ends) > 10
