"""When whose time runs out: a heap that is put right when a time has come, not whenever a member gives a sign of life."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush


class Deadlines:
    """`due_ms(name)`: when the name's time really runs out; None: it is no more.

    Invariant: each watched name has an entry that is not later than its time."""

    def __init__(self, due_ms: Callable[[str], int | None]) -> None:
        self._due_ms = due_ms
        self._heap: list[tuple[int, str]] = []
        self._entries: dict[str, int] = {}  # name -> its earliest entry

    @property
    def next_ms(self) -> int | None:
        return self._heap[0][0] if self._heap else None

    def watch(self, name: str, due_ms: int) -> None:
        """A later time needs no entry of its own: the earlier one finds it when it comes."""
        entry = self._entries.get(name)
        if entry is None or due_ms < entry:
            self._entries[name] = due_ms
            heappush(self._heap, (due_ms, name))

    def take_due(self, now_ms: int) -> list[str]:
        """The names whose time has run out, which are watched no more."""
        due: list[str] = []
        while self._heap and self._heap[0][0] <= now_ms:
            entry, name = heappop(self._heap)
            if self._entries.get(name) != entry:
                continue
            del self._entries[name]
            really_ms = self._due_ms(name)
            if really_ms is None:
                continue
            if really_ms <= now_ms:
                due.append(name)
            else:
                self.watch(name, really_ms)
        return due
