"""The simulated machine's files: crashable ones that tell the trace what happens, and crash at a chosen operation.

Invariant: after the crash of an operation nothing changes any more until `crash` has said what is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from riverlog.testing.fakes import CrashableFiles
from riverlog.testing.inodes import Inode
from riverlog.testing.simulation.loop import Crashed


class SimulatedFiles(CrashableFiles):
    """`operations_left` counts down: at 0 the machine is gone, before that operation. `on_crash` stops the loop."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()
        self.operations_left = -1
        self.on_crash: Callable[[], None] = lambda: None
        self.faults_come_true = 0
        self._note = note

    def operate(self, kind: str, path: str, position: int = 0, size: int = 0) -> None:
        self.fail(kind, path)
        if self.operations_left == 0:
            self._note(f"crash before {kind} {path} {position}")
            self.operations_left = -1
            self.generation += 1
            self.on_crash()
            raise Crashed(path)
        self.operations_left -= 1
        self._note(f"{kind} {path} {position} {size}")

    def fail(self, kind: str, path: str) -> None:
        if not self.faults:
            return
        try:
            super().fail(kind, path)
        except OSError:
            self.faults_come_true += 1
            self._note(f"fault {kind} {path}")
            raise

    def flip(self, path: str, position: int, bit: int) -> None:
        """A bit of the disk turns over."""
        node = self._node(path)
        assert isinstance(node, Inode), path
        node.flip(position, bit)

    def crash(self, *arguments: Any, **more: Any) -> None:
        self.operations_left = -1
        self.room_bytes = None
        super().crash(*arguments, **more)
