"""Produce requests on both settings of the in-memory engine: refusals one by one, order also where a batch must be opened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import Offset, PartitionId, TopicName
from riverlog.broker.broker import Broker
from riverlog.broker.produce import Lane, Outcomes, Write
from riverlog.broker.settings import BrokerSettings
from riverlog.broker.transaction_requests import NotAllowedTransactional
from riverlog.catalog.memory import MemoryCatalog
from riverlog.records.batch import records_of
from riverlog.records.builder import build_batch
from riverlog.records.header import read_header
from riverlog.records.record import NewRecord
from riverlog.state.access import LIBRARY_CALLER, AllowAll, Caller, DenyAll, Operation, Resource, ResourceKind
from riverlog.state.transactions.commands import Producer, Version
from riverlog.storage.contract import Acks, Appended, Fetched, Isolation, Read, Refused
from riverlog.testing.brokers import make_topic, memory_broker
from riverlog.testing.clock import ManualClock

NOW = ManualClock().now_ms()


def run(story: Callable[[Broker], Awaitable[None]], *, late: bool = False, **options: object) -> None:
    async def main() -> None:
        async with memory_broker(late=late, **options) as broker:  # type: ignore[arg-type]
            await story(broker)

    asyncio.run(main())


def batch(value: bytes = b"v", key: bytes | None = b"k", count: int = 1, **options: object) -> bytearray:
    return build_batch([NewRecord(NOW, key, value)] * count, **options)  # type: ignore[arg-type]


async def settled(outcomes: Outcomes | Awaitable[Outcomes]) -> Outcomes:
    return outcomes if isinstance(outcomes, Sequence) else await outcomes


async def values(broker: Broker, partition: PartitionId) -> list[bytes | None]:
    await broker.engine.cut([partition], Isolation.READ_UNCOMMITTED)
    fetched = broker.engine.read([Read(partition, Offset(0), 1 << 20)], 1 << 20, Isolation.READ_UNCOMMITTED)
    fetched = fetched if isinstance(fetched, Fetched) else await fetched
    data = b"".join(bytes(part) for part in fetched.partitions[0].slices.parts)  # type: ignore[arg-type]
    fetched.close()
    found: list[bytes | None] = []
    while data:
        header = read_header(data)
        found += [record.value for record in records_of(data, header)]
        data = data[header.size :]
    return found


@pytest.mark.parametrize("late", [False, True])
def test_each_partition_gets_its_own_outcome(late: bool) -> None:
    async def story(broker: Broker) -> None:
        topic = await make_topic(broker, "t", partitions=3)
        damaged = batch()
        damaged[-1] ^= 1
        writes = [
            Write(topic, 0, batch(count=3)),
            Write(topic, 1, damaged),
            Write(topic, 7, batch()),
            Write(topic, 2, None),
            Write(topic, 2, batch() + batch()),
        ]
        outcomes = await settled(broker.producing.produce(LIBRARY_CALLER, writes, Acks.ALL, Lane()))
        assert isinstance(outcomes[0], Appended)
        assert (outcomes[0].base_offset, outcomes[0].next_offset) == (0, 3)
        kinds = [outcome.error.kind for outcome in outcomes[1:] if isinstance(outcome, Refused)]
        assert kinds == [
            ErrorKind.CORRUPT_MESSAGE,
            ErrorKind.UNKNOWN_TOPIC,
            ErrorKind.INVALID_RECORD,
            ErrorKind.INVALID_RECORD,
        ]
        counters = broker.telemetry.topic(topic.topic_id)
        assert (counters.messages_in, counters.batches_in) == (3, 1)

    run(story, late=late)


def test_acks_1_is_answered_at_once_where_the_engine_can() -> None:
    async def story(broker: Broker) -> None:
        topic = await make_topic(broker, "t")
        outcomes = broker.producing.produce(LIBRARY_CALLER, [Write(topic, 0, batch())], Acks.LEADER, Lane())
        assert isinstance(outcomes, Sequence)

    run(story)


def test_a_batch_over_the_topics_limit_is_refused() -> None:
    async def story(broker: Broker) -> None:
        topic = await make_topic(broker, "t", max_message_bytes="200")
        outcomes = await settled(
            broker.producing.produce(LIBRARY_CALLER, [Write(topic, 0, batch(b"x" * 300))], Acks.ALL, Lane())
        )
        assert isinstance(outcomes[0], Refused)
        assert outcomes[0].error.kind is ErrorKind.MESSAGE_TOO_LARGE

    run(story)


@pytest.mark.parametrize("late", [False, True])
def test_the_order_of_a_lane_holds_where_an_earlier_batch_must_be_opened(late: bool) -> None:
    """The first goes through a thread (another codec), the later ones need not; all share a buffer that is reused at once."""

    async def story(broker: Broker) -> None:
        slow = await make_topic(broker, "slow", compression_type="zstd")
        lane = Lane()
        pending = []
        for number in range(5):
            topic_batch = batch(b"%d" % number)
            pending.append(broker.producing.produce(LIBRARY_CALLER, [Write(slow, 0, topic_batch)], Acks.LEADER, lane))
            topic_batch[:] = bytes(len(topic_batch))  # the receive buffer is used for something else
        outcomes = [await settled(one) for one in pending]
        assert [one[0].base_offset for one in outcomes if isinstance(one[0], Appended)] == [0, 1, 2, 3, 4]
        assert await values(broker, PartitionId(slow.topic_id, 0)) == [b"0", b"1", b"2", b"3", b"4"]
        assert lane.tail is None

    run(story, late=late)


def test_a_plain_batch_behind_an_opened_one_waits_for_its_turn() -> None:
    async def story(broker: Broker) -> None:
        opened = await make_topic(broker, "opened", cleanup_policy="compact")
        plain = await make_topic(broker, "plain")
        lane = Lane()
        order: list[str] = []
        real = broker.engine.append

        def append(appends: Sequence[object], acks: Acks, fences: object = ()) -> object:
            order.append("opened" if appends[0].partition.topic_id == opened.topic_id else "plain")  # type: ignore[attr-defined]
            return real(appends, acks)  # type: ignore[arg-type]

        broker.engine.append = append  # type: ignore[method-assign,assignment]
        first = broker.producing.produce(LIBRARY_CALLER, [Write(opened, 0, batch())], Acks.LEADER, lane)
        second = broker.producing.produce(LIBRARY_CALLER, [Write(plain, 0, batch())], Acks.LEADER, lane)
        other = broker.producing.produce(LIBRARY_CALLER, [Write(plain, 0, batch())], Acks.LEADER, Lane())
        assert order == ["plain"], "another connection does not wait"
        await asyncio.gather(first, second)  # type: ignore[arg-type]
        assert isinstance(other, Sequence)
        assert order == ["plain", "opened", "plain"]

    run(story)


def test_a_refused_look_leaves_the_other_partitions_alone() -> None:
    async def story(broker: Broker) -> None:
        compacted = await make_topic(broker, "c", partitions=2, cleanup_policy="compact")
        writes = [Write(compacted, 0, batch(key=None)), Write(compacted, 1, batch(key=b"k"))]
        outcomes = await settled(broker.producing.produce(LIBRARY_CALLER, writes, Acks.ALL, Lane()))
        assert isinstance(outcomes[0], Refused)
        assert isinstance(outcomes[1], Appended)

    run(story)


@pytest.mark.parametrize("strict", [False, True])
def test_replicas_that_are_not_there_are_missed_only_where_the_broker_is_strict(strict: bool) -> None:
    async def story(broker: Broker) -> None:
        topic = await make_topic(broker, "t", min_insync_replicas="2")
        for acks in Acks:
            (outcome,) = await settled(
                broker.producing.produce(LIBRARY_CALLER, [Write(topic, 0, batch())], acks, Lane())
            )
            if strict and acks is Acks.ALL:
                assert isinstance(outcome, Refused)
                assert outcome.error.kind is ErrorKind.NOT_ENOUGH_REPLICAS
                assert "min.insync.replicas=2" in outcome.error.message
            else:
                assert isinstance(outcome, Appended)

    run(story, settings=BrokerSettings(strict_replication=strict))


def test_who_may_not_write_is_refused() -> None:
    async def story(broker: Broker) -> None:
        topic = await make_topic(broker, "t")
        broker.producing.access = DenyAll()
        outcomes = await settled(
            broker.producing.produce(LIBRARY_CALLER, [Write(topic, 0, batch())], Acks.ALL, Lane())
        )
        assert isinstance(outcomes[0], Refused)
        assert outcomes[0].error.kind is ErrorKind.UNAUTHORIZED

    run(story)


def transactional(producer: Producer, sequence: int = 0, value: bytes = b"v") -> bytearray:
    producer_id, epoch = producer
    return batch(value, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence, transactional=True)


def kinds_of(outcomes: Outcomes) -> list[ErrorKind | None]:
    return [outcome.error.kind if isinstance(outcome, Refused) else None for outcome in outcomes]


class Client:
    """One transactional producer on one connection."""

    def __init__(self, broker: Broker, version: Version) -> None:
        self.broker = broker
        self.version = version
        self.lane = Lane()
        self.producer = Producer()

    async def init(self) -> None:
        self.producer = await self.broker.transactions.init(LIBRARY_CALLER, "tx", 60_000)

    def send(self, *writes: Write, acks: Acks = Acks.ALL) -> Outcomes | Awaitable[Outcomes]:
        return self.broker.producing.produce(LIBRARY_CALLER, writes, acks, self.lane, "tx", self.version)

    async def kinds(self, *writes: Write) -> list[ErrorKind | None]:
        return kinds_of(await settled(self.send(*writes)))

    async def add(self, *partitions: tuple[str, int]) -> None:
        errors = await self.broker.transactions.add_partitions(
            LIBRARY_CALLER, "tx", self.producer, partitions, self.version
        )
        assert errors == [None] * len(partitions)

    async def end(self, committed: bool = True) -> None:
        self.producer = await self.broker.transactions.end(
            LIBRARY_CALLER, "tx", self.producer, committed, self.version
        )


@pytest.mark.parametrize("late", [False, True])
def test_transactional_batches_need_a_transactional_id_that_the_caller_may_write_under(late: bool) -> None:
    async def story(broker: Broker) -> None:
        topic = await make_topic(broker, "t")
        client = Client(broker, Version.EPOCH_BUMPED)
        await client.init()
        write = Write(topic, 0, transactional(client.producer))
        for transactional_id in (None, "tx"):
            if transactional_id:
                broker.producing.access = OnlyTopics()
            (outcome,) = await settled(
                broker.producing.produce(LIBRARY_CALLER, [write], Acks.ALL, Lane(), transactional_id)
            )
            assert isinstance(outcome, Refused)
            assert isinstance(outcome.error, NotAllowedTransactional)

    run(story, late=late)


class OnlyTopics(AllowAll):
    def allows(self, caller: Caller, operation: Operation, resource: Resource) -> bool:
        return resource.kind is ResourceKind.TOPIC


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("version", [Version.PLAIN, Version.FLEXIBLE])
def test_older_clients_add_partitions_before_they_write_to_them(late: bool, version: Version) -> None:
    async def story(broker: Broker) -> None:
        topic = await make_topic(broker, "t", partitions=2)
        client = Client(broker, version)
        await client.init()
        await client.add(("t", 0))
        writes = [Write(topic, index, transactional(client.producer)) for index in (0, 1)]
        refusal = ErrorKind.INVALID_TXN_STATE if version is Version.PLAIN else ErrorKind.TRANSACTION_ABORTABLE
        assert await client.kinds(*writes) == [None, refusal]
        await client.end(committed=False)
        assert await client.kinds(Write(topic, 0, transactional(client.producer, 1))) == [refusal]

    run(story, late=late)


@pytest.mark.parametrize("late", [False, True])
def test_a_write_of_transaction_version_2_adds_its_partition_and_keeps_its_place(late: bool) -> None:
    """The second request is sent while the first still adds; its buffer is used again at once, as a connection does."""

    async def story(broker: Broker) -> None:
        topic = await make_topic(broker, "t")
        client = Client(broker, Version.EPOCH_BUMPED)
        await client.init()
        pending = []
        buffer = transactional(client.producer, 0, b"0")
        for sequence in range(5):
            buffer[:] = transactional(client.producer, sequence, b"%d" % sequence)
            pending.append(client.send(Write(topic, 0, buffer)))
        plain = batch(b"plain")
        pending.append(broker.producing.produce(LIBRARY_CALLER, [Write(topic, 0, plain)], Acks.ALL, client.lane))
        for outcomes in pending:
            assert kinds_of(await settled(outcomes)) == [None]
        assert await values(broker, PartitionId(topic.topic_id, 0)) == [b"0", b"1", b"2", b"3", b"4", b"plain"]
        if not late:
            at_once = client.send(Write(topic, 0, transactional(client.producer, 5)), acks=Acks.LEADER)
            assert isinstance(at_once, Sequence)  # the partition is in the transaction: nobody needs to be asked

    run(story, late=late)


@pytest.mark.parametrize("late", [False, True])
def test_what_comes_after_the_end_of_its_transaction_is_never_appended(late: bool) -> None:
    async def story(broker: Broker) -> None:
        topic = await make_topic(broker, "t")
        client = Client(broker, Version.EPOCH_BUMPED)
        await client.init()
        before = client.producer
        assert await client.kinds(Write(topic, 0, transactional(before))) == [None]
        overtaken = asyncio.ensure_future(client.end(committed=False))
        late_writes = [client.send(Write(topic, 0, transactional(before, 1)))]
        await overtaken
        late_writes.append(client.send(Write(topic, 0, transactional(before, 2))))
        kinds = [kind for outcomes in late_writes for kind in kinds_of(await settled(outcomes))]
        assert kinds[0] in (None, ErrorKind.INVALID_PRODUCER_EPOCH)  # before the end, or after it
        assert kinds[1] is ErrorKind.INVALID_PRODUCER_EPOCH
        assert await client.kinds(Write(topic, 0, transactional(client.producer))) == [None]

    run(story, late=late)


@pytest.mark.parametrize("version", Version)
@pytest.mark.parametrize("comes", ["in time", "after the end", "to nobody"])
def test_what_waits_for_its_turn_does_not_become_part_of_the_next_transaction(version: Version, comes: str) -> None:
    """Older clients keep their epoch from one transaction to the next. `to nobody`: the id is loaded again meanwhile."""

    async def story(broker: Broker) -> None:
        topic = await make_topic(broker, "t")
        client = Client(broker, version)
        await client.init()
        before = client.producer
        await client.add(("t", 0))
        if comes == "after the end":
            await client.end(committed=False)
        if comes == "to nobody":
            broker.transactions._machines.runners["tx"].drop(ErrorKind.COORDINATOR_NOT_AVAILABLE, "told to")
        slow = Lane()
        slow.tail = turn = asyncio.get_running_loop().create_future()
        writes = [Write(topic, 0, transactional(before, 0, b"late"))]
        late = broker.producing.produce(LIBRARY_CALLER, writes, Acks.ALL, slow, "tx", version)
        if comes != "after the end":
            while not broker.transactions.admits("tx", before, PartitionId(topic.topic_id, 0)):
                await asyncio.sleep(0)
            await client.end(committed=False)
        await client.add(("t", 0))
        turn.set_result(None)
        (refusal,) = kinds_of(await settled(late))
        assert refusal is {
            Version.PLAIN: ErrorKind.INVALID_TXN_STATE,
            Version.FLEXIBLE: ErrorKind.TRANSACTION_ABORTABLE,
            Version.EPOCH_BUMPED: ErrorKind.INVALID_PRODUCER_EPOCH,
        }[version]
        assert await client.kinds(Write(topic, 0, transactional(client.producer, 0, b"next"))) == [None]
        await client.end()
        assert b"late" not in await values(broker, PartitionId(topic.topic_id, 0))

    run(story)


@pytest.mark.parametrize("version", [Version.PLAIN, Version.EPOCH_BUMPED])
def test_a_coordinator_that_is_loaded_again_meanwhile_costs_nobody_his_transaction(version: Version) -> None:
    """One partition is in the transaction already; the other one's addition meets a conflict."""

    async def story(broker: Broker) -> None:
        topic = await make_topic(broker, "t", partitions=2)
        client = Client(broker, version)
        await client.init()
        await client.add(("t", 0))
        assert isinstance(broker.catalog, MemoryCatalog)
        broker.catalog.conflicts = 1
        if version is Version.PLAIN:
            with pytest.raises(RiverlogError):
                await client.add(("t", 1))
            assert await client.kinds(Write(topic, 0, transactional(client.producer))) == [None]
            return
        writes = [Write(topic, index, transactional(client.producer)) for index in (0, 1)]
        assert await client.kinds(*writes) == [None, ErrorKind.NOT_ENOUGH_REPLICAS]
        assert await client.kinds(writes[1]) == [None]

    run(story)


def test_a_lane_goes_on_behind_a_batch_that_was_not_admitted() -> None:
    async def story(broker: Broker) -> None:
        topic = await make_topic(broker, "t")
        client = Client(broker, Version.EPOCH_BUMPED)
        stranger = transactional(Producer(77, 3))
        refused_one = client.send(Write(topic, 0, stranger))
        behind = broker.producing.produce(LIBRARY_CALLER, [Write(topic, 0, batch())], Acks.ALL, client.lane)
        assert kinds_of(await settled(refused_one)) == [ErrorKind.INVALID_PRODUCER_ID_MAPPING]
        assert kinds_of(await settled(behind)) == [None]
        assert client.lane.tail is None

    run(story)


@pytest.mark.parametrize("late", [False, True])
def test_a_partition_that_is_in_a_request_twice_gets_neither_batch(late: bool) -> None:
    """A batch that must be looked into keeps its place behind one that was taken out."""

    async def story(broker: Broker) -> None:
        topic = await make_topic(broker, "t", partitions=2)
        compacted = await make_topic(broker, "c", cleanup_policy="compact")
        writes = [Write(topic, 0, batch(b"a")), Write(topic, 0, batch(b"b")), Write(compacted, 0, batch(b"c"))]
        writes += [Write(topic, 1, batch(b"d")), Write(compacted, 7, batch(b"e"))]
        outcomes = await settled(broker.producing.produce(LIBRARY_CALLER, writes, Acks.ALL, Lane()))
        kinds = [outcome.error.kind if isinstance(outcome, Refused) else None for outcome in outcomes]
        assert kinds == [ErrorKind.INVALID_RECORD, ErrorKind.INVALID_RECORD, None, None, ErrorKind.UNKNOWN_TOPIC]
        assert await values(broker, PartitionId(topic.topic_id, 0)) == []
        assert await values(broker, PartitionId(topic.topic_id, 1)) == [b"d"]
        assert await values(broker, PartitionId(compacted.topic_id, 0)) == [b"c"]

    run(story, late=late)


def test_the_counters_of_a_deleted_topic_go_with_it() -> None:
    async def story(broker: Broker) -> None:
        topic = await make_topic(broker, "t")
        await settled(broker.producing.produce(LIBRARY_CALLER, [Write(topic, 0, batch())], Acks.ALL, Lane()))
        assert topic.topic_id in broker.telemetry.topics
        await broker.topics.delete(LIBRARY_CALLER, [TopicName("t")])
        assert not broker.telemetry.topics

    run(story)
