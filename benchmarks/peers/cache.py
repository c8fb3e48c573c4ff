"""Where what was fetched or built is kept: `benchmarks/.cache`, or the directory that RIVERLOG_CACHE names.

Invariant: a cache entry is there whole or not at all: it is built beside its place under a lock and renamed into it.
Not a downloader: what fills an entry is an argument."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]
attempts_default: Final = 4


def cache_directory() -> Path:
    """The directory of everything fetched or built for benchmarks and client tests; made when it is missing."""
    named = os.environ.get("RIVERLOG_CACHE")
    directory = Path(named).expanduser().resolve() if named else REPOSITORY / "benchmarks" / ".cache"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def cached(name: str, build: Callable[[Path], None]) -> Path:
    """The entry `name`; when it is missing, `build` fills a fresh directory that then becomes the entry.

    Two processes that ask at once build it once. What `build` raises is raised, and no entry is left."""
    entry = cache_directory() / name
    if entry.exists():
        return entry
    with (cache_directory() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if entry.exists():
            return entry
        building = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=cache_directory()))
        try:
            build(building)
            building.rename(entry)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return entry


def run_with_retries(
    command: Sequence[str],
    *,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
    attempts: int = attempts_default,
    timeout_seconds: float = 600,
) -> str:
    """Run a command that uses the network, again when it fails; its stdout. The last failure is a RuntimeError."""
    failure = ""
    for attempt in range(1, attempts + 1):
        try:
            done = subprocess.run(
                command,
                cwd=directory,
                env=None if environment is None else {**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_seconds,
            )
        except subprocess.TimeoutExpired:
            failure = f"no end within {timeout_seconds:.0f} s"
        else:
            if done.returncode == 0:
                return done.stdout
            failure = (done.stdout + done.stderr)[-2_000:]
        print(f"{command[0]}: attempt {attempt} of {attempts} failed", file=sys.stderr)
    raise RuntimeError(f"{' '.join(command)} failed {attempts} times: {failure}")
