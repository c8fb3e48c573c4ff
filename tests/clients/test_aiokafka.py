"""aiokafka (no flexible version at all) against a riverlog process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

from tests.clients.conftest import Served

pytest.importorskip("aiokafka")

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import MessageSizeTooLargeError

START_MS: Final = 1_385_000_000_000
seconds_max: Final = 20.0


def run(test: Callable[[], Awaitable[None]]) -> None:
    """The coroutine in a loop of its own, within a limit of time."""
    asyncio.run(asyncio.wait_for(test(), 3 * seconds_max))  # type: ignore[arg-type]  # a coroutine


async def produce(served: Served, topic: str, count: int, **config: Any) -> list[int]:
    """Values b"0", b"1", … one ms apart to partition 0; their offsets as they were acknowledged."""
    async with AIOKafkaProducer(bootstrap_servers=served.bootstrap, linger_ms=5, **config) as producer:
        futures = [await producer.send(topic, b"%d" % at, None, 0, START_MS + at) for at in range(count)]
        answers = [await future for future in futures]
    return [answer.offset for answer in answers if answer is not None]


def consumer_of(served: Served, *topics: str, group: str | None = None, **config: Any) -> Any:
    settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False, **config}
    return AIOKafkaConsumer(*topics, bootstrap_servers=served.bootstrap, group_id=group, **settings)


@pytest.mark.parametrize("acks", [0, 1, "all"])
@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_produces_with_any_acks_and_codec(served: Served, topic: str, acks: int | str, codec: str | None) -> None:
    async def test() -> None:
        offsets = await produce(served, topic, 100, acks=acks, compression_type=codec)
        assert offsets == (list(range(100)) if acks != 0 else [])
        async with consumer_of(served) as consumer:
            consumer.assign([TopicPartition(topic, 0)])
            read = [await consumer.getone() for _ in range(100)]
        assert [(one.value, one.timestamp) for one in read] == [(b"%d" % at, START_MS + at) for at in range(100)]

    run(test)


def test_an_idempotent_producer_and_a_record_that_is_too_large(served: Served, name: str) -> None:
    async def test() -> None:
        served.create_topics([name], configs={"max.message.bytes": "10000"})
        assert await produce(served, name, 300, enable_idempotence=True, max_batch_size=300) == list(range(300))
        async with AIOKafkaProducer(bootstrap_servers=served.bootstrap) as producer:
            with pytest.raises(MessageSizeTooLargeError):
                await producer.send_and_wait(name, b"x" * 20_000, partition=0)

    run(test)


def test_a_group_of_two_shares_commits_and_gives_back(served: Served, topic_of_four: str) -> None:
    settings = {"group": topic_of_four, "heartbeat_interval_ms": 100, "session_timeout_ms": 6000}

    async def assigned(*counts: tuple[Any, int]) -> None:
        while any(len(consumer.assignment()) != count for consumer, count in counts):
            for consumer, _ in counts:
                await consumer.getmany(timeout_ms=50)

    async def test() -> None:
        async with consumer_of(served, topic_of_four, **settings) as first:
            await assigned((first, 4))
            async with consumer_of(served, topic_of_four, **settings) as second:
                await assigned((first, 2), (second, 2))
                assert not first.assignment() & second.assignment()
                mine = next(iter(first.assignment()))
                await first.commit({mine: (3, "three")})
                assert await first.committed(mine) == 3
            await assigned((first, 4))

    run(test)


def test_offsets_at_the_ends_and_by_time(served: Served, topic: str) -> None:
    async def test() -> None:
        await produce(served, topic, 300, compression_type="gzip")
        partition = TopicPartition(topic, 0)
        async with consumer_of(served) as consumer:
            assert await consumer.beginning_offsets([partition]) == {partition: 0}
            assert await consumer.end_offsets([partition]) == {partition: 300}
            found = await consumer.offsets_for_times({partition: START_MS + 123})
            assert (found[partition].offset, found[partition].timestamp) == (123, START_MS + 123)
            consumer.assign([partition])
            consumer.seek(partition, 250)
            assert (await consumer.getone()).offset == 250

    run(test)


def test_topics_configs_records_and_groups_are_administered(served: Served, name: str) -> None:
    async def test() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=served.bootstrap)
        await admin.start()
        try:
            created = await admin.create_topics([NewTopic(name, 1, 1, topic_configs={"retention.ms": "-1"})])
            assert [error[1] for error in created.topic_errors] == [0]
            assert name in await admin.list_topics()
            await produce(served, name, 20)
            async with consumer_of(served, name, group=name) as consumer:
                assert [(await consumer.getone()).offset for _ in range(20)] == list(range(20))
                await consumer.commit()
            await admin.create_partitions({name: NewPartitions(3)})
            assert len((await admin.describe_topics([name]))[0]["partitions"]) == 3
            (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
            configs = {entry[0]: entry[1] for entry in answer.resources[0][4]}
            assert configs["retention.ms"] == "-1"
            wanted = {"segment.bytes": "1048576", "retention.ms": "-1"}  # what is not named gets its default again
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, wanted)])
            (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
            assert {entry[0]: entry[1] for entry in answer.resources[0][4]}["segment.bytes"] == "1048576"
            partition = TopicPartition(name, 0)
            deleted = await admin.delete_records({partition: RecordsToDelete(before_offset=12)})
            assert deleted[partition] == 12
            assert name in [group for group, _ in await admin.list_consumer_groups()]
            (described,) = await admin.describe_consumer_groups([name])
            assert described.groups[0][2] == "Empty"
            offsets = await admin.list_consumer_group_offsets(name)
            assert offsets[partition].offset == 20
            assert (await admin.describe_cluster())["brokers"][0]["node_id"] == 1
            await admin.delete_topics([name])
            assert name not in await admin.list_topics()
        finally:
            await admin.close()

    run(test)
