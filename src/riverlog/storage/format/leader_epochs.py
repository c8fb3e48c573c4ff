"""The leader epochs of a partition and the offsets that they begin at; the text file `leader-epoch-checkpoint`.

Invariant: epochs ascend strictly, start offsets ascend strictly. See docs/formats/leader-epoch-checkpoint.md. Not here:
who decides on a new epoch, and when the file is synced (before the first append under it).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final, NamedTuple

from riverlog.base.ids import LeaderEpoch, Offset
from riverlog.base.units import INT32_MAX, INT64_MAX
from riverlog.storage.format.errors import FormatError

VERSION: Final = 0
UNKNOWN: Final = LeaderEpoch(-1)


class EpochEntry(NamedTuple):
    epoch: LeaderEpoch
    start_offset: Offset


class LeaderEpochs:
    """Few entries: one an unclean start."""

    __slots__ = ("entries",)

    def __init__(self, entries: Iterable[EpochEntry] = ()) -> None:
        self.entries = list(entries)

    @property
    def latest(self) -> LeaderEpoch:
        """-1 where there is none."""
        return self.entries[-1].epoch if self.entries else UNKNOWN

    def assign(self, epoch: LeaderEpoch, start_offset: Offset) -> bool:
        """`epoch` begins at `start_offset`; gives whether that changed anything (the file is to be written). Entries of
        epochs that got no record (they begin at or after that offset) go. Raises ValueError where the epoch would
        fall."""
        if self.entries and self.entries[-1].epoch == epoch:
            return False
        if epoch < self.latest or epoch < 0 or start_offset < 0:
            raise ValueError(f"leader epoch {epoch} from {start_offset} after {self.latest}")
        while self.entries and self.entries[-1].start_offset >= start_offset:
            self.entries.pop()
        self.entries.append(EpochEntry(epoch, start_offset))
        return True

    def epoch_of(self, offset: Offset) -> LeaderEpoch:
        """The epoch under which `offset` was (or will be) written; -1 where it lies before all."""
        at = bisect_right(self.entries, offset, key=lambda entry: entry.start_offset)
        return self.entries[at - 1].epoch if at else UNKNOWN

    def end_of(self, epoch: int, log_end: Offset) -> tuple[LeaderEpoch, Offset]:
        """Kafka's answer to OffsetForLeaderEpoch: the largest known epoch up to `epoch`, and where the next one begins
        (of the latest: the log end). (-1, -1) for an epoch above the latest; an epoch below all ends where the first
        begins."""
        if epoch == self.latest and epoch >= 0:
            return LeaderEpoch(epoch), log_end
        if epoch < 0 or epoch > self.latest:
            return UNKNOWN, Offset(-1)
        at = bisect_right(self.entries, epoch, key=lambda entry: entry.epoch)
        return (self.entries[at - 1].epoch if at else LeaderEpoch(epoch)), self.entries[at].start_offset

    def truncate_to(self, end_offset: Offset) -> bool:
        """The log now ends at `end_offset`: entries that begin at or after it go. Gives whether there were any."""
        count = len(self.entries)
        while self.entries and self.entries[-1].start_offset >= end_offset:
            self.entries.pop()
        return len(self.entries) != count

    def truncate_before(self, start_offset: Offset) -> bool:
        """The log now begins at `start_offset`: entries that end there or before go, the one around it begins there.
        Gives whether that changed anything."""
        at = bisect_right(self.entries, start_offset, key=lambda entry: entry.start_offset)
        if not at or (at == 1 and self.entries[0].start_offset == start_offset):
            return False
        self.entries[:at] = [EpochEntry(self.entries[at - 1].epoch, start_offset)]
        return True

    def encode(self) -> bytes:
        lines = [str(VERSION), str(len(self.entries)), *(f"{epoch} {start}" for epoch, start in self.entries)]
        return ("\n".join(lines) + "\n").encode("ascii")

    @classmethod
    def decode(cls, data: bytes | bytearray | memoryview) -> LeaderEpochs:
        """Raises FormatError."""
        lines = bytes(data).split(b"\n")
        if lines[-1] == b"":
            lines.pop()
        if len(lines) < 2 or lines[0] != b"%d" % VERSION:
            raise FormatError(0, f"a leader epoch file begins with version {VERSION} and a count")
        position = len(lines[0]) + 1
        if not _is_number(lines[1], INT32_MAX) or int(lines[1]) != len(lines) - 2:
            raise FormatError(position, f"count {lines[1][:20]!r} before {len(lines) - 2} leader epochs")
        position += len(lines[1]) + 1
        epochs = cls()
        before = EpochEntry(UNKNOWN, Offset(-1))
        for line in lines[2:]:
            fields = line.split(b" ")
            if len(fields) != 2 or not _is_number(fields[0], INT32_MAX) or not _is_number(fields[1], INT64_MAX):
                raise FormatError(position, f"{line[:40]!r} is no leader epoch and offset")
            entry = EpochEntry(LeaderEpoch(int(fields[0])), Offset(int(fields[1])))
            if entry.epoch <= before.epoch or entry.start_offset <= before.start_offset:
                raise FormatError(position, f"leader epoch {entry.epoch} from {entry.start_offset} does not ascend")
            epochs.entries.append(entry)
            before = entry
            position += len(line) + 1
        return epochs


def _is_number(text: bytes, largest: int) -> bool:
    return text.isdigit() and len(text) <= 19 and int(text) <= largest
