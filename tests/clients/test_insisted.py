"""What real clients insist on, asked for in the protocol itself from a riverlog process: one test for each behaviour.

The numbers are those of docs/guide/clients.md. Whether real clients are content is for their own tests."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from struct import Struct
from typing import Any, Final

import pytest

from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.api_versions import ApiVersionsRequest
from riverlog.gateways.kafka.schema.create_topics import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.fetch import FetchPartition, FetchRequest, FetchTopic
from riverlog.gateways.kafka.schema.find_coordinator import FindCoordinatorRequest
from riverlog.gateways.kafka.schema.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from riverlog.gateways.kafka.schema.list_groups import ListGroupsRequest
from riverlog.gateways.kafka.schema.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from riverlog.gateways.kafka.schema.metadata import MetadataRequest, MetadataRequestTopic
from riverlog.gateways.kafka.schema.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from riverlog.gateways.kafka.wire import encode_request
from riverlog.testing.kafka_client import KafkaClient
from tests.clients.conftest import Served
from tests.partition_files import make_batch, simple_records

START_MS: Final = 1_700_000_000_000
SIZE: Final = Struct(">i")
# What brokers and controllers say to each other, and telemetry: nothing of it is here.
NOT_HERE: Final = {4, 5, 6, 7, 52, 53, 54, 55, 56, 59, 62, 63, 64, 67, 70, 71, 72, 73, 80, 81, 82}


@pytest.fixture
def client(served: Served) -> Iterator[KafkaClient]:
    with KafkaClient(served.bootstrap) as connected:
        yield connected


def batch(count: int = 3, *, start_ms: int = START_MS) -> bytes:
    return make_batch(0, simple_records(count, start_ms))


def fetch_request(name: str, *, session_id: int, session_epoch: int, max_wait_ms: int = 0) -> FetchRequest:
    partition = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1 << 20)
    topics = [FetchTopic(topic=name, partitions=[partition])] if session_epoch <= 0 else []
    return FetchRequest(
        max_wait_ms=max_wait_ms, min_bytes=1, session_id=session_id, session_epoch=session_epoch, topics=topics
    )


def offset_of(client: KafkaClient, topic: str, timestamp: int, *, version: int = 11) -> tuple[int, int, int]:
    """Error, offset and timestamp."""
    partition = ListOffsetsPartition(partition_index=0, timestamp=timestamp)
    topics = [ListOffsetsTopic(name=topic, partitions=[partition])]
    answer = client.ask(ApiKey.LIST_OFFSETS, version, ListOffsetsRequest(replica_id=-1, topics=topics))
    found = answer.topics[0].partitions[0]
    return found.error_code, found.offset, found.timestamp


@pytest.mark.parametrize("version", [1, 5, 7, 8, 9])
def test_1_an_unknown_group_has_offset_minus_one_and_no_error(client: KafkaClient, topic: str, version: int) -> None:
    if version < 8:
        one = OffsetFetchRequestTopic(name=topic, partition_indexes=[0])
        answer = client.ask(ApiKey.OFFSET_FETCH, version, OffsetFetchRequest(group_id="nobody", topics=[one]))
        error = answer.error_code if version >= 2 else 0
        topics = answer.topics
    else:
        wanted = OffsetFetchRequestTopics(name=topic, partition_indexes=[0])
        groups = [OffsetFetchRequestGroup(group_id="nobody", topics=[wanted])]
        group = client.ask(ApiKey.OFFSET_FETCH, version, OffsetFetchRequest(groups=groups)).groups[0]
        error, topics = group.error_code, group.topics
    partition = topics[0].partitions[0]
    assert (error, partition.committed_offset, partition.error_code) == (0, -1, 0)


@pytest.mark.parametrize("version", [5, 6, 7])
def test_2_a_created_topic_is_answered_with_its_configs(client: KafkaClient, name: str, version: int) -> None:
    wanted = CreatableTopic(name=name, num_partitions=2, replication_factor=3)
    (made,) = client.ask(ApiKey.CREATE_TOPICS, version, CreateTopicsRequest(topics=[wanted])).topics
    assert (made.error_code, made.num_partitions, made.replication_factor) == (0, 2, 1)
    assert "retention.ms" in {config.name for config in made.configs}


def test_3_a_bad_name_is_never_made_and_bad_configs_are_told(client: KafkaClient, name: str) -> None:
    bad = "not a topic"
    asked = MetadataRequest(topics=[MetadataRequestTopic(name=bad)], allow_auto_topic_creation=True)
    assert client.ask(ApiKey.METADATA, 9, asked).topics[0].error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
    assert client.produce(bad, batch()).error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
    everything = client.ask(ApiKey.METADATA, 9, MetadataRequest(topics=None))
    assert bad not in {one.name for one in everything.topics}
    for config in (
        CreatableTopicConfig(name="no.such", value="1"),
        CreatableTopicConfig(name="retention.ms", value="x"),
    ):
        wanted = CreatableTopic(name=name, num_partitions=1, replication_factor=1, configs=[config])
        (refused,) = client.ask(ApiKey.CREATE_TOPICS, 7, CreateTopicsRequest(topics=[wanted])).topics
        assert refused.error_code == ErrorCode.INVALID_CONFIG


def test_3_the_records_that_fail_are_named(served: Served, client: KafkaClient, name: str) -> None:
    served.create_topics([name], configs={"cleanup.policy": "compact"})
    records = simple_records(3, START_MS)
    records[1] = records[1]._replace(key=None)
    answer = client.produce(name, make_batch(0, records))
    assert answer.error_code == ErrorCode.INVALID_RECORD
    assert [error.batch_index for error in answer.record_errors] == [1]
    assert answer.record_errors[0].batch_index_error_message


def test_4_versions_are_told_in_a_way_that_every_client_can_read(served: Served, client: KafkaClient) -> None:
    answer = client.ask(
        ApiKey.API_VERSIONS, 4, ApiVersionsRequest(client_software_name="a", client_software_version="1")
    )
    keys = {one.api_key: (one.min_version, one.max_version) for one in answer.api_keys}
    assert keys[ApiKey.PRODUCE] == (0, 13)
    assert keys[ApiKey.FETCH] == (4, 18)
    assert not keys.keys() & NOT_HERE
    with socket.create_connection(tuple_of(served.bootstrap), timeout=20) as raw:
        request = bytearray(encode_request(ApiKey.API_VERSIONS, 4, 7, "a", ApiVersionsRequest()))
        request[6:8] = (99).to_bytes(2, "big")
        raw.sendall(request)
        (size,) = SIZE.unpack(raw.recv(4, socket.MSG_WAITALL))
        body = raw.recv(size, socket.MSG_WAITALL)
    assert body[:4] == (7).to_bytes(4, "big")
    assert int.from_bytes(body[4:6], "big") == ErrorCode.UNSUPPORTED_VERSION
    count = int.from_bytes(body[6:10], "big")
    assert len(body) == 10 + 6 * count  # an answer of v0: nothing behind the list
    assert ApiKey.API_VERSIONS in {int.from_bytes(body[10 + 6 * at : 12 + 6 * at], "big") for at in range(count)}


def test_5_the_broker_is_named_by_the_address_that_the_client_came_in_by(served: Served, client: KafkaClient) -> None:
    (broker,) = client.ask(ApiKey.METADATA, 12, MetadataRequest(topics=[])).brokers
    answer = client.ask(ApiKey.FIND_COORDINATOR, 3, FindCoordinatorRequest(key="g"))
    assert (broker.host, broker.port) == (answer.host, answer.port) == tuple_of(served.bootstrap)


def test_6_unknown_tags_are_skipped(client: KafkaClient) -> None:
    plain = encode_request(ApiKey.METADATA, 12, 1, "a", MetadataRequest(topics=[]))
    assert plain[-1] == 0  # no tagged field
    tagged = plain[4:-1] + bytes([1, 99, 3]) + b"new"
    client.asked.append((ApiKey.METADATA, 12, 1))
    client.socket.sendall(SIZE.pack(len(tagged)) + tagged)
    assert len(client.receive().brokers) == 1


def test_6_requests_are_answered_in_order_though_one_waits(client: KafkaClient, topic: str) -> None:
    client.send(ApiKey.FETCH, 12, fetch_request(topic, session_id=0, session_epoch=-1, max_wait_ms=300))
    client.send(ApiKey.METADATA, 12, MetadataRequest(topics=[]))
    client.send(ApiKey.LIST_GROUPS, 4, ListGroupsRequest())
    assert client.receive().responses[0].partitions[0].error_code == 0
    assert client.receive().brokers
    assert client.receive().error_code == 0


def test_6_a_fetch_session_remembers_its_partitions(client: KafkaClient, topic: str) -> None:
    first = client.ask(ApiKey.FETCH, 12, fetch_request(topic, session_id=0, session_epoch=0))
    assert first.session_id != 0
    client.produce(topic, batch())
    second = client.ask(ApiKey.FETCH, 12, fetch_request(topic, session_id=first.session_id, session_epoch=1))
    assert (second.error_code, second.session_id) == (0, first.session_id)
    assert len(second.responses[0].partitions[0].records) > 61
    wrong = client.ask(ApiKey.FETCH, 12, fetch_request(topic, session_id=first.session_id, session_epoch=9))
    assert wrong.error_code == ErrorCode.INVALID_FETCH_SESSION_EPOCH
    unknown = client.ask(ApiKey.FETCH, 12, fetch_request(topic, session_id=123, session_epoch=4))
    assert unknown.error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND


def test_7_a_first_member_does_not_wait(client: KafkaClient, name: str) -> None:
    """The socket would time out long before Kafka's 3 s were over."""
    client.socket.settimeout(2)
    protocols = [JoinGroupRequestProtocol(name="range", metadata=b"")]

    def join(member_id: str) -> Any:
        request = JoinGroupRequest(
            group_id=name, session_timeout_ms=10_000, rebalance_timeout_ms=10_000, member_id=member_id,
            protocol_type="consumer", protocols=protocols,
        )  # fmt: skip
        return client.ask(ApiKey.JOIN_GROUP, 7, request)

    told = join("")
    assert told.error_code == ErrorCode.MEMBER_ID_REQUIRED
    joined = join(told.member_id)
    assert (joined.error_code, joined.generation_id, joined.leader) == (0, 1, told.member_id)


def test_8_by_time_it_is_the_record_and_not_its_batch(client: KafkaClient, topic: str) -> None:
    assert client.produce(topic, batch(100)).error_code == 0
    assert offset_of(client, topic, START_MS + 57) == (0, 57, START_MS + 57)
    assert offset_of(client, topic, START_MS + 57, version=1) == (0, 57, START_MS + 57)
    assert offset_of(client, topic, START_MS + 100) == (0, -1, -1)


def test_9_acks_0_gets_no_answer_and_where_it_fails_a_closed_connection(process: Served, topic: str, name: str) -> None:
    with KafkaClient(process.bootstrap) as client:
        request = client.produce_request(topic, [(0, batch())], acks=0)
        client.send(ApiKey.PRODUCE, 9, request, answered=False)
        client.send(ApiKey.METADATA, 12, MetadataRequest(topics=[]))
        assert client.receive().brokers  # the first answer is not to Produce
        assert offset_of(client, topic, -1)[1] == 3
        damaged = bytearray(batch())
        damaged[-1] ^= 1
        request = client.produce_request(topic, [(0, bytes(damaged))], acks=0)
        client.send(ApiKey.PRODUCE, 9, request, answered=False)
        assert client.is_hung_up()
    assert all("127.0.0.1:" in line for line in process.complaints())  # the log may say who it was and why


@pytest.mark.parametrize("records", [batch() + batch(), b"", None])
def test_10_a_produce_has_one_batch_a_partition(process: Served, topic: str, records: bytes | None) -> None:
    with KafkaClient(process.bootstrap) as client:
        assert client.produce(topic, records).error_code == ErrorCode.INVALID_RECORD
        assert offset_of(client, topic, -1)[1] == 0
    assert all("127.0.0.1:" in line for line in process.complaints())


def test_11_the_special_timestamps(client: KafkaClient, topic: str) -> None:
    client.produce(topic, batch(5, start_ms=START_MS + 50))
    client.produce(topic, batch(5, start_ms=START_MS))
    assert offset_of(client, topic, -1)[:2] == (0, 10)
    assert offset_of(client, topic, -2)[:2] == (0, 0)
    assert offset_of(client, topic, -3) == (0, 4, START_MS + 54)
    assert offset_of(client, topic, -4)[:2] == (0, 0)
    assert offset_of(client, topic, -5)[:2] == (0, -1)  # nothing is tiered
    assert offset_of(client, topic, -6)[0] == 0


def test_12_only_features_that_are_built_are_announced(client: KafkaClient) -> None:
    answer = client.ask(
        ApiKey.API_VERSIONS, 3, ApiVersionsRequest(client_software_name="a", client_software_version="1")
    )
    keys = {one.api_key for one in answer.api_keys}
    needed = {"transaction.version": ApiKey.ADD_PARTITIONS_TO_TXN, "group.version": ApiKey.CONSUMER_GROUP_HEARTBEAT,
              "share.version": ApiKey.SHARE_FETCH}  # fmt: skip
    for feature in answer.finalized_features:
        assert needed.get(feature.name) in keys or feature.name not in needed, feature.name


def test_13_replicas_that_are_not_there_are_no_reason_to_refuse(client: KafkaClient, name: str) -> None:
    texts = {"min.insync.replicas": "2", "retention.ms": "-1"}
    configs = [CreatableTopicConfig(name=config, value=text) for config, text in texts.items()]
    wanted = CreatableTopic(name=name, num_partitions=1, replication_factor=3, configs=configs)
    (made,) = client.ask(ApiKey.CREATE_TOPICS, 7, CreateTopicsRequest(topics=[wanted])).topics
    assert made.error_code == 0
    assert client.produce(name, batch(), acks=-1).error_code == 0


def tuple_of(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
