"""The one record of a control batch: how a transaction ended. A marker ends all open records of its producer in one
partition; consumers never show it to anyone.

Key: version (int16), type (int16). Value: version (int16), coordinator epoch (int32). Versions only ever add fields
at the end, so a later one is read as far as we know it.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.records.batch import records_of
from riverlog.records.header import BatchHeader

CONTROL_KEY: Final = Struct(">hh")
END_MARKER_VALUE: Final = Struct(">hi")
VERSION: Final = 0


class ControlType(IntEnum):
    """Persisted; the numbers are the Kafka protocol's. Others exist (KRaft's), and are skipped by who reads."""

    ABORT = 0
    COMMIT = 1


class Marker(NamedTuple):
    """`coordinator_epoch`: of the coordinator that decided; a smaller one is a zombie's."""

    type: ControlType
    coordinator_epoch: int


def marker_key(type_: ControlType) -> bytes:
    return CONTROL_KEY.pack(VERSION, type_)


def marker_value(coordinator_epoch: int) -> bytes:
    return END_MARKER_VALUE.pack(VERSION, coordinator_epoch)


def control_type(key: bytes | bytearray | memoryview | None) -> int:
    """The type in a control record's key, perhaps none of `ControlType`. Raises INVALID_RECORD where it is no such
    key."""
    if key is None or len(key) < CONTROL_KEY.size:
        raise RiverlogError(ErrorKind.INVALID_RECORD, "a control record's key has a version and a type, 4 bytes")
    version, type_ = CONTROL_KEY.unpack_from(key)
    if version < 0:
        raise RiverlogError(ErrorKind.INVALID_RECORD, f"a control record's key has version {version}")
    number: int = type_
    return number


def parse_marker(key: bytes | bytearray | memoryview | None, value: bytes | bytearray | memoryview | None) -> Marker:
    """Raises INVALID_RECORD where key and value are not those of a transaction's end marker."""
    type_ = control_type(key)
    if type_ not in (ControlType.ABORT, ControlType.COMMIT):
        raise RiverlogError(ErrorKind.INVALID_RECORD, f"control type {type_} does not end a transaction")
    if value is None or len(value) < END_MARKER_VALUE.size:
        raise RiverlogError(ErrorKind.INVALID_RECORD, "an end marker's value has a version and an epoch, 6 bytes")
    version, coordinator_epoch = END_MARKER_VALUE.unpack_from(value)
    if version < 0:
        raise RiverlogError(ErrorKind.INVALID_RECORD, f"an end marker's value has version {version}")
    return Marker(ControlType(type_), coordinator_epoch)


def marker_in(batch: bytes | bytearray | memoryview, header: BatchHeader) -> Marker | None:
    """Of a control batch. None: compaction has left it empty, or what it holds ends no transaction."""
    try:
        for record in records_of(batch, header):
            return parse_marker(record.key, record.value)
    except RiverlogError:
        pass
    return None
