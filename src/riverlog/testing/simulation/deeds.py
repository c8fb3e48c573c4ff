"""What clients and operators do to an engine, one deed at a time, chosen by the seed.

Invariants: the topics that there are (what the catalog would say) are durable before the engine is told, and changes of them
reach it one after another; what a deed learns goes to the model at once. Not here: lives and their ends (`machine.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any, Final

from riverlog.base.ids import Offset, PartitionId, TopicId, TopicName
from riverlog.base.units import DAY_MS, MIB
from riverlog.env.entropy import Entropy
from riverlog.storage.answers import unknown
from riverlog.storage.contract import Durability, Isolation, LogConfig, Read, TopicLog
from riverlog.storage.local.engine import LocalEngine
from riverlog.testing.simulation.disk import SimulatedFiles
from riverlog.testing.simulation.loop import SimulatedLoop, Time
from riverlog.testing.simulation.model import PartitionModel, Violation
from riverlog.testing.simulation.readers import fetch
from riverlog.testing.simulation.senders import Sender

partitions_max: Final = 4  # of a topic


class Deeds:
    """What they work on; `Machine` fills it in."""

    entropy: Entropy
    trace: list[str]
    files: SimulatedFiles
    time: Time
    topics: dict[str, TopicLog]
    models: dict[PartitionId, PartitionModel]
    senders: dict[PartitionId, list[Sender]]
    positions: dict[PartitionId, Offset]
    feed: asyncio.Lock
    loop: SimulatedLoop | None
    weak: bool  # topics may ask for page-cache
    retaining: bool
    compacting: bool

    def note(self, what: str) -> None:
        """One line of the trace."""
        raise NotImplementedError

    # Topics

    def config(self) -> LogConfig:
        below = self.entropy.below
        retaining = self.retaining and below(2)
        compact = bool(self.compacting and below(2))
        return LogConfig(
            segment_bytes=(300, 1000, 5000, MIB)[below(4)],
            index_interval_bytes=(50, 200, 4096)[below(3)],
            retention_ms=(-1, 3000)[below(2)] if retaining else -1,
            retention_bytes=(-1, 900)[below(2)] if retaining else -1,
            cleanup_delete=not compact or bool(below(2)),
            cleanup_compact=compact,
            min_cleanable_dirty_ratio=(0.0, 0.5)[below(2)],
            delete_retention_ms=(0, 2000, DAY_MS)[below(3)],
            file_delete_delay_ms=(0, 500)[below(2)],
            segment_ms=(1000, 3_600_000)[below(2)],
            durability=Durability.PAGE_CACHE if self.weak and below(2) else Durability.FSYNC,
            flush_ms=(100, 1 << 62)[below(2)],
        )

    def make_topic(self, name: str) -> TopicLog:
        """The catalog's part."""
        topic = TopicLog(
            topic_id=TopicId(self.entropy.token_bytes(16)),
            name=TopicName(name),
            partition_count=1 + self.entropy.below(2),
            config=self.config(),
        )
        self.note(f"topic {name} {topic.topic_id.hex()} {topic.partition_count} {topic.config}")
        self._set_topic(topic)
        return topic

    def _set_topic(self, topic: TopicLog) -> None:
        self.topics[topic.name] = topic
        for index in range(topic.partition_count):
            id = PartitionId(topic.topic_id, index)
            if id not in self.models:
                model = self.models[id] = PartitionModel(id, topic.config)
                number = len(self.trace) * 10
                self.senders[id] = [
                    Sender(f"plain{index}", model, self.entropy, -1),
                    Sender(f"ordered{index}", model, self.entropy, number + 1),
                    Sender(f"other{index}", model, self.entropy, number + 2),
                ]

    # Deeds

    def _choose(self, engine: LocalEngine) -> Callable[[], Coroutine[Any, Any, None]]:
        below = self.entropy.below
        topics = list(self.topics.values())
        topic = topics[below(len(topics))]
        id = PartitionId(topic.topic_id, below(topic.partition_count))
        dice = below(100)
        if dice < 50:
            return partial(self._send, engine, id)
        if dice < 72:
            return partial(self._fetch, engine, id)
        if dice < 76:
            return partial(self._commit, engine, id)
        if dice < 80:
            return partial(self._delete_before, engine, id)
        if dice < 83:
            return partial(self._checkpoint, engine)
        if dice < 87:
            return partial(self._retain, engine)
        if dice < 91:
            return partial(self._configure, engine, topic)
        if dice < 93:
            return partial(self._more_partitions, engine, topic)
        if dice < 95:
            return partial(self._remake, engine, topic)
        if dice < 97:
            return partial(self._look, engine, id)
        return self._turn_pages

    def _marks(self, engine: LocalEngine, id: PartitionId) -> None:
        """A look at the watermarks; after a cut the model hears of it."""
        model = self._model(id)
        marks = engine.watermarks(id)
        if marks.leader_epoch > model.epoch >= 0:
            model.cut()
        model.marks(marks)

    async def _send(self, engine: LocalEngine, id: PartitionId) -> None:
        self._marks(engine, id)
        senders = [sender for sender in self.senders[id] if not sender.busy]
        if senders:
            sender = senders[self.entropy.below(len(senders))]
            self.note(await sender.send(engine, self.time.now_ms()))
            if (room := engine.room()) is not None:
                await room

    async def _fetch(self, engine: LocalEngine, id: PartitionId) -> None:
        below = self.entropy.below
        self._marks(engine, id)
        marks = engine.watermarks(id)
        position = self.positions.get(id, marks.log_start)
        if not below(3) or not marks.log_start <= position <= marks.high_watermark:
            position = Offset(marks.log_start + below(marks.high_watermark - marks.log_start + 1))
        reads = [Read(id, position, (100, 2000, MIB)[below(3)])]
        for other in self.models:
            if other != id and not below(3) and (known := self.positions.get(other)) is not None:
                reads.append(Read(other, known, 1000))
        isolation = tuple(Isolation)[below(2)]
        subscription = None
        if not below(3):
            woken = self.loop.create_future() if self.loop is not None else None
            assert woken is not None
            subscription = engine.subscribe([id], partial(_wake, woken))
        try:
            following = await fetch(engine, self.models, reads, (500, MIB)[below(2)], isolation)
            self.positions.update(following)
            self.note(f"read {position} to {following.get(id)}")
            if subscription is not None:
                await self.time.sleep(below(20) / 1000)
        finally:
            if subscription is not None:
                subscription.close()

    async def _commit(self, engine: LocalEngine, id: PartitionId) -> None:
        """A group commits how far it has read; the catalog is durable at once."""
        model = self._model(id)
        if (position := self.positions.get(id)) is not None and position <= engine.watermarks(id).high_watermark:
            model.committed = max(model.committed, position)

    async def _delete_before(self, engine: LocalEngine, id: PartitionId) -> None:
        model = self._model(id)
        marks = engine.watermarks(id)
        offset = Offset(-1 if not self.entropy.below(5) else self.entropy.below(marks.high_watermark + 1))
        model.start_asked = max(model.start_asked, marks.high_watermark if offset < 0 else offset)
        start = await engine.delete_before(id, offset)
        if start < offset:
            raise Violation("log start", f"{id}: {start} was answered to {offset}")
        model.start_told = max(model.start_told, start)
        self.note(f"deleted before {start}")

    async def _checkpoint(self, engine: LocalEngine) -> None:
        await engine.checkpoints.write()

    async def _retain(self, engine: LocalEngine) -> None:
        engine.upkeep.hurry()

    async def _configure(self, engine: LocalEngine, topic: TopicLog) -> None:
        async with self.feed:
            config = self.config()
            if topic.name not in self.topics:
                return
            topic = replace(self.topics[topic.name], config=config)
            self.topics[topic.name] = topic
            self.note(f"configure {topic.name} {config}")
            for index in range(topic.partition_count):
                model = self.models[PartitionId(topic.topic_id, index)]
                if model.id in engine.partitions:
                    model.unsafe_below = max(model.unsafe_below, engine.partitions[model.id].high.offset)
                model.configure(config)
            if topic.topic_id in engine.topics:
                engine.configure(topic.topic_id, config)

    async def _more_partitions(self, engine: LocalEngine, topic: TopicLog) -> None:
        async with self.feed:
            topic = self.topics[topic.name]
            if topic.partition_count < partitions_max:
                topic = replace(topic, partition_count=topic.partition_count + 1)
                self._set_topic(topic)
                await engine.open_topic(topic)

    async def _remake(self, engine: LocalEngine, topic: TopicLog) -> None:
        """Deleted, and at once made again under the old name."""
        async with self.feed:
            if (found := self.topics.pop(topic.name, None)) is None:
                return
            topic = found
            for index in range(topic.partition_count):
                id = PartitionId(topic.topic_id, index)
                del self.models[id], self.senders[id]
                self.positions.pop(id, None)
            fresh = self.make_topic(topic.name)
            await engine.delete_topic(topic.topic_id)
            await engine.open_topic(fresh)

    async def _look(self, engine: LocalEngine, id: PartitionId) -> None:
        self._marks(engine, id)
        await engine.cut([id], Isolation.READ_UNCOMMITTED)
        await engine.offset_for_time(id, self.time.now_ms() - self.entropy.below(3000))
        await engine.offset_of_max_timestamp(id)

    async def _turn_pages(self) -> None:
        self.files.resident = not self.files.resident

    def _model(self, id: PartitionId) -> PartitionModel:
        """Raises UNKNOWN_TOPIC where it was deleted meanwhile."""
        if (model := self.models.get(id)) is None:
            raise unknown(id.topic_id)
        return model


def _wake(future: Any) -> None:
    if not future.done():
        future.set_result(None)
