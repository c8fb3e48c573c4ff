"""The commands of the golden scripts about recovery: one local engine on crashable files.

open | close | kill [lost|kept|torn SEED]           the engine, the process, the machine
config NAME=VALUE …                                 of the topic, before the first open (names of LogConfig)
append pN VALUE … [acks=all|1] [producer=ID/EPOCH/SEQUENCE]
hold | release                                      no sync ends between the two
commit | checkpoint                                 waits for it
read pN [OFFSET] | marks pN | epochs pN             what clients see
files [pN] | dump pN FILE                           what is on the disk; batches by position
damage pN FILE POSITION | truncate pN FILE SIZE | remove pN FILE
fail KIND PATH ERRNO [TIMES] | room BYTES|all       what the disk refuses
"""

from __future__ import annotations

import asyncio
import errno
import logging
from dataclasses import replace
from typing import Any

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import PartitionId, TopicId, TopicName
from riverlog.env.entropy import SeededEntropy
from riverlog.records.header import HEADER_BYTES, read_header
from riverlog.storage.contract import Acks, Appended, Durability, LogConfig, Refused, TopicLog
from riverlog.storage.format import names
from riverlog.storage.format.leader_epochs import LeaderEpochs
from riverlog.storage.format.offset_index import OffsetIndex
from riverlog.storage.local.engine import LocalEngine
from riverlog.testing.conformance.log_engine import append_of, fetched_one, settled, values_in
from riverlog.testing.fakes import Unsynced
from riverlog.testing.local_world import DIRECTORY, LocalWorld

TOPIC = TopicLog(topic_id=TopicId(b"topic of scripts"), name=TopicName("t"), partition_count=2)


class _Heard(logging.Handler):
    """Collects what the engine logs from `level` on."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname.lower()}: {record.getMessage()}".replace(DIRECTORY, ""))


class RecoveryScript:
    """One story. `execute` gives the lines that a command makes visible, log lines of the engine included."""

    def __init__(self) -> None:
        self.world = LocalWorld([TOPIC])
        self._heard = _Heard()
        self._waiting: list[tuple[str, Any]] = []

    async def execute(self, words: list[str]) -> list[str]:
        logger = logging.getLogger("riverlog.storage")
        logger.addHandler(self._heard)
        try:
            output = await getattr(self, f"do_{words[0]}")(*words[1:])
        finally:
            logger.removeHandler(self._heard)
        told, self._heard.lines = self._heard.lines, []
        return [*told, *output]

    @property
    def engine(self) -> LocalEngine:
        assert self.world.engine is not None, "open it first"
        return self.world.engine

    async def do_config(self, *settings: str) -> list[str]:
        values: dict[str, Any] = {}
        for setting in settings:
            name, _, value = setting.partition("=")
            values[name] = Durability(value) if name == "durability" else int(value)
        self.world.topics = [replace(TOPIC, config=LogConfig(**values))]
        return []

    async def do_open(self) -> list[str]:
        try:
            engine = await self.world.start()
        except RiverlogError as error:
            return [f"refused: {error.message}"]
        counters = engine.counters
        return [
            f"opened starts={engine.starts} recovered={counters.recovered_partitions} read={counters.recovered_bytes} "
            f"cut={counters.cut_bytes} offline={counters.offline_partitions} orphans={counters.orphans}"
        ]

    async def do_close(self) -> list[str]:
        await self.world.stop()
        return ["closed"]

    async def do_kill(self, how: str = "lost", seed: str = "0") -> list[str]:
        self._waiting.clear()
        await self.world.kill(Unsynced(how), SeededEntropy(int(seed)))
        return [f"killed, unsynced {how}"]

    async def do_append(self, partition: str, *words: str) -> list[str]:
        acks, more, values = Acks.ALL, dict[str, Any](), list[str]()
        for word in words:
            name, _, value = word.partition("=")
            if name == "acks":
                acks = Acks.ALL if value == "all" else Acks(int(value))
            elif name == "producer":
                more["producer"] = tuple(map(int, value.split("/")))
            else:
                values.append(word)
        answer = self.engine.append([append_of(_partition(partition), *values, **more)], acks)
        if not self.world.files.gate.is_set() and isinstance(answer, asyncio.Future):
            self._waiting.append((partition, answer))
            return [f"{partition}: waits"]
        return [_answer(partition, (await settled(answer))[0])]

    async def do_hold(self) -> list[str]:
        self.world.files.gate.clear()
        return []

    async def do_release(self) -> list[str]:
        self.world.files.gate.set()
        waiting, self._waiting = self._waiting, []
        return [_answer(partition, (await settled(answer))[0]) for partition, answer in waiting]

    async def do_commit(self) -> list[str]:
        await self.engine.commit.drain()
        async with self.engine.checkpoints.busy:
            return []

    async def do_checkpoint(self) -> list[str]:
        await self.engine.checkpoints.write()
        return []

    async def do_read(self, partition: str, offset: str = "0") -> list[str]:
        answer, _ = await fetched_one(self.engine, _partition(partition), int(offset))
        if answer.error is not None:
            return [f"{partition}: {answer.error.kind.value}: {answer.error.message}".replace(DIRECTORY, "")]
        values = await values_in(self.engine, _partition(partition), int(offset))
        return [f"{partition}: {' '.join(values) or 'nothing'}"]

    async def do_marks(self, partition: str) -> list[str]:
        marks = self.engine.watermarks(_partition(partition))
        return [
            f"{partition}: start={marks.log_start} end={marks.log_end} durable={marks.durable_end} "
            f"high={marks.high_watermark} epoch={marks.leader_epoch}"
        ]

    async def do_epochs(self, partition: str) -> list[str]:
        entries = self.engine.partitions[_partition(partition)].epochs.entries
        return [f"{partition}: " + ", ".join(f"{epoch} from {start}" for epoch, start in entries)]

    async def do_files(self, partition: str = "") -> list[str]:
        directory = f"{DIRECTORY}/topics/t-{partition[1:]}" if partition else DIRECTORY
        if not self.world.files.exists(directory):
            return ["no such directory"]
        found = self.world.files.dump(directory)
        found.pop(names.LOCK, None)
        return [f"{name} {len(content)}" for name, content in sorted(found.items())]

    async def do_dump(self, partition: str, name: str) -> list[str]:
        path = f"{DIRECTORY}/topics/t-{partition[1:]}/{name}"
        data = self.world.files.read(path)
        if name.endswith(".index"):
            base = int(name.split(".")[0])
            return [f"{offset} at {position}" for offset, position in OffsetIndex.decode(data, base)]  # type: ignore[arg-type]  # an Offset
        if name == names.LEADER_EPOCHS:
            return [f"{epoch} from {start}" for epoch, start in LeaderEpochs.decode(data).entries]
        lines: list[str] = []
        at = 0
        while len(data) - at >= HEADER_BYTES:
            header = read_header(data, at)
            if header.length <= 0 or at + header.size > len(data):
                break
            lines.append(
                f"{at}: {header.base_offset}..{header.last_offset} epoch={header.leader_epoch} size={header.size}"
            )
            at += header.size
        return lines + ([f"{at}: {len(data) - at} bytes of no batch"] if at < len(data) else [])

    async def do_damage(self, partition: str, name: str, position: str) -> list[str]:
        file = self.world.files.open(f"{DIRECTORY}/topics/t-{partition[1:]}/{name}")
        file.write_at(b"damage", int(position))
        file.sync()
        return []

    async def do_truncate(self, partition: str, name: str, size: str) -> list[str]:
        file = self.world.files.open(f"{DIRECTORY}/topics/t-{partition[1:]}/{name}")
        file.truncate(int(size))
        file.sync()
        return []

    async def do_remove(self, partition: str, name: str) -> list[str]:
        directory = f"{DIRECTORY}/topics/t-{partition[1:]}"
        self.world.files.remove(f"{directory}/{name}")
        self.world.files.sync_directory(directory)
        return []

    async def do_fail(self, kind: str, path: str, error: str, times: str = "1") -> list[str]:
        self.world.files.inject(kind, path, getattr(errno, error), int(times))
        return []

    async def do_room(self, count: str) -> list[str]:
        self.world.files.room_bytes = None if count == "all" else int(count)
        return []


def _partition(name: str) -> PartitionId:
    return PartitionId(TOPIC.topic_id, int(name[1:]))


def _answer(partition: str, answer: Appended | Refused) -> str:
    if isinstance(answer, Refused):
        return f"{partition}: refused: {answer.error.kind.value}: {answer.error.message}".replace(DIRECTORY, "")
    again = " again" if answer.duplicate else ""
    return f"{partition}: appended {answer.base_offset}..{answer.next_offset - 1}{again}"
