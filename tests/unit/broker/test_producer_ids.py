"""Producer ids: unique over processes and restarts, also where replies are lost."""

from __future__ import annotations

import asyncio

from riverlog.broker.producer_ids import ProducerIds, block_size
from riverlog.catalog.memory import MemoryCatalog
from riverlog.env.entropy import SeededEntropy


def test_no_id_is_given_twice_by_two_processes_and_after_a_restart() -> None:
    async def story() -> None:
        catalog = MemoryCatalog()
        seen: set[int] = set()
        makers = [ProducerIds(catalog, SeededEntropy(seed)) for seed in range(2)]
        for _ in range(block_size + 10):
            for maker in makers:
                seen.add(await maker.take())
        seen.add(await ProducerIds(catalog.reopened(), SeededEntropy(9)).take())
        assert len(seen) == 2 * (block_size + 10) + 1

    asyncio.run(story())


def test_those_who_ask_at_once_get_different_ids() -> None:
    async def story() -> None:
        ids = ProducerIds(MemoryCatalog(), SeededEntropy(1))
        taken = await asyncio.gather(*(ids.take() for _ in range(50)))
        assert len(set(taken)) == 50

    asyncio.run(story())


def test_conflicts_and_lost_replies_are_overcome() -> None:
    async def story() -> None:
        catalog = MemoryCatalog()
        catalog.conflicts = 1
        first = await ProducerIds(catalog, SeededEntropy(1)).take()
        catalog.lost_replies = 1
        second = await ProducerIds(catalog, SeededEntropy(2)).take()
        assert first != second

    asyncio.run(story())
