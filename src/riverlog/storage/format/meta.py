"""`meta.json`: what a data directory is, and how often it was started. See docs/formats/meta.md.

Invariant: `starts` rises by one, durably, before anything else of a start is written; it is the epoch of every lease.
The file is replaced whole, never written in place.
"""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from riverlog.base.ids import NodeId
from riverlog.base.units import INT32_MAX, INT64_MAX
from riverlog.records.checksum import crc32c
from riverlog.storage.format.errors import FormatError

FORMAT_VERSION: Final = 1
CRC: Final = "crc32c"


class Meta(NamedTuple):
    cluster_id: str
    node_id: NodeId
    starts: int
    format_version: int = FORMAT_VERSION


def encode(meta: Meta) -> bytes:
    value = _value(meta)
    crc = crc32c(_text(value))
    return _text({**value, CRC: f"{crc:08x}"})


def _value(meta: Meta) -> dict[str, object]:
    return {
        "format_version": meta.format_version,
        "cluster_id": meta.cluster_id,
        "node_id": meta.node_id,
        "starts": meta.starts,
    }


def _text(value: dict[str, object]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode("utf-8")


def decode(data: bytes | bytearray | memoryview) -> Meta:
    """Raises FormatError, also for a directory of a later format version."""
    value = json_object(data)
    version = _number(value, "format_version", INT32_MAX)
    if version != FORMAT_VERSION:
        raise FormatError(
            0,
            f"data directory of format {version}, this riverlog reads {FORMAT_VERSION}: use the riverlog that wrote it",
        )
    cluster_id = value.get("cluster_id")
    if not isinstance(cluster_id, str) or not cluster_id:
        raise FormatError(0, "no cluster_id")
    meta = Meta(cluster_id, NodeId(_number(value, "node_id", INT32_MAX)), _number(value, "starts", INT64_MAX), version)
    if CRC in value:
        if bytes(data) != encode(meta):
            raise FormatError(0, f"its {CRC} is not that of its bytes; to change it by hand, take the line {CRC} out")
    elif unknown := sorted(value.keys() - _value(meta).keys()):
        raise FormatError(0, f"no {CRC}, and keys that are not known: {', '.join(unknown)}")
    return meta


def json_object(data: bytes | bytearray | memoryview) -> dict[str, object]:
    """The JSON object in `data`. Raises FormatError where there is none."""
    try:
        value = json.loads(bytes(data))
    except (ValueError, RecursionError) as error:
        raise FormatError(getattr(error, "pos", 0), f"no JSON: {error}") from error
    if not isinstance(value, dict):
        raise FormatError(0, "no JSON object")
    return value


def _number(value: dict[str, object], name: str, largest: int) -> int:
    number = value.get(name)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= largest:
        raise FormatError(0, f"no {name}")
    return number
