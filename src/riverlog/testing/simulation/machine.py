"""One machine through its lives: what happens to it, in the order that a seed says.

Invariants: one seed gives one history, of which `trace` has every operation on a file and every answer; a life ends by a
clean stop, by `kill -9` or by a loss of power, between two callbacks of the loop or in the middle of an operation. Not here:
what is done to the engine meanwhile (`deeds.py`).
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections.abc import Callable, Coroutine
from typing import Any, Final

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import Offset, PartitionId
from riverlog.base.units import MIB
from riverlog.env.entropy import SeededEntropy
from riverlog.env.executor import Executor
from riverlog.storage.contract import Isolation, TopicLog
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.settings import LocalSettings
from riverlog.testing.fakes import Unsynced
from riverlog.testing.simulation.deeds import Deeds
from riverlog.testing.simulation.disk import SimulatedFiles
from riverlog.testing.simulation.loop import SimulatedLoop, Time
from riverlog.testing.simulation.model import PartitionModel, Violation
from riverlog.testing.simulation.readers import read_all
from riverlog.testing.simulation.senders import Sender
from riverlog.testing.simulation.threads import SimulatedThreads

DIRECTORY: Final = "/data"
REFUSALS: Final = ("sync", "write", "truncate", "sync-directory", "rename", "read", "create", "remove")
EXPECTED: Final = (ErrorKind.UNKNOWN_TOPIC, ErrorKind.OFFSET_OUT_OF_RANGE)


class Machine(Deeds):
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
        self.feed = asyncio.Lock()
        below = self.entropy.below
        self.faulty = not below(2)
        self.weak = not below(4)
        self.retaining = not below(3)
        self.compacting = not below(4)
        self.flipping = not below(10)
        for name in ("rivers", "lakes")[: 1 + below(2)]:
            self.make_topic(name)

    def hash(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for line in self.trace:
            digest.update(line.encode())
            digest.update(b"\n")
        return digest.hexdigest()

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
