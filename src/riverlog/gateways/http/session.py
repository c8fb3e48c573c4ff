"""One HTTP/1.1 connection over the same shell as every gateway; h11 knows the protocol. GET and HEAD only, no bodies.

Answers come from a `Page` function per path. Pages are made on the loop in steps, so a long one never holds it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final, NamedTuple

import h11

from riverlog.base.errors import RiverlogError
from riverlog.env.sockets import Transport
from riverlog.env.tasks import Tasks

log = logging.getLogger(__name__)
event_bytes_max: Final = 16 * 1024
BUSY: Final = 2  # why the socket is not read: an answer is under way


class Answer(NamedTuple):
    status: int
    content_type: str
    chunks: AsyncIterator[bytes]


Page = Callable[[], Answer]


async def once(text: str) -> AsyncIterator[bytes]:
    yield text.encode()


def plain(status: int, text: str) -> Answer:
    return Answer(status, "text/plain; charset=utf-8", once(text))


class HttpSession:
    """`complaints` are told what a peer sent that is no HTTP; how often that is logged is its business."""

    def __init__(
        self,
        transport: Transport,
        pages: Mapping[str, Page],
        tasks: Tasks,
        now_ms: int = 0,
        complaints: Callable[[str], None] = log.info,
    ) -> None:
        self.transport = transport
        self.pages = pages
        self.tasks = tasks
        self.complaints = complaints
        self.connection = h11.Connection(h11.SERVER, max_incomplete_event_size=event_bytes_max)
        self.gone = False
        self._bytes_in = 0
        self._active_ms = now_ms

    def input_buffer(self) -> memoryview | None:
        return None

    def received(self, data: memoryview) -> None:
        self.connection.receive_data(bytes(data))
        self._go_on()

    def drained(self) -> None:
        return

    def closed(self) -> None:
        self.gone = True

    def idle_ms(self, now_ms: int) -> int:
        if self.transport.bytes_in != self._bytes_in or self.transport.paused & BUSY:
            self._bytes_in = self.transport.bytes_in
            self._active_ms = now_ms
        return now_ms - self._active_ms

    def _go_on(self) -> None:
        """Answers the next request that is whole. The socket rests while an answer is under way."""
        try:
            while (event := self.connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.Request):
                    self.transport.pause(BUSY)
                    self.tasks.start(self._answer(event), name="http answer")
                elif isinstance(event, h11.ConnectionClosed):
                    self.transport.close()
                    return
        except h11.RemoteProtocolError as error:
            self.complaints(f"{self.transport.peer} sent what is not HTTP: {error}; closed")
            self._send_error(error)
            self.transport.close()

    def _send_error(self, error: h11.RemoteProtocolError) -> None:
        if self.connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            head = h11.Response(status_code=error.error_status_hint or 400, headers=[("connection", "close")])
            self.transport.send([self.connection.send(head) or b""])

    async def _answer(self, request: h11.Request) -> None:
        answer = self._page(request)
        headers = [("content-type", answer.content_type), ("transfer-encoding", "chunked")]
        self._send(h11.Response(status_code=answer.status, headers=headers))
        try:
            async for chunk in answer.chunks:
                if self.gone:
                    return
                if request.method != b"HEAD":
                    self._send(h11.Data(data=chunk))
        except RiverlogError as error:
            log.warning("http: %s: %s", request.target.decode("ascii", "replace"), error.message)
            self.transport.close()
            return
        self._send(h11.EndOfMessage())
        if self.gone:
            return
        if self.connection.our_state is h11.MUST_CLOSE or self.connection.their_state is not h11.DONE:
            self.transport.close()
            return
        self.connection.start_next_cycle()
        self.transport.resume(BUSY)
        self._go_on()

    def _page(self, request: h11.Request) -> Answer:
        if request.method not in (b"GET", b"HEAD"):
            return plain(405, "only GET and HEAD are served here\n")
        path = request.target.split(b"?")[0].decode("ascii", "replace")
        page = self.pages.get(path)
        if page is None:
            return plain(404, f"nothing is at {path}; there are {', '.join(sorted(self.pages))}\n")
        return page()

    def _send(self, event: h11.Event) -> None:
        if not self.gone and (data := self.connection.send(event)):
            self.transport.send([data])
