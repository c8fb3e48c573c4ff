"""The same requests to Apache Kafka and to riverlog: groups and offsets are answered alike, error codes and all.

Each story is played on both brokers over plain sockets, with our codec on both sides (its own tests hold it against two others').
Member ids are random, so they are compared by the order in which they appear; the order of a group's members is nobody's promise.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

import riverlog
from benchmarks.peers import kafka
from riverlog.gateways.kafka.schema import (
    create_topics,
    delete_groups,
    describe_groups,
    find_coordinator,
    heartbeat,
    join_group,
    leave_group,
    list_groups,
    metadata,
    offset_commit,
    offset_delete,
    offset_fetch,
    sync_group,
)
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.wire import Message, decode_response, encode_request
from riverlog.testing.group_driver import subscription

pytestmark = [pytest.mark.oracle, pytest.mark.slow, pytest.mark.timeout(300)]

SUBSCRIPTION: Final = subscription("t")
UUID: Final = re.compile(r"-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
OURS_TO_CHOOSE: Final = {"throttle_time_ms", "error_message", "node_id", "host", "port", "client_host"}
group_numbers = count(1)


class Connection:
    """One client's socket. Requests may be sent ahead; answers come in order."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.sent: list[tuple[ApiKey, int]] = []

    def send(self, api_key: ApiKey, version: int, request: Message) -> None:
        self.socket.sendall(encode_request(api_key, version, 1, "cli", request))
        self.sent.append((api_key, version))

    def receive(self) -> Any:
        (size,) = struct.unpack(">i", self._read(4))
        api_key, version = self.sent.pop(0)
        return decode_response(api_key, version, self._read(size))[1]

    def ask(self, api_key: ApiKey, version: int, request: Message) -> Any:
        self.send(api_key, version, request)
        return self.receive()

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            assert more, "the broker closed the connection"
            data += more
        return data


class Player:
    """Plays a story on one broker, and writes down every answer in a form that can be compared."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.prefix = f"story-{next(group_numbers)}"
        self.connections: dict[str, Connection] = {}
        self.names: dict[str, str] = {}
        self.answers: list[tuple[str, object]] = []
        self.topic_id = b""

    def on(self, name: str) -> Connection:
        if name not in self.connections:
            self.connections[name] = Connection(self.address)
        return self.connections[name]

    def close(self) -> None:
        for connection in self.connections.values():
            connection.socket.close()

    def note(self, label: str, answer: Any) -> Any:
        self.answers.append((label, self.plain(answer)))
        return answer

    def plain(self, value: object) -> object:
        if isinstance(value, Message):
            fields = {name: self.plain(getattr(value, name)) for name in value.__slots__ if name not in OURS_TO_CHOOSE}
            members = fields.get("members")
            if isinstance(members, list) and not fields.keys().isdisjoint({"leader", "group_state"}):
                members.sort(key=repr)
            return fields
        if isinstance(value, list | tuple):
            return [self.plain(one) for one in value]
        if isinstance(value, str) and UUID.search(value):
            return UUID.sub(":", value) + self.names.setdefault(value, f"M{len(self.names) + 1}")
        if isinstance(value, str):
            return value.replace(self.prefix, "G")
        if isinstance(value, bytes | bytearray | memoryview):
            return "the topic" if value == self.topic_id else bytes(value)
        return int(value) if isinstance(value, int) else value

    def ask(self, who: str, label: str, api_key: ApiKey, version: int, request: Message) -> Any:
        return self.note(f"{who}: {label} v{version}", self.on(who).ask(api_key, version, request))

    def join_request(
        self,
        version: int,
        member_id: str = "",
        *,
        group: str = "",
        instance_id: str | None = None,
        protocols: Mapping[str, bytes] | None = None,
        protocol_type: str = "consumer",
        session_timeout_ms: int = 10_000,
    ) -> Message:
        offered = {"range": SUBSCRIPTION} if protocols is None else protocols
        return join_group.JoinGroupRequest(
            group_id=self.prefix + group,
            session_timeout_ms=session_timeout_ms,
            rebalance_timeout_ms=8_000 if version >= 1 else -1,
            member_id=member_id,
            group_instance_id=instance_id if version >= 5 else None,
            protocol_type=protocol_type,
            protocols=[join_group.JoinGroupRequestProtocol(name=n, metadata=data) for n, data in offered.items()],
        )

    def join_later(self, who: str, version: int, member_id: str = "", **fields: Any) -> None:
        """Sends it, and leaves it some time to arrive before what others do next."""
        self.on(who).send(ApiKey.JOIN_GROUP, version, self.join_request(version, member_id, **fields))
        time.sleep(0.2)

    def join(self, who: str, version: int = 9, member_id: str = "", **fields: Any) -> Any:
        request = self.join_request(version, member_id, **fields)
        answer = self.ask(who, "join", ApiKey.JOIN_GROUP, version, request)
        if answer.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            return self.join(who, version, answer.member_id, **fields)
        return answer

    def sync_request(
        self,
        version: int,
        member_id: str,
        generation: int,
        parts: Mapping[str, bytes] | None = None,
        *,
        group: str = "",
        instance_id: str | None = None,
        protocol_type: str | None = "consumer",
        protocol: str | None = "range",
    ) -> Message:
        assigned = [
            sync_group.SyncGroupRequestAssignment(member_id=one, assignment=part) for one, part in (parts or {}).items()
        ]
        return sync_group.SyncGroupRequest(
            group_id=self.prefix + group,
            generation_id=generation,
            member_id=member_id,
            group_instance_id=instance_id if version >= 3 else None,
            protocol_type=protocol_type if version >= 5 else None,
            protocol_name=protocol if version >= 5 else None,
            assignments=assigned,
        )

    def sync_later(self, who: str, member_id: str, generation: int, **fields: Any) -> None:
        self.on(who).send(ApiKey.SYNC_GROUP, 5, self.sync_request(5, member_id, generation, **fields))
        time.sleep(0.2)

    def sync(
        self,
        who: str,
        member_id: str,
        generation: int,
        parts: Mapping[str, bytes] | None = None,
        *,
        version: int = 5,
        **fields: Any,
    ) -> Any:
        request = self.sync_request(version, member_id, generation, parts, **fields)
        return self.ask(who, "sync", ApiKey.SYNC_GROUP, version, request)

    def beat(
        self, who: str, member_id: str, generation: int, *, group: str = "", instance_id: str | None = None
    ) -> None:
        request = heartbeat.HeartbeatRequest(
            group_id=self.prefix + group,
            generation_id=generation,
            member_id=member_id,
            group_instance_id=instance_id,
        )
        self.ask(who, "beat", ApiKey.HEARTBEAT, 4, request)

    def leave(self, who: str, *leavers: tuple[str, str | None], version: int = 5, group: str = "") -> None:
        name = self.prefix + group
        if version < 3:
            request = leave_group.LeaveGroupRequest(group_id=name, member_id=leavers[0][0])
        else:
            members = [leave_group.MemberIdentity(member_id=one, group_instance_id=two) for one, two in leavers]
            request = leave_group.LeaveGroupRequest(group_id=name, members=members)
        self.ask(who, "leave", ApiKey.LEAVE_GROUP, version, request)

    def commit(
        self,
        who: str,
        member_id: str = "",
        generation: int = -1,
        *,
        version: int = 8,
        group: str = "",
        offset: int = 5,
        index: int = 0,
        topic: str = "t",
        text: str | None = "m",
        instance_id: str | None = None,
    ) -> None:
        topic_id = self.topic_id if topic == "t" else b"?" * 16
        asked = offset_commit.OffsetCommitRequestTopic(
            **({"topic_id": topic_id} if version >= 10 else {"name": topic}),  # type: ignore[arg-type]
            partitions=[
                offset_commit.OffsetCommitRequestPartition(
                    partition_index=index, committed_offset=offset, committed_metadata=text
                )
            ],
        )
        request = offset_commit.OffsetCommitRequest(
            group_id=self.prefix + group,
            generation_id_or_member_epoch=generation,
            member_id=member_id,
            group_instance_id=instance_id if version >= 7 else None,
            topics=[asked],
        )
        self.ask(who, "commit", ApiKey.OFFSET_COMMIT, version, request)

    def fetch(
        self, who: str, *, version: int = 8, group: str = "", topic: str | None = "t", indexes: Sequence[int] = (0, 1)
    ) -> None:
        """`topic` None: all."""
        name = self.prefix + group
        if version < 8:
            topics = [offset_fetch.OffsetFetchRequestTopic(name=topic or "", partition_indexes=indexes)]
            request = offset_fetch.OffsetFetchRequest(group_id=name, topics=None if topic is None else topics)
        else:
            topic_id = self.topic_id if topic == "t" else b"?" * 16
            asked = offset_fetch.OffsetFetchRequestTopics(
                **({"topic_id": topic_id} if version >= 10 else {"name": topic}),  # type: ignore[arg-type]
                partition_indexes=indexes,
            )
            one = offset_fetch.OffsetFetchRequestGroup(group_id=name, topics=None if topic is None else [asked])
            request = offset_fetch.OffsetFetchRequest(groups=[one])
        self.ask(who, "fetch", ApiKey.OFFSET_FETCH, version, request)

    def describe(self, who: str, *, version: int = 5, group: str = "", operations: bool = False) -> None:
        request = describe_groups.DescribeGroupsRequest(
            groups=[self.prefix + group], include_authorized_operations=operations
        )
        self.ask(who, "describe", ApiKey.DESCRIBE_GROUPS, version, request)

    def list(self, who: str, *, version: int = 5, states: Sequence[str] = (), types: Sequence[str] = ()) -> None:
        request = list_groups.ListGroupsRequest(states_filter=states, types_filter=types)
        answer = self.on(who).ask(ApiKey.LIST_GROUPS, version, request)
        ours = [group for group in answer.groups if re.match(f"{self.prefix}([^0-9]|$)", group.group_id)]
        self.note(f"{who}: list v{version} {states} {types}", sorted(ours, key=lambda group: str(group.group_id)))

    def delete(self, who: str, *, group: str = "") -> None:
        request = delete_groups.DeleteGroupsRequest(groups_names=[self.prefix + group])
        self.ask(who, "delete", ApiKey.DELETE_GROUPS, 2, request)

    def delete_offset(self, who: str, *, group: str = "", topic: str = "t", index: int = 0) -> None:
        partition = offset_delete.OffsetDeleteRequestPartition(partition_index=index)
        asked = offset_delete.OffsetDeleteRequestTopic(name=topic, partitions=[partition])
        request = offset_delete.OffsetDeleteRequest(group_id=self.prefix + group, topics=[asked])
        self.ask(who, "delete offset", ApiKey.OFFSET_DELETE, 0, request)


def story_of_a_group_that_is_not_there(p: Player) -> None:
    p.beat("a", "nobody", 1)
    p.sync("a", "nobody", 1)
    p.leave("a", ("nobody", None))
    p.leave("a", ("nobody", None), version=2)
    p.leave("a", ("", "instance"))
    p.join("a", member_id="nobody")
    for version in (2, 8, 9, 10):
        p.commit("a", "nobody", 3, version=version, group=f"-{version}")
    for version in (1, 2, 5, 7, 8, 9, 10):
        p.fetch("a", version=version)
    for version in (2, 7, 9):
        p.fetch("a", version=version, topic=None)
    for version in (0, 5, 6):
        p.describe("a", version=version)
    p.delete("a")
    p.delete_offset("a")
    p.list("a")


def story_of_offsets_without_members(p: Player) -> None:
    for version in range(2, 11):
        p.commit("a", version=version, offset=version)
    for topic, version in (("nothing", 8), ("nothing", 10)):
        p.commit("a", topic=topic, version=version)
    p.commit("a", offset=-1)
    p.commit("a", offset=-5, index=1)
    for text in ("x" * 4096, "x" * 4097, "é" * 4096, None):
        p.commit("a", text=text)
    p.commit("a", "ghost")
    p.commit("a", "ghost", 0)
    p.commit("a", instance_id="ghost")
    p.commit("a", "", 2)
    for version in (1, 3, 5, 8, 9, 10):
        p.fetch("a", version=version)
    p.fetch("a", topic=None)
    p.fetch("a", topic=None, version=10)
    p.fetch("a", topic="nothing")
    p.fetch("a", topic="nothing", version=10)
    p.fetch("a", indexes=(0, 77))
    p.describe("a", operations=True)
    p.describe("a", version=6)
    for states, types in (("", ""), ("empty", ""), ("bogus", ""), ("", "classic"), ("", "Classic"), ("", "consumer")):
        p.list("a", states=[states] if states else [], types=[types] if types else [])
    p.list("a", version=0)
    for topic, index in (("t", 0), ("t", 3), ("nothing", 0), ("t", 99)):
        p.delete_offset("a", topic=topic, index=index)
    p.describe("a")
    p.delete("a")
    p.describe("a")
    p.fetch("a", topic=None)


def story_of_one_member_in_every_version(p: Player) -> None:
    for version in range(10):
        one: dict[str, Any] = {"group": f"-{version}"}
        member_id = p.join("a", version, **one).member_id
        p.describe("a", **one)
        p.commit("a", member_id, 1, **one)
        p.beat("a", member_id, 1, **one)
        p.sync("a", member_id, 1, {member_id: b"part"}, version=min(version, 5), **one)
        for who, generation in ((member_id, 1), ("", -1), (member_id, -1), (member_id, 77), ("nobody", 1)):
            p.commit("a", who, generation, **one)
        p.describe("a", version=min(version, 6), operations=version >= 3, **one)
        p.delete_offset("a", **one)
        p.delete_offset("a", topic="u", **one)
        p.delete("a", **one)
        p.beat("a", member_id, 9, **one)
        p.beat("a", "nobody", 1, **one)
        p.sync("a", member_id, 9, **one)
        p.sync("a", "nobody", 1, **one)
        p.sync("a", member_id, 1, protocol="sticky", **one)
        p.sync("a", member_id, 1, protocol_type="connect", **one)
        p.sync("a", member_id, 1, protocol=None, **one)
        p.sync("a", "nobody", 1, protocol_type=None, **one)
        p.join("a", version, protocols={"sticky": b""}, **one)
        p.join("a", version, protocol_type="connect", **one)
        p.join("a", version, protocols={}, **one)
        p.join("a", version, session_timeout_ms=5, **one)
        p.join("a", version, "nobody", **one)
        p.leave("a", (member_id, None), ("nobody", None), **one)
        p.describe("a", **one)
        p.fetch("a", **one)
        p.join("a", version, protocol_type="", **one)
        p.join("a", version, protocols={}, **one)
        p.join("a", version, protocol_type="connect", **one)
    p.list("a")


def story_of_two_members(p: Player) -> None:
    a = p.join("a").member_id
    p.sync("a", a, 1, {a: b"A"})
    b = p.ask("b", "join", ApiKey.JOIN_GROUP, 9, p.join_request(9)).member_id
    p.beat("a", a, 1)
    p.join_later("b", 9, b)
    p.beat("a", a, 1)
    p.commit("a", a, 1)
    p.sync("a", a, 1)
    p.describe("a")
    p.list("a")
    p.commit("a")
    p.delete("a")
    p.delete_offset("a", topic="u")
    p.beat("a", b, 1)
    p.join("a", member_id=a)
    p.note("b has joined", p.on("b").receive())
    p.describe("a")
    p.sync_later("b", b, 2)
    p.beat("a", b, 2)
    p.join("a", member_id=a)
    p.sync("a", a, 2, {a: b"A", b: b"B"})
    p.note("b has its part", p.on("b").receive())
    p.sync("b", b, 2)
    p.join("b", member_id=b)
    p.describe("a")
    p.join_later("a", 9, a)  # a leader that joins again asks for a rebalance
    p.beat("b", b, 2)
    p.join("b", member_id=b)
    p.note("a has joined", p.on("a").receive())
    p.sync_later("b", b, 3)
    p.leave("c", (a, None))
    p.note("b is told", p.on("b").receive())
    p.join("b", member_id=b)
    p.sync("b", b, 4, {b: b"all"})
    p.leave("b", (b, None), version=1)
    p.describe("b")
    p.list("b")


def story_of_static_members(p: Player) -> None:
    for version in (5, 8, 9):
        one: dict[str, Any] = {"group": f"-{version}"}
        first, second = {"instance_id": "i1", **one}, {"instance_id": "i2", **one}
        old = p.join("a", version, **first).member_id
        p.sync("a", old, 1, {old: b"A"}, **first)
        a = p.join("a", version, **first).member_id
        p.describe("a", **one)
        for who, instance_id in ((old, "i1"), (old, None), (a, "i1"), (a, "z"), (a, None)):
            p.beat("a", who, 1, instance_id=instance_id, **one)
            p.commit("a", who, 1, instance_id=instance_id, **one)
            p.sync("a", who, 1, instance_id=instance_id, **one)
        p.commit("a", **first)
        p.join_later("b", version, **second)
        p.join_later("b2", version, **second)
        p.note("b is fenced", p.on("b").receive())
        p.join("a", version, a, **first)
        b = p.note("b2 has joined", p.on("b2").receive()).member_id
        p.sync_later("b2", b, 2, **second)
        p.join_later("b", version, **second)
        p.note("b2 is fenced", p.on("b2").receive())
        p.join("a", version, a, **first)
        b = p.note("b has joined", p.on("b").receive()).member_id
        p.sync("a", a, 3, {a: b"A", b: b"B"}, **first)
        p.sync("b", b, 3, **second)
        b = p.join("b", version, **second).member_id
        p.sync("b", b, 3, **second)
        b = p.join("b", version, protocols={"range": subscription("t", "u")}, **second).member_id
        p.beat("a", a, 3, **first)
        p.join("b", version, "nobody", **second)
        p.leave("a", ("", "i1"), ("", "z"), ("x", "i2"), (b, "i2"), **one)
        p.describe("a", **one)


def story_of_a_group_without_a_name(p: Player) -> None:
    p.prefix = ""
    p.commit("a")
    p.fetch("a")
    p.join("a")
    p.beat("a", "nobody", 1)
    p.sync("a", "nobody", 1)
    p.leave("a", ("nobody", None))
    p.describe("a", version=6)


def story_of_finding(p: Player) -> None:
    for version in range(7):
        keys = ["g"] if version >= 4 else []
        request = find_coordinator.FindCoordinatorRequest(key="" if keys else "g", coordinator_keys=keys)
        p.ask("a", "find", ApiKey.FIND_COORDINATOR, version, request)


STORIES: Final[Sequence[Callable[[Player], None]]] = (
    story_of_a_group_that_is_not_there,
    story_of_offsets_without_members,
    story_of_one_member_in_every_version,
    story_of_two_members,
    story_of_static_members,
    story_of_a_group_without_a_name,
    story_of_finding,
)


def prepare(address: str) -> bytes:
    """Topics t and u, and a coordinator that is awake. Gives the id of t."""
    connection = Connection(address)
    topics = [create_topics.CreatableTopic(name=name, num_partitions=4, replication_factor=1) for name in "tu"]
    request = create_topics.CreateTopicsRequest(topics=topics, timeout_ms=10_000)
    (made, _) = connection.ask(ApiKey.CREATE_TOPICS, 7, request).topics
    assert made.error_code == 0
    wanted = metadata.MetadataRequest(topics=[metadata.MetadataRequestTopic(name=name) for name in "tu"])
    key = find_coordinator.FindCoordinatorRequest(coordinator_keys=["g"])
    probe = heartbeat.HeartbeatRequest(group_id="g", generation_id=1, member_id="nobody")
    for _ in range(600):
        known = [topic.error_code for topic in connection.ask(ApiKey.METADATA, 12, wanted).topics] == [0, 0]
        found = connection.ask(ApiKey.FIND_COORDINATOR, 4, key).coordinators[0].error_code == 0
        awake = connection.ask(ApiKey.HEARTBEAT, 4, probe).error_code == ErrorCode.UNKNOWN_MEMBER_ID
        if known and found and awake:
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"{address} does not get ready")
    connection.socket.close()
    return bytes(made.topic_id)


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[tuple[str, bytes]]]:
    """Address of Kafka and ours, each with its topic's id."""
    if (missing := kafka.missing()) is not None:
        if "java" in os.environ.get("RIVERLOG_REQUIRE", ""):
            pytest.fail(missing)
        pytest.skip(missing)
    directory: Path = tmp_path_factory.mktemp("kafka")
    settings = {"group.initial.rebalance.delay.ms": "0", "offsets.topic.num.partitions": "1"}
    with kafka.Kafka(directory, settings=settings) as theirs, riverlog.Broker() as ours:
        yield [(address, prepare(address)) for address in (theirs.bootstrap, ours.bootstrap_servers)]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_answers_are_alike(story: Callable[[Player], None], brokers: Sequence[tuple[str, bytes]]) -> None:
    played = []
    for address, topic_id in brokers:
        player = Player(address)
        player.topic_id = topic_id
        try:
            story(player)
        finally:
            player.close()
        played.append(player.answers)
    theirs, ours = played
    assert [label for label, _ in ours] == [label for label, _ in theirs]
    different = [(label, one, two) for (label, one), (_, two) in zip(theirs, ours, strict=True) if one != two]
    assert not different, "\n".join(f"{label}\n  Kafka    {one}\n  riverlog {two}" for label, one, two in different)
