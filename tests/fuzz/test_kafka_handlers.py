"""Every handler at every version it serves, asked well-typed nonsense: it answers what its version can carry, in bounded time.

Requests are drawn field by field: names that exist and that do not, ends of number ranges, duplicates, null wherever it may
be, batches that were changed. Nothing may come out of a handler but an answer (or none, or Hangup, for a produce with
acks=0), nothing may be logged as an error, and afterwards the broker does its work and has all that it acknowledged.
What waits is ended by moving the clock. Not here: bytes that are no request (`test_kafka_wire.py`), sockets
(`test_kafka_gateway.py`).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riverlog.base.ids import PartitionId, TopicId
from riverlog.base.units import DAY_MS
from riverlog.broker.broker import Broker
from riverlog.broker.settings import BrokerSettings
from riverlog.env.entropy import SeededEntropy
from riverlog.gateways.kafka.dispatch import HANDLERS, Hangup, load_handlers
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.fetch import FetchPartition, FetchRequest, FetchTopic
from riverlog.gateways.kafka.schema.heartbeat import HeartbeatRequest
from riverlog.gateways.kafka.schema.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from riverlog.gateways.kafka.schema.leave_group import LeaveGroupRequest
from riverlog.gateways.kafka.schema.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from riverlog.gateways.kafka.schema.offset_fetch import OffsetFetchRequest, OffsetFetchRequestTopic
from riverlog.gateways.kafka.schema.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from riverlog.gateways.kafka.schema.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from riverlog.gateways.kafka.wire import EncodeError, encode_request
from riverlog.records.builder import build_batch
from riverlog.records.checksum import crc32c
from riverlog.records.compression import Compression
from riverlog.records.header import read_header
from riverlog.records.record import NewRecord
from riverlog.server import compose
from riverlog.server.settings import load
from riverlog.storage.contract import Isolation
from riverlog.storage.verify import verify
from riverlog.testing.brokers import make_topic, memory_broker
from riverlog.testing.clock import ManualClock
from riverlog.testing.kafka_calls import Calls
from tests.properties.kafka_schema_values import BITS, MODULES, build, examples
from tools.kafka_schema.definitions import NO_VERSIONS, Field, Message, Module, Struct

TIME: Final = 1_700_000_000_000
KEPT: Final = "kept"  # no request names it: a topic and a group that must be there untouched at the end
TOPICS: Final = ("plain", "compacted", "stamped", "zipped")
GROUPS: Final = ("members", "offsets")
load_handlers()
KEYS: Final = [ApiKey(key) for key in sorted(HANDLERS)]
REQUESTS: Final[dict[int, tuple[Module, Message]]] = {
    module.api_key: (module, message)
    for module in MODULES.values()
    for message in module.messages
    if message.kind == "request"
}


# ------------------------------------------------------------------ values

LONG_ONES: Final = {  # by what stands for them in what Hypothesis prints
    "@x249": "x" * 249,
    "@x250": "x" * 250,
    "@nul": "\0" * 20_000,
    "@accents": "é" * 16_000,
    "@planes": "\U0010ffff" * 8_000,
    "@huge": "h" * 40_000,  # more than versions without compact strings can carry
}
LONG: Final = st.sampled_from(list(LONG_ONES))
ODD: Final = st.sampled_from(["", " ", ".", "..", "a/b", "a b", "\0", "\ud7ff", "-1", "1", "0", "@", "*"])
NAMES: Final = st.sampled_from([*TOPICS, *TOPICS, "missing", "absent.topic", "absent_topic", "__consumer_offsets"])
GROUP_NAMES: Final = st.sampled_from([*GROUPS, *GROUPS, "missing", "fresh"])
MEMBERS: Final = st.sampled_from(["@member", "@member", "", "nobody"])
CONFIG_NAMES: Final = st.sampled_from(
    [
        "cleanup.policy", "compression.type", "retention.ms", "segment.bytes", "max.message.bytes", "message.timestamp.type",
        "min.insync.replicas", "riverlog.durability", "flush.ms", "no.such.config", "retention.mss",
    ]
)  # fmt: skip
CONFIG_VALUES: Final = st.sampled_from(
    ["", "0", "1", "-1", "-2", "compact", "delete,compact", "gzip", "LogAppendTime", "nonsense", "1e9", "9" * 40, "1_000", "٣"]
)
TOPIC_IDS: Final = st.sampled_from(["@plain", "@compacted", "@stamped", bytes(16), bytes(15) + b"\1", b"\xff" * 16])
INDEXES: Final = st.sampled_from([0, 0, 0, 1, 2, 3, -1, 2**31 - 1, -(2**31)])
NEAR: Final = st.sampled_from([0, 0, 1, 1, 2, 3, -1, -2, 100])


def batch(**options: Any) -> bytes:
    records = [NewRecord(TIME + i, b"k%d" % i if i else None, b"v" * 20) for i in range(3)]
    return bytes(build_batch(records, **options))


BATCHES: Final = [
    *(batch(compression=codec) for codec in Compression),
    batch(producer_id=7, producer_epoch=0, base_sequence=0),
    batch(producer_id=7, producer_epoch=2**15 - 1, base_sequence=2**31 - 1),
]


def signed(data: bytes) -> bytes:
    """With the CRC that its bytes have, so that what was changed is looked at."""
    return data[:17] + struct.pack(">I", crc32c(data[21:])) + data[21:] if len(data) > 21 else data


@st.composite
def changed_batches(draw: Callable[[Any], Any]) -> bytes:
    data = bytearray(draw(st.sampled_from(BATCHES)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data) - 1) | st.integers(57, len(data) - 1) | st.sampled_from([8, 11, 16, 22, 26, 57, 60]))
        data[at] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    if draw(st.booleans()):
        del data[draw(st.integers(0, len(data))) :]
    return signed(bytes(data)) if draw(st.integers(0, 3)) else bytes(data)


RECORDS: Final = st.one_of(
    st.sampled_from(BATCHES),
    st.sampled_from(BATCHES),
    changed_batches(),
    st.tuples(st.sampled_from(BATCHES), st.sampled_from(BATCHES)).map(b"".join),
    st.binary(max_size=90),
)

# By the name of a field, in any request; what is not here goes by its type.
BY_NAME: Final[dict[str, st.SearchStrategy[Any]]] = {
    "index": INDEXES,
    "partition": INDEXES,
    "partition_index": INDEXES,
    "partition_indexes": INDEXES,
    "acks": st.sampled_from([-1, 0, 1, -1, 1, 2, -2, 2**15 - 1]),
    "num_partitions": st.sampled_from([-1, 0, 1, 3, 100_001, 2**31 - 1, -(2**31)]),
    "count": st.sampled_from([-1, 0, 1, 4, 5, 100_001, 2**31 - 1, -(2**31)]),
    "max_wait_ms": st.sampled_from([0, 0, 1, -1, 2**31 - 1]),
    "session_id": st.sampled_from([0, "@session", "@session", 2**31 - 1, -1]),
    "session_epoch": st.sampled_from([0, 1, 2, -1, -2, 2**31 - 1]),
    "isolation_level": st.sampled_from([0, 1, 2, -1]),
    "timestamp": st.integers(-8, 1) | st.sampled_from([TIME, TIME + 1, TIME + 9, 2**63 - 1, -(2**63)]),
    "session_timeout_ms": st.sampled_from([6_000, 30_000, 0, -1, 2**31 - 1, 1_800_000]),
    "rebalance_timeout_ms": st.sampled_from([-1, 0, 1, 60_000, 2**31 - 1, -(2**31)]),
    "generation_id": st.sampled_from(["@generation", "@generation", -1, 0, 2**31 - 1]),
    "generation_id_or_member_epoch": st.sampled_from(["@generation", -1, -1, 0, 2**31 - 1]),
    "retention_time_ms": st.sampled_from([-1, 0, 1000, 2**63 - 1, -(2**63)]),
    "protocol_type": st.sampled_from(["consumer", "consumer", "connect", ""]),
    "protocol_name": st.sampled_from(["range", "range", "roundrobin", ""]),
    "metadata": st.sampled_from([b"", b"\0\1\0\0\0\1\0\5plain\xff\xff\xff\xff", b"\0\1\x7f\xff\xff\xff", bytes(3000)]),
    "resource_type": st.sampled_from([2, 2, 2, 4, 8, 16, 32, 0, 3, -1, 127]),
    "config_operation": st.sampled_from([0, 1, 2, 3, 4, -1]),
    "key_type": st.sampled_from([0, 1, 2, 3, -1]),
    "endpoint_type": st.sampled_from([1, 2, 0, -1]),
    "response_partition_limit": st.sampled_from([0, 1, 2, 2000, -1, 2**31 - 1]),
    "topic_id": TOPIC_IDS,
    "group_id": GROUP_NAMES | ODD | LONG,
    "member_id": MEMBERS | LONG,
    "group_instance_id": st.sampled_from(["static", "other", ""]) | LONG,
    "groups": GROUP_NAMES | ODD | LONG,
    "groups_names": GROUP_NAMES | ODD | LONG,
    "configuration_keys": CONFIG_NAMES | LONG,
    "resource_name": NAMES | ODD | LONG,
    "committed_metadata": ODD | LONG,
    "value": CONFIG_VALUES | LONG,
    "resource_types": st.sampled_from([2, 4, 8, 16, 32, 0, -1]),
}


def scalar(field: Field, struct_: Struct) -> st.SearchStrategy[Any]:
    if struct_.fact_name in ("CreatableTopicConfig", "AlterableConfig") and field.name == "name":
        return CONFIG_NAMES | CONFIG_NAMES | LONG
    if struct_.fact_name == "JoinGroupRequestProtocol" and field.name == "name":
        return BY_NAME["protocol_name"] | LONG
    if struct_.fact_name == "TopicProduceData" and field.name == "name":
        return NAMES | NAMES | NAMES | ODD | LONG
    if field.name in BY_NAME:
        return BY_NAME[field.name]
    if field.type in BITS:
        half = 1 << BITS[field.type] - 1
        return NEAR | NEAR | st.sampled_from([half - 1, -half])
    match field.type:
        case "bool":
            return st.booleans()
        case "string":
            return NAMES | NAMES | ODD | LONG
        case "records":
            return RECORDS
        case "bytes":
            return st.binary(max_size=9)
        case "uuid":
            return TOPIC_IDS
    return st.just(0)


def value_of(field: Field, struct_: Struct) -> st.SearchStrategy[Any]:
    one = values_of(field.struct) if field.struct is not None else scalar(field, struct_)
    if field.array:
        lists = st.lists(one, min_size=1, max_size=3)
        one = lists | lists | one.map(lambda same: [same, same]) | st.just([])
    return one | st.none() if field.nullable != NO_VERSIONS else one


def values_of(struct_: Struct) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({field.name: value_of(field, struct_) for field in struct_.fields})


def requests_of(key: ApiKey) -> st.SearchStrategy[dict[str, Any]]:
    return values_of(REQUESTS[key][1].root)


def any_requests() -> st.SearchStrategy[list[tuple[ApiKey, int, dict[str, Any]]]]:
    """Some that are asked at once."""
    one = st.sampled_from(KEYS).flatmap(
        lambda key: st.tuples(st.just(key), st.sampled_from(list(HANDLERS[key].versions)), requests_of(key))
    )
    return st.lists(one, min_size=2, max_size=8)


# ------------------------------------------------------------------ the broker that is asked


class World:
    """A broker with topics, records, groups, and a client. Invariant: what `KEPT` names is never touched by a request."""

    def __init__(self, calls: Calls, clock: ManualClock, failures: list[object]) -> None:
        self.failures = failures  # that were logged, or came out of a task or a callback
        self.calls = calls
        self.broker = calls.broker
        self.clock = clock
        self.known: dict[str, Any] = {**LONG_ONES, "@session": 1, "@member": "", "@generation": 1}
        self.kept = b""
        self.only_produces = False  # nothing was deleted from "plain"
        self.produced: list[tuple[int, int, bytes]] = []  # partition of "plain", offset, what was acknowledged there

    async def prepare(self) -> None:
        for name, configs in (
            ("plain", {}),
            ("compacted", {"cleanup_policy": "compact"}),
            ("stamped", {"message_timestamp_type": "LogAppendTime"}),
            ("zipped", {"compression_type": "zstd"}),
            (KEPT, {"retention_ms": "-1"}),
        ):
            topic = await make_topic(self.broker, name, 3, **configs)
            self.known[f"@{name}"] = topic.topic_id
        for name in ("plain", "stamped", KEPT):
            self.kept = await self.produce(name)
        await self.commit("offsets", "plain", 2)
        await self.commit(KEPT, KEPT, 3)
        joined = await self.join("members")
        self.known["@member"], self.known["@generation"] = joined.member_id, joined.generation_id

    def placed(self, value: Any) -> Any:
        """With what this world knows in place of what stands for it."""
        if isinstance(value, dict):
            return {name: self.placed(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self.placed(each) for each in value]
        return self.known.get(value, value) if isinstance(value, str) and value[:1] == "@" else value

    async def ask(self, key: ApiKey, version: int, values: dict[str, Any]) -> Any:
        """The answer, None, or the Hangup of a produce that wants no answer."""
        module, message = REQUESTS[key]
        request = build(module, message.root, self.placed(values), version)
        try:
            encode_request(key, version, 1, "test", request)
        except EncodeError:
            return None  # a text that is too long for this version
        unanswered = key == ApiKey.PRODUCE and request.acks == 0
        try:
            answer = await self.calls.ask(key, version, request)
        except Hangup as hangup:
            if not unanswered:
                raise AssertionError("only a produce that wants no answer hangs up") from hangup
            return hangup
        assert (answer is None) == unanswered
        if key == ApiKey.PRODUCE and answer is not None:
            self.remember(request, answer)
        if key == ApiKey.FETCH and answer.session_id:
            self.known["@session"] = answer.session_id
        return answer

    def remember(self, request: Any, answer: Any) -> None:
        """What of an own, plain kind was acknowledged."""
        plain = ("plain", self.known["@plain"])
        for asked, told in zip(request.topic_data, answer.responses, strict=True):
            if asked.name in plain or asked.topic_id in plain:
                for one, outcome in zip(asked.partition_data, told.partition_responses, strict=True):
                    assert one.index == outcome.index
                    if outcome.error_code == 0 and read_header(one.records).producer_id < 0:
                        self.produced.append((one.index, outcome.base_offset, bytes(one.records)))

    async def ends(self, asked: Awaitable[Any]) -> Any:
        """The outcome. What does not come by itself comes by moving the clock: a minute, an hour, a month."""
        task = asyncio.ensure_future(asked)
        for minutes in (0, 0, 0, 1, *[0] * 20, 60, 40_000, *[0] * 500):
            for _ in range(30):
                await asyncio.sleep(0)
                if task.done():
                    assert not self.failures, self.failures
                    return task.result()
            self.broker.fetching.close()  # ends the long polls, whose time is the loop's
            self.clock.advance(minutes * 60_000)
            await asyncio.wait((task,), timeout=0.01)  # batches are looked into on a thread
        task.cancel()
        raise AssertionError("no answer, however much time passes")

    # what a client does

    async def produce(self, topic: str) -> bytes:
        records = batch()
        data = TopicProduceData(name=topic, partition_data=[PartitionProduceData(index=0, records=records)])
        request = ProduceRequest(acks=-1, timeout_ms=1000, topic_data=[data])
        (told,) = (await self.ends(self.calls.ask(ApiKey.PRODUCE, 9, request))).responses[0].partition_responses
        assert told.error_code == 0, told
        return records

    async def fetch(self, topic: str, partition: int = 0) -> bytes:
        asked = FetchPartition(partition=partition, fetch_offset=0, partition_max_bytes=1 << 30)
        request = FetchRequest(
            max_wait_ms=0, min_bytes=0, max_bytes=1 << 30, session_epoch=-1, topics=[FetchTopic(topic=topic, partitions=[asked])]
        )
        (told,) = (await self.ends(self.calls.ask(ApiKey.FETCH, 12, request))).responses[0].partitions
        assert told.error_code == 0, told
        return bytes(told.records)

    async def join(self, group: str) -> Any:
        protocols = [JoinGroupRequestProtocol(name="range", metadata=BY_NAME["metadata"].elements[1])]  # type: ignore[attr-defined]
        # longer than the minute that `ends` may let pass while a slow disk commits
        fields = {"group_id": group, "session_timeout_ms": 1_800_000, "rebalance_timeout_ms": 60_000, "protocol_type": "consumer"}
        request = JoinGroupRequest(**fields, member_id="", protocols=protocols)  # type: ignore[arg-type]
        joined = await self.ends(self.calls.ask(ApiKey.JOIN_GROUP, 2, request))
        assert joined.error_code == 0, joined
        share = SyncGroupRequestAssignment(member_id=joined.member_id, assignment=b"mine")
        sync = SyncGroupRequest(
            group_id=group, generation_id=joined.generation_id, member_id=joined.member_id, assignments=[share]
        )
        synced = await self.ends(self.calls.ask(ApiKey.SYNC_GROUP, 1, sync))
        assert (synced.error_code, bytes(synced.assignment)) == (0, b"mine")
        return joined

    async def commit(self, group: str, topic: str, offset: int, member: str = "", generation: int = -1) -> None:
        partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=offset, committed_metadata="")
        request = OffsetCommitRequest(
            group_id=group,
            generation_id_or_member_epoch=generation,
            member_id=member,
            topics=[OffsetCommitRequestTopic(name=topic, partitions=[partition])],
        )
        answer = await self.ends(self.calls.ask(ApiKey.OFFSET_COMMIT, 5, request))
        assert answer.topics[0].partitions[0].error_code == 0, answer

    async def committed(self, group: str, topic: str) -> int:
        request = OffsetFetchRequest(group_id=group, topics=[OffsetFetchRequestTopic(name=topic, partition_indexes=[0])])
        answer = await self.ends(self.calls.ask(ApiKey.OFFSET_FETCH, 5, request))
        offset: int = answer.topics[0].partitions[0].committed_offset
        return offset

    async def check(self) -> None:
        """Nothing was lost, nothing waits, and all of it works."""
        await self.check_kept()
        fresh = "fresh-topic"
        await make_topic(self.broker, fresh, 1, retention_ms="-1")
        sent = await self.produce(fresh)
        assert (await self.fetch(fresh))[16:] == sent[16:]
        joined = await self.join("fresh-group")
        member = (joined.member_id, joined.generation_id)
        beat = HeartbeatRequest(group_id="fresh-group", generation_id=member[1], member_id=member[0])
        assert (await self.ends(self.calls.ask(ApiKey.HEARTBEAT, 1, beat))).error_code == 0
        await self.commit("fresh-group", fresh, 1, *member)
        assert await self.committed("fresh-group", fresh) == 1
        leave = LeaveGroupRequest(group_id="fresh-group", member_id=member[0])
        assert (await self.ends(self.calls.ask(ApiKey.LEAVE_GROUP, 1, leave))).error_code == 0
        assert not self.broker.fetching.parked
        assert self.calls.lane.tail is None

    async def check_kept(self) -> None:
        assert (await self.fetch(KEPT))[16:] == self.kept[16:]
        assert await self.committed(KEPT, KEPT) == 3

    async def check_produced(self) -> None:
        """Every batch that was acknowledged lies at its offset as it was sent, but for its first 16 bytes."""
        plain = [PartitionId(TopicId(self.known["@plain"]), partition) for partition in range(3)]
        await self.broker.engine.cut(plain, Isolation.READ_UNCOMMITTED)  # what acks=1 has answered may not be visible yet
        logs = {partition: await self.fetch("plain", partition) for partition in range(3)}
        at: dict[tuple[int, int], bytes] = {}
        for partition, log in logs.items():
            position = 0
            while position < len(log):
                header = read_header(log, position)
                at[partition, header.base_offset] = log[position : position + header.size]
                position += header.size
        for partition, offset, sent in self.produced:
            assert at[partition, offset][16:] == sent[16:]


@asynccontextmanager
async def broker_on_disk(directory: Path, clock: ManualClock) -> AsyncIterator[Broker]:
    """As a server is put together, but for the clock and the sockets."""
    settings = load(
        None, {"log.dirs": str(directory), "log.retention.ms": "-1", "offsets.retention.minutes": str(2**31 - 1)}
    )
    failures: list[str] = []
    async with AsyncExitStack() as stack:
        entropy = SeededEntropy(1)
        stores = await compose._in_directory(settings, clock, entropy, failures.append, stack)
        yield await compose._broker(settings, stores, clock, entropy, stack)
    assert not failures, failures


async def started_again(directory: Path, before: World) -> None:
    """All that was kept is there after a stop and a start."""
    async with broker_on_disk(directory, before.clock) as broker:
        again = World(Calls(broker), before.clock, before.failures)
        again.known, again.kept, again.produced = before.known, before.kept, before.produced
        await again.check_kept()
        if before.only_produces:
            await again.check_produced()


@contextmanager
def world(where: str, directory: Path) -> Iterator[tuple[World, asyncio.Runner]]:
    """Fails where an error was logged, or where a task or a callback of the loop failed."""
    failures: list[object] = []
    watch = logging.Handler(logging.ERROR)
    watch.emit = lambda record: failures.append(record.getMessage() + (watch.format(record) if record.exc_info else ""))  # type: ignore[method-assign]
    log = logging.getLogger("riverlog")
    log.addHandler(watch)
    clock = ManualClock(wall_ms=TIME)
    if where == "on disk":
        opened = broker_on_disk(directory, clock)
    else:
        settings = BrokerSettings(offsets_retention_ms=10_000_000 * DAY_MS, topic_defaults={"retention.ms": "-1"})
        opened = memory_broker(settings=settings, late=where == "late", clock=clock)
    try:
        with asyncio.Runner() as runner:
            runner.get_loop().set_exception_handler(lambda _, context: failures.append(context))
            made = World(Calls(runner.run(opened.__aenter__())), clock, failures)
            runner.run(made.prepare())
            yield made, runner
            runner.run(made.check())
            gc.collect()
            assert not failures, failures
            runner.run(opened.__aexit__(None, None, None))
        if where == "on disk":
            assert not list(verify(str(directory)))
            asyncio.run(started_again(directory, made))
        assert not failures, failures
    finally:
        log.removeHandler(watch)


STORES: Final = pytest.mark.parametrize("where", ["at once", "late", "on disk"])


@STORES
@pytest.mark.parametrize("key", KEYS, ids=[key.name for key in KEYS])
def test_every_version_answers(key: ApiKey, where: str, tmp_path: Path) -> None:
    count = 250 if key in (ApiKey.PRODUCE, ApiKey.FETCH) else 100
    with world(where, tmp_path) as (made, runner):

        @examples(count // 4 if where == "on disk" else count)
        @given(requests_of(key))
        def ask_all(values: dict[str, Any]) -> None:
            for version in HANDLERS[key].versions:
                runner.run(made.ends(made.ask(key, version, values)))

        ask_all()
        if key == ApiKey.PRODUCE:
            assert made.produced
            made.only_produces = True
            runner.run(made.check_produced())


@STORES
def test_many_at_once_answer(where: str, tmp_path: Path) -> None:
    """Topics go while they are written and read, groups while they are joined."""
    with world(where, tmp_path) as (made, runner):

        async def all_of(requests: list[tuple[ApiKey, int, dict[str, Any]]]) -> None:
            async with asyncio.TaskGroup() as group:
                for key, version, values in requests:
                    group.create_task(made.ends(made.ask(key, version, values)))

        @examples(150 if where == "on disk" else 300)
        @given(any_requests())
        def ask_together(requests: list[tuple[ApiKey, int, dict[str, Any]]]) -> None:
            runner.run(all_of(requests))

        ask_together()


def texts_of_any_length() -> Iterator[tuple[ApiKey, int, dict[str, Any]]]:
    """Requests of versions with compact strings that put a text of 40,000 bytes where older versions answer it."""
    huge = "@huge"
    join = {
        "group_id": "texts", "session_timeout_ms": 30_000, "rebalance_timeout_ms": 60_000, "member_id": "",
        "group_instance_id": "static", "protocol_type": "consumer", "protocols": [{"name": "range", "metadata": b""}],
        "reason": huge,
    }  # fmt: skip
    yield ApiKey.JOIN_GROUP, 9, join
    for name in ("group_id", "group_instance_id", "protocol_type"):
        yield ApiKey.JOIN_GROUP, 9, {**join, "group_id": f"texts of {name}", name: huge}
    protocols = [{"name": huge, "metadata": b""}]
    yield ApiKey.JOIN_GROUP, 9, {**join, "group_id": "texts of protocols", "protocols": protocols}
    partition = {"partition_index": 0, "committed_offset": 1, "committed_leader_epoch": -1, "committed_metadata": huge}
    commit = {
        "group_id": "texts", "generation_id_or_member_epoch": -1, "member_id": "", "group_instance_id": None,
        "topics": [{"name": "plain", "topic_id": "@plain", "partitions": [partition]}],
    }  # fmt: skip
    yield ApiKey.OFFSET_COMMIT, 9, commit
    yield ApiKey.OFFSET_COMMIT, 9, {**commit, "group_id": huge}
    for name in ("follower.replication.throttled.replicas", "cleanup.policy", "compression.type"):
        config = {"name": name, "config_operation": 0, "value": huge}
        resource = {"resource_type": 2, "resource_name": "plain", "configs": [config]}
        yield ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, {"resources": [resource], "validate_only": False}
        topic = {"name": "texts", "num_partitions": 1, "replication_factor": 1, "assignments": [], "configs": [config]}
        yield ApiKey.CREATE_TOPICS, 7, {"topics": [topic], "timeout_ms": 0, "validate_only": False}


def older_questions() -> Iterator[tuple[ApiKey, dict[str, Any]]]:
    """What tells texts that others have sent."""
    groups = ["texts", "texts of group_instance_id", "texts of protocol_type", "texts of protocols"]
    yield ApiKey.LIST_GROUPS, {"states_filter": [], "types_filter": []}
    yield ApiKey.DESCRIBE_GROUPS, {"groups": groups, "include_authorized_operations": False}
    resources = [{"resource_type": 2, "resource_name": name, "configuration_keys": None} for name in ("plain", "texts")]
    configs = {"resources": resources, "include_synonyms": True, "include_documentation": True}
    yield ApiKey.DESCRIBE_CONFIGS, configs
    partitions = {"name": "plain", "topic_id": "@plain", "partition_indexes": [0]}
    yield ApiKey.OFFSET_FETCH, {"group_id": "texts", "topics": [partitions], "require_stable": False, "groups": []}


def test_no_text_is_kept_that_an_older_version_cannot_tell(tmp_path: Path) -> None:
    """One client's long name must not take ListGroups from all the others."""
    with world("at once", tmp_path) as (made, runner):
        for key, version, values in texts_of_any_length():
            runner.run(made.ends(made.ask(key, version, values)))
        for key, values in older_questions():
            for version in HANDLERS[key].versions:
                runner.run(made.ends(made.ask(key, version, values)))


def test_what_is_named_a_thousand_times_is_answered_once(tmp_path: Path) -> None:
    """Else a question of some kilobytes gets gigabytes."""
    many = range(1000)
    group = {"group_id": "offsets", "topics": None, "member_id": None, "member_epoch": -1}
    plain = {"name": "plain", "topic_id": "@plain", "partition_indexes": [0] * 1000}
    resource = {"resource_type": 2, "resource_name": "plain", "configuration_keys": None}
    cases: list[tuple[ApiKey, int, dict[str, Any], Callable[[Any], Any]]] = [
        (
            ApiKey.DESCRIBE_CONFIGS, 4, {"resources": [resource] * 1000, "include_synonyms": True, "include_documentation": True},
            lambda answer: answer.results,
        ),
        (
            ApiKey.DESCRIBE_GROUPS, 5, {"groups": ["members"] * 1000, "include_authorized_operations": False},
            lambda answer: answer.groups,
        ),
        (ApiKey.OFFSET_FETCH, 8, {"groups": [group] * 1000, "require_stable": False}, lambda answer: answer.groups),
        (
            ApiKey.OFFSET_FETCH, 5, {"group_id": "offsets", "topics": [plain, plain], "require_stable": False},
            lambda answer: [one for topic in answer.topics for one in topic.partitions],
        ),
        (
            ApiKey.METADATA, 12,
            {
                "topics": [{"name": f"name {each}", "topic_id": "@plain"} for each in many], "allow_auto_topic_creation": True,
                "include_cluster_authorized_operations": False, "include_topic_authorized_operations": True,
            },
            lambda answer: answer.topics,
        ),
    ]  # fmt: skip
    with world("at once", tmp_path) as (made, runner):
        for key, version, values, answered in cases:
            answer = runner.run(made.ends(made.ask(key, version, values)))
            assert len(answered(answer)) == 1, key
