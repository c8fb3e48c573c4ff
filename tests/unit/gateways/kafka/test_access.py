"""Under an access that allows nothing, every api key answers Kafka's authorization error or leaves the resource out.

One table, an entry an api key; each is asked at every version that is served, of a topic and a group that exist and of ones that
do not: a refusal never tells which. Afterwards nothing has changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import pytest

from riverlog.gateways.kafka.dispatch import HANDLERS, Hangup, load_handlers
from riverlog.gateways.kafka.schema import (
    add_offsets_to_txn,
    add_partitions_to_txn,
    alter_configs,
    alter_partition_reassignments,
    alter_replica_log_dirs,
    api_versions,
    consumer_group_describe,
    consumer_group_heartbeat,
    create_partitions,
    create_topics,
    delete_groups,
    delete_records,
    delete_topics,
    describe_cluster,
    describe_configs,
    describe_groups,
    describe_log_dirs,
    describe_producers,
    describe_topic_partitions,
    describe_transactions,
    elect_leaders,
    end_txn,
    fetch,
    find_coordinator,
    heartbeat,
    incremental_alter_configs,
    init_producer_id,
    join_group,
    leave_group,
    list_config_resources,
    list_groups,
    list_offsets,
    list_partition_reassignments,
    list_transactions,
    metadata,
    offset_commit,
    offset_delete,
    offset_fetch,
    offset_for_leader_epoch,
    produce,
    sync_group,
    txn_offset_commit,
    write_txn_markers,
)
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.wire import Message
from riverlog.records.builder import build_batch
from riverlog.records.record import NewRecord
from riverlog.state.access import LIBRARY_CALLER, Caller, DenyAll, Operation, Resource
from riverlog.testing.brokers import make_topic, memory_broker
from riverlog.testing.kafka_calls import Calls

TOPIC: Final = ErrorCode.TOPIC_AUTHORIZATION_FAILED
GROUP: Final = ErrorCode.GROUP_AUTHORIZATION_FAILED
CLUSTER: Final = ErrorCode.CLUSTER_AUTHORIZATION_FAILED
TRANSACTIONAL_ID: Final = ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
TIME: Final = 1_700_000_000_000
load_handlers()


class Switch:
    """Allows all until it is `shut`; then what `DenyAll` does."""

    def __init__(self) -> None:
        self.shut = False
        self.asked: list[tuple[Operation, Resource]] = []

    def allows(self, caller: Caller, operation: Operation, resource: Resource) -> bool:
        self.asked.append((operation, resource))
        return not self.shut or DenyAll().allows(caller, operation, resource)


class Names(NamedTuple):
    """What a request is about."""

    topic: str
    topic_id: bytes
    group: str


class Entry(NamedTuple):
    """`requests`: of those names. `code`: what must be all the error codes of the answer, at least one; None: there must be
    none, and the fields of the answer that are named in `empty` hold nothing."""

    requests: Sequence[Message]
    code: ErrorCode | None
    empty: Sequence[str] = ()
    coded_from: int = 0  # the first version with a field for the code; older ones leave out what is in `empty`


def batch() -> bytes:
    return bytes(build_batch([NewRecord(TIME, b"k", b"v")]))


def of_topics(names: Names) -> Iterator[tuple[ApiKey, Entry]]:
    topic, topic_id, _ = names
    written = [produce.PartitionProduceData(index=index, records=batch()) for index in (0, 99)]
    data = produce.TopicProduceData(name=topic, topic_id=topic_id, partition_data=written)
    yield ApiKey.PRODUCE, Entry([produce.ProduceRequest(acks=-1, timeout_ms=1, topic_data=[data])], TOPIC)
    read = [fetch.FetchPartition(partition=index, fetch_offset=0, partition_max_bytes=9) for index in (0, 99)]
    asked = fetch.FetchTopic(topic=topic, topic_id=topic_id, partitions=read)
    each = [
        fetch.FetchRequest(max_wait_ms=60_000, min_bytes=1, max_bytes=9, session_epoch=epoch, topics=[asked]) for epoch in (-1, 0)
    ]
    yield ApiKey.FETCH, Entry(each, TOPIC)
    times = [
        list_offsets.ListOffsetsPartition(partition_index=index, timestamp=time) for index in (0, 99) for time in (-1, -2, TIME)
    ]
    listed = list_offsets.ListOffsetsTopic(name=topic, partitions=times)
    yield ApiKey.LIST_OFFSETS, Entry([list_offsets.ListOffsetsRequest(replica_id=-1, topics=[listed])], TOPIC)
    named = metadata.MetadataRequestTopic(name=topic)
    yield ApiKey.METADATA, Entry([metadata.MetadataRequest(topics=[named], allow_auto_topic_creation=True)], TOPIC)
    made = create_topics.CreatableTopic(name=topic, num_partitions=1, replication_factor=1, assignments=[], configs=[])
    requests = [create_topics.CreateTopicsRequest(topics=[made], timeout_ms=1, validate_only=only) for only in (False, True)]
    yield ApiKey.CREATE_TOPICS, Entry(requests, TOPIC)
    doomed = delete_topics.DeleteTopicState(name=topic)
    yield ApiKey.DELETE_TOPICS, Entry(
        [delete_topics.DeleteTopicsRequest(topics=[doomed], topic_names=[topic], timeout_ms=1)], TOPIC
    )
    cut = [delete_records.DeleteRecordsPartition(partition_index=index, offset=-1) for index in (0, 99)]
    records = delete_records.DeleteRecordsTopic(name=topic, partitions=cut)
    yield ApiKey.DELETE_RECORDS, Entry([delete_records.DeleteRecordsRequest(topics=[records], timeout_ms=1)], TOPIC)
    writers = describe_producers.TopicRequest(name=topic, partition_indexes=[0, 99])
    yield ApiKey.DESCRIBE_PRODUCERS, Entry([describe_producers.DescribeProducersRequest(topics=[writers])], TOPIC)
    epochs = [
        offset_for_leader_epoch.OffsetForLeaderPartition(partition=index, current_leader_epoch=-1, leader_epoch=0)
        for index in (0, 99)
    ]
    ends = offset_for_leader_epoch.OffsetForLeaderTopic(topic=topic, partitions=epochs)
    yield ApiKey.OFFSET_FOR_LEADER_EPOCH, Entry(
        [offset_for_leader_epoch.OffsetForLeaderEpochRequest(replica_id=-1, topics=[ends])], TOPIC
    )
    wider = create_partitions.CreatePartitionsTopic(name=topic, count=9, assignments=None)
    yield ApiKey.CREATE_PARTITIONS, Entry(
        [create_partitions.CreatePartitionsRequest(topics=[wider], timeout_ms=1, validate_only=False)], TOPIC
    )
    page = describe_topic_partitions.TopicRequest(name=topic)
    yield ApiKey.DESCRIBE_TOPIC_PARTITIONS, Entry(
        [describe_topic_partitions.DescribeTopicPartitionsRequest(topics=[page])], TOPIC
    )


def of_configs(names: Names) -> Iterator[tuple[ApiKey, Entry]]:
    resource = describe_configs.DescribeConfigsResource(resource_type=2, resource_name=names.topic, configuration_keys=None)
    yield ApiKey.DESCRIBE_CONFIGS, Entry([describe_configs.DescribeConfigsRequest(resources=[resource])], TOPIC)
    value = alter_configs.AlterableConfig(name="retention.ms", value="1")
    altered = alter_configs.AlterConfigsResource(resource_type=2, resource_name=names.topic, configs=[value])
    yield ApiKey.ALTER_CONFIGS, Entry([alter_configs.AlterConfigsRequest(resources=[altered], validate_only=False)], TOPIC)
    change = incremental_alter_configs.AlterableConfig(name="retention.ms", config_operation=0, value="1")
    one = incremental_alter_configs.AlterConfigsResource(resource_type=2, resource_name=names.topic, configs=[change])
    yield ApiKey.INCREMENTAL_ALTER_CONFIGS, Entry(
        [incremental_alter_configs.IncrementalAlterConfigsRequest(resources=[one], validate_only=False)], TOPIC
    )


def of_groups(names: Names) -> Iterator[tuple[ApiKey, Entry]]:
    topic, topic_id, group = names
    offset = offset_commit.OffsetCommitRequestPartition(partition_index=0, committed_offset=7, committed_metadata="")
    committed = offset_commit.OffsetCommitRequestTopic(name=topic, topic_id=topic_id, partitions=[offset])
    yield ApiKey.OFFSET_COMMIT, Entry([offset_commit.OffsetCommitRequest(group_id=group, topics=[committed])], GROUP)
    of_topic = offset_fetch.OffsetFetchRequestTopic(name=topic, partition_indexes=[0])
    of_group = offset_fetch.OffsetFetchRequestTopics(name=topic, topic_id=topic_id, partition_indexes=[0])
    groups = [offset_fetch.OffsetFetchRequestGroup(group_id=group, topics=topics) for topics in ([of_group], None)]
    yield ApiKey.OFFSET_FETCH, Entry(
        [offset_fetch.OffsetFetchRequest(group_id=group, topics=[of_topic], groups=groups)], GROUP
    )
    yield ApiKey.FIND_COORDINATOR, Entry(
        [find_coordinator.FindCoordinatorRequest(key=group, key_type=0, coordinator_keys=[group])], GROUP
    )
    protocol = join_group.JoinGroupRequestProtocol(name="range", metadata=b"")
    join = join_group.JoinGroupRequest(
        group_id=group, session_timeout_ms=10_000, rebalance_timeout_ms=10_000, member_id="", protocol_type="consumer",
        protocols=[protocol],
    )  # fmt: skip
    yield ApiKey.JOIN_GROUP, Entry([join], GROUP)
    yield ApiKey.HEARTBEAT, Entry([heartbeat.HeartbeatRequest(group_id=group, generation_id=1, member_id="m")], GROUP)
    leaver = leave_group.MemberIdentity(member_id="m")
    yield ApiKey.LEAVE_GROUP, Entry(
        [leave_group.LeaveGroupRequest(group_id=group, member_id="m", members=members) for members in ([leaver], [])], GROUP
    )
    sync = sync_group.SyncGroupRequest(
        group_id=group, generation_id=1, member_id="m", protocol_type="consumer", protocol_name="range", assignments=[]
    )
    yield ApiKey.SYNC_GROUP, Entry([sync], GROUP)
    yield ApiKey.DESCRIBE_GROUPS, Entry([describe_groups.DescribeGroupsRequest(groups=[group])], GROUP)
    yield ApiKey.LIST_GROUPS, Entry([list_groups.ListGroupsRequest()], None, empty=["groups"])
    yield ApiKey.DELETE_GROUPS, Entry([delete_groups.DeleteGroupsRequest(groups_names=[group])], GROUP)
    forgotten = offset_delete.OffsetDeleteRequestPartition(partition_index=0)
    gone = offset_delete.OffsetDeleteRequestTopic(name=topic, partitions=[forgotten])
    beat = consumer_group_heartbeat.ConsumerGroupHeartbeatRequest(
        group_id=group, member_id="m", rebalance_timeout_ms=1_000, subscribed_topic_names=[topic], topic_partitions=[]
    )
    yield ApiKey.CONSUMER_GROUP_HEARTBEAT, Entry([beat], GROUP)
    shown = consumer_group_describe.ConsumerGroupDescribeRequest(group_ids=[group])
    yield ApiKey.CONSUMER_GROUP_DESCRIBE, Entry([shown], GROUP)
    yield ApiKey.OFFSET_DELETE, Entry([offset_delete.OffsetDeleteRequest(group_id=group, topics=[gone])], GROUP)


def of_the_cluster(names: Names) -> Iterator[tuple[ApiKey, Entry]]:
    yield ApiKey.INIT_PRODUCER_ID, Entry(
        [init_producer_id.InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=1)], CLUSTER
    )
    log_dirs = describe_log_dirs.DescribableLogDirTopic(topic=names.topic, partitions=[0])
    yield ApiKey.DESCRIBE_LOG_DIRS, Entry(
        [describe_log_dirs.DescribeLogDirsRequest(topics=topics) for topics in (None, [log_dirs])],
        CLUSTER,
        empty=["results"],
        coded_from=3,
    )
    yield ApiKey.LIST_CONFIG_RESOURCES, Entry([list_config_resources.ListConfigResourcesRequest()], CLUSTER)
    moved = alter_replica_log_dirs.AlterReplicaLogDirTopic(name=names.topic, partitions=[0])
    directory = alter_replica_log_dirs.AlterReplicaLogDir(path="topics", topics=[moved])
    yield ApiKey.ALTER_REPLICA_LOG_DIRS, Entry(
        [alter_replica_log_dirs.AlterReplicaLogDirsRequest(dirs=[directory])], CLUSTER
    )
    elected = elect_leaders.TopicPartitions(topic=names.topic, partitions=[0])
    yield ApiKey.ELECT_LEADERS, Entry([elect_leaders.ElectLeadersRequest(topic_partitions=[elected])], CLUSTER)
    one = alter_partition_reassignments.ReassignablePartition(partition_index=0, replicas=[1])
    topic = alter_partition_reassignments.ReassignableTopic(name=names.topic, partitions=[one])
    yield ApiKey.ALTER_PARTITION_REASSIGNMENTS, Entry(
        [alter_partition_reassignments.AlterPartitionReassignmentsRequest(topics=[topic])], CLUSTER
    )
    moves = list_partition_reassignments.ListPartitionReassignmentsRequest(topics=None)
    yield ApiKey.LIST_PARTITION_REASSIGNMENTS, Entry([moves], CLUSTER)


def of_transactions(names: Names) -> Iterator[tuple[ApiKey, Entry]]:
    topic, _, group = names
    added = add_partitions_to_txn.AddPartitionsToTxnTopic(name=topic, partitions=[0, 99])
    one = add_partitions_to_txn.AddPartitionsToTxnTransaction(transactional_id="t", topics=[added])
    yield ApiKey.ADD_PARTITIONS_TO_TXN, Entry(
        [
            add_partitions_to_txn.AddPartitionsToTxnRequest(
                v3_and_below_transactional_id="t", v3_and_below_topics=[added], transactions=[one]
            )
        ],
        TRANSACTIONAL_ID,
    )
    grouped = add_offsets_to_txn.AddOffsetsToTxnRequest(transactional_id="t", group_id=group)
    yield ApiKey.ADD_OFFSETS_TO_TXN, Entry([grouped], TRANSACTIONAL_ID)
    ends = [end_txn.EndTxnRequest(transactional_id="t", committed=committed) for committed in (True, False)]
    yield ApiKey.END_TXN, Entry(ends, TRANSACTIONAL_ID)
    offset = txn_offset_commit.TxnOffsetCommitRequestPartition(partition_index=0, committed_offset=7)
    pending = txn_offset_commit.TxnOffsetCommitRequestTopic(name=topic, partitions=[offset])
    yield ApiKey.TXN_OFFSET_COMMIT, Entry(
        [txn_offset_commit.TxnOffsetCommitRequest(transactional_id="t", group_id=group, topics=[pending])], TRANSACTIONAL_ID
    )
    marked = write_txn_markers.WritableTxnMarkerTopic(name=topic, partition_indexes=[0, 99])
    marker = write_txn_markers.WritableTxnMarker(producer_id=1, topics=[marked])
    yield ApiKey.WRITE_TXN_MARKERS, Entry([write_txn_markers.WriteTxnMarkersRequest(markers=[marker])], CLUSTER)
    described = describe_transactions.DescribeTransactionsRequest(transactional_ids=["t"])
    yield ApiKey.DESCRIBE_TRANSACTIONS, Entry([described], TRANSACTIONAL_ID)
    yield ApiKey.LIST_TRANSACTIONS, Entry(
        [list_transactions.ListTransactionsRequest()], None, empty=["transaction_states"]
    )


# Open to everybody, as in Kafka.
OPEN: Final[Mapping[ApiKey, tuple[Message, str]]] = {
    ApiKey.API_VERSIONS: (
        api_versions.ApiVersionsRequest(),
        "a client asks before it has said who it is, and learns only what the broker's version can do",
    ),
    ApiKey.DESCRIBE_CLUSTER: (
        describe_cluster.DescribeClusterRequest(include_cluster_authorized_operations=True),
        "whoever may connect may know the address that it connected to; what it may do there is said to be nothing",
    ),
}


def table(names: Names) -> dict[ApiKey, Entry]:
    parts = (of_topics, of_configs, of_groups, of_transactions, of_the_cluster)
    return {key: entry for entries in parts for key, entry in entries(names)}


ABSENT: Final = Names("absent", b"\7" * 16, "nobody")


def codes_in(value: Any) -> Iterator[int]:
    """All error codes of an answer but those of parts that could not be: a code of 0 beside a list with codes of its own is
    the answer's own."""
    if isinstance(value, Message):
        inner = [code for name in value.__slots__ for code in codes_in(getattr(value, name))]
        own = getattr(value, "error_code", getattr(value, "partition_error_code", None))
        yield from inner
        if own or (own == 0 and not inner):
            yield own
    elif isinstance(value, list | tuple):
        for each in value:
            yield from codes_in(each)


async def prepared(calls: Calls) -> Names:
    """A topic with a record, a group with an offset, a transactional id."""
    await calls.broker.transactions.init(LIBRARY_CALLER, "t", 60_000)
    topic = await make_topic(calls.broker, "there")
    names = Names("there", topic.topic_id, "readers")
    entries = table(names)
    one = produce.PartitionProduceData(index=0, records=batch())
    data = produce.TopicProduceData(name="there", partition_data=[one])
    await calls.ask(ApiKey.PRODUCE, 9, produce.ProduceRequest(acks=-1, timeout_ms=1, topic_data=[data]))
    answer = await calls.ask(ApiKey.OFFSET_COMMIT, 9, entries[ApiKey.OFFSET_COMMIT].requests[0])
    assert list(codes_in(answer)) == [0]
    return names


async def state(calls: Calls) -> list[Any]:
    """What a request could have changed."""
    broker = calls.broker
    groups = await broker.groups.list_groups(Caller("User:test", "", "", ""))
    topics = sorted((one.name, one.topic_id, one.partition_count, dict(one.overrides)) for one in broker.topics.by_name.values())
    logs = [(partition.log_start, partition.log_end) for partition in broker.engine.partitions.values()]  # type: ignore[attr-defined]
    return [topics, logs, groups, sorted(broker.groups.committed()), len(calls.sessions)]


def test_every_api_key_is_in_the_table_once() -> None:
    assert set(table(ABSENT)) | set(OPEN) == set(HANDLERS)
    assert not set(table(ABSENT)) & set(OPEN)


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
@pytest.mark.parametrize("key", table(ABSENT), ids=lambda key: key.name)
def test_nothing_is_allowed_nothing_told_nothing_done(key: ApiKey, late: bool) -> None:
    async def story() -> None:
        switch = Switch()
        async with memory_broker(access=switch, late=late) as broker:
            calls = Calls(broker)
            there = await prepared(calls)
            before = await state(calls)
            for names in (there, ABSENT):
                requests, code, empty, coded_from = table(names)[key]
                for version in HANDLERS[key].versions:
                    for request in requests:
                        switch.shut, switch.asked = True, []
                        answer = await calls.ask(key, version, request)
                        codes = list(codes_in(answer))
                        by_id = names is ABSENT and key in (ApiKey.PRODUCE, ApiKey.FETCH) and version >= 13
                        expected = ErrorCode.UNKNOWN_TOPIC_ID if by_id else code or ErrorCode.NONE
                        if key is ApiKey.ADD_PARTITIONS_TO_TXN and version >= 4:
                            expected = CLUSTER  # from there on it is for brokers
                        if version < coded_from:
                            expected = ErrorCode.NONE
                        assert set(codes) == {int(expected)}, (names, version, answer)
                        assert by_id or switch.asked, "nobody was asked whether that is allowed"
                        assert not any(getattr(answer, name) for name in empty)
                        switch.shut = False
                        calls.sessions.close(getattr(answer, "session_id", 0))
            assert await state(calls) == before

    asyncio.run(asyncio.wait_for(story(), 20))


def ask_denied(key: ApiKey, version: int, request: Message) -> Any:
    async def story() -> Any:
        switch = Switch()
        async with memory_broker(access=switch) as broker:
            calls = Calls(broker)
            await prepared(calls)
            switch.shut = True
            return await calls.ask(key, version, request)

    return asyncio.run(story())


@pytest.mark.parametrize("key", OPEN, ids=lambda key: key.name)
def test_what_is_open_to_all_answers_all(key: ApiKey) -> None:
    request, reason = OPEN[key]
    assert reason
    for version in HANDLERS[key].versions:
        answer = ask_denied(key, version, request)
        assert answer.error_code == 0
        assert getattr(answer, "cluster_authorized_operations", 0) == 0


def test_all_topics_are_none() -> None:
    """Where a list that is null or empty asks for all, what may not be seen is left out."""
    every = metadata.MetadataRequest(topics=None)
    assert not ask_denied(ApiKey.METADATA, 12, every).topics
    assert not ask_denied(ApiKey.METADATA, 0, metadata.MetadataRequest(topics=[])).topics
    pages = describe_topic_partitions.DescribeTopicPartitionsRequest(topics=[])
    assert not ask_denied(ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0, pages).topics
    asked = metadata.MetadataRequest(topics=None, include_cluster_authorized_operations=True)
    assert ask_denied(ApiKey.METADATA, 8, asked).cluster_authorized_operations == 0


def test_a_topic_that_is_asked_for_by_its_id_keeps_its_name() -> None:
    async def story() -> None:
        switch = Switch()
        async with memory_broker(access=switch) as broker:
            calls = Calls(broker)
            there = await prepared(calls)
            switch.shut = True
            one = metadata.MetadataRequestTopic(name=None, topic_id=there.topic_id)
            (seen,) = (await calls.ask(ApiKey.METADATA, 12, metadata.MetadataRequest(topics=[one]))).topics
            assert (seen.error_code, seen.name) == (TOPIC, None)
            doomed = delete_topics.DeleteTopicState(name=None, topic_id=there.topic_id)
            request = delete_topics.DeleteTopicsRequest(topics=[doomed], timeout_ms=1)
            (refused,) = (await calls.ask(ApiKey.DELETE_TOPICS, 6, request)).responses
            assert (refused.error_code, refused.name) == (TOPIC, None)
            assert "there" not in (refused.error_message or "").split()

    asyncio.run(story())


@pytest.mark.parametrize(("resource_type", "name", "code"), [(4, "1", CLUSTER), (8, "1", CLUSTER), (32, "readers", GROUP)])
def test_configs_of_other_resources(resource_type: int, name: str, code: ErrorCode) -> None:
    resource = describe_configs.DescribeConfigsResource(resource_type=resource_type, resource_name=name)
    asked = describe_configs.DescribeConfigsRequest(resources=[resource])
    assert list(codes_in(ask_denied(ApiKey.DESCRIBE_CONFIGS, 4, asked))) == [code]
    altered = alter_configs.AlterConfigsResource(resource_type=resource_type, resource_name=name, configs=[])
    request = alter_configs.AlterConfigsRequest(resources=[altered], validate_only=False)
    assert list(codes_in(ask_denied(ApiKey.ALTER_CONFIGS, 2, request))) == [code]
    changed = incremental_alter_configs.AlterConfigsResource(resource_type=resource_type, resource_name=name, configs=[])
    changes = incremental_alter_configs.IncrementalAlterConfigsRequest(resources=[changed], validate_only=False)
    assert list(codes_in(ask_denied(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, changes))) == [code]


def test_a_coordinator_of_transactions() -> None:
    request = find_coordinator.FindCoordinatorRequest(key="t", key_type=1, coordinator_keys=["t"])
    for version in range(1, 7):
        assert list(codes_in(ask_denied(ApiKey.FIND_COORDINATOR, version, request))) == [TRANSACTIONAL_ID]


def test_a_produce_that_wants_no_answer_is_hung_up_on() -> None:
    (request,) = table(ABSENT)[ApiKey.PRODUCE].requests
    quiet = produce.ProduceRequest(acks=0, timeout_ms=1, topic_data=request.topic_data)  # type: ignore[attr-defined]
    with pytest.raises(Hangup, match="not allowed"):
        ask_denied(ApiKey.PRODUCE, 9, quiet)
