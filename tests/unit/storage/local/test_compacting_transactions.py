"""Compaction of a log with transactions, by Kafka's rules: records of aborted ones go, an open one holds it up, a marker goes
once nothing of its transaction is left and `delete.retention.ms` is over; transaction indexes say what stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from riverlog.base.ids import Offset
from riverlog.storage.contract import Acks
from riverlog.storage.format import names, txn_index
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.settings import LocalSettings
from riverlog.testing.conformance.log_engine import P0, settled
from riverlog.testing.conformance.log_transactions import committed_in, ended, keyed_write_of, marker_of
from riverlog.testing.fakes import Unsynced
from riverlog.testing.local_world import LocalWorld
from tests.compacted import PARTITION, batches_of, compact, compacted_topic

NO_CLEANER = LocalSettings(sync_threads=2, read_threads=2, cleaner_enable=False)


def run(story: Callable[[LocalWorld], Coroutine[Any, Any, None]], **config: Any) -> None:
    async def whole() -> None:
        world = LocalWorld([compacted_topic(**config)], NO_CLEANER)
        await story(world)
        await world.stop()

    asyncio.run(asyncio.wait_for(whole(), 60))


class Producer:
    def __init__(self, engine: LocalEngine, producer_id: int) -> None:
        self.engine = engine
        self.producer_id = producer_id
        self.sequence = 0

    async def write(self, *values: str) -> None:
        append = keyed_write_of(P0, *values, producer=(self.producer_id, 0, self.sequence), transactional=True)
        self.sequence += len(values)
        await settled(self.engine.append([append], Acks.ALL))

    async def end(self, *, committed: bool) -> None:
        await ended(self.engine, marker_of(P0, self.producer_id, 0, committed=committed))


async def plain(engine: LocalEngine, *values: str) -> None:
    for value in values:
        await settled(engine.append([keyed_write_of(P0, value)], Acks.ALL))


async def markers(engine: LocalEngine) -> list[int]:
    return [header.base_offset for header, _ in await batches_of(engine) if header.is_control and header.record_count]


def entries_on_disk(world: LocalWorld) -> list[txn_index.AbortedEntry]:
    there = sorted(name for name in world.files.list(PARTITION) if name.endswith(names.TXN_INDEX))
    return [entry for name in there for entry in txn_index.decode(world.files.read(f"{PARTITION}/{name}"))]


def test_aborted_records_go_and_their_markers_later() -> None:
    async def story(world: LocalWorld) -> None:
        engine = await world.start()
        one, other = Producer(engine, 1), Producer(engine, 2)
        await one.write("a=1", "b=1")
        await one.end(committed=True)
        for at in range(6):
            await other.write(f"a=aborted{at}", f"c=aborted{at}")
            await other.end(committed=False)
        await one.write("b=2")
        await one.end(committed=True)
        await other.write("d=last")
        await other.end(committed=True)
        await plain(engine, *[f"x={at}" + "-" * 60 for at in range(8)])
        before = await committed_in(engine, P0)
        assert before[:4] == ["a=1", "b=1", "b=2", "d=last"]
        all_markers = await markers(engine)
        assert len(all_markers) == 9
        assert await compact(world) is not None
        after = await committed_in(engine, P0)
        assert after[:3] == ["a=1", "b=2", "d=last"]
        assert not [one for one in await batches_of(engine) if b"aborted" in one[1]]
        assert await markers(engine) == all_markers, "their time is not over"
        transactions = engine.partitions[P0].transactions
        assert transactions is not None
        assert len(transactions.aborted) <= 6
        world.clock.advance(20_000)
        await plain(engine, *[f"x={at}" + "-" * 60 for at in range(8)])
        assert await compact(world) is not None
        world.clock.advance(20_000)
        await plain(engine, *[f"x={at}" + "-" * 60 for at in range(8)])
        assert await compact(world) is not None
        assert len(await markers(engine)) < len(all_markers), "nothing is left of the aborted ones"
        assert set(all_markers[-2:]) <= set(await markers(engine)), "their records are there"
        assert (await committed_in(engine, P0))[:3] == ["a=1", "b=2", "d=last"]
        assert len(transactions.aborted) == 0
        await engine.checkpoints.write()
        assert entries_on_disk(world) == []
        await world.kill(Unsynced.LOST)
        engine = await world.start()
        assert (await committed_in(engine, P0))[:3] == ["a=1", "b=2", "d=last"]

    run(story, delete_retention_ms=10_000)


def test_an_open_transaction_holds_it_up() -> None:
    async def story(world: LocalWorld) -> None:
        engine = await world.start()
        one = Producer(engine, 1)
        await plain(engine, *[f"k={at}" + "-" * 60 for at in range(12)])
        await one.write("k=open")
        await plain(engine, *[f"k={at}" + "-" * 60 for at in range(12, 24)])
        done = await compact(world)
        assert done is not None
        assert done.cleaned_offset <= 12
        assert [value for value in await committed_in(engine, P0) if value.startswith("k=11-")]
        await one.end(committed=False)
        await plain(engine, *[f"k={at}" + "-" * 60 for at in range(24, 36)])
        done = await compact(world)
        assert done is not None
        assert done.cleaned_offset > 24
        values = await committed_in(engine, P0)
        assert "k=open" not in values
        assert values[-1].startswith("k=35-")

    run(story)


def test_a_transaction_whose_marker_is_not_compacted_yet_is_known_to_be_aborted() -> None:
    """Its entry is in memory alone: no checkpoint has written it."""

    async def story(world: LocalWorld) -> None:
        engine = await world.start()
        one = Producer(engine, 1)
        await plain(engine, *[f"k{at}=0" + "-" * 60 for at in range(4)])
        await one.write("k0=aborted")
        await plain(engine, *[f"n{at}=0" + "-" * 60 for at in range(8)])
        await engine.checkpoints.write()
        await one.end(committed=False)
        partition = engine.partitions[P0]
        done = await engine.compacting.run_once(partition)
        assert done is not None
        assert done.cleaned_offset <= partition.segments[-1].base_offset < partition.log_end
        assert [value[:4] for value in await committed_in(engine, P0) if value.startswith("k0")] == ["k0=0"]
        await world.kill(Unsynced.LOST)
        engine = await world.start()
        assert [value[:4] for value in await committed_in(engine, P0) if value.startswith("k0")] == ["k0=0"]
        assert engine.watermarks(P0).last_stable_offset == engine.watermarks(P0).log_end

    run(story)


def test_what_stays_of_an_aborted_transaction_keeps_its_entry_through_a_swap() -> None:
    async def story(world: LocalWorld) -> None:
        engine = await world.start()
        one = Producer(engine, 1)
        await plain(engine, *[f"k{at % 2}=0" + "-" * 60 for at in range(4)])
        await one.write("k0=aborted")  # the producer's last batch stays, as a header
        await one.end(committed=False)
        await plain(engine, *[f"k{at % 2}=1" + "-" * 60 for at in range(8)])
        assert await compact(world) is not None
        transactions = engine.partitions[P0].transactions
        assert transactions is not None
        entries = transactions.aborted.between(Offset(0), Offset(100))
        assert [(entry.first_offset, entry.last_offset) for entry in entries] == [(4, 5)]
        assert entries_on_disk(world) == entries
        await world.kill(Unsynced.LOST)
        engine = await world.start()
        transactions = engine.partitions[P0].transactions
        assert transactions is not None
        assert transactions.aborted.between(Offset(0), Offset(100)) == entries
        (state,) = engine.producers(P0)
        assert (state.last_sequence, state.current_transaction_first_offset) == (0, -1)

    run(story)
