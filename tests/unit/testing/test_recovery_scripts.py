"""The commands of recovery scripts; the scripts themselves are under tests/scripts."""

from __future__ import annotations

import asyncio

import pytest

from riverlog.testing.recovery_scripts import RecoveryScript


def test_commands_print_what_clients_and_disks_see() -> None:
    async def story() -> None:
        script = RecoveryScript()

        async def said(line: str) -> list[str]:
            return await script.execute(line.split())

        await said("open")
        assert await said("append p0 a b producer=1/0/0") == ["p0: appended 0..1"]
        assert await said("append p0 a b producer=1/0/0") == ["p0: appended 0..1 again"]
        assert await said("read p0 1") == ["p0: b"]
        assert (await said("read p0 9"))[0].startswith("p0: offset-out-of-range:")
        assert await said("marks p0") == ["p0: start=0 end=2 durable=2 high=2 epoch=0"]
        await said("hold")
        assert await said("append p1 c") == ["p1: waits"]
        assert await said("release") == ["p1: appended 0..0"]
        assert await said("close") == ["closed"]
        with pytest.raises(AttributeError):
            await said("dance")

    asyncio.run(story())
