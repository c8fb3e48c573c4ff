"""Committers: so many groups, each with a connection of its own that commits, waits for the answer, and commits again.

They are no members of their groups, as an engine that keeps its own partitions. Offsets rise, so that every commit changes a row.
`python -m benchmarks.peers.offsets JSON` (of a `Specification`) prints the result as JSON; the topic must be there."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from benchmarks.peers import group_wire as gw
from benchmarks.peers import lines, process
from benchmarks.peers.cache import REPOSITORY
from benchmarks.peers.lines import Line
from benchmarks.peers.load import percentiles
from benchmarks.peers.members import find_coordinator

ready_seconds_max: Final = 60.0
grace_seconds: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Specification:
    """`partitions` of the topic are in each commit. Commits that were sent before `seconds` are over count."""

    bootstrap: str
    topic: str
    group_prefix: str
    groups: int = 100
    partitions: int = 10
    seconds: float = 5.0
    pid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    offsets_per_second: float
    commits: int
    p50_ms: float
    p99_ms: float
    cpu_seconds: float


async def measure(specification: Specification) -> Result:
    made = await lines.connect(specification.bootstrap, specification.groups)
    try:
        async with asyncio.timeout(ready_seconds_max):
            groups = [f"{specification.group_prefix}-{number}" for number in range(specification.groups)]
            await asyncio.gather(*(find_coordinator(*one) for one in zip(made, groups, strict=True)))
        await asyncio.gather(*(commit(line, group, specification, 0) for line, group in zip(made, groups, strict=True)))
        cpu, started = cpu_seconds(specification), time.perf_counter()
        ends = started + specification.seconds
        found = await asyncio.gather(
            *(committing(line, group, specification, ends) for line, group in zip(made, groups, strict=True))
        )
        elapsed = time.perf_counter() - started
        cpu = cpu_seconds(specification) - cpu
    finally:
        for line in made:
            line.close()
    return summary([ms for one in found for ms in one], specification.partitions, elapsed, cpu)


async def committing(line: Line, group: str, specification: Specification, ends: float) -> Sequence[float]:
    """The milliseconds of each commit."""
    found: list[float] = []
    while (sent := time.perf_counter()) < ends:
        await commit(line, group, specification, len(found) + 1)
        found.append((time.perf_counter() - sent) * 1e3)
    return found


async def commit(line: Line, group: str, specification: Specification, offset: int) -> None:
    """RuntimeError where it was refused."""
    offsets = [(partition, offset) for partition in range(specification.partitions)]
    codes = gw.parse_commit(await line.ask(gw.OFFSET_COMMIT, 2, gw.commit_body(group, specification.topic, offsets)))
    if len(codes) != len(offsets) or any(codes):
        raise RuntimeError(f"a commit of {group} was answered with the errors {codes}")


def summary(samples_ms: Sequence[float], partitions: int, elapsed: float, cpu: float) -> Result:
    latency = percentiles([ms * 1e3 for ms in samples_ms])
    return Result(
        offsets_per_second=latency.samples * partitions / elapsed,
        commits=latency.samples,
        p50_ms=latency.p50_us / 1e3,
        p99_ms=latency.p99_us / 1e3,
        cpu_seconds=cpu,
    )


def cpu_seconds(specification: Specification) -> float:
    return process.cpu_seconds(specification.pid) if specification.pid else 0.0


def run(specification: Specification) -> Result:
    """In a process of its own. RuntimeError with what it said where it failed."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers.offsets", json.dumps(asdict(specification))],
        cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=specification.seconds + grace_seconds,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the committers failed: {done.stderr[-2_000:]}")
    return Result(**json.loads(done.stdout))


def main() -> int:
    print(json.dumps(asdict(asyncio.run(measure(Specification(**json.loads(sys.argv[1])))))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
