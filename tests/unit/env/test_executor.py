"""Work on threads: in order on one thread, its errors come back to who asked."""

from __future__ import annotations

import asyncio
import threading

import pytest

from riverlog.env.executor import ThreadExecutor


def test_one_thread_works_in_order_and_not_on_the_loop() -> None:
    async def story() -> None:
        executor = ThreadExecutor("test")
        done: list[int] = []
        work = [executor.run(lambda number=number: done.append(number) or threading.get_ident()) for number in range(20)]  # type: ignore[misc]
        threads = set(await asyncio.gather(*work))
        executor.close()
        assert done == list(range(20))
        assert len(threads) == 1
        assert threading.get_ident() not in threads

    asyncio.run(story())


def test_an_error_comes_back() -> None:
    async def story() -> None:
        executor = ThreadExecutor("test")
        with pytest.raises(ZeroDivisionError):
            await executor.run(lambda: 1 // 0)
        executor.close()

    asyncio.run(story())
