"""A broker in the lives of one machine: transactions of many clients, and readers who watch.

Invariant: whoever is told something tells the ledger at once, also in a life that ends the next moment. In a life that ends by
itself everybody stops, and then nothing may be left open: what nobody ends is aborted when its time is over. The last life is
undisturbed, and everything is compared with everything. Not here: how lives begin and end (`simulation/lives.py`).
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, Final

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import PartitionId
from riverlog.broker.broker import Broker
from riverlog.broker.coordinator import Coordinator
from riverlog.broker.settings import BrokerSettings
from riverlog.broker.topic_cache import log_config
from riverlog.broker.topics import Topics
from riverlog.records.header import read_header
from riverlog.state.access import AllowAll
from riverlog.state.topics import TopicSpec
from riverlog.state.transactions.commands import Version
from riverlog.storage.contract import Acks, Append, Appended, Isolation, LogConfig, LogEngine
from riverlog.testing.fakes import Unsynced
from riverlog.testing.simulation.catalog import CatalogPlace
from riverlog.testing.simulation.lives import Lives
from riverlog.testing.simulation.model import Violation
from riverlog.testing.simulation.transactions.actors import OffsetWatcher, PlainSender, Worker, Writer
from riverlog.testing.simulation.transactions.clients import Client
from riverlog.testing.simulation.transactions.ledger import Committed, Ledger, Place
from riverlog.testing.simulation.transactions.readers import Reader, read_all
from riverlog.testing.simulation.transactions.service import CALLER, Service

INPUT: Final = "rivers"
OUTPUT: Final = "lakes"
timeouts_ms: Final = (1_000, 3_000, 8_000)
grace_ms: Final = 6_000  # a decision that is asked for again, and markers after it
actions_a_step: Final = 4


class TransactionMachine(Lives):
    def __init__(self, seed: int, steps: int) -> None:
        super().__init__(seed, steps)
        below = self.entropy.below
        self.ledger = Ledger()
        self.catalog = CatalogPlace()
        self.refusing = not below(3)  # the catalog refuses, conflicts and loses replies
        self.compacting = not below(4)
        self.slow_one_in = (20, 2)[below(2)]
        self.watcher = OffsetWatcher(self.ledger)
        self.mortal = False  # this life does not end by itself
        self.readers: list[Reader] = []
        self.plain = [PlainSender("plain", (INPUT, OUTPUT)[below(2)], self.ledger)]
        self.clients: list[Client] = []
        self.workers: list[Worker] = []
        for number in range(1 + below(3)):
            self._make_writers(number, shared=not below(4))
        for number in range(below(3)):
            self._make_workers(number, shared=not below(3))

    def _make_writers(self, number: int, *, shared: bool) -> None:
        topic = INPUT if not number else (INPUT, OUTPUT)[self.entropy.below(2)]
        for copy in range(2 if shared else 1):
            name = f"writer{number}{'ab'[copy]}"
            writer = Writer(name, f"w{number}", *self._manners(), self.ledger, topic)
            writer.shared = shared
            if not self.entropy.below(3):
                writer.acks = Acks.LEADER
            self.clients.append(writer)

    def _make_workers(self, number: int, *, shared: bool) -> None:
        for copy in range(2 if shared else 1):
            worker = Worker(f"worker{number}{'ab'[copy]}", f"x{number}", *self._manners(), self.ledger, OUTPUT)
            worker.shared = shared
            self.clients.append(worker)
            self.workers.append(worker)

    def _manners(self) -> tuple[Version, int]:
        below = self.entropy.below
        return (Version.PLAIN, Version.EPOCH_BUMPED, Version.EPOCH_BUMPED)[below(3)], timeouts_ms[below(3)]

    # Lives

    def begun(self) -> None:
        for client in self.clients:
            client.restarted()

    def ended(self, unsynced: Unsynced | None) -> None:
        self.catalog.crash(self.entropy)

    async def life(self, steps: int, *, stop: bool) -> bool:
        self._closers: list[Callable[[], Awaitable[None]]] = []
        self.mortal = not stop
        service = await self._serve(steps)
        if service is None or not await self._has_topics(service):
            return False
        await self._act(service, steps)
        if not stop:
            return False
        await self._quiet(service)
        if not self.excused:
            await self._settle(service)
        for close in reversed(self._closers):
            await close()
        return not self.excused

    async def _serve(self, steps: int) -> Service | None:
        """The broker, composed as the server does it. None: it does not start, for which there is an excuse."""
        settings = BrokerSettings(auto_create_topics=False)
        catalog = self.catalog.open(self.entropy, self.note)
        access = AllowAll()
        topics = Topics(settings, catalog, self.time, self.entropy, access)
        logs = [replace(log, config=self._small(log.config)) for log in await topics.load()]
        engine = await self.open_engine(logs)
        if engine is None:
            return None
        await topics.attach(engine)
        parts: dict[str, Any] = {
            "settings": settings,
            "catalog": catalog,
            "topics": topics,
            "clock": self.time,
            "entropy": self.entropy,
            "access": access,
        }
        groups = Coordinator(**parts)
        executor = self.executor("look", 2)
        broker = Broker(**parts, engine=engine, groups=groups, executor=executor, cluster_id="sim", node_id=1)
        self._closers = [catalog.close, engine.close, topics.close, broker.close, groups.close]
        await groups.start()
        await broker.start()
        service = Service(broker, self.time, self.entropy, self.ledger, self.note, steps * actions_a_step)
        service.excused = lambda: self.excused
        service.peril = partial(self._peril, engine)
        return service

    def _peril(self, engine: LogEngine, partitions: Iterable[PartitionId]) -> None:
        """A decision is near: now and then a crash comes first, or soon after it; more often where not all is durable."""
        if not self.mortal or self.loop is None or self.loop.callbacks_left >= 0:
            return
        below, marks = self.entropy.below, [engine.watermarks(one) for one in sorted(set(partitions))]
        if not below(3 if any(one.durable_end < one.log_end for one in marks) else 20):
            self.loop.callbacks_left = below((10, 30, 100, 300)[below(4)])
            self.note(f"crash in {self.loop.callbacks_left}")

    def _small(self, config: LogConfig) -> LogConfig:
        """Smaller segments than a user may ask for."""
        below = self.entropy.below
        return replace(
            config, segment_bytes=(400, 1500, 1 << 20)[below(3)], index_interval_bytes=(50, 4096)[below(2)]
        )

    async def _has_topics(self, service: Service) -> bool:
        topics = service.broker.topics
        for name, count in ((INPUT, 2), (OUTPUT, 2)):
            if name not in topics.by_name:
                spec = TopicSpec(name=name, partition_count=count, configs=self._configs())
                (made,) = await topics.create(CALLER, [spec])
                if isinstance(made, RiverlogError):
                    if self.excused or made.kind is ErrorKind.STORAGE:
                        return False
                    raise self.broken(Violation("error", f"{name} is not made: {made.message}"))
                service.broker.engine.configure(made.topic_id, self._small(log_config(made.config)))
        if not self.readers:
            partitions = [*service.partitions(INPUT), *service.partitions(OUTPUT)]
            kinds = (*Isolation, Isolation.READ_COMMITTED)
            self.readers = [Reader(one, kind, self.ledger) for one in partitions for kind in kinds]
            for number, worker in enumerate(self.workers):
                worker.source = partitions[int(worker.transactional_id[1:]) % 2]
                assert number < len(self.workers)
        return True

    def _configs(self) -> dict[str, str]:
        below = self.entropy.below
        compact = self.compacting and not below(2)
        return {
            "cleanup.policy": "compact" if compact else "delete",
            "min.cleanable.dirty.ratio": "0.0",
            "delete.retention.ms": str((0, 2000)[below(2)]),
        }

    # What happens in one

    async def _act(self, service: Service, steps: int) -> None:
        """Everybody does what they do, until the steps are used up."""
        loop = self.loop
        assert loop is not None
        if steps:
            actors = [client.run for client in self.clients] + [plain.run for plain in self.plain]
            works = [loop.create_task(self._guarded(actor, service)) for actor in actors]
            while steps and self.steps_left and not all(work.done() for work in works):
                steps -= 1
                self.steps_left -= 1
                await self._guarded(self._watch, service)
                if self.faulty and not self.entropy.below(30):
                    self.disturb()
                if self.refusing and not self.entropy.below(5):
                    self._refuse()
                await self.time.sleep((0.001, 0.05, 0.5)[self.entropy.below(3)])
            service.budget = 0
            for work in works:
                await work

    async def _watch(self, service: Service) -> None:
        for _ in range(3):
            reader = self.readers[self.entropy.below(len(self.readers))]
            self.note(await reader.read(service.broker.engine, self.entropy))
        if places := self._places():
            await self.watcher.look(service, places)

    def _places(self) -> list[Place]:
        return sorted({place for attempt in self.ledger.attempts for place in attempt.offsets})

    def _refuse(self) -> None:
        below = self.entropy.below
        rows = self.catalog.rows
        match below(5):
            case 0:
                rows.refusals = 1
            case 1:
                rows.conflicts = 1
            case 2:
                rows.lost_requests = 1 + below(3)
            case 3:
                rows.lost_replies = 1
            case _:
                for scope in sorted(rows.held):
                    if not below(4):
                        rows.steal(scope)
        self.note(f"catalog {rows.refusals} {rows.conflicts} {rows.lost_requests} {rows.lost_replies}")

    async def _guarded(self, work: Callable[[Service], Awaitable[None]], service: Service) -> None:
        try:
            await work(service)
        except Violation as violation:
            self.broken(violation)
        except RiverlogError as error:
            if not self.excused:
                self.broken(Violation("error", f"{error.kind.name} {error.message}"))
            self.note(f"error {error.kind.name}")
        except AssertionError as error:
            self.broken(Violation("assertion", repr(error)))
        except OSError as error:
            if not self.excused:
                self.broken(Violation("error", repr(error)))

    # When nobody writes any more

    async def _quiet(self, service: Service) -> None:
        """What is open is aborted when its time is over, and nothing is undecided then."""
        engine, end_ms = service.broker.engine, self.time.now_ms() + max(timeouts_ms) + grace_ms
        while not self.excused and (waiting := await self._waiting(service)):
            if self.time.now_ms() > end_ms:
                marks = {one: engine.watermarks(one) for one in waiting if isinstance(one, PartitionId)}
                raise self.broken(Violation("dangling", f"{waiting} long after everybody stopped: {marks}"))
            await self.time.sleep(0.5)
        self.note("quiet")

    async def _waiting(self, service: Service) -> list[PartitionId | Place]:
        engine = service.broker.engine
        waiting: list[PartitionId | Place] = []
        for partition in (*service.partitions(INPUT), *service.partitions(OUTPUT)):
            marks = engine.watermarks(partition)
            if marks.last_stable_offset < marks.log_end:
                waiting.append(partition)
        for place in self._places():
            try:
                await service.committed(place, stable=True)
            except RiverlogError:
                waiting.append(place)
        return waiting

    async def _settle(self, service: Service) -> None:
        """Everything that was promised is there. Only where nothing can be decided any more."""
        engine = service.broker.engine
        try:
            logs = {}
            for partition in (*service.partitions(INPUT), *service.partitions(OUTPUT)):
                logs[partition] = await read_all(engine, partition, (300, 100_000)[self.entropy.below(2)])
            for reader in self.readers:
                reader.check(logs[reader.partition])
            offsets: dict[Place, Committed] = {}
            for place in self._places():
                committed = await service.committed(place, stable=True)
                if committed is not None:
                    offsets[place] = committed
            inputs = {worker.place: worker.name[:-1] for worker in self.workers}
            self.ledger.settle(logs, offsets, inputs)
            self.note(f"settled {len(self.ledger.attempts)}")
            for client in self.clients:
                await self._too_late(service, client)
        except Violation as violation:
            self.broken(violation)
            raise

    async def _too_late(self, service: Service, client: Client) -> None:
        """A batch of an ended transaction that somebody admitted long ago is refused by the partition itself."""
        if client.last is None or client.version is not Version.EPOCH_BUMPED or client.shared:
            return
        producer, attempt, sequences = client.last
        for partition in sorted(set(attempt.sent.values())):
            batch = client.late_batch(service, producer, partition, sequences.get(partition, 0))
            answer = service.broker.engine.append(
                [Append(partition, bytearray(batch.bytes), read_header(batch.bytes))], Acks.ALL
            )
            (outcome,) = await answer if inspect.isawaitable(answer) else answer
            if isinstance(outcome, Appended):
                raise Violation("late", f"{partition} took {batch.values}, of {attempt}")
