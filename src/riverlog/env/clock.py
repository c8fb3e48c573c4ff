"""Time as an argument. `now_ms` is wall time (what people and records mean), `monotonic_ms` never jumps (what time-outs need)."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple, Protocol


class Now(NamedTuple):
    """One moment on both clocks: what a machine's `step` takes. Persisted due times are wall time, time-outs monotonic."""

    wall_ms: int
    monotonic_ms: int


class Clock(Protocol):
    def now_ms(self) -> int: ...

    def monotonic_ms(self) -> int: ...

    def now(self) -> Now: ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def now(self) -> Now:
        return Now(self.now_ms(), self.monotonic_ms())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
