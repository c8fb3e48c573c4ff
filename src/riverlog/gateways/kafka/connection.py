"""One Kafka connection as an object that eats bytes and gives requests, and puts answers back into the requests' order.

Invariants: answers leave in the order in which `expect` was called; the same bytes give the same requests, however they
were cut. It reads no socket, knows no handler and decodes no body by itself (`Request.decode` does, when asked).

**Buffers.** A loop has one receive buffer (256 KiB) that all its connections share: the shell reads into it and gives
what came to `receive`. Frames that lie in it whole are parsed where they are, without a copy; a request's frame is
a view of it, valid until the loop reads again. Only a frame that is not whole yet is copied, into a buffer of its own;
from then on `buffer_for_input` gives what is free there, so that the rest goes from the kernel straight to its place.
Such a buffer goes back to the shell's `BufferPool` when its request was looked at (`reclaim`), at the latest at the next read:
a connection that sends nothing holds no buffer.
A frame is announced before it is sent, so a large one gets its memory as it comes: 1 MiB at first, then doubled.
A request that must wait before its records were used calls `detach` and is decoded (again) after that: it then owns its
bytes.

**Held.** Requests beyond `requests_in_flight_max` that came in the same read are not parsed: their bytes are copied to `held`,
and the shell gives them to `receive` again when answers have gone out, before it reads more. So is a request that the shell
puts back because its time has not come, with all that came behind it; those bytes count as in flight.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from riverlog.base.limits import request_bytes_max as default_request_bytes_max
from riverlog.base.units import INT32_MAX
from riverlog.gateways.kafka.buffer_pool import BufferPool
from riverlog.gateways.kafka.schema.api_keys import VERSIONS, ApiKey
from riverlog.gateways.kafka.wire import DecodeError, Part, decode_request, encode_response, skip_tags

ALL_VERSIONS: Final[Mapping[int, range]] = {key: range(first, last + 1) for key, (first, last, _) in VERSIONS.items()}

_SIZE: Final = struct.Struct(">i")
_HEADER: Final = struct.Struct(">hhih")  # api key, version, correlation id, length of the client id
_HTTP_STARTS: Final = frozenset(b"GET ,POST,PUT ,HEAD,DELE,OPTI,PATC,CONN,TRAC,PRI ".split(b","))


class ProtocolError(Exception):
    """The peer does not speak what we speak: close its connection, and log the message with its address."""


class Request:
    """One frame with its header parsed. `frame` is valid until the loop reads again, unless `detach` was called."""

    __slots__ = (
        "_connection", "api_key", "client_id", "correlation_id", "frame", "is_supported", "position", "version",
    )  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        api_key: int,
        version: int,
        correlation_id: int,
        client_id: str | None,
        frame: memoryview,
        position: int,
        is_supported: bool,
    ) -> None:
        self._connection = connection
        self.api_key = api_key
        self.version = version
        self.correlation_id = correlation_id
        self.client_id = client_id
        self.frame = frame  # without its length prefix
        self.position = position  # of the body in `frame`
        self.is_supported = is_supported  # False: answer with `unsupported_version_answer`, and do not decode

    @property
    def size(self) -> int:
        """Bytes of the frame."""
        return len(self.frame)

    def decode(self) -> Any:
        """The request's message; its records are views of `frame`. Raises ProtocolError."""
        try:
            return decode_request(self.api_key, self.version, self.frame, self.position)
        except DecodeError as error:
            raise ProtocolError(str(error)) from None

    def detach(self) -> None:
        """Makes the frame this request's own. Views that were decoded before stay where they were: decode again."""
        self.frame = self._connection.hand_over(self.frame)

    def __repr__(self) -> str:
        return f"Request({self.api_key} v{self.version}, correlation id {self.correlation_id}, {len(self.frame)} bytes)"


class Slot:
    """The place of one answer in the order of the connection's answers."""

    __slots__ = ("_connection", "_parts", "_size")

    def __init__(self, connection: Connection, size: int) -> None:
        self._connection = connection
        self._size = size
        self._parts: Sequence[Part] | None = None

    @property
    def is_filled(self) -> bool:
        return self._parts is not None

    def fill(self, parts: Sequence[Part] = ()) -> bool:
        """The answer; nothing for a request that gets none. True: it is this answer's turn, there is data to send."""
        assert self._parts is None, "an answer was given twice"
        self._parts = parts
        return self._connection.was_filled(self, self._size, parts)

    def take(self) -> Sequence[Part]:
        assert self._parts is not None
        return self._parts


class Connection:
    """See the head of this file. `served`: the versions that are answered, by api key; any other key is refused."""

    __slots__ = (
        "_filled", "_frame", "_held_counted", "_lent", "_pool", "_prefix", "_put_back", "_request_bytes_max",
        "_requests_in_flight_max", "_served", "_size", "_slots", "_taken", "bytes_in_flight", "held", "is_closed",
        "requests_received",
    )  # fmt: skip

    def __init__(
        self,
        pool: BufferPool,
        *,
        served: Mapping[int, range] = ALL_VERSIONS,
        request_bytes_max: int = default_request_bytes_max,
        requests_in_flight_max: int = INT32_MAX,
    ) -> None:
        self._pool = pool
        self._served = served
        self._request_bytes_max = request_bytes_max
        self._requests_in_flight_max = requests_in_flight_max
        self._prefix = b""  # of a frame whose length has not come whole
        self._frame: bytearray | None = None  # of a frame of which `_filled` of `_size` bytes have come
        self._filled = 0
        self._size = 0
        self._lent: bytearray | None = None  # of the last request, until the loop reads again
        self._slots: list[Slot] = []
        self.held: memoryview | None = None  # came, but there are too many unanswered before it, or it was put back
        self._held_counted = 0  # of it among the bytes in flight
        self._taken: memoryview | None = None  # was held, and was given to `receive`
        self._put_back: Request | None = None
        self.bytes_in_flight = 0  # of their frames, and held for the one that is on its way
        self.requests_received = 0
        self.is_closed = False

    # in

    def buffer_for_input(self) -> memoryview | None:
        """Where the next bytes are to go; None: into the buffer that all connections share."""
        self.reclaim()
        if self._frame is None:
            return None
        self._make_room()
        return memoryview(self._frame)[self._filled : self._size]

    def receive(self, data: memoryview | bytes | bytearray) -> Iterator[Request]:
        """The requests that `data` completes. Go through all of them; the views are valid until the loop reads again.

        `data` is what was filled of the shared buffer, or of what `buffer_for_input` gave, or any bytes.
        Raises ProtocolError after the requests before the bad frame were given.
        """
        self.reclaim()
        view = data if isinstance(data, memoryview) else memoryview(data)
        position = 0
        end = len(view)
        if self._frame is not None:
            position = self._continue_frame(view)
            if self._filled < self._size:
                return
            yield self._complete_frame()
            if self._put_back is not None:
                self._hold(view[position:])
                return
        elif self._prefix:
            missing = 4 - len(self._prefix)
            self._prefix += bytes(view[:missing])
            if len(self._prefix) < 4:
                return
            size = self._checked_size(self._prefix, 0)
            self._prefix = b""
            position = missing
            if size > end - position:
                self._begin_frame(size, view[position:])
                return
            yield self._request(view[position : position + size])
            position += size
            if self._put_back is not None:
                self._hold(view[position:])
                return
        while end - position >= 4:
            if len(self._slots) >= self._requests_in_flight_max:
                self.held = memoryview(bytearray(view[position:]))
                return
            size = self._checked_size(view, position)
            stop = position + 4 + size
            if stop > end:
                self._begin_frame(size, view[position + 4 :])
                return
            yield self._request(view[position + 4 : stop])
            if self._put_back is not None:
                self._hold_from(view, position)
                return
            position = stop
        if position < end:
            self._prefix = bytes(view[position:])

    def put_back(self, request: Request) -> None:
        """The request that `receive` gave last is not to be answered now: it is held, with all that came behind it, and
        counts as bytes in flight."""
        self._put_back = request

    def _hold(self, rest: memoryview) -> None:
        """As `_hold_from`, where the frame does not lie in the view."""
        assert self._put_back is not None
        frame = self._put_back.frame
        self._hold_from(memoryview(bytearray().join((_SIZE.pack(len(frame)), frame, rest))), 0, is_ours=True)

    def _hold_from(self, view: memoryview, position: int, *, is_ours: bool = False) -> None:
        """What was held before is held on without a copy."""
        self._put_back = None
        self.requests_received -= 1
        self.held = view[position:] if is_ours or view is self._taken else memoryview(bytearray(view[position:]))
        self._held_counted = len(self.held)
        self.bytes_in_flight += self._held_counted

    def take_held(self) -> memoryview:
        """What was held, to be given to `receive`."""
        assert self.held is not None
        self._taken, self.held = self.held, None
        self.bytes_in_flight -= self._held_counted
        self._held_counted = 0
        return self._taken

    def _checked_size(self, view: memoryview | bytes, position: int) -> int:
        size: int = _SIZE.unpack_from(view, position)[0]
        if 8 <= size <= self._request_bytes_max:
            return size
        start = bytes(view[position : position + 4])
        if not self.requests_received:
            if start in _HTTP_STARTS:
                raise ProtocolError("this is the Kafka port, and the peer speaks HTTP (use the address of --http)")
            if start[:2] == b"\x16\x03":
                raise ProtocolError("the peer speaks TLS, and this port does not (set security.protocol=PLAINTEXT)")
        if size > self._request_bytes_max:
            raise ProtocolError(f"a frame of {size} bytes, over socket.request.max.bytes={self._request_bytes_max}")
        raise ProtocolError(f"a frame of {size} bytes, which holds no request")

    def _begin_frame(self, size: int, start: memoryview) -> None:
        """Keeps the start of a frame of `size` bytes."""
        filled = len(start)
        self._frame = self._pool.take(max(filled, min(size, self._pool.frame_bytes_first)))
        self._frame[:filled] = start
        self._filled = filled
        self._size = size
        self.bytes_in_flight += len(self._frame)

    def _make_room(self) -> None:
        """Doubles a frame's buffer that is full before the frame is."""
        frame = self._frame
        if frame is not None and self._filled == len(frame) < self._size:
            larger = self._pool.take(min(self._size, 2 * len(frame)))
            larger[: self._filled] = frame
            self.bytes_in_flight += len(larger) - len(frame)
            self._pool.give(frame)
            self._frame = larger

    def _continue_frame(self, view: memoryview) -> int:
        """Adds to the frame that has begun; gives the position in `view` after it."""
        assert self._frame is not None
        if view.obj is self._frame:  # read straight into its place
            self._filled += len(view)
            return len(view)
        position = 0
        while self._filled < self._size and position < len(view):
            self._make_room()
            count = min(len(self._frame), self._size) - self._filled
            piece = view[position : position + count]
            self._frame[self._filled : self._filled + len(piece)] = piece
            self._filled += len(piece)
            position += len(piece)
        return position

    def _complete_frame(self) -> Request:
        frame = self._frame
        assert frame is not None
        self.bytes_in_flight -= len(frame)
        self._frame = None
        self._lent = frame
        return self._request(memoryview(frame)[: self._size])

    def _request(self, frame: memoryview) -> Request:
        """Parses the header, in its version 1 or 2."""
        try:
            api_key, version, correlation_id, length = _HEADER.unpack_from(frame)
            position = 10
            client_id: str | None = None
            if length >= 0:
                position += length
                client_id = str(frame[10:position], "utf-8")
            served = self._served.get(api_key)
            if served is None:
                raise ProtocolError(f"unknown api key {api_key} (version {version})")
            is_supported = version in served
            if is_supported and version >= VERSIONS[api_key][2]:
                tags = frame[position]
                position = skip_tags(frame, position + 1, tags) if tags else position + 1
        except (DecodeError, IndexError, UnicodeDecodeError, struct.error) as error:
            raise ProtocolError(f"a frame of {len(frame)} bytes whose header cannot be read: {error}") from None
        if position > len(frame):
            raise ProtocolError(f"a client id of {length} bytes in a frame of {len(frame)}")
        self.requests_received += 1
        return Request(self, api_key, version, correlation_id, client_id, frame, position, is_supported)

    def reclaim(self) -> None:
        """Lets go of the buffer of the last large frame; nobody may look at that request any more."""
        if self._lent is not None:
            self._pool.give(self._lent)
            self._lent = None

    def hand_over(self, frame: memoryview) -> memoryview:
        """For `Request.detach`: the same bytes, no longer ours."""
        if self._lent is not None and frame.obj is self._lent:
            self._lent = None
            return frame
        return memoryview(bytearray(frame))

    # out

    @property
    def requests_in_flight(self) -> int:
        """Answers that are expected, or that wait for an earlier one: they hold memory either way."""
        return len(self._slots)

    def expect(self, request_size: int = 0) -> Slot:
        """A place for the answer to the next request; `request_size` counts as bytes in flight until it is filled."""
        slot = Slot(self, request_size)
        self._slots.append(slot)
        self.bytes_in_flight += request_size
        return slot

    def was_filled(self, slot: Slot, size: int, parts: Sequence[Part]) -> bool:
        """For `Slot.fill`."""
        self.bytes_in_flight -= size
        if self.is_closed:
            discard(parts)
            return False
        return self._slots[0] is slot

    def data_to_send(self) -> list[Part]:
        """The answers whose turn it is, as parts to be sent one after another. Each part is given once."""
        parts: list[Part] = []
        count = 0
        for slot in self._slots:
            if not slot.is_filled:
                break
            parts += slot.take()
            count += 1
        del self._slots[:count]
        return parts

    def close(self) -> None:
        """Lets go of buffers and of answers that will not be sent; answers that come later are let go of, too."""
        self.is_closed = True
        if self.held is not None:
            self.take_held()
        self.reclaim()
        if self._frame is not None:
            self.bytes_in_flight -= len(self._frame)
            self._pool.give(self._frame)
            self._frame = None
        slots, self._slots = self._slots, []
        for slot in slots:
            if slot.is_filled:
                discard(slot.take())


def discard(parts: Sequence[Part]) -> None:
    """Closes the parts that pin something (`storage.contract.Slices`)."""
    for part in parts:
        if not isinstance(part, bytes | bytearray | memoryview) and (close := getattr(part, "close", None)) is not None:
            close()


def unsupported_version_answer(request: Request, served: range | None = None) -> list[Part] | None:
    """What Kafka answers to a version that it does not have. None: close the connection. ApiVersions gets error 35 in a
    v0 body with its own versions, so that the client can ask again."""
    if request.api_key != ApiKey.API_VERSIONS:
        return None
    from riverlog.gateways.kafka.schema.api_versions import ApiVersion, ApiVersionsResponse
    from riverlog.gateways.kafka.schema.error_codes import ErrorCode

    known = served or ALL_VERSIONS[ApiKey.API_VERSIONS]
    own = ApiVersion(api_key=ApiKey.API_VERSIONS, min_version=known.start, max_version=known.stop - 1)
    response = ApiVersionsResponse(error_code=ErrorCode.UNSUPPORTED_VERSION, api_keys=(own,))
    return encode_response(ApiKey.API_VERSIONS, 0, request.correlation_id, response)
