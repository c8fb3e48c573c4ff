"""The rows of a group's scope, as bytes and back: docs/formats/group-rows.md.

Every row begins with its format's version. Rows of a key that is not known here are kept and not touched: later
versions keep more in the same scope. The rows of the consumer protocol: `consumer_rows.py`.
"""

from __future__ import annotations

from struct import Struct, error
from typing import Final, NamedTuple, TypeVar

from riverlog.base.errors import Corruption
from riverlog.base.ids import PartitionId, TopicId, topic_id_of_text, topic_id_text
from riverlog.state.groups.commands import CommittedOffset, Protocols

CLASSIC_KEY: Final = "classic"
MEMBER_PREFIX: Final = "member/"
OFFSET_PREFIX: Final = "offset/"
FORMAT_VERSION: Final = 1

_CLASSIC_HEAD: Final = Struct(">Biq")  # format, generation, wall time of the last change of state
_MEMBER_HEAD: Final = Struct(">Bii")  # format, session and rebalance time-out, ms
_OFFSET_HEAD: Final = Struct(">Bqiqq")  # format, offset, leader epoch, commit time, expire time
_LENGTH: Final = Struct(">i")
assert (_CLASSIC_HEAD.size, _MEMBER_HEAD.size, _OFFSET_HEAD.size) == (13, 9, 29)


class ClassicRow(NamedTuple):
    generation: int
    state_since_ms: int  # wall time
    protocol_type: str | None
    protocol: str | None
    leader: str | None


class MemberRow(NamedTuple):
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocols: Protocols
    assignment: bytes


def member_key(member_id: str) -> str:
    return MEMBER_PREFIX + member_id


def offset_key(partition: PartitionId) -> str:
    return f"{OFFSET_PREFIX}{topic_id_text(partition.topic_id)}/{partition.index}"


def partition_of_key(key: str) -> PartitionId:
    """Raises Corruption where the key is not one of `offset_key`."""
    try:
        topic, index = key[len(OFFSET_PREFIX) :].split("/")
        return PartitionId(TopicId(topic_id_of_text(topic)), int(index))
    except ValueError as cause:
        raise Corruption(key, 0, f"the key is not of an offset ({cause})") from cause


def encode_classic(row: ClassicRow) -> bytes:
    head = _CLASSIC_HEAD.pack(FORMAT_VERSION, row.generation, row.state_since_ms)
    return head + encode_text(row.protocol_type) + encode_text(row.protocol) + encode_text(row.leader)


def decode_classic(key: str, value: bytes) -> ClassicRow:
    """Raises Corruption."""
    reader = RowReader(key, value)
    generation, state_since_ms = reader.head(_CLASSIC_HEAD)
    return reader.ended(ClassicRow(generation, state_since_ms, reader.text(), reader.text(), reader.text()))


def encode_member(row: MemberRow) -> bytes:
    parts = [
        _MEMBER_HEAD.pack(FORMAT_VERSION, row.session_timeout_ms, row.rebalance_timeout_ms),
        encode_text(row.instance_id),
        encode_text(row.client_id),
        encode_text(row.client_host),
        _LENGTH.pack(len(row.protocols)),
    ]
    for name, metadata in row.protocols:
        parts += (encode_text(name), encode_blob(metadata))
    parts.append(encode_blob(row.assignment))
    return b"".join(parts)


def decode_member(key: str, value: bytes) -> MemberRow:
    """Raises Corruption."""
    reader = RowReader(key, value)
    session_timeout_ms, rebalance_timeout_ms = reader.head(_MEMBER_HEAD)
    instance_id = reader.text()
    client_id, client_host = reader.text() or "", reader.text() or ""
    protocols = tuple((reader.text() or "", reader.blob() or b"") for _ in range(reader.length()))
    assignment = reader.blob() or b""
    return reader.ended(
        MemberRow(
            instance_id, client_id, client_host, session_timeout_ms, rebalance_timeout_ms, protocols, assignment
        )
    )


def encode_offset(committed: CommittedOffset) -> bytes:
    offset, leader_epoch, metadata, commit_ms, expire_ms = committed
    return _OFFSET_HEAD.pack(FORMAT_VERSION, offset, leader_epoch, commit_ms, expire_ms) + metadata.encode()


def decode_offset(key: str, value: bytes) -> CommittedOffset:
    """Raises Corruption."""
    reader = RowReader(key, value)
    offset, leader_epoch, commit_ms, expire_ms = reader.head(_OFFSET_HEAD)
    metadata = value[_OFFSET_HEAD.size :]
    try:
        return CommittedOffset(offset, leader_epoch, metadata.decode(), commit_ms, expire_ms)
    except UnicodeDecodeError as cause:
        raise Corruption(key, _OFFSET_HEAD.size, "the metadata is not UTF-8") from cause


def encode_blob(value: bytes | None) -> bytes:
    return _LENGTH.pack(-1) if value is None else _LENGTH.pack(len(value)) + value


def encode_text(value: str | None) -> bytes:
    return encode_blob(None if value is None else value.encode())


RowType = TypeVar("RowType")


class RowReader:
    """Takes a row apart; every way in which it can be wrong is a Corruption that names the row's key."""

    def __init__(self, key: str, value: bytes) -> None:
        self.key = key
        self.value = value
        self.position = 0

    def head(self, struct: Struct) -> tuple[int, ...]:
        try:
            version, *fields = struct.unpack_from(self.value)
        except error as cause:
            raise Corruption(self.key, 0, "the row is too short") from cause
        if version != FORMAT_VERSION:
            raise Corruption(self.key, 0, f"format {version} is not known here (a newer riverlog wrote it?)")
        self.position = struct.size
        return tuple(fields)

    def length(self) -> int:
        try:
            (length,) = _LENGTH.unpack_from(self.value, self.position)
        except error as cause:
            raise Corruption(self.key, self.position, "the row is cut short") from cause
        self.position += _LENGTH.size
        return int(length)

    def blob(self) -> bytes | None:
        length = self.length()
        return None if length == -1 else self.raw(length)

    def raw(self, length: int) -> bytes:
        begin, self.position = self.position, self.position + length
        if length < 0 or self.position > len(self.value):
            raise Corruption(self.key, begin, "the row is cut short")
        return self.value[begin : self.position]

    def text(self) -> str | None:
        blob = self.blob()
        try:
            return None if blob is None else blob.decode()
        except UnicodeDecodeError as cause:
            raise Corruption(self.key, self.position, "text that is not UTF-8") from cause

    def ended(self, row: RowType) -> RowType:
        if self.position != len(self.value):
            raise Corruption(self.key, self.position, "bytes after the end of the row")
        return row
