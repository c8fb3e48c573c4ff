"""Tasks of an owner: a failure is logged with the task's name, and closing ends what is left."""

from __future__ import annotations

import asyncio
import logging

import pytest

from riverlog.env.tasks import Tasks


def test_a_failure_is_logged_with_the_name(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("no good")

    async def story() -> None:
        tasks = Tasks("owner")
        task = tasks.start(fail(), name="the job")
        await asyncio.wait([task])
        await tasks.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(story())
    assert "owner: the job" in caplog.text
    assert "no good" in caplog.text


def test_closing_cancels_and_waits() -> None:
    async def story() -> None:
        tasks = Tasks("owner")
        ended = asyncio.Event()
        begun = asyncio.Event()

        async def wait_for_ever() -> None:
            begun.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                ended.set()

        tasks.start(wait_for_ever(), name="wait")
        await begun.wait()
        assert len(tasks.running) == 1
        await tasks.close()
        assert ended.is_set()
        assert not tasks.running

    asyncio.run(story())
