"""An event loop in virtual time, which also owns the threads.

Invariants: nothing here knows the machine's clock, a socket or a thread; callbacks of `call_soon` run in the order of the
calls, as asyncio promises; timers and jobs of executors come a little late, as the seed says. The loop can be killed
between any two callbacks: then nothing of it runs any more.
"""

from __future__ import annotations

import asyncio
import heapq
import warnings
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol, TypeVar

from riverlog.env.clock import Now
from riverlog.env.entropy import Entropy

T = TypeVar("T")

callbacks_max: Final = 200_000  # of one life: more is a loop that turns for nothing


class Crashed(BaseException):
    """The machine is gone in the middle of an operation. Nobody catches it."""


class Stuck(AssertionError):
    """Nothing is left that could ever happen, but somebody waits; or it goes on for ever."""


class Time:
    """Virtual time, which lives longer than one loop."""

    def __init__(self) -> None:
        self.seconds = 1_000.0
        self.wall_ms = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.wall_ms + round(self.seconds * 1000)

    def monotonic_ms(self) -> int:
        return round(self.seconds * 1000)

    def now(self) -> Now:
        return Now(self.now_ms(), self.monotonic_ms())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Running(Protocol):
    """What a `SimulatedThreads` needs of a loop."""

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle: ...

    def create_future(self) -> asyncio.Future[Any]: ...


class SimulatedLoop(asyncio.BaseEventLoop):
    """`callbacks_left` counts down: at 0 the process is killed. Private names are BaseEventLoop's, which asks for them."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _stopping: bool

    def __init__(self, virtual: Time, entropy: Entropy) -> None:
        super().__init__()
        self.virtual = virtual
        self.entropy = entropy
        self.callbacks_left = -1
        self.killed = False
        self.tasks: list[asyncio.Task[Any]] = []
        self.failures: list[str] = []
        self._turns = 0
        self.set_task_factory(self._make_task)  # type: ignore[arg-type]  # it is generic
        self.set_exception_handler(self._unhandled)

    def time(self) -> float:
        return self.virtual.seconds

    def call_at(  # type: ignore[override]  # without the pairing of callback and arguments
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        late = self.entropy.below(1000) / 1_000_000
        return super().call_at(when + late, callback, *args, context=context)

    def kill(self) -> None:
        """Not another callback."""
        self.killed = True
        self._stopping = True

    def live(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Runs until the work is done; None: the process was killed. Raises what the work raises, Stuck."""
        try:
            task = self.create_task(work)
            task.add_done_callback(lambda done: self.stop())
            self.run_forever()
            if self.killed:
                return None
            return task.result()
        finally:
            self._bury()

    def _bury(self) -> None:
        """What is left of the process is taken apart in silence, in a fixed order."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of work that a `finally` wanted to begin
            self._take_apart()

    def _take_apart(self) -> None:
        self._ready.clear()
        self._scheduled.clear()
        asyncio._set_running_loop(self)  # what a `finally` asks for is made on this loop, not on one that nobody closes
        try:
            for task in self.tasks:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]  # it was killed, not forgotten
                    try:
                        task.get_coro().close()
                    except (RuntimeError, OSError, Crashed):
                        pass  # a `finally` of it wanted to go on
                elif not task.cancelled():
                    task.exception()
        finally:
            asyncio._set_running_loop(None)
        self._ready.clear()
        self._scheduled.clear()
        self.tasks.clear()
        self.close()

    def _make_task(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], **more: Any) -> asyncio.Task[T]:
        task: asyncio.Task[T] = asyncio.Task(work, loop=loop, **more)
        self.tasks.append(task)
        return task

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not self.killed and not isinstance(context.get("exception"), Crashed):
            self.failures.append(f"{context.get('message')}: {context.get('exception')!r}")

    def _run_once(self) -> None:
        """One callback. Time passes when nobody can do anything now."""
        ready = self._ready
        if not ready:
            scheduled = self._scheduled
            while scheduled and scheduled[0].cancelled():
                heapq.heappop(scheduled)
            if not scheduled:
                raise Stuck("everybody waits and nothing is going on")
            self.virtual.seconds = max(self.virtual.seconds, scheduled[0].when())
            while scheduled and scheduled[0].when() <= self.virtual.seconds:
                handle = heapq.heappop(scheduled)
                if not handle.cancelled():
                    ready.append(handle)
        if self.callbacks_left == 0:
            self.kill()
            return
        self.callbacks_left -= 1
        self._turns += 1
        if self._turns > callbacks_max:
            raise Stuck(f"{callbacks_max} callbacks without an end")
        handle_ = ready.popleft()
        if not handle_.cancelled():
            handle_._run()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass  # it is passed over when its time comes

    def _write_to_self(self) -> None:
        pass

    def _process_events(self, event_list: Any) -> None:
        pass
