"""The bytes of consumers that speak the classic protocol: ConsumerProtocolSubscription and ConsumerProtocolAssignment.

Clients own these formats. They only ever grow at the end, so a version that is not known is read as the last one that is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct, error
from typing import Final, NamedTuple

_SHORT: Final = Struct(">h")
_INT: Final = Struct(">i")


class Subscription(NamedTuple):
    topics: Sequence[str]
    user_data: bytes
    owned: Mapping[str, Sequence[int]]  # what a cooperative consumer keeps while it joins
    rack_id: str | None


class _Reader:
    def __init__(self, value: bytes) -> None:
        self.value = value
        self.position = 0

    def number(self, struct: Struct) -> int:
        (number,) = struct.unpack_from(self.value, self.position)
        self.position += struct.size
        return int(number)

    def raw(self, length: int) -> bytes:
        begin, self.position = self.position, self.position + max(length, 0)
        if self.position > len(self.value):
            raise ValueError("cut short")
        return self.value[begin : self.position]

    def text(self) -> str | None:
        length = self.number(_SHORT)
        return None if length < 0 else self.raw(length).decode()

    def count(self) -> int:
        """Of a list, each element of which has at least a byte."""
        count = self.number(_INT)
        if count > len(self.value):
            raise ValueError("a list longer than its bytes")
        return count

    def partitions(self) -> dict[str, Sequence[int]]:
        found: dict[str, Sequence[int]] = {}
        for _ in range(self.count()):
            topic = self.text() or ""
            found[topic] = [self.number(_INT) for _ in range(self.count())]
        return found


def decode_subscription(metadata: bytes) -> Subscription:
    """Raises ValueError."""
    reader = _Reader(metadata)
    try:
        version = reader.number(_SHORT)
        topics = [reader.text() or "" for _ in range(reader.count())]
        user_data = reader.raw(reader.number(_INT))
        owned = reader.partitions() if version >= 1 else {}
        if version >= 2:
            reader.number(_INT)  # the generation in which it was given what it owns
        rack_id = reader.text() if version >= 3 else None
    except error as cause:
        raise ValueError(str(cause)) from cause
    return Subscription(topics, user_data, owned, rack_id)


def decode_assignment(assignment: bytes) -> tuple[Mapping[str, Sequence[int]], bytes]:
    """The partitions, and what the assignor keeps for itself. No bytes are no partitions. Raises ValueError."""
    if not assignment:
        return {}, b""
    reader = _Reader(assignment)
    try:
        reader.number(_SHORT)
        return reader.partitions(), reader.raw(reader.number(_INT))
    except error as cause:
        raise ValueError(str(cause)) from cause


def encode_assignment(partitions: Mapping[str, Sequence[int]]) -> bytes:
    """In version 0, which every consumer reads."""
    parts = [_SHORT.pack(0), _INT.pack(len(partitions))]
    for topic in sorted(partitions):
        name = topic.encode()
        parts += (_SHORT.pack(len(name)), name, _INT.pack(len(partitions[topic])))
        parts += map(_INT.pack, partitions[topic])
    return b"".join(parts) + _INT.pack(-1)
