"""Transactions by aiokafka (version 1 of the protocol, no flexible version) against a riverlog process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.clients.conftest import Served
from tests.clients.transactions import committed_offset, read, read_one, seconds_max, wait_until

pytest.importorskip("aiokafka")

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced


def run(test: Callable[[], Awaitable[None]]) -> None:
    """The coroutine in a loop of its own, within a limit of time."""
    asyncio.run(asyncio.wait_for(test(), 2 * seconds_max))  # type: ignore[arg-type]  # a coroutine


def producer_of(served: Served, transactional_id: str, **config: Any) -> Any:
    return AIOKafkaProducer(bootstrap_servers=served.bootstrap, transactional_id=transactional_id, linger_ms=1, **config)


async def write(producer: Any, topic: str, partition: int, *values: str) -> None:
    """Acknowledged."""
    for future in [await producer.send(topic, value.encode(), partition=partition) for value in values]:
        await future


def test_commits_and_aborts_over_four_partitions_and_its_own_readers(served: Served, topic_of_four: str) -> None:
    async def values(level: str) -> list[bytes]:
        settings = {"auto_offset_reset": "earliest", "isolation_level": level, "enable_auto_commit": False}
        async with AIOKafkaConsumer(topic_of_four, bootstrap_servers=served.bootstrap, **settings) as consumer:
            expected = 8 if level == "read_committed" else 12
            found = [(await consumer.getone()).value for _ in range(expected)]
            assert await consumer.getmany(timeout_ms=200) == {}
            return sorted(found)

    async def test() -> None:
        async with producer_of(served, topic_of_four) as producer:
            for number in range(3):
                await producer.begin_transaction()
                for partition in range(4):
                    await write(producer, topic_of_four, partition, f"{number}")
                await (producer.abort_transaction() if number == 1 else producer.commit_transaction())
        assert await values("read_committed") == [b"0"] * 4 + [b"2"] * 4
        assert await values("read_uncommitted") == [b"0"] * 4 + [b"1"] * 4 + [b"2"] * 4

    run(test)
    assert read(served.bootstrap, topic_of_four, partitions=4) == [["0", "2"]] * 4


def test_interleaved_producers(served: Served, topic: str) -> None:
    async def test() -> None:
        async with producer_of(served, f"{topic}-1") as first, producer_of(served, f"{topic}-2") as second:
            await first.begin_transaction()
            await second.begin_transaction()
            for at in range(3):
                await write(first, topic, 0, f"first {at}")
                await write(second, topic, 0, f"second {at}")
            await second.commit_transaction()
            assert read_one(served.bootstrap, topic) == []
            await first.abort_transaction()
        assert read_one(served.bootstrap, topic) == ["second 0", "second 1", "second 2"]

    run(test)


def test_offsets_are_committed_with_the_transaction_or_not_at_all(served: Served, topic: str) -> None:
    async def test() -> None:
        async with AIOKafkaProducer(bootstrap_servers=served.bootstrap) as plain:
            await write(plain, topic, 0, "input")
        settings = {"group_id": topic, "auto_offset_reset": "earliest", "enable_auto_commit": False}
        async with (
            AIOKafkaConsumer(topic, bootstrap_servers=served.bootstrap, **settings) as consumer,
            producer_of(served, topic) as producer,
        ):
            assert (await consumer.getone()).value == b"input"
            partition = TopicPartition(topic, 0)
            for end, offset in (("commit", 4), ("abort", 10), ("commit", 7)):
                await producer.begin_transaction()
                await write(producer, topic, 0, f"{end} {offset}")
                await producer.send_offsets_to_transaction({partition: offset}, topic)
                await getattr(producer, f"{end}_transaction")()
                stable = await asyncio.to_thread(committed_offset, served.bootstrap, topic, topic)
                assert stable == (4 if end == "abort" else offset)

    run(test)
    assert committed_offset(served.bootstrap, topic, topic) == 7
    assert read_one(served.bootstrap, topic) == ["input", "commit 4", "commit 7"]


def test_who_comes_second_with_a_transactional_id_fences_the_first(served: Served, topic: str) -> None:
    async def test() -> None:
        zombie = producer_of(served, topic)
        await zombie.start()
        await zombie.begin_transaction()
        await write(zombie, topic, 0, "of the zombie")
        async with producer_of(served, topic) as heir:
            with pytest.raises(ProducerFenced):
                await zombie.commit_transaction()
            await heir.begin_transaction()
            await write(heir, topic, 0, "of the heir")
            await heir.commit_transaction()
        await zombie.stop()

    run(test)
    assert read_one(served.bootstrap, topic) == ["of the heir"]


def test_a_transaction_that_stays_open_too_long_is_aborted(served: Served, topic: str) -> None:
    async def test() -> None:
        slow = producer_of(served, topic, transaction_timeout_ms=1000)
        await slow.start()
        await slow.begin_transaction()
        await write(slow, topic, 0, "too late")
        async with AIOKafkaProducer(bootstrap_servers=served.bootstrap) as plain:
            await write(plain, topic, 0, "behind it")
        found = await asyncio.to_thread(wait_until, lambda: read_one(served.bootstrap, topic))
        assert found == ["behind it"]
        with pytest.raises(KafkaError):
            await slow.commit_transaction()
        await slow.stop()

    run(test)
    assert read_one(served.bootstrap, topic) == ["behind it"]


def test_empty_transactions_commit_and_abort(served: Served, topic: str) -> None:
    async def test() -> None:
        async with producer_of(served, topic) as producer:
            for end in (producer.commit_transaction, producer.abort_transaction) * 2:
                await producer.begin_transaction()
                await end()
            async with producer.transaction():
                await write(producer, topic, 0, "after them")

    run(test)
    assert read_one(served.bootstrap, topic) == ["after them"]
