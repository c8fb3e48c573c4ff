"""Many connections on one event loop, for drivers that are many clients at once. Several requests may be in flight on one.

Invariant: answers come in the order of their requests, as Kafka promises for a connection; another order ends the run.
Not a client: no retries, no routing; a broker that closes ends every request in flight with ConnectionError."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Sequence
from typing import Final

from benchmarks.peers import wire

_answer_head = struct.Struct(">ii")
connecting_at_once: Final = 100  # below a listener's usual backlog of 128


class Line(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._waiting: deque[tuple[int, asyncio.Future[bytes]]] = deque()
        self._correlation_id = 0

    def ask(self, key: int, version: int, body: bytes, *, flexible: bool = False) -> asyncio.Future[bytes]:
        """The body of the answer, from behind the correlation id on; a flexible request's header gets its empty tags."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionError("the broker closed the connection")
        self._correlation_id += 1
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append((self._correlation_id, future))
        self._transport.write(wire.frame(key, version, self._correlation_id, b"\x00" + body if flexible else body))
        return future

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        at, end = 0, len(self._buffer)
        while end - at >= _answer_head.size:
            size, correlation_id = _answer_head.unpack_from(self._buffer, at)
            if end - at < 4 + size:
                break
            expected, future = self._waiting.popleft()
            if correlation_id != expected:
                raise RuntimeError(f"answer {correlation_id} came where {expected} was asked")
            if not future.done():  # whoever asked may have been cancelled
                future.set_result(bytes(self._buffer[at + _answer_head.size : at + 4 + size]))
            at += 4 + size
        del self._buffer[:at]

    def connection_lost(self, error: Exception | None) -> None:
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(error or ConnectionError("the broker closed the connection"))
        self._waiting.clear()


async def connect(bootstrap: str, count: int) -> Sequence[Line]:
    """So many connections to `host:port`."""
    host, _, port = bootstrap.rpartition(":")
    loop = asyncio.get_running_loop()
    lines: list[Line] = []
    while len(lines) < count:
        wanted = min(connecting_at_once, count - len(lines))
        made = await asyncio.gather(*(loop.create_connection(Line, host, int(port)) for _ in range(wanted)))
        lines += [line for _, line in made]
    return lines
