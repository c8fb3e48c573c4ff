"""One machine through its lives: how each begins and how it ends, in the order that a seed says.

Invariants: one seed gives one history, of which `trace` has every operation on a file and every answer; a life ends by a
clean stop, by `kill -9` or by a loss of power, between two callbacks of the loop or in the middle of an operation. Not here:
what runs on the machine and what is asked of it (`machine.py`, `transactions/machine.py`).
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections.abc import Sequence
from typing import Any, Final

from riverlog.base.errors import RiverlogError
from riverlog.base.units import MIB
from riverlog.env.entropy import Entropy, SeededEntropy
from riverlog.env.executor import Executor
from riverlog.storage.contract import TopicLog
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.settings import LocalSettings
from riverlog.testing.fakes import Unsynced
from riverlog.testing.simulation.disk import SimulatedFiles
from riverlog.testing.simulation.loop import SimulatedLoop, Time
from riverlog.testing.simulation.model import Violation
from riverlog.testing.simulation.threads import SimulatedThreads

DIRECTORY: Final = "/data"
REFUSALS: Final = ("sync", "write", "truncate", "sync-directory", "rename", "read", "create", "remove")


class Lives:
    """What has lives says with `begun`, `life` and `ended` what happens in one."""

    def __init__(self, seed: int, steps: int) -> None:
        self.entropy: Entropy = SeededEntropy(seed)
        self.steps_left = steps
        self.trace: list[str] = []
        self.files = SimulatedFiles(self.trace.append)
        self.time = Time()
        self.violation: Violation | None = None
        self.clean = True  # how the last life ended
        self.excused = False  # in this life something was refused by the disk
        self.loop: SimulatedLoop | None = None  # of this life
        self.feed = asyncio.Lock()  # changes of topics reach an engine one after another, as the broker's feed has them
        self.faulty = not self.entropy.below(2)
        self.slow_one_in = 20  # jobs of threads

    def note(self, what: str) -> None:
        self.trace.append(f"{self.time.seconds:.6f} {what}")

    def hash(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for line in self.trace:
            digest.update(line.encode())
            digest.update(b"\n")
        return digest.hexdigest()

    # What a machine says

    def begun(self) -> None:
        """A life is about to begin."""
        raise NotImplementedError

    async def life(self, steps: int, *, stop: bool) -> bool:
        """True: it was stopped cleanly. Uses up `steps_left`."""
        raise NotImplementedError

    def ended(self, unsynced: Unsynced | None) -> None:
        """A life is over; None: by a clean stop."""
        raise NotImplementedError

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
        self.begun()
        steps = 0 if final else 1 + below((5, 20, 60)[below(3)])
        ended = loop.live(self.life(steps, stop=final or way == 9))
        if self.violation is not None:
            raise self.violation
        if loop.failures and not self.excused:
            raise Violation("exception", loop.failures[0])
        self.clean = bool(ended)
        self._end(below)
        self.time.seconds += below(5000) / 1000

    def _end(self, below: Any) -> None:
        if self.clean:
            self.note("stopped")
            self.files.crash(Unsynced.LOST)  # a clean stop has synced everything
            self.ended(None)
        else:
            unsynced = tuple(Unsynced)[below(3)]
            self.note(f"crash {unsynced.name}")
            self.files.crash(unsynced, self.entropy)
            self.ended(unsynced)

    async def open_engine(self, topics: Sequence[TopicLog]) -> LocalEngine | None:
        """None: it does not start, for which there is an excuse."""
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
        try:
            return await LocalEngine.open(
                DIRECTORY,
                settings,
                files=self.files.session(),
                clock=self.time,
                entropy=self.entropy,
                executors=self.executor,
                topics=topics,
            )
        except (OSError, RiverlogError) as error:
            if not self.excused:
                raise self.broken(Violation("start", f"the engine does not start: {error}")) from error
            return None

    def executor(self, name: str, threads: int) -> Executor:
        assert self.loop is not None
        return SimulatedThreads(self.loop, self.entropy, threads, self.slow_one_in)

    def broken(self, violation: Violation) -> Violation:
        """Ends the run with that violation, or with the one that came before it."""
        if self.violation is None:
            self.violation = violation
        assert self.loop is not None
        self.loop.kill()
        return violation

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
