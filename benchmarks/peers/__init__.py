"""How each rival broker and each load is fetched, built, started and stopped.

A broker here is a process over a directory that we started and end by its pid; whoever drives it needs only
`Broker`. Nothing in this package uses riverlog's own codec, so that rivals and riverlog are treated alike."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Protocol, Self


class Broker(Protocol):
    """One broker process over one directory, started by `with` or `start`."""

    name: str
    directory: Path
    bootstrap: str  # host:port, valid once started
    pid: int  # of the broker process, valid once started

    def start(self) -> Self: ...

    def stop(self) -> None: ...

    def kill(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
