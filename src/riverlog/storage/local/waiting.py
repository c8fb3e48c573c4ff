"""Futures of those who wait for durable ends. Invariant: a future is done once, when the last partition has answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from riverlog.base.errors import RiverlogError
from riverlog.storage.contract import Appended, Refused


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
