"""The rows of a group of the consumer protocol, as bytes and back: docs/formats/group-rows.md."""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from riverlog.base.errors import Corruption
from riverlog.base.ids import TopicId
from riverlog.state.groups.assignment import Assignment
from riverlog.state.groups.commands import Protocols
from riverlog.state.groups.reconciliation import MemberState, Standing
from riverlog.state.groups.rows import FORMAT_VERSION, RowReader, encode_blob, encode_text

CONSUMER_KEY: Final = "consumer"
SUBSCRIPTION_PREFIX: Final = "consumer/member/"
CURRENT_PREFIX: Final = "consumer/current/"
TARGET_PREFIX: Final = "consumer/target/"

_GROUP_HEAD: Final = Struct(">Bii")  # format, group epoch, assignment epoch
_MEMBER_HEAD: Final = Struct(">Bi")  # format, rebalance time-out, ms
_CURRENT_HEAD: Final = Struct(">BiiB")  # format, member epoch, previous epoch, state
_TARGET_HEAD: Final = Struct(">B")  # format
_NUMBER: Final = Struct(">i")
assert (_GROUP_HEAD.size, _MEMBER_HEAD.size, _CURRENT_HEAD.size, _TARGET_HEAD.size) == (9, 5, 10, 1)


class ConsumerRow(NamedTuple):
    group_epoch: int
    assignment_epoch: int
    assignor: str  # that made the target


class ClassicFacts(NamedTuple):
    """What a member that speaks the classic protocol said when it joined."""

    session_timeout_ms: int
    protocols: Protocols


class SubscriptionRow(NamedTuple):
    rebalance_timeout_ms: int
    instance_id: str | None
    rack_id: str | None
    client_id: str
    client_host: str
    names: tuple[str, ...]  # ascending
    regex: str | None
    assignor: str | None
    classic: ClassicFacts | None


def encode_group(row: ConsumerRow) -> bytes:
    return _GROUP_HEAD.pack(FORMAT_VERSION, row.group_epoch, row.assignment_epoch) + encode_text(row.assignor)


def decode_group(key: str, value: bytes) -> ConsumerRow:
    """Raises Corruption."""
    reader = RowReader(key, value)
    group_epoch, assignment_epoch = reader.head(_GROUP_HEAD)
    return reader.ended(ConsumerRow(group_epoch, assignment_epoch, reader.text() or ""))


def encode_subscription(row: SubscriptionRow) -> bytes:
    parts = [_MEMBER_HEAD.pack(FORMAT_VERSION, row.rebalance_timeout_ms)]
    parts += map(encode_text, (row.instance_id, row.rack_id, row.client_id, row.client_host))
    parts.append(_NUMBER.pack(len(row.names)))
    parts += map(encode_text, (*row.names, row.regex, row.assignor))
    if row.classic is None:
        parts.append(_NUMBER.pack(-1))
    else:
        parts += (_NUMBER.pack(row.classic.session_timeout_ms), _NUMBER.pack(len(row.classic.protocols)))
        for name, metadata in row.classic.protocols:
            parts += (encode_text(name), encode_blob(metadata))
    return b"".join(parts)


def decode_subscription(key: str, value: bytes) -> SubscriptionRow:
    """Raises Corruption."""
    reader = RowReader(key, value)
    (rebalance_timeout_ms,) = reader.head(_MEMBER_HEAD)
    instance_id, rack_id = reader.text(), reader.text()
    client_id, client_host = reader.text() or "", reader.text() or ""
    names = tuple(reader.text() or "" for _ in range(reader.length()))
    regex, assignor = reader.text(), reader.text()
    classic = None
    if (session_timeout_ms := reader.length()) >= 0:
        protocols = tuple((reader.text() or "", reader.blob() or b"") for _ in range(reader.length()))
        classic = ClassicFacts(session_timeout_ms, protocols)
    return reader.ended(
        SubscriptionRow(
            rebalance_timeout_ms, instance_id, rack_id, client_id, client_host, names, regex, assignor, classic
        )
    )


def encode_current(standing: Standing) -> bytes:
    head = _CURRENT_HEAD.pack(FORMAT_VERSION, standing.epoch, standing.previous_epoch, standing.state)
    return head + _assignment(standing.assigned) + _assignment(standing.revoking)


def decode_current(key: str, value: bytes) -> Standing:
    """Raises Corruption."""
    reader = RowReader(key, value)
    epoch, previous_epoch, state = reader.head(_CURRENT_HEAD)
    try:
        known_state = MemberState(state)
    except ValueError as cause:
        raise Corruption(key, 9, f"state {state} is not known here") from cause
    return reader.ended(Standing(epoch, previous_epoch, known_state, _read(reader), _read(reader)))


def encode_target(assignment: Assignment) -> bytes:
    return _TARGET_HEAD.pack(FORMAT_VERSION) + _assignment(assignment)


def decode_target(key: str, value: bytes) -> Assignment:
    """Raises Corruption."""
    reader = RowReader(key, value)
    reader.head(_TARGET_HEAD)
    return reader.ended(_read(reader))


def _assignment(assignment: Assignment) -> bytes:
    parts = [_NUMBER.pack(len(assignment))]
    for topic_id in sorted(assignment):
        indexes = sorted(assignment[topic_id])
        parts += (topic_id, _NUMBER.pack(len(indexes)), *map(_NUMBER.pack, indexes))
    return b"".join(parts)


def _read(reader: RowReader) -> Assignment:
    assignment: dict[TopicId, frozenset[int]] = {}
    for _ in range(reader.length()):
        topic_id = TopicId(reader.raw(16))
        assignment[topic_id] = frozenset(reader.length() for _ in range(reader.length()))
    return assignment
