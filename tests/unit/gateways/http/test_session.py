"""One HTTP connection: pages, pipelining, what is not HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from riverlog.env.tasks import Tasks
from riverlog.gateways.http.session import Answer, HttpSession, once, plain


class FakeTransport:
    peer = "127.0.0.1:1"
    bytes_in = 0
    paused = 0

    def __init__(self) -> None:
        self.sent = bytearray()
        self.is_closed = False
        self.reasons = 0

    def send(self, parts: Sequence[bytes]) -> None:
        self.sent += b"".join(parts)

    def pause(self, reason: int) -> None:
        self.reasons |= reason

    def resume(self, reason: int) -> None:
        self.reasons &= ~reason

    def close(self) -> None:
        self.is_closed = True


def talk(*pieces: bytes) -> tuple[str, FakeTransport]:
    """What a client gets that sends these bytes."""

    async def run() -> FakeTransport:
        tasks = Tasks("test")
        transport = FakeTransport()
        pages = {"/healthz": lambda: plain(200, "ok\n"), "/text": lambda: Answer(200, "text/x", once("some text"))}
        session = HttpSession(transport, pages, tasks)  # type: ignore[arg-type]
        for piece in pieces:
            session.received(memoryview(piece))
            while tasks.running:
                await asyncio.gather(*tasks.running)
        return transport

    transport = asyncio.run(run())
    return transport.sent.decode(), transport


def test_a_page() -> None:
    text, transport = talk(b"GET /healthz?x=1 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert text.startswith("HTTP/1.1 200")
    assert "ok\n" in text
    assert not transport.is_closed
    assert not transport.reasons


def test_requests_that_come_together_or_in_pieces_are_answered_in_order() -> None:
    two = b"GET /text HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    whole, _ = talk(two)
    pieces, _ = talk(two[:10], two[10:])
    assert whole == pieces
    assert whole.index("some text") < whole.index("ok\n")


def test_what_is_not_there_says_what_is() -> None:
    text, _ = talk(b"GET /nope HTTP/1.1\r\nHost: x\r\n\r\n")
    assert text.startswith("HTTP/1.1 404")
    assert "/healthz" in text


def test_head_has_no_body_and_other_methods_are_refused() -> None:
    text, _ = talk(b"HEAD /text HTTP/1.1\r\nHost: x\r\n\r\n")
    assert "some text" not in text
    assert talk(b"DELETE /text HTTP/1.1\r\nHost: x\r\n\r\n")[0].startswith("HTTP/1.1 405")


def test_connection_close_is_obeyed() -> None:
    assert talk(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")[1].is_closed


def test_what_is_not_http_gets_400_and_is_closed() -> None:
    text, transport = talk(b"\x00\x00\x00\x10 kafka? \r\n\r\n")
    assert text.startswith("HTTP/1.1 400")
    assert transport.is_closed


def test_a_body_that_is_still_coming_ends_the_connection_after_the_refusal() -> None:
    text, transport = talk(b"POST /text HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nstart")
    assert text.startswith("HTTP/1.1 405")
    assert transport.is_closed


def test_idleness_counts_from_the_last_byte() -> None:
    transport = FakeTransport()
    session = HttpSession(transport, {}, Tasks("test"), now_ms=1000)  # type: ignore[arg-type]
    assert session.idle_ms(1500) == 500
    transport.bytes_in = 10
    assert session.idle_ms(2000) == 0
    assert session.idle_ms(2700) == 700
    transport.paused = -1
    assert session.idle_ms(2800) == 0, "an answer is under way"
