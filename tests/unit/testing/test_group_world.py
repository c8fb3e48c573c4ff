"""The world in which handlers of groups are tested."""

from __future__ import annotations

import asyncio

from riverlog.testing.group_world import group_world


def test_a_group_lives_and_times_out_in_it() -> None:
    async def story() -> None:
        async with group_world() as world:
            member = await world.stable()
            assert await world.commit(5, member=member) == 0
            await world.pass_ms(9_999)
            assert [count for _, _, count in world.groups.members()] == [1]
            await world.pass_ms(10_000)
            assert [count for _, _, count in world.groups.members()] == [0]
            assert list(world.groups.committed()) == [("g", world.topic_id, 0, 5)]

    asyncio.run(story())
