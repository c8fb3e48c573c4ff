"""Those who wait for durable ends. Invariants: a waiter is told once for each partition that it waits for; its future is
done when the last one has answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import Offset
from riverlog.storage.contract import Appended, Refused


class Waiter(Protocol):
    def reached(self, number: int) -> None: ...

    def failed(self, number: int, error: RiverlogError) -> None: ...


class Awaited(NamedTuple):
    """`waiter.reached(number)` is due when everything before `offset` is durable."""

    offset: Offset
    waiter: Waiter
    number: int


def answer_reached(awaited: list[Awaited], end: Offset) -> list[Awaited]:
    """Tells who waited for `end` or less, in order; gives who waits on. All are looked at: a duplicate may wait for less
    than who came before it."""
    later: list[Awaited] = []
    for one in awaited:
        if one.offset <= end:
            one.waiter.reached(one.number)
        else:
            later.append(one)
    return later


class AppendWaiter:
    """One `append` call with acks ALL. `answers` is complete from the start; a failed commit makes Refused of one."""

    __slots__ = ("answers", "future", "missing")

    def __init__(self, loop: asyncio.AbstractEventLoop, answers: list[Appended | Refused]) -> None:
        self.future: asyncio.Future[Sequence[Appended | Refused]] = loop.create_future()
        self.answers = answers
        self.missing = 0

    def reached(self, number: int) -> None:
        self.missing -= 1
        if self.missing == 0 and not self.future.done():
            self.future.set_result(self.answers)

    def failed(self, number: int, error: RiverlogError) -> None:
        self.answers[number] = Refused(error, self.answers[number].log_start_offset)
        self.reached(number)


class CutWaiter:
    """One `cut` call. Raises what the first partition that failed says."""

    __slots__ = ("future", "missing")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[None] = loop.create_future()
        self.missing = 0

    def reached(self, number: int) -> None:
        self.missing -= 1
        if self.missing == 0 and not self.future.done():
            self.future.set_result(None)

    def failed(self, number: int, error: RiverlogError) -> None:
        if not self.future.done():
            self.future.set_exception(error)
