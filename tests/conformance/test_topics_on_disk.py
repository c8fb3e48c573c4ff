"""Topics over the real catalog and the real engine: what a crash between the two leaves is healed at the next start.

The crash is constructed: rows are committed to the catalog while no engine is there to be told.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from riverlog.base.ids import PartitionId, TopicId, TopicName
from riverlog.broker.settings import BrokerSettings
from riverlog.broker.topic_cache import TOPICS, Topic, read_view
from riverlog.broker.topics import Topics
from riverlog.catalog.contract import Change, CommitId
from riverlog.catalog.sqlite import SqliteCatalog
from riverlog.env.clock import SystemClock
from riverlog.env.entropy import SystemEntropy
from riverlog.env.executor import ThreadExecutor
from riverlog.env.files import RealFiles
from riverlog.records.builder import build_batch
from riverlog.records.header import read_header
from riverlog.records.record import NewRecord
from riverlog.state.access import LIBRARY_CALLER, AllowAll
from riverlog.state.topics import Plan, TopicRules, TopicSpec, decide_create, decide_delete, decide_partitions
from riverlog.storage.contract import Acks, Append, Appended, TopicLog
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.settings import LocalSettings

NEW_ID = TopicId(b"n" * 16)


class Process(NamedTuple):
    catalog: SqliteCatalog
    topics: Topics
    engine: LocalEngine


@asynccontextmanager
async def process(path: Path) -> AsyncIterator[Process]:
    """Started as the server starts it, and stopped cleanly."""
    clock, entropy, executor = SystemClock(), SystemEntropy(), ThreadExecutor("catalog")
    opened: list[tuple[SqliteCatalog, Topics]] = []

    async def topics_of_catalog() -> Sequence[TopicLog]:
        catalog = await SqliteCatalog.open(str(path / "catalog.db"), executor)
        topics = Topics(BrokerSettings(), catalog, clock, entropy, AllowAll())
        opened.append((catalog, topics))
        return await topics.load()

    engine = await LocalEngine.open(
        str(path), LocalSettings(), files=RealFiles(), clock=clock, entropy=entropy, topics=topics_of_catalog
    )
    ((catalog, topics),) = opened
    await topics.attach(engine)
    try:
        yield Process(catalog, topics, engine)
    finally:
        await topics.close()
        await engine.close()
        await catalog.close()
        executor.close()


async def filled(one: Process, name: str, partition_count: int) -> Topic:
    """A topic with one record in each partition."""
    spec = TopicSpec(name=name, partition_count=partition_count)
    (topic,) = await one.topics.create(LIBRARY_CALLER, [spec])
    assert isinstance(topic, Topic)
    for index in range(partition_count):
        batch = bytearray(build_batch([NewRecord(1_700_000_000_000, b"k", b"v")]))
        appended = one.engine.append([Append(PartitionId(topic.topic_id, index), batch, read_header(batch))], Acks.ALL)
        (outcome,) = await appended if isinstance(appended, Awaitable) else appended
        assert isinstance(outcome, Appended), outcome
    return topic


async def committed_without_an_engine(path: Path, *plans: Plan) -> None:
    executor = ThreadExecutor("catalog")
    catalog = await SqliteCatalog.open(str(path / "catalog.db"), executor)
    for number, plan in enumerate(plans):
        changes = [Change(TOPICS, row.key, row.value) for row in plan.rows]
        await catalog.commit(CommitId(number.to_bytes(16)), None, changes)
    await catalog.close()
    executor.close()


def directories(path: Path, below: str) -> list[str]:
    return sorted(os.listdir(path / below)) if (path / below).exists() else []


def log_ends(one: Process, topic: Topic) -> list[int]:
    return [one.engine.watermarks(PartitionId(topic.topic_id, n)).log_end for n in range(topic.partition_count)]


def test_created_widened_and_deleted_in_the_catalog_alone(tmp_path: Path) -> None:
    async def story() -> None:
        async with process(tmp_path) as one:
            kept, gone = await filled(one, "kept", 1), await filled(one, "gone", 2)
            view, _ = await read_view(one.catalog)
        rules = TopicRules()
        await committed_without_an_engine(
            tmp_path,
            decide_delete(view.facts[gone.topic_id]),
            decide_partitions(view.facts[kept.topic_id], 3, None, rules),
            decide_create(TopicSpec(name="new", partition_count=2), NEW_ID, None, rules),
        )
        async with process(tmp_path) as again:
            assert sorted(again.topics.by_name) == ["kept", "new"]
            assert log_ends(again, again.topics.by_name[TopicName("kept")]) == [1, 0, 0]
            assert log_ends(again, again.topics.by_id[NEW_ID]) == [0, 0]
            made = await filled(again, "gone", 1)
            assert log_ends(again, made) == [1]
            assert made.topic_id != gone.topic_id
        async with process(tmp_path) as last:
            view, _ = await read_view(last.catalog)
            assert sorted(facts.name for facts in view.facts.values()) == ["gone", "kept", "new"]
            assert directories(tmp_path, "orphans") == []

    asyncio.run(asyncio.wait_for(story(), 30))


def test_deleted_and_made_again_in_the_catalog_alone_shows_no_old_record(tmp_path: Path) -> None:
    async def story() -> None:
        async with process(tmp_path) as one:
            old = await filled(one, "a", 2)
            view, _ = await read_view(one.catalog)
        facts = view.facts[old.topic_id]
        made_again = decide_create(TopicSpec(name="a", partition_count=2), NEW_ID, None, TopicRules())
        await committed_without_an_engine(tmp_path, decide_delete(facts), made_again)
        async with process(tmp_path) as again:
            topic = again.topics.by_name[TopicName("a")]
            assert topic.topic_id == NEW_ID
            assert log_ends(again, topic) == [0, 0]
            assert directories(tmp_path, "orphans") == ["a-0", "a-1"]

    asyncio.run(asyncio.wait_for(story(), 30))
