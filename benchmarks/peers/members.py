"""Many members of one group in one process, at protocol level: how long until all have their final assignment.

Each member has a connection of its own and beats once a second, and at once where its assignment has changed, as Kafka's Java
client does. A group is settled when every member is in one epoch and every partition has an owner, for as long as nothing
changes any more; the time is that of the last change. Invariant, checked at each answer: no partition has two owners.
`python -m benchmarks.peers.members BOOTSTRAP TOPIC --members 1000 --partitions 1000 --pid BROKER` prints the result as JSON;
the topic must be there with as many partitions. Not here: what a member would read."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

from benchmarks.peers import group_wire as gw
from benchmarks.peers import lines, process
from benchmarks.peers.cache import REPOSITORY
from benchmarks.peers.lines import Line

CONSUMER: Final = "consumer"
CLASSIC: Final = "classic"
session_timeout_ms: Final = 45_000
rebalance_timeout_ms: Final = 60_000
retry_seconds: Final = 0.05
quiet_heartbeats: Final = 3  # so long nothing may change before a group counts as settled
grace_seconds: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Specification:
    """What is to be done. `pid` is the broker's process, whose CPU is measured."""

    bootstrap: str
    topic: str
    group: str
    protocol: str = CONSUMER
    members: int = 100
    partitions: int = 1_000
    heartbeat_seconds: float = 1.0
    pid: int = 0
    seconds_max: float = 120.0
    changes: bool = False  # one member leaves, another joins, and each time the others settle


@dataclass(slots=True, kw_only=True)
class Result:
    """Seconds by our clock; CPU seconds of the broker's process up to the same moments."""

    settled_seconds: float = 0.0
    cpu_seconds: float = 0.0
    beats: int = 0  # until settled
    left_seconds: float = 0.0
    joined_seconds: float = 0.0
    idle_cpu: float = 0.0  # CPU seconds a second, of nothing but heartbeats
    shared: int = 0  # how often a partition was given to a member while another still owned it
    lost: int = 0  # how often a member was fenced or unknown
    errors: dict[int, int] = field(default_factory=dict)


class Ownership:
    """Who owns which partition, who is in which epoch. `changed` is the moment of the last change (perf_counter)."""

    def __init__(self, partitions: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.partitions = partitions
        self.owners: dict[int, str] = {}
        self.epochs: dict[str, int] = {}
        self.count_by_epoch: Counter[int] = Counter()
        self.shared = 0
        self.changed = clock()
        self.clock = clock

    def at(self, member: str, epoch: int) -> None:
        if self.epochs.get(member) != epoch:
            self.forget(member)
            self.epochs[member] = epoch
            self.count_by_epoch[epoch] += 1
            self.changed = self.clock()

    def forget(self, member: str) -> None:
        """It is in no epoch any more."""
        if (epoch := self.epochs.pop(member, None)) is not None:
            self.count_by_epoch[epoch] -= 1
            if not self.count_by_epoch[epoch]:
                del self.count_by_epoch[epoch]
            self.changed = self.clock()

    def drop(self, member: str, partitions: Iterable[int]) -> None:
        for partition in partitions:
            if self.owners.get(partition) == member:
                del self.owners[partition]
                self.changed = self.clock()

    def take(self, member: str, partitions: Iterable[int]) -> None:
        for partition in partitions:
            if self.owners.get(partition, member) != member:
                self.shared += 1
            self.owners[partition] = member
            self.changed = self.clock()

    def is_complete(self, members: int) -> bool:
        return len(self.epochs) == members and len(self.count_by_epoch) == 1 and len(self.owners) == self.partitions


class Member:
    """What both protocols share. `run` goes on until `leave`."""

    def __init__(self, driver: Driver, line: Line) -> None:
        self.driver = driver
        self.line = line
        self.specification = driver.specification
        self.member_id = ""
        self.epoch = 0
        self.owned: frozenset[int] = frozenset()
        self.leaving = False

    async def run(self) -> None:
        raise NotImplementedError

    async def leave(self) -> None:
        raise NotImplementedError

    def own(self, partitions: frozenset[int]) -> None:
        """What it no longer has is free before it takes what is new."""
        self.driver.ownership.drop(self.member_id, self.owned - partitions)
        self.driver.ownership.take(self.member_id, partitions - self.owned)
        self.owned = partitions

    def lose(self) -> None:
        """It was told that it is a member no more."""
        self.driver.result.lost += 1
        self.own(frozenset())
        self.driver.ownership.forget(self.member_id)

    def failed(self, code: int) -> None:
        errors = self.driver.result.errors
        errors[code] = errors.get(code, 0) + 1

    async def pause(self) -> None:
        await asyncio.sleep(self.specification.heartbeat_seconds)


class ConsumerMember(Member):
    """KIP-848: a heartbeat says what the member owns where that has changed, and brings what it shall own."""

    def __init__(self, driver: Driver, line: Line) -> None:
        super().__init__(driver, line)
        self.member_id = str(uuid.uuid4())
        self.topic_id = b""

    def body(self, *, changed: bool) -> bytes:
        group, topic = self.specification.group, self.specification.topic
        if self.epoch == 0:
            timeout = rebalance_timeout_ms
            return gw.consumer_heartbeat_body(
                group, self.member_id, 0, topics=[topic], owned={}, rebalance_timeout_ms=timeout
            )
        owned = ({self.topic_id: self.owned} if self.owned else {}) if changed else None
        return gw.consumer_heartbeat_body(group, self.member_id, self.epoch, owned=owned)

    async def beat(self, *, changed: bool) -> gw.Beat:
        self.driver.result.beats += 1
        body = self.body(changed=changed)
        return gw.parse_consumer_heartbeat(await self.line.ask(gw.CONSUMER_GROUP_HEARTBEAT, 1, body, flexible=True))

    async def run(self) -> None:
        changed = False
        while not self.leaving:
            beat = await self.beat(changed=changed)
            if self.leaving:
                return
            if beat.error_code:
                self.failed(beat.error_code)
                if beat.error_code in (gw.FENCED_MEMBER_EPOCH, gw.UNKNOWN_MEMBER_ID):
                    self.lose()
                    self.epoch, changed = 0, False
                elif beat.error_code not in gw.NOT_YET:
                    raise RuntimeError(f"a heartbeat was refused with error {beat.error_code}: {beat.message}")
                await asyncio.sleep(retry_seconds)
                continue
            self.epoch = beat.epoch
            self.driver.ownership.at(self.member_id, beat.epoch)
            changed = False
            if beat.assignment is not None:
                self.topic_id = next(iter(beat.assignment), self.topic_id)
                wanted = frozenset().union(*beat.assignment.values())
                changed = wanted != self.owned
                self.own(wanted)
            if not changed:
                await self.pause()

    async def leave(self) -> None:
        self.leaving = True
        self.own(frozenset())
        self.driver.ownership.forget(self.member_id)
        if self.epoch > 0:
            body = gw.consumer_heartbeat_body(self.specification.group, self.member_id, gw.LEAVING)
            await self.line.ask(gw.CONSUMER_GROUP_HEARTBEAT, 1, body, flexible=True)


class ClassicMember(Member):
    """JoinGroup, SyncGroup, Heartbeat, eager: a member gives up everything before it joins again. The leader deals ranges."""

    async def run(self) -> None:
        while not self.leaving:
            if await self.join():
                await self.stay()

    async def join(self) -> bool:
        """Whether it has its share of a generation now."""
        spec = self.specification
        body = gw.join_body(
            spec.group, self.member_id, spec.topic, session_timeout_ms=session_timeout_ms,
            rebalance_timeout_ms=rebalance_timeout_ms,
        )  # fmt: skip
        joined = gw.parse_join(await self.line.ask(gw.JOIN_GROUP, 5, body))
        if joined.error_code == gw.MEMBER_ID_REQUIRED:
            self.member_id = joined.member_id
            return False
        if await self.has_failed(joined.error_code):
            return False
        self.member_id, self.epoch = joined.member_id, joined.generation
        shares = deal(joined.members, spec.partitions)
        body = gw.sync_body(spec.group, self.epoch, self.member_id, spec.topic, shares)
        code, partitions = gw.parse_sync(await self.line.ask(gw.SYNC_GROUP, 3, body))
        if await self.has_failed(code) or self.leaving:
            return False
        self.driver.ownership.at(self.member_id, self.epoch)
        self.own(frozenset(partitions))
        return True

    async def stay(self) -> None:
        """Until a rebalance is due."""
        code = 0
        while not code and not self.leaving:
            await self.pause()
            if self.leaving:
                return
            self.driver.result.beats += 1
            body = gw.heartbeat_body(self.specification.group, self.epoch, self.member_id)
            code = gw.parse_code(await self.line.ask(gw.HEARTBEAT, 3, body))
        self.own(frozenset())
        await self.has_failed(code)

    async def has_failed(self, code: int) -> bool:
        """A rebalance is no failure that is counted."""
        if code in (0, gw.REBALANCE_IN_PROGRESS):
            return code != 0
        self.failed(code)
        if code in (gw.UNKNOWN_MEMBER_ID, gw.ILLEGAL_GENERATION):
            self.lose()
            self.member_id = self.member_id if code == gw.ILLEGAL_GENERATION else ""
        elif code not in gw.NOT_YET:
            raise RuntimeError(f"a member was refused with error {code}")
        await asyncio.sleep(retry_seconds)
        return True

    async def leave(self) -> None:
        self.leaving = True
        self.own(frozenset())
        self.driver.ownership.forget(self.member_id)
        if self.member_id:
            await self.line.ask(gw.LEAVE_GROUP, 1, gw.leave_body(self.specification.group, self.member_id))


KINDS: Final[dict[str, type[Member]]] = {CONSUMER: ConsumerMember, CLASSIC: ClassicMember}


def deal(members: Sequence[str], partitions: int) -> dict[str, Sequence[int]]:
    """Ranges of one topic, as Kafka's range assignor deals them."""
    shares: dict[str, Sequence[int]] = {}
    at = 0
    for index, member in enumerate(sorted(members)):
        count = partitions // len(members) + (index < partitions % len(members))
        shares[member] = range(at, at + count)
        at += count
    return shares


class Driver:
    """One run."""

    def __init__(self, specification: Specification) -> None:
        self.specification = specification
        self.ownership = Ownership(specification.partitions)
        self.result = Result()
        self.tasks: dict[Member, asyncio.Task[None]] = {}

    def cpu(self) -> float:
        return process.cpu_seconds(self.specification.pid) if self.specification.pid else 0.0

    def start(self, line: Line) -> Member:
        member = KINDS[self.specification.protocol](self, line)
        self.tasks[member] = asyncio.get_running_loop().create_task(member.run(), name="member")
        return member

    async def run(self) -> Result:
        spec, result = self.specification, self.result
        made = await lines.connect(spec.bootstrap, spec.members + 1)
        async with asyncio.timeout(spec.seconds_max):
            await find_coordinator(made[-1], spec.group)
        try:
            started, cpu = time.perf_counter(), self.cpu()
            members = [self.start(line) for line in made[:-1]]
            settled, settled_cpu, idle = await self.settled(spec.members)
            result.settled_seconds, result.cpu_seconds, result.idle_cpu = settled - started, settled_cpu - cpu, idle
            beats = result.beats
            if spec.changes:
                started = time.perf_counter()
                await members[0].leave()
                self.tasks.pop(members[0]).cancel()
                result.left_seconds = (await self.settled(spec.members - 1))[0] - started
                started = time.perf_counter()
                self.start(made[-1])
                result.joined_seconds = (await self.settled(spec.members))[0] - started
            result.beats = beats
            result.shared = self.ownership.shared
            await asyncio.gather(*(member.leave() for member in self.tasks))
        finally:
            for task in self.tasks.values():
                task.cancel()
            for line in made:
                line.close()
            await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        return result

    async def settled(self, members: int) -> tuple[float, float, float]:
        """(when it was, the broker's CPU seconds then, CPU seconds a second since then); RuntimeError where time is up."""
        deadline = time.perf_counter() + self.specification.seconds_max
        quiet_seconds = quiet_heartbeats * self.specification.heartbeat_seconds
        step_seconds = min(0.05, self.specification.heartbeat_seconds / 4)
        seen, seen_cpu = -1.0, 0.0
        while True:
            for task in self.tasks.values():
                if task.done():
                    task.result()
                    raise RuntimeError("a member has ended")
            now = time.perf_counter()
            if not self.ownership.is_complete(members):
                seen = -1.0
            elif seen != self.ownership.changed:
                seen, seen_cpu = self.ownership.changed, self.cpu()
            elif now - seen > quiet_seconds:
                return seen, seen_cpu, (self.cpu() - seen_cpu) / (now - seen)
            if now > deadline:
                owned, epochs = len(self.ownership.owners), dict(self.ownership.count_by_epoch)
                raise RuntimeError(f"not settled in time: {owned} partitions owned, members by epoch {epochs}")
            await asyncio.sleep(step_seconds)


async def find_coordinator(line: Line, group: str) -> None:
    """Returns once the group has one that answers, which makes Kafka's topic of offsets where it is missing."""
    body = gw.find_coordinator_body(group)
    while gw.parse_code(await line.ask(gw.FIND_COORDINATOR, 1, body)) != 0:
        await asyncio.sleep(retry_seconds)
    body = gw.heartbeat_body(group, 1, "nobody")  # Kafka says that all is well while it still loads the group
    while gw.parse_code(await line.ask(gw.HEARTBEAT, 3, body)) != gw.UNKNOWN_MEMBER_ID:
        await asyncio.sleep(retry_seconds)


def run(specification: Specification) -> Result:
    """In a process of its own. RuntimeError with what it said where it failed."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers.members", "--json", json.dumps(asdict(specification))],
        cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=4 * specification.seconds_max + grace_seconds,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the members failed: {done.stderr[-2_000:]}")
    return Result(**json.loads(done.stdout))


def parse(arguments: Sequence[str]) -> Specification:
    """From the command line."""
    if arguments[:1] == ["--json"]:
        return Specification(**json.loads(arguments[1]))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.members")
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    parser.add_argument("--group", default="bench-members")
    parser.add_argument("--protocol", choices=sorted(KINDS), default=CONSUMER)
    for name, default in (("members", 100), ("partitions", 1_000), ("pid", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--heartbeat-seconds", type=float, default=1.0)
    parser.add_argument("--seconds-max", type=float, default=120.0)
    parser.add_argument("--changes", action="store_true", help="one leaves, then one joins")
    return Specification(**vars(parser.parse_args(arguments)))


def main() -> int:
    print(json.dumps(asdict(asyncio.run(Driver(parse(sys.argv[1:])).run()))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
