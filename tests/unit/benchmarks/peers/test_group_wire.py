"""What the drivers write is read by riverlog's codec, and the other way round: two hands, one protocol."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.peers import group_wire as gw
from benchmarks.peers import wire
from riverlog.gateways.kafka.schema import (
    consumer_group_heartbeat,
    find_coordinator,
    heartbeat,
    join_group,
    leave_group,
    offset_commit,
    sync_group,
)
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.wire import Message, decode_request, encode_response

TOPIC_ID = bytes(range(16))


def read(key: ApiKey, version: int, body: bytes, *, flexible: bool = False) -> Any:
    frame = wire.frame(key, version, 1, b"\x00" + body if flexible else body)
    return decode_request(key, version, frame, len(frame) - len(body))


def answer(key: ApiKey, version: int, response: Message) -> bytes:
    """From behind the correlation id on."""
    parts = encode_response(key, version, 1, response)
    return b"".join(bytes(part) for part in parts if isinstance(part, bytes | bytearray | memoryview))[8:]


def test_heartbeats_of_the_consumer_protocol() -> None:
    key = ApiKey.CONSUMER_GROUP_HEARTBEAT
    joins = read(
        key, 1, gw.consumer_heartbeat_body("g", "m", 0, topics=["t"], owned={}, rebalance_timeout_ms=5), flexible=True
    )
    assert (joins.group_id, joins.member_id, joins.member_epoch, joins.rebalance_timeout_ms) == ("g", "m", 0, 5)
    assert list(joins.subscribed_topic_names) == ["t"]
    assert list(joins.topic_partitions) == []
    beats = read(key, 1, gw.consumer_heartbeat_body("g", "m", 7), flexible=True)
    assert (beats.member_epoch, beats.subscribed_topic_names, beats.topic_partitions) == (7, None, None)
    (owns,) = read(
        key, 1, gw.consumer_heartbeat_body("g", "m", 7, owned={TOPIC_ID: {300, 2}}), flexible=True
    ).topic_partitions
    assert (bytes(owns.topic_id), list(owns.partitions)) == (TOPIC_ID, [2, 300])


def test_answers_of_the_consumer_protocol() -> None:
    key = ApiKey.CONSUMER_GROUP_HEARTBEAT
    share = consumer_group_heartbeat.ConsumerGroupHeartbeatResponseTopicPartitions(
        topic_id=TOPIC_ID, partitions=[1, 200]
    )
    given = consumer_group_heartbeat.ConsumerGroupHeartbeatResponse(
        member_id="m", member_epoch=3, heartbeat_interval_ms=5000,
        assignment=consumer_group_heartbeat.Assignment(topic_partitions=[share]),
    )  # fmt: skip
    assert gw.parse_consumer_heartbeat(answer(key, 1, given)) == gw.Beat(0, "", "m", 3, {TOPIC_ID: (1, 200)})
    refused = consumer_group_heartbeat.ConsumerGroupHeartbeatResponse(error_code=110, error_message="too late")
    assert gw.parse_consumer_heartbeat(answer(key, 1, refused)) == gw.Beat(110, "too late", "", 0, None)


def test_joining_a_classic_group() -> None:
    body = gw.join_body("g", "m", "t", session_timeout_ms=10, rebalance_timeout_ms=20)
    request = read(ApiKey.JOIN_GROUP, 5, body)
    assert (request.group_id, request.member_id, request.session_timeout_ms) == ("g", "m", 10)
    assert (request.rebalance_timeout_ms, request.protocol_type, request.group_instance_id) == (20, "consumer", None)
    (protocol,) = request.protocols
    assert protocol.name == "range"
    assert bytes(protocol.metadata) == b"\x00\x00\x00\x00\x00\x01\x00\x01t\xff\xff\xff\xff"
    members = [join_group.JoinGroupResponseMember(member_id=name, metadata=b"meta") for name in ("m", "n")]
    given = join_group.JoinGroupResponse(
        generation_id=4, protocol_name="range", leader="m", member_id="m", members=members
    )
    assert gw.parse_join(answer(ApiKey.JOIN_GROUP, 5, given)) == gw.Joined(0, 4, "m", "m", ["m", "n"])


def test_what_the_leader_deals_is_what_a_member_reads() -> None:
    request = read(ApiKey.SYNC_GROUP, 3, gw.sync_body("g", 4, "m", "t", {"m": [0, 1], "n": [2]}))
    assert (request.group_id, request.generation_id, request.member_id) == ("g", 4, "m")
    shares = {one.member_id: bytes(one.assignment) for one in request.assignments}
    given = sync_group.SyncGroupResponse(assignment=shares["m"])
    assert gw.parse_sync(answer(ApiKey.SYNC_GROUP, 3, given)) == (0, [0, 1])
    refused = sync_group.SyncGroupResponse(error_code=27, assignment=b"")
    assert gw.parse_sync(answer(ApiKey.SYNC_GROUP, 3, refused)) == (27, ())


@pytest.mark.parametrize(
    ("key", "version", "response"),
    [
        (ApiKey.HEARTBEAT, 3, heartbeat.HeartbeatResponse(error_code=25)),
        (ApiKey.LEAVE_GROUP, 1, leave_group.LeaveGroupResponse(error_code=25)),
        (ApiKey.FIND_COORDINATOR, 1, find_coordinator.FindCoordinatorResponse(error_code=25)),
    ],
)
def test_codes_behind_the_throttle_time(key: ApiKey, version: int, response: Message) -> None:
    assert gw.parse_code(answer(key, version, response)) == 25


def test_small_requests() -> None:
    beat = read(ApiKey.HEARTBEAT, 3, gw.heartbeat_body("g", 4, "m"))
    assert (beat.group_id, beat.generation_id, beat.member_id) == ("g", 4, "m")
    leave = read(ApiKey.LEAVE_GROUP, 1, gw.leave_body("g", "m"))
    assert (leave.group_id, leave.member_id) == ("g", "m")
    find = read(ApiKey.FIND_COORDINATOR, 1, gw.find_coordinator_body("g"))
    assert (find.key, find.key_type) == ("g", 0)


def test_commits() -> None:
    request = read(ApiKey.OFFSET_COMMIT, 2, gw.commit_body("g", "t", [(0, 5), (7, 2**40)]))
    assert (request.group_id, request.generation_id_or_member_epoch, request.member_id) == ("g", -1, "")
    (topic,) = request.topics
    assert topic.name == "t"
    assert [(one.partition_index, one.committed_offset) for one in topic.partitions] == [(0, 5), (7, 2**40)]
    parts = [offset_commit.OffsetCommitResponsePartition(partition_index=at, error_code=at) for at in (0, 3)]
    given = offset_commit.OffsetCommitResponse(
        topics=[offset_commit.OffsetCommitResponseTopic(name="t", partitions=parts)]
    )
    assert gw.parse_commit(answer(ApiKey.OFFSET_COMMIT, 2, given)) == [0, 3]
