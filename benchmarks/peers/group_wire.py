"""What members of groups and committers say and hear, by hand: the consumer protocol, the classic one, OffsetCommit.

Bodies only; `wire.frame` and `lines.Line` put the headers in front. Pure, and independent of riverlog's codec, as `wire` is."""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from benchmarks.peers.wire import text

OFFSET_COMMIT: Final = 8
FIND_COORDINATOR: Final = 10
JOIN_GROUP: Final = 11
HEARTBEAT: Final = 12
LEAVE_GROUP: Final = 13
SYNC_GROUP: Final = 14
DELETE_GROUPS: Final = 42
CONSUMER_GROUP_HEARTBEAT: Final = 68

UNKNOWN_MEMBER_ID: Final = 25
REBALANCE_IN_PROGRESS: Final = 27
ILLEGAL_GENERATION: Final = 22
MEMBER_ID_REQUIRED: Final = 79
FENCED_MEMBER_EPOCH: Final = 110
UNRELEASED_INSTANCE_ID: Final = 111
NOT_YET: Final = (14, 15, 16)  # the coordinator loads, is not there, is elsewhere: ask again
LEAVING: Final = -1  # the member epoch that says so

NO_TAGS: Final = b"\x00"
NULL: Final = b"\x00"  # of a compact string or array
_epoch_and_interval = struct.Struct(">ii")
_partition_offset = struct.Struct(">iqh")


class Beat(NamedTuple):
    """The answer to a heartbeat of the consumer protocol. `assignment` is None where nothing is new."""

    error_code: int
    message: str
    member_id: str
    epoch: int
    assignment: Mapping[bytes, Sequence[int]] | None  # topic id -> partitions


class Joined(NamedTuple):
    """The answer to JoinGroup; `members` are for the leader only."""

    error_code: int
    generation: int
    leader: str
    member_id: str
    members: Sequence[str]


def unsigned(value: int) -> bytes:
    """An unsigned varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def compact(value: str | None) -> bytes:
    """A COMPACT_STRING, or a null one."""
    if value is None:
        return NULL
    encoded = value.encode()
    return unsigned(len(encoded) + 1) + encoded


def consumer_heartbeat_body(
    group: str,
    member_id: str,
    epoch: int,
    *,
    topics: Sequence[str] | None = None,
    owned: Mapping[bytes, Collection[int]] | None = None,
    rebalance_timeout_ms: int = -1,
) -> bytes:
    """ConsumerGroupHeartbeat v1. What is None has not changed since the member last said it."""
    parts = [compact(group), compact(member_id), struct.pack(">i", epoch), NULL, NULL]
    parts.append(struct.pack(">i", rebalance_timeout_ms))
    if topics is None:
        parts.append(NULL)
    else:
        parts += [unsigned(len(topics) + 1), *map(compact, topics)]
    parts += [NULL, NULL]  # no regex, and the assignor that the broker likes
    if owned is None:
        parts.append(NULL)
    else:
        parts.append(unsigned(len(owned) + 1))
        for topic_id, partitions in owned.items():
            indexes = sorted(partitions)
            parts += [topic_id, unsigned(len(indexes) + 1), struct.pack(f">{len(indexes)}i", *indexes), NO_TAGS]
    parts.append(NO_TAGS)
    return b"".join(parts)


def parse_consumer_heartbeat(answer: bytes) -> Beat:
    """Of v0 and v1, from the header's tags on."""
    reader = Reader(answer, 1)
    reader.skip(4)
    code = reader.int16()
    message, member_id = reader.compact(), reader.compact()
    epoch, _ = _epoch_and_interval.unpack_from(answer, reader.take(8))
    if reader.int8() < 0:
        return Beat(code, message, member_id, epoch, None)
    assignment: dict[bytes, Sequence[int]] = {}
    for _ in range(reader.unsigned() - 1):
        at = reader.take(16)
        count = reader.unsigned() - 1
        assignment[answer[at : at + 16]] = struct.unpack_from(f">{count}i", answer, reader.take(4 * count))
        reader.skip(1)
    return Beat(code, message, member_id, epoch, assignment)


def join_body(group: str, member_id: str, topic: str, *, session_timeout_ms: int, rebalance_timeout_ms: int) -> bytes:
    """JoinGroup v5 of a dynamic member that offers `range` for one topic."""
    subscription = struct.pack(">hi", 0, 1) + text(topic) + struct.pack(">i", -1)
    return b"".join((
        text(group), struct.pack(">ii", session_timeout_ms, rebalance_timeout_ms), text(member_id),
        struct.pack(">h", -1), text("consumer"), struct.pack(">i", 1), text("range"),
        struct.pack(">i", len(subscription)), subscription,
    ))  # fmt: skip


def parse_join(answer: bytes) -> Joined:
    """Of v5."""
    reader = Reader(answer, 4)
    code, generation = reader.int16(), reader.int32()
    reader.text()
    leader, member_id = reader.text(), reader.text()
    members = []
    for _ in range(reader.int32()):
        members.append(reader.text())
        reader.text()
        reader.skip(reader.int32())
    return Joined(code, generation, leader, member_id, members)


def sync_body(group: str, generation: int, member_id: str, topic: str, shares: Mapping[str, Sequence[int]]) -> bytes:
    """SyncGroup v3; `shares` are what the leader gives to each member, nothing from the others."""
    parts = [text(group), struct.pack(">i", generation), text(member_id), struct.pack(">hi", -1, len(shares))]
    for member, partitions in shares.items():
        data = (
            struct.pack(">hi", 0, 1) + text(topic) + struct.pack(f">i{len(partitions)}i", len(partitions), *partitions)
        )
        data += struct.pack(">i", -1)
        parts += [text(member), struct.pack(">i", len(data)), data]
    return b"".join(parts)


def parse_sync(answer: bytes) -> tuple[int, Sequence[int]]:
    """(error code, the partitions that the member gets) of v3."""
    reader = Reader(answer, 4)
    code = reader.int16()
    if reader.int32() <= 0:
        return code, ()
    reader.skip(2)
    partitions: list[int] = []
    for _ in range(reader.int32()):
        reader.text()
        count = reader.int32()
        partitions += struct.unpack_from(f">{count}i", answer, reader.take(4 * count))
    return code, partitions


def heartbeat_body(group: str, generation: int, member_id: str) -> bytes:
    """Heartbeat v3."""
    return text(group) + struct.pack(">i", generation) + text(member_id) + struct.pack(">h", -1)


def parse_code(answer: bytes) -> int:
    """The error code behind a throttle time: of Heartbeat v3, LeaveGroup v1, FindCoordinator v1."""
    (code,) = struct.unpack_from(">h", answer, 4)
    return int(code)


def leave_body(group: str, member_id: str) -> bytes:
    """LeaveGroup v1."""
    return text(group) + text(member_id)


def find_coordinator_body(group: str) -> bytes:
    """FindCoordinator v1."""
    return text(group) + b"\x00"


def delete_groups_body(groups: Sequence[str]) -> bytes:
    """DeleteGroups v1."""
    return struct.pack(">i", len(groups)) + b"".join(map(text, groups))


def commit_body(group: str, topic: str, offsets: Sequence[tuple[int, int]]) -> bytes:
    """OffsetCommit v2 of somebody who is no member: (partition, offset) each, without metadata."""
    head = text(group) + struct.pack(">i", -1) + text("") + struct.pack(">qi", -1, 1) + text(topic)
    rows = b"".join(_partition_offset.pack(partition, offset, 0) for partition, offset in offsets)
    return head + struct.pack(">i", len(offsets)) + rows


def parse_commit(answer: bytes) -> Sequence[int]:
    """The error code of each partition, of OffsetCommit v2 for one topic."""
    reader = Reader(answer, 4)
    reader.text()
    return [code for _, code in (struct.unpack_from(">ih", answer, reader.take(6)) for _ in range(reader.int32()))]


class Reader:
    """A position in an answer."""

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data = data
        self.position = position

    def take(self, count: int) -> int:
        """Step over so many bytes, and say where they begin."""
        at = self.position
        self.position += count
        return at

    def skip(self, count: int) -> None:
        self.position += count

    def int8(self) -> int:
        return int.from_bytes(self.data[(at := self.take(1)) : at + 1], "big", signed=True)

    def int16(self) -> int:
        return int.from_bytes(self.data[(at := self.take(2)) : at + 2], "big", signed=True)

    def int32(self) -> int:
        return int.from_bytes(self.data[(at := self.take(4)) : at + 4], "big", signed=True)

    def unsigned(self) -> int:
        value = shift = 0
        while (byte := self.data[self.take(1)]) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
        return value | byte << shift

    def text(self) -> str:
        """A STRING, or a null one as an empty one; BYTES are no text, but have another length in front."""
        length = self.int16()
        return self.data[(at := self.take(max(length, 0))) : at + max(length, 0)].decode()

    def compact(self) -> str:
        """A COMPACT_STRING; a null one is empty."""
        length = max(self.unsigned() - 1, 0)
        return self.data[(at := self.take(length)) : at + length].decode()
