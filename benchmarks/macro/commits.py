"""One commit of the local engine, and plain `fdatasync` beside it, in a process of their own.

An `append` with acks ALL to so many partitions writes their batches, and is one commit then; `appends` are the times of the
call, `commits` those from its return to the answer, with nothing else running. The plain loop writes as many bytes to one
file in one call and syncs it. `python -m benchmarks.macro.commits DIRECTORY
PARTITIONS COUNT` prints the times as JSON."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.peers import wire
from benchmarks.peers.cache import REPOSITORY
from riverlog.base.ids import PartitionId, TopicId, TopicName
from riverlog.env.clock import SystemClock
from riverlog.env.entropy import SystemEntropy
from riverlog.env.files import RealFiles
from riverlog.records.header import BATCH_HEADER, BatchHeader
from riverlog.storage.contract import Acks, Append, LogConfig, Refused, TopicLog
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.settings import LocalSettings

TOPIC_ID: Final = TopicId(b"benchmark commit")
batch_bytes: Final = 4096
warm_up: Final = 3
run_seconds_max: Final = 300.0


class Times(NamedTuple):
    """Milliseconds, a commit each."""

    appends: list[float]
    commits: list[float]
    plain: list[float]


def run(directory: Path, partitions: int, count: int) -> Times:
    """`count` commits of so many partitions with 4 KiB each, after a warm-up."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.macro.commits", str(directory), str(partitions), str(count)],
        cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'src'}"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=run_seconds_max,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the commits failed: {done.stderr[-2_000:]}")
    return Times(**json.loads(done.stdout))


async def measure(directory: Path, partitions: int, count: int) -> Times:
    topic = TopicLog(topic_id=TOPIC_ID, name=TopicName("commits"), partition_count=partitions, config=LogConfig())
    engine = await LocalEngine.open(
        str(directory / "engine"), LocalSettings(), files=RealFiles(), clock=SystemClock(), entropy=SystemEntropy(),
        topics=[],
    )  # fmt: skip
    await engine.open_topic(topic)
    record = wire.batch([b""], timestamp_ms=0)
    data = wire.batch([b"x" * (batch_bytes - len(record) - 2)], timestamp_ms=time.time_ns() // 1_000_000)
    header = BatchHeader._make(BATCH_HEADER.unpack_from(data))
    appends = [Append(PartitionId(TOPIC_ID, index), data, header) for index in range(partitions)]
    found = Times([], [], [])
    plain = data * partitions
    file = os.open(directory / "plain", os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        for number in range(-warm_up, count):
            started = time.perf_counter()
            answers = engine.append(appends, Acks.ALL)
            appended = time.perf_counter()
            if isinstance(answers, Awaitable):
                answers = await answers
            ended = time.perf_counter()
            for answer in answers:
                if isinstance(answer, Refused):
                    raise answer.error
            if number >= 0:
                found.appends.append((appended - started) * 1e3)
                found.commits.append((ended - appended) * 1e3)
                started = time.perf_counter()
                os.pwrite(file, plain, number * len(plain))
                os.fdatasync(file)
                found.plain.append((time.perf_counter() - started) * 1e3)
    finally:
        os.close(file)
        await engine.close()
    return found


def main() -> int:
    directory, partitions, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    directory.mkdir(parents=True, exist_ok=True)
    json.dump(asyncio.run(measure(directory, partitions, count))._asdict(), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
