"""The aborted transactions of one segment: 34-byte entries, version 0 as Kafka's. See
docs/formats/transaction-index.md.

Invariant: last offsets ascend. A segment without aborted transactions has no such file.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final, NamedTuple

from riverlog.base.ids import Offset, ProducerId
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.rows import rows

VERSION: Final = 0
TXN_ENTRY: Final = Struct(">hqqqq")
ENTRY_BYTES: Final = 34
assert TXN_ENTRY.size == ENTRY_BYTES


class AbortedEntry(NamedTuple):
    """`last_offset` is the abort marker's; `last_stable_offset` is where the first of the transactions began that were open
    when it was written, else the offset behind it."""

    producer_id: ProducerId
    first_offset: Offset
    last_offset: Offset
    last_stable_offset: Offset


def encode(entries: Iterable[AbortedEntry]) -> bytes:
    return b"".join(TXN_ENTRY.pack(VERSION, *entry) for entry in entries)


def decode(data: bytes | bytearray | memoryview) -> list[AbortedEntry]:
    """Raises FormatError."""
    if len(data) % ENTRY_BYTES:
        raise FormatError(
            len(data) - len(data) % ENTRY_BYTES, f"{len(data)} bytes are no whole number of aborted transactions"
        )
    entries: list[AbortedEntry] = []
    before = -1
    for at, (version, producer_id, first, last, stable) in enumerate(rows(TXN_ENTRY, data, 0, len(data))):
        if version != VERSION:
            raise FormatError(at * ENTRY_BYTES, f"aborted transaction of version {version}, known is {VERSION}")
        if not 0 <= first <= last or last <= before:
            raise FormatError(at * ENTRY_BYTES, f"aborted transaction {first} to {last} does not ascend")
        if not 0 <= stable <= last + 1:
            raise FormatError(at * ENTRY_BYTES, f"aborted transaction {first} to {last}: last stable offset {stable}")
        entries.append(AbortedEntry(ProducerId(producer_id), Offset(first), Offset(last), Offset(stable)))
        before = last
    return entries
