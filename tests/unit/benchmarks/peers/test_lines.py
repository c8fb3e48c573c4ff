"""Connections on a loop: answers go to their questions, and a broker that closes is told to everybody who waits."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from benchmarks.peers import lines

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def line_to(serve: Serve) -> AsyncIterator[lines.Line]:
    """A connection to somebody who serves it and hangs up."""
    served = asyncio.Event()

    async def serve_and_hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve(reader, writer)
        writer.close()
        await writer.wait_closed()
        served.set()

    server = await asyncio.start_server(serve_and_hang_up, "127.0.0.1", 0)
    async with server:
        (line,) = await lines.connect(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", 1)
        try:
            yield line
        finally:
            line.close()
            await served.wait()


def answer(correlation_id: int, body: bytes) -> bytes:
    return struct.pack(">ii", 4 + len(body), correlation_id) + body


async def requests(reader: asyncio.StreamReader, count: int) -> list[bytes]:
    return [await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big")) for _ in range(count)]


def test_answers_may_come_together_and_in_pieces() -> None:
    asyncio.run(together_and_in_pieces())


async def together_and_in_pieces() -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.extend(await requests(reader, 2))
        data = answer(1, b"one") + answer(2, b"")
        for at in range(len(data)):
            writer.write(data[at : at + 1])
            await writer.drain()

    async with line_to(serve) as line:
        first, second = line.ask(12, 3, b"x"), line.ask(68, 1, b"y", flexible=True)
        assert await first == b"one"
        assert await second == b""
    assert asked[0].endswith(b"benchx")
    assert asked[1].endswith(b"bench\x00y")


def test_a_broker_that_hangs_up_ends_what_is_in_flight() -> None:
    asyncio.run(hung_up())


async def hung_up() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await requests(reader, 1)

    async with line_to(serve) as line:
        with pytest.raises(ConnectionError):
            await line.ask(12, 3, b"x")
        with pytest.raises(ConnectionError):
            await line.ask(12, 3, b"x")
