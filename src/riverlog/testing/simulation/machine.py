"""An engine in the lives of one machine: what is checked after each start and before each stop.

Invariant: everything that was promised in an earlier life is asked for at the next start. Not here: how lives begin and end
(`lives.py`), what is done to the engine meanwhile (`deeds.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import Offset, PartitionId
from riverlog.base.units import MIB
from riverlog.storage.contract import Isolation, TopicLog
from riverlog.storage.local.engine import LocalEngine
from riverlog.testing.fakes import Unsynced
from riverlog.testing.simulation.deeds import Deeds
from riverlog.testing.simulation.lives import DIRECTORY, Lives
from riverlog.testing.simulation.model import PartitionModel, Violation
from riverlog.testing.simulation.readers import read_all
from riverlog.testing.simulation.senders import Sender

EXPECTED: Final = (ErrorKind.UNKNOWN_TOPIC, ErrorKind.OFFSET_OUT_OF_RANGE)


class Machine(Lives, Deeds):
    def __init__(self, seed: int, steps: int) -> None:
        super().__init__(seed, steps)
        self.topics: dict[str, TopicLog] = {}
        self.models: dict[PartitionId, PartitionModel] = {}
        self.senders: dict[PartitionId, list[Sender]] = {}
        self.positions: dict[PartitionId, Offset] = {}
        self.epochs_rise = False  # somebody was served since the last stop that was, perhaps, a clean one
        self.flights: list[Any] = []
        below = self.entropy.below
        self.weak = not below(4)
        self.retaining = not below(3)
        self.compacting = not below(4)
        self.flipping = not below(10)
        for name in ("rivers", "lakes")[: 1 + below(2)]:
            self.make_topic(name)

    # Lives

    def begun(self) -> None:
        self.flights = []
        for senders in self.senders.values():
            for sender in senders:
                sender.restarted()

    def ended(self, unsynced: Unsynced | None) -> None:
        for model in self.models.values():
            if unsynced is not None and unsynced is not Unsynced.KEPT:
                model.power_lost()
            if self.excused:
                model.cut()
        if self.flipping and not self.entropy.below(3):
            self._flip(self.entropy.below)

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

    async def life(self, steps: int, *, stop: bool) -> bool:
        """True: it was stopped cleanly."""
        engine = await self.open_engine(list(self.topics.values()))
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
            self.broken(violation)
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
                raise self.broken(Violation("error", f"{id}: {error.message}")) from error
            if ends[id] < engine.watermarks(id).log_end and not self.flights:
                raise self.broken(Violation("watermark", f"{id}: {ends} of {engine.watermarks(id)}"))
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
            self.broken(violation)
        except RiverlogError as error:
            if error.kind not in EXPECTED and not self.excused and not self._any_damaged():
                self.broken(Violation("error", f"{error.kind.name} {error.message}"))
            self.note(f"error {error.kind.name}")
        except OSError as error:
            if not self.excused:
                self.broken(Violation("error", repr(error)))
            self.note(f"error {error.errno}")
        except AssertionError as error:
            self.broken(Violation("assertion", repr(error)))

    def _any_damaged(self) -> bool:
        return any(model.damaged for model in self.models.values())
