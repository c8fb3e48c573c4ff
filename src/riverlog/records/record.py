"""Records as Python values: what was read, and what is to be written. For those who ask for records; produce and fetch
never make one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview


class Header(NamedTuple):
    """The key is UTF-8 on the wire; bytes of it that are not are kept as surrogates (PEP 383), so that they survive."""

    key: str
    value: bytes | None


class Record(NamedTuple):
    """One record of a log. A null key or value is None, which is not the same as empty."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header] = ()


class NewRecord(NamedTuple):
    """One record to be put into a batch; its place in the sequence becomes its offset."""

    timestamp_ms: int
    key: Buffer | None = None
    value: Buffer | None = None
    headers: Sequence[tuple[str, Buffer | None]] = ()
