"""Futures that are done when the last partition has answered."""

from __future__ import annotations

import asyncio

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import Offset
from riverlog.storage.contract import Appended, Refused
from riverlog.storage.local.waiting import AppendWaiter, CutWaiter

ERROR = RiverlogError(ErrorKind.STORAGE, "the disk is gone")


def test_an_append_is_answered_with_the_last_partition() -> None:
    async def story() -> None:
        answers: list[Appended | Refused] = [Appended(Offset(at), Offset(at + 1), Offset(at)) for at in range(2)]
        waiter = AppendWaiter(asyncio.get_running_loop(), answers)
        waiter.missing = 2
        waiter.failed(1, ERROR)
        assert not waiter.future.done()
        waiter.reached(0)
        assert await waiter.future == [Appended(Offset(0), Offset(1), Offset(0)), Refused(ERROR, Offset(1))]

    asyncio.run(story())


def test_a_cut_raises_what_failed_first() -> None:
    async def story() -> None:
        waiter = CutWaiter(asyncio.get_running_loop())
        waiter.missing = 3
        waiter.reached(0)
        waiter.failed(1, ERROR)
        waiter.reached(2)
        with pytest.raises(RiverlogError, match="the disk is gone"):
            await waiter.future

    asyncio.run(story())
