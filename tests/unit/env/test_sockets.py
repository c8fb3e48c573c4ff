"""The shell of every gateway, over real sockets on the loopback."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from riverlog.env.sockets import Listener, Transport, address_text, listen, unmapped


class Recorder:
    """A session that keeps what came and can be waited on."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.data = bytearray()
        self.came = asyncio.Event()
        self.was_drained = asyncio.Event()
        self.was_closed = asyncio.Event()
        self.own: memoryview | None = None

    def input_buffer(self) -> memoryview | None:
        return self.own

    def received(self, data: memoryview) -> None:
        self.data += data
        self.came.set()

    def drained(self) -> None:
        self.was_drained.set()

    def closed(self) -> None:
        self.was_closed.set()


class Region:
    def __init__(self, descriptor: int, position: int, count: int) -> None:
        self.descriptor = descriptor
        self.position = position
        self.count = count


class Pinned:
    def __init__(self, *parts: object) -> None:
        self.parts = parts
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def with_connection(story: Callable[[socket.socket, Recorder, Listener], Awaitable[None]], **limits: int) -> None:
    """Runs `story` with a client's blocking socket and the session that serves it."""

    async def run() -> None:
        sessions: list[Recorder] = []

        def session(transport: Transport) -> Recorder:
            sessions.append(Recorder(transport))
            return sessions[-1]

        listener = Listener(
            "test",
            listen("127.0.0.1", 0),
            session,
            connections_max=limits.get("connections_max", 10),
            connections_per_ip_max=limits.get("connections_per_ip_max", 10),
        )
        listener.start()
        loop = asyncio.get_running_loop()
        client = await loop.run_in_executor(None, lambda: socket.create_connection(listener.address))
        client.settimeout(10)
        try:
            client.sendall(b"hello")
            while not sessions or not sessions[0].data:
                if sessions:
                    await sessions[0].came.wait()
                else:
                    await turn()
            await story(client, sessions[0], listener)
        finally:
            client.close()
            listener.close()

    asyncio.run(run())


async def turn() -> None:
    """One round of the loop, with its look at the sockets."""
    await asyncio.get_running_loop().run_in_executor(None, lambda: None)


async def read_exactly(client: socket.socket, count: int) -> bytes:
    def read() -> bytes:
        data = bytearray()
        while len(data) < count:
            more = client.recv(1 << 16)
            assert more, f"closed after {len(data)} of {count} bytes"
            data += more
        return bytes(data)

    return await asyncio.get_running_loop().run_in_executor(None, read)


def test_memory_and_regions_leave_in_order_and_pins_are_closed(tmp_path: Path) -> None:
    """Header, a region large enough for sendfile, a small one, a trailer: one stream of bytes."""
    content = os.urandom(3_000_000)
    (tmp_path / "segment").write_bytes(content)

    async def story(client: socket.socket, session: Recorder, listener: Listener) -> None:
        assert bytes(session.data) == b"hello"
        descriptor = os.open(tmp_path / "segment", os.O_RDONLY)
        try:
            large, small = Pinned(Region(descriptor, 5, 2_500_000), b"!"), Pinned(Region(descriptor, 0, 100))
            session.transport.send([b"head", large, memoryview(b"between"), small, b"tail"])
            expected = b"head" + content[5:2_500_005] + b"!" + b"between" + content[:100] + b"tail"
            assert await read_exactly(client, len(expected)) == expected
            if not session.transport.idle:
                await session.was_drained.wait()
            assert (large.closed, small.closed) == (1, 1)
            assert session.transport.bytes_out == len(expected)
        finally:
            os.close(descriptor)

    with_connection(story)


def test_a_slow_peer_is_not_read_and_gets_everything_in_the_end() -> None:
    async def story(client: socket.socket, session: Recorder, listener: Listener) -> None:
        payload = os.urandom(16 << 20)
        session.transport.send([payload])
        assert session.transport.paused & Transport.PEER_IS_SLOW
        session.data.clear()
        session.came.clear()
        client.sendall(b"more")
        await turn()
        assert not session.data, "nothing is read while the peer does not take its answers"
        assert await read_exactly(client, len(payload)) == payload
        await session.was_drained.wait()
        await session.came.wait()
        assert bytes(session.data) == b"more"

    with_connection(story)


@pytest.mark.parametrize("size", [5_000, 20_000])
def test_a_file_that_has_become_shorter_closes_the_connection(tmp_path: Path, size: int) -> None:
    (tmp_path / "segment").write_bytes(b"x" * size)

    async def story(client: socket.socket, session: Recorder, listener: Listener) -> None:
        descriptor = os.open(tmp_path / "segment", os.O_RDONLY)
        try:
            pinned = Pinned(Region(descriptor, 0, 2 * size))
            session.transport.send([pinned])
            await session.was_closed.wait()
            assert pinned.closed == 1
        finally:
            os.close(descriptor)

    with_connection(story)


def test_closing_gives_back_all_pins(tmp_path: Path) -> None:
    async def story(client: socket.socket, session: Recorder, listener: Listener) -> None:
        first, second = Pinned(os.urandom(32 << 20)), Pinned(b"never sent")
        session.transport.send([first, second])
        session.transport.close()
        late = Pinned(b"too late")
        session.transport.send([late])
        assert (first.closed, second.closed, late.closed) == (1, 1, 1)
        assert not listener.transports

    with_connection(story)


def test_the_peer_goes_away() -> None:
    async def story(client: socket.socket, session: Recorder, listener: Listener) -> None:
        client.close()
        await session.was_closed.wait()
        assert not listener.transports

    with_connection(story)


def test_over_the_limit_a_connection_is_closed_at_once() -> None:
    async def story(client: socket.socket, session: Recorder, listener: Listener) -> None:
        loop = asyncio.get_running_loop()
        second = await loop.run_in_executor(None, lambda: socket.create_connection(listener.address))
        with second:
            second.settimeout(10)
            assert await loop.run_in_executor(None, lambda: second.recv(1)) == b""
        assert listener.refused == 1

    with_connection(story, connections_per_ip_max=1)


def test_reading_goes_into_the_sessions_own_buffer() -> None:
    async def story(client: socket.socket, session: Recorder, listener: Listener) -> None:
        own = bytearray(8)
        session.own = memoryview(own)
        session.came.clear()
        client.sendall(b"12345678")
        await session.came.wait()
        assert own == b"12345678"

    with_connection(story)


def test_a_port_that_is_taken_is_named() -> None:
    taken = listen("127.0.0.1", 0)
    try:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"127.0.0.1:{port}: .*give another port"):
            listen("127.0.0.1", port)
    finally:
        taken.close()


def test_a_name_that_nobody_knows_is_named() -> None:
    with pytest.raises(OSError, match=r"cannot listen on nowhere\.invalid:9092: "):
        listen("nowhere.invalid", 9092)


def test_addresses() -> None:
    assert unmapped("::ffff:10.0.0.1") == "10.0.0.1"
    assert unmapped("::1") == "::1"
    assert address_text(("127.0.0.1", 80)) == "127.0.0.1:80"
    assert address_text(("::1", 80, 0, 0)) == "[::1]:80"
