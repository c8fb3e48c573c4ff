"""The content of `riverlog.lock`: who holds the directory, for the message to who comes second. See
docs/formats/lock.md.

The lock itself is the kernel's (flock on this file); the content may be stale or half written and is never decided on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from riverlog.base.units import INT32_MAX
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.meta import json_object


class LockContent(NamedTuple):
    """`addresses`: listener name (`kafka`, `http`) -> host:port; empty until the listeners are open."""

    pid: int
    addresses: Mapping[str, str]


def encode(content: LockContent) -> bytes:
    return (json.dumps({"pid": content.pid, "addresses": dict(content.addresses)}) + "\n").encode("utf-8")


def decode(data: bytes | bytearray | memoryview) -> LockContent:
    """Raises FormatError."""
    value = json_object(data)
    pid, addresses = value.get("pid"), value.get("addresses")
    if not isinstance(pid, int) or isinstance(pid, bool) or not 0 < pid <= INT32_MAX:
        raise FormatError(0, "no pid")
    if not isinstance(addresses, dict) or not all(isinstance(address, str) for address in addresses.values()):
        raise FormatError(0, "no addresses")
    return LockContent(pid, addresses)
