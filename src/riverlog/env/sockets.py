"""Listeners, and the shell of every TCP gateway: it owns the non-blocking socket and drives a sans-io `Session`.

A transport reads once an event into one buffer that all connections of a loop share (or into the session's own, while a large
frame is under way) and sends all that the session has to say in one `sendmsg`; regions of files go by `sendfile`, in their turn,
so the order of header and region is plain. It stops reading while the peer is slow to take answers, or while the session asks
for it. TLS will sit between the same two calls. What is not here: protocols, limits on requests.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from errno import EADDRINUSE
from typing import Any, Final, Protocol, TypeAlias, cast

from riverlog.base.limits import receive_buffer_bytes, send_buffer_bytes

log = logging.getLogger(__name__)

Memory: TypeAlias = bytes | bytearray | memoryview
small_region_bytes: Final = 16 * 1024  # read and sent with its neighbours: as cheap as sendfile, and fewer calls
buffers_per_send: Final = 256
accepts_per_event: Final = 64
sendfile_bytes_per_call: Final = 4 * 1024 * 1024
accept_retry_seconds: Final = 0.2


class Region(Protocol):
    """Bytes of an open file."""

    descriptor: int
    position: Any  # int
    count: int


class Pinned(Protocol):
    """Parts that stay valid until `close`; `size` is their sum."""

    @property
    def parts(self) -> Sequence[Any]: ...

    def close(self) -> None: ...


Sendable: TypeAlias = Memory | Pinned


class Session(Protocol):
    """What a gateway makes of one connection. All methods are called on the loop."""

    def input_buffer(self) -> memoryview | None:
        """Where the next bytes go, or None: the shared buffer, whose bytes are borrowed until `received` returns.
        Asked before each read; where it calls `pause`, nothing is read."""
        ...

    def received(self, data: memoryview) -> None: ...

    def drained(self) -> None:
        """All that was given to `send` is with the kernel, after it was not for a while."""
        ...

    def closed(self) -> None:
        """The connection is gone; called once."""
        ...

    def idle_ms(self, now_ms: int) -> int:
        """How long nothing was seen of the client, at that moment of the monotonic clock."""
        ...


class _Done:
    """Stands in the queue behind the last part of something pinned."""

    __slots__ = ("pinned",)

    def __init__(self, pinned: Pinned) -> None:
        self.pinned = pinned


class Transport:
    """One connection. Invariant: what `send` was given leaves in that order, and every `Pinned` is closed exactly once."""

    __slots__ = (
        "_loop", "_on_close", "_outgoing", "_paused", "_region_sent", "_shared", "_writing", "bytes_in", "bytes_out",
        "closing", "last_active_ms", "local", "peer", "session", "socket",
    )  # fmt: skip

    PEER_IS_SLOW: Final = 1  # bits of `pause`; a session uses the higher ones

    def __init__(
        self, loop: asyncio.AbstractEventLoop, connected: socket.socket, shared: memoryview, on_close: Callable[[Transport], None]
    ) -> None:
        self._loop = loop
        self.socket = connected
        self._shared = shared
        self._on_close = on_close
        self._outgoing: deque[Any] = deque()
        self._region_sent = 0
        self._writing = False
        self._paused = 0
        self.closing = False
        self.bytes_in = 0
        self.bytes_out = 0
        self.last_active_ms = 0
        self.peer = address_text(connected.getpeername())
        self.local = connected.getsockname()
        self.session: Session | None = None

    def start(self, session: Session) -> None:
        self.session = session
        self._loop.add_reader(self.socket, self._readable)

    # reading

    def _readable(self) -> None:
        """One event: what has come, and once more where that was the start of a large frame, whose rest has mostly come too."""
        if self._receive(self._shared) and not self._paused:
            self._receive(None)

    def _receive(self, otherwise: memoryview | None) -> bool:
        """Reads into the session's own buffer, `otherwise` where it has none (None: does not read). False: nothing came."""
        session = self.session
        if session is None or self.closing or (into := session.input_buffer() or otherwise) is None or self._paused:
            return False
        try:
            count = self.socket.recv_into(into)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            count = 0
        if count == 0:
            self.close()
            return False
        self.bytes_in += count
        session.received(into[:count])
        return True

    def pause(self, reason: int) -> None:
        """Reads nothing until every reason was taken back by `resume`."""
        if not self._paused and not self.closing:
            self._loop.remove_reader(self.socket)
        self._paused |= reason

    def resume(self, reason: int) -> None:
        if self._paused & reason:
            self._paused &= ~reason
            if not self._paused and not self.closing:
                self._loop.add_reader(self.socket, self._readable)

    @property
    def paused(self) -> int:
        return self._paused

    # writing

    def send(self, parts: Sequence[Sendable]) -> None:
        """Sends now what the kernel takes; the rest as soon as it takes more."""
        if self.closing:
            for part in parts:
                if not isinstance(part, (bytes, bytearray, memoryview)):
                    part.close()
            return
        self._outgoing.extend(parts)
        if not self._writing:
            self._flush()

    def _writable(self) -> None:
        self._flush()
        if not self._outgoing and not self.closing:
            self._writing = False
            self._loop.remove_writer(self.socket)
            self.resume(self.PEER_IS_SLOW)
            if self.session is not None:
                self.session.drained()

    def _flush(self) -> None:
        try:
            blocked = self._send_what_goes()
        except (BlockingIOError, InterruptedError):
            blocked = True
        except OSError as error:
            if not isinstance(error, ConnectionError):
                log.warning("connection %s: %s; closed", self.peer, error)
            self.close()
            return
        if blocked and not self._writing:
            self._writing = True
            self._loop.add_writer(self.socket, self._writable)
            self.pause(self.PEER_IS_SLOW)

    def _send_what_goes(self) -> bool:
        """True: the kernel takes no more for now."""
        outgoing = self._outgoing
        while outgoing:
            head = outgoing[0]
            if isinstance(head, _Done):
                outgoing.popleft().pinned.close()
            elif hasattr(head, "descriptor"):
                if not self._send_region(cast(Region, head)):
                    return True
            elif isinstance(head, (bytes, bytearray, memoryview)):
                if not self._send_memory():
                    return True
            else:
                self._unfold()
        return False

    def _unfold(self) -> None:
        """Puts the parts of what is pinned at the head in its place."""
        pinned = cast(Pinned, self._outgoing.popleft())
        self._outgoing.appendleft(_Done(pinned))
        for part in reversed(pinned.parts):
            if not isinstance(part, (bytes, bytearray, memoryview)) and part.count <= small_region_bytes:
                count = part.count
                part = os.pread(part.descriptor, count, part.position)
                if len(part) < count:
                    raise OSError("a file that is being sent has become shorter")
            self._outgoing.appendleft(part)

    def _send_memory(self) -> bool:
        outgoing = self._outgoing
        buffers: list[Memory] = []
        size = 0
        more = 0
        for taken, part in enumerate(outgoing):
            if isinstance(part, (bytes, bytearray, memoryview)):
                if taken == buffers_per_send:
                    break
                buffers.append(part)
                size += len(part)
            elif not isinstance(part, _Done):
                more = socket.MSG_MORE if hasattr(socket, "MSG_MORE") else 0
                break
        sent = self.socket.send(buffers[0], more) if len(buffers) == 1 else self.socket.sendmsg(buffers, (), more)
        self.bytes_out += sent
        left = sent
        while outgoing:
            part = outgoing[0]
            if isinstance(part, _Done):
                outgoing.popleft().pinned.close()
            elif isinstance(part, (bytes, bytearray, memoryview)):
                if left < len(part):
                    if left:
                        outgoing[0] = memoryview(part)[left:]
                    break
                left -= len(part)
                outgoing.popleft()
            else:
                break
        return sent == size

    def _send_region(self, region: Region) -> bool:
        left = region.count - self._region_sent
        while left:
            sent = os.sendfile(
                self.socket.fileno(), region.descriptor, region.position + self._region_sent, min(left, sendfile_bytes_per_call)
            )
            if sent == 0:
                raise OSError("a file that is being sent has become shorter")
            self.bytes_out += sent
            self._region_sent += sent
            left -= sent
        self._region_sent = 0
        self._outgoing.popleft()
        return True

    @property
    def idle(self) -> bool:
        """Nothing is left to be sent."""
        return not self._outgoing

    # the end

    def close(self) -> None:
        """Closes at once; what was not sent is dropped."""
        if self.closing:
            return
        self.closing = True
        if not self._paused:
            self._loop.remove_reader(self.socket)
        if self._writing:
            self._loop.remove_writer(self.socket)
        for part in self._outgoing:
            if isinstance(part, _Done):
                part.pinned.close()
            elif not isinstance(part, (bytes, bytearray, memoryview)) and not hasattr(part, "descriptor"):
                part.close()
        self._outgoing.clear()
        self.socket.close()
        session, self.session = self.session, None
        if session is not None:
            session.closed()
        self._on_close(self)


class Listener:
    """Accepts on one address and keeps its transports. `make_session` is called once a connection."""

    def __init__(
        self,
        name: str,
        listening: socket.socket,
        make_session: Callable[[Transport], Session],
        *,
        connections_max: int,
        connections_per_ip_max: int,
        shared: memoryview | None = None,
    ) -> None:
        self.name = name
        self.socket = listening
        self.make_session = make_session
        self.connections_max = connections_max
        self.connections_per_ip_max = connections_per_ip_max
        self.transports: set[Transport] = set()
        self.accepted = 0
        self.refused = 0
        self._per_ip: dict[str, int] = {}
        self._shared = shared if shared is not None else memoryview(bytearray(receive_buffer_bytes))
        self._loop = asyncio.get_running_loop()
        self._accepting = False

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.socket.getsockname()[:2]
        return host, port

    def start(self) -> None:
        self._accepting = True
        self._loop.add_reader(self.socket, self._acceptable)

    def stop_accepting(self) -> None:
        if self._accepting:
            self._accepting = False
            self._loop.remove_reader(self.socket)
        self.socket.close()

    def close(self) -> None:
        self.stop_accepting()
        for transport in list(self.transports):
            transport.close()

    def _acceptable(self) -> None:
        for _ in range(accepts_per_event):
            try:
                connected, peer = self.socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:  # out of descriptors: wait for some to come free, rather than spin
                log.error("%s: cannot accept: %s; raise the limit on open files", self.name, error)
                self._loop.remove_reader(self.socket)
                self._loop.call_later(accept_retry_seconds, self._accept_again)
                return
            self._accept(connected, peer)

    def _accept_again(self) -> None:
        if self._accepting:
            self._loop.add_reader(self.socket, self._acceptable)

    def _accept(self, connected: socket.socket, peer: Any) -> None:
        ip = str(peer[0])
        here = self._per_ip.get(ip, 0)
        if len(self.transports) >= self.connections_max or here >= self.connections_per_ip_max:
            self.refused += 1
            if self.refused.bit_count() == 1:  # the 1st, 2nd, 4th, 8th …: a flood does not flood the log
                limit = "max.connections" if here < self.connections_per_ip_max else "max.connections.per.ip"
                log.warning("%s: connection from %s refused: %s is reached (%d refused)", self.name, ip, limit, self.refused)
            connected.close()
            return
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
        try:
            transport = Transport(self._loop, connected, self._shared, self._gone)
        except OSError:  # it was gone before we could ask who it is
            connected.close()
            return
        self.accepted += 1
        self._per_ip[ip] = here + 1
        self.transports.add(transport)
        transport.start(self.make_session(transport))

    def _gone(self, transport: Transport) -> None:
        self.transports.discard(transport)
        ip = transport.peer.rpartition(":")[0].strip("[]")
        if (left := self._per_ip.get(ip, 0) - 1) > 0:
            self._per_ip[ip] = left
        else:
            self._per_ip.pop(ip, None)


def listen(host: str, port: int, *, backlog: int = 1024) -> socket.socket:
    """A bound, listening, non-blocking socket. Raises OSError with the address in its text."""
    listening = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, proto, _, address = found[0]
        listening = socket.socket(family, kind, proto)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.setblocking(False)
        listening.bind(address)
        listening.listen(backlog)
    except OSError as error:
        if listening is not None:
            listening.close()
        advice = ": stop who listens there, or give another port (0: a free one)" if error.errno == EADDRINUSE else ""
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror or error}{advice}") from error
    return listening


def unmapped(host: str) -> str:
    """An IPv4 address that came over an IPv6 socket as plain IPv4."""
    return host.removeprefix("::ffff:") if host.startswith("::ffff:") and "." in host else host


def address_text(address: Any) -> str:
    """`host:port`, with brackets around an IPv6 host."""
    if not isinstance(address, tuple):
        return str(address) or "local"
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
