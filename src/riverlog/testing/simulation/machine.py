"""One machine through its lives: what happens to it, in the order that a seed says.

Invariants: the topics that there are (what the catalog would say) are durable before the engine is told; one seed gives one
history, of which `trace` has every operation on a file and every answer; a life ends by a clean stop, by `kill -9` or by a
loss of power, between two callbacks of the loop or in the middle of an operation.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any, Final

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import Offset, PartitionId, TopicId, TopicName
from riverlog.base.units import DAY_MS, MIB
from riverlog.env.entropy import SeededEntropy
from riverlog.env.executor import Executor
from riverlog.storage.answers import unknown
from riverlog.storage.contract import Durability, Isolation, LogConfig, Read, TopicLog
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.settings import LocalSettings
from riverlog.testing.fakes import Unsynced
from riverlog.testing.simulation.disk import SimulatedFiles
from riverlog.testing.simulation.loop import SimulatedLoop, Time
from riverlog.testing.simulation.model import PartitionModel, Violation
from riverlog.testing.simulation.readers import fetch, read_all
from riverlog.testing.simulation.senders import Sender
from riverlog.testing.simulation.threads import SimulatedThreads

DIRECTORY: Final = "/data"
REFUSALS: Final = ("sync", "write", "truncate", "sync-directory", "rename", "read", "create", "remove")
EXPECTED: Final = (ErrorKind.UNKNOWN_TOPIC, ErrorKind.OFFSET_OUT_OF_RANGE)
partitions_max: Final = 4  # of a topic


class Machine:
    def __init__(self, seed: int, steps: int) -> None:
        self.entropy = SeededEntropy(seed)
        self.steps_left = steps
        self.trace: list[str] = []
        self.files = SimulatedFiles(self.trace.append)
        self.time = Time()
        self.topics: dict[str, TopicLog] = {}
        self.models: dict[PartitionId, PartitionModel] = {}
        self.senders: dict[PartitionId, list[Sender]] = {}
        self.positions: dict[PartitionId, Offset] = {}
        self.violation: Violation | None = None
        self.clean = True  # how the last life ended
        self.epochs_rise = False  # somebody was served since the last stop that was, perhaps, a clean one
        self.excused = False  # in this life something was refused by the disk
        self.loop: SimulatedLoop | None = None
        self.flights: list[Any] = []
        self.feed = asyncio.Lock()  # changes of topics reach an engine one after another, as the broker's feed has them
        below = self.entropy.below
        self.faulty = not below(2)
        self.weak = not below(4)  # topics may ask for page-cache
        self.retaining = not below(3)
        self.compacting = not below(4)
        self.flipping = not below(10)
        for name in ("rivers", "lakes")[: 1 + below(2)]:
            self.make_topic(name)

    def note(self, what: str) -> None:
        self.trace.append(f"{self.time.seconds:.6f} {what}")

    def hash(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for line in self.trace:
            digest.update(line.encode())
            digest.update(b"\n")
        return digest.hexdigest()

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

    # Lives

    def run(self) -> None:
        """Raises Violation."""
        while self.steps_left > 0:
            self.steps_left -= 1
            self.live(final=False)
        self.live(final=True)
        self.live(final=True)

    def live(self, *, final: bool) -> None:
        below = self.entropy.below
        files = self.files
        loop = self.loop = SimulatedLoop(self.time, self.entropy)
        self.excused = False
        self.flights = []
        self.feed = asyncio.Lock()
        files.on_crash = loop.kill
        files.resident = bool(below(3))
        way = 9 if final else below(10)
        if way < 3:
            loop.callbacks_left = below((60, 600, 3000)[below(3)])
        elif way < 7:
            files.operations_left = below((40, 150, 600)[below(3)])
        if self.faulty and not final and not below(4):
            self.disturb()
        self.note(f"life way={way} excused={self.excused}")
        for senders in self.senders.values():
            for sender in senders:
                sender.restarted()
        steps = 0 if final else 1 + below((5, 20, 60)[below(3)])
        ended = loop.live(self._life(steps, stop=final or way == 9))
        if self.violation is not None:
            raise self.violation
        if loop.failures and not self.excused:
            raise Violation("exception", loop.failures[0])
        self.clean = bool(ended)
        self._end(below)

    def _end(self, below: Any) -> None:
        if self.clean:
            self.note("stopped")
            self.files.crash(Unsynced.LOST)  # a clean stop has synced everything
        else:
            unsynced = tuple(Unsynced)[below(3)]
            self.note(f"crash {unsynced.name}")
            self.files.crash(unsynced, self.entropy)
            for model in self.models.values():
                if unsynced is not Unsynced.KEPT:
                    model.power_lost()
        if self.excused:
            for model in self.models.values():
                model.cut()
        if self.flipping and not below(3):
            self._flip(below)
        self.time.seconds += below(5000) / 1000

    def _flip(self, below: Callable[[int], int]) -> None:
        """A bit of a file of one partition turns over while nobody runs."""
        topic = list(self.topics.values())[below(len(self.topics))]
        index = below(topic.partition_count)
        directory = f"{DIRECTORY}/topics/{topic.name}-{index}"
        if not self.files.exists(directory):
            return
        names = [name for name in self.files.list(directory) if self.files.size(f"{directory}/{name}")]
        if names:
            path = f"{directory}/{names[below(len(names))]}"
            position, bit = below(self.files.size(path)), below(8)
            self.files.flip(path, position, bit)
            self.models[PartitionId(topic.topic_id, index)].damaged = True
            self.note(f"flip {path} {position} {bit}")

    async def _life(self, steps: int, *, stop: bool) -> bool:
        """True: it was stopped cleanly."""
        engine = await self._open()
        if engine is None:
            return False
        await self._check_start(engine)
        self.epochs_rise = True
        while steps and self.steps_left:
            steps -= 1
            self.steps_left -= 1
            await self.step(engine)
        for flight in list(self.flights):
            await flight
        if not stop:
            return False
        await self._check_end(engine)
        self.epochs_rise = False
        await engine.close()
        return not self.excused

    async def _open(self) -> LocalEngine | None:
        below = self.entropy.below
        settings = LocalSettings(
            sync_threads=1 + below(3),
            read_threads=1 + below(2),
            checkpoint_interval_ms=(200, 1000, 60_000)[below(3)],
            retention_check_interval_ms=(300, 60_000)[below(2)],
            open_files_max=(2, 100)[below(2)],
            loaded_indexes_max=(1, 256)[below(2)],
            page_cache_unsynced_bytes_max=(500, MIB)[below(2)],
            unsynced_bytes_max=(2000, 64 * MIB)[below(2)],
            journal_bytes_max=(0, 8 * 4096, 256 * MIB, 256 * MIB)[below(4)],
            journal_files_min=1 + below(3),
            cleaner_backoff_ms=(100, 3000)[below(2)],
            cleaner_dedupe_bytes_max=(64, MIB)[below(2)],  # two keys at a time, or all
        )
        loop = self.loop
        assert loop is not None

        def executors(name: str, threads: int) -> Executor:
            return SimulatedThreads(loop, self.entropy, threads)

        try:
            return await LocalEngine.open(
                DIRECTORY,
                settings,
                files=self.files.session(),
                clock=self.time,
                entropy=self.entropy,
                executors=executors,
                topics=list(self.topics.values()),
            )
        except (OSError, RiverlogError) as error:
            if not self.excused:
                raise self._broken(Violation("start", f"the engine does not start: {error}")) from error
            return None

    def _broken(self, violation: Violation) -> Violation:
        if self.violation is None:
            self.violation = violation
        assert self.loop is not None
        self.loop.kill()
        return violation

    async def _check_start(self, engine: LocalEngine) -> None:
        """What was promised is there. Reading is undisturbed: faults that are still due are for the engine's own work."""
        try:
            for topic in list(self.topics.values()):
                for index in range(topic.partition_count):
                    model = self.models[PartitionId(topic.topic_id, index)]
                    partition = engine.partitions[model.id]
                    if partition.failure is not None:
                        if not self.excused and not model.damaged:
                            raise Violation("offline", f"{model.id}: {partition.failure.message}")
                        continue
                    bytes_max = (200, 1000, MIB)[self.entropy.below(3)]
                    try:
                        there = await read_all(engine, model, bytes_max)
                    except RiverlogError as error:
                        if not self.excused and not model.damaged:
                            raise Violation("unreadable", f"{model.id}: {error.message}") from error
                        model.forget_behind(partition.log_end)
                        continue
                    if partition.failure is None:
                        model.recovered(engine.watermarks(model.id), there, clean=not self.epochs_rise)
                        self.note(f"recovered {model.id.topic_id.hex()}-{index} {engine.watermarks(model.id)}")
        except Violation as violation:
            self._broken(violation)
            raise

    async def _check_end(self, engine: LocalEngine) -> None:
        """Everybody who is healthy serves: what was appended becomes visible."""
        for id in list(engine.partitions):
            model = self.models.get(id)
            if engine.partitions[id].failure is not None or model is None or model.damaged or self.excused:
                continue
            try:
                ends = await engine.cut([id], Isolation.READ_UNCOMMITTED)
            except RiverlogError as error:
                raise self._broken(Violation("error", f"{id}: {error.message}")) from error
            if ends[id] < engine.watermarks(id).log_end and not self.flights:
                raise self._broken(Violation("watermark", f"{id}: {ends} of {engine.watermarks(id)}"))
            for sender in self.senders[id]:
                self.note(await sender.send(engine, self.time.now_ms()))

    # Steps

    async def step(self, engine: LocalEngine) -> None:
        below = self.entropy.below
        work = self._choose(engine)
        assert self.loop is not None
        flight = self.loop.create_task(self._guarded(work))
        self.flights.append(flight)
        if below(3):
            await flight
        elif not below(2):
            await self.time.sleep(below(1000) / 100_000)
        if not below(4):
            await self.time.sleep((0.001, 0.05, 0.5, 3.0)[below(4)])
        self.flights = [one for one in self.flights if not one.done()]
        if self.faulty and not below(10):
            self.disturb()

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except Violation as violation:
            self._broken(violation)
        except RiverlogError as error:
            if error.kind not in EXPECTED and not self.excused and not self._any_damaged():
                self._broken(Violation("error", f"{error.kind.name} {error.message}"))
            self.note(f"error {error.kind.name}")
        except OSError as error:
            if not self.excused:
                self._broken(Violation("error", repr(error)))
            self.note(f"error {error.errno}")
        except AssertionError as error:
            self._broken(Violation("assertion", repr(error)))

    def _any_damaged(self) -> bool:
        return any(model.damaged for model in self.models.values())

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

    # What the disk does

    def disturb(self) -> None:
        """Some operations will fail, or the disk is full, or there is room again."""
        below = self.entropy.below
        self.excused = True
        if below(3):
            kind = REFUSALS[below(len(REFUSALS))]
            where = (DIRECTORY, "/topics/", ".log", "/checkpoint", "/lakes")[below(5)]
            self.files.inject(kind, where, errno.EIO, 1 + below(2))
            self.note(f"will refuse {kind} {where}")
        else:
            self.files.room_bytes = None if below(2) else below(3000)
            self.note(f"room {self.files.room_bytes}")


def _wake(future: Any) -> None:
    if not future.done():
        future.set_result(None)
