"""How each rival broker and each load is fetched, built, started and stopped.

A broker here is a process over a directory that we started and end by its pid; whoever drives it needs only
`Broker`. Nothing in this package uses riverlog's own codec, so that rivals and riverlog are treated alike."""

from __future__ import annotations

from typing import Protocol, Self


class Broker(Protocol):
    """One broker process over one directory: `prepare` and `spawn`, or `start`, which does both and waits."""

    @property
    def name(self) -> str: ...

    @property
    def bootstrap(self) -> str:
        """`127.0.0.1:port`, known once prepared."""
        ...

    @property
    def pid(self) -> int:
        """The process that serves, known once spawned."""
        ...

    def prepare(self) -> None:
        """All that comes before the process: directory, port, configuration, format of the storage."""
        ...

    def spawn(self) -> None:
        """Start the process and do not wait."""
        ...

    def start(self) -> Self:
        """Prepare, spawn and return when it serves. RuntimeError with what it said when it does not."""
        ...

    def stop(self) -> None:
        """End it as an operator would, and wait. Harmless when it does not run."""
        ...

    def kill(self) -> None:
        """End it at once (SIGKILL), and wait."""
        ...
