"""The runner of the golden scripts about groups."""

from __future__ import annotations

import asyncio

from riverlog.testing.group_scripts import GroupScript


def test_it_prints_what_clients_see() -> None:
    async def story() -> list[str]:
        script = GroupScript()
        lines: list[str] = []
        for command in ("topic t 2", "consumer a", "beat a", "join b", "sync b", "commit a 7", "quit b"):
            lines += await script.execute(command.split())
        return lines

    assert asyncio.run(story()) == [
        "a: epoch=1 given t:0,1",
        "b: joined as c-2 generation=1",
        "b: given nothing",
        "a: STALE_MEMBER_EPOCH",
        "b: gone",
    ]
