"""Counters begin at nothing and tell what was done."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from riverlog.base.ids import Offset
from riverlog.storage.contract import Isolation, Read
from riverlog.storage.local.counters import Counters
from riverlog.testing.conformance.log_engine import P0, TOPIC, append_of, appended, batch_of, settled
from riverlog.testing.local_world import LocalWorld


def test_counters_begin_at_nothing() -> None:
    assert set(asdict(Counters()).values()) == {0}


def test_what_was_done_is_counted() -> None:
    async def story() -> None:
        world = LocalWorld([TOPIC])
        engine = await world.start()
        await appended(engine, [append_of(P0, "a", producer=(1, 0, 0))])
        await appended(engine, [append_of(P0, "a", producer=(1, 0, 0))])
        await appended(engine, [append_of(P0, "c", producer=(1, 0, 2))])
        (await settled(engine.read([Read(P0, Offset(0), 100)], 100, Isolation.READ_UNCOMMITTED))).close()
        counters = engine.counters
        assert (counters.appended_batches, counters.appended_bytes) == (1, len(batch_of("a")))
        assert (counters.duplicate_batches, counters.refused_batches) == (1, 1)
        assert (counters.commits, counters.syncs, counters.unsynced_bytes) == (1, 1, 0)
        assert (counters.warm_reads, counters.cold_reads) == (1, 0)
        await world.stop()

    asyncio.run(story())
