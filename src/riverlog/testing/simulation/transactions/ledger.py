"""What clients know of transactions, and what readers may therefore see: the checker.

Every record's value is its own, and every offset that a transaction commits has the transaction's number as its metadata. So
whatever is seen tells by itself which transaction it is of. A transaction is visible whole or not at all: it may be from the
moment that its commit was asked for, it is once that was answered, and it never is when it was aborted, or refused, or when
nobody asked for a commit.

Invariant: nothing here asks the broker; `Violation` is raised where a promise is broken, with what was promised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final, NamedTuple

from riverlog.base.ids import PartitionId
from riverlog.testing.simulation.model import Violation


class Fate(Enum):
    OPEN = "open"  # nobody asked for its commit: if it ends, then as aborted
    DOUBT = "doubt"  # its commit was asked for, and nobody was told what became of it
    COMMITTED = "committed"
    ABORTED = "aborted"


class Place(NamedTuple):
    """Where offsets are kept."""

    group: str
    partition: PartitionId


class Seen(NamedTuple):
    offset: int
    value: str


class Committed(NamedTuple):
    """An offset as a group has it; `metadata` is the number of the transaction that committed it."""

    offset: int
    metadata: str


class Attempt:
    """One transaction, as its client has it."""

    def __init__(self, number: int, client: str, began_ms: int) -> None:
        self.number = number
        self.client = client
        self.began_ms = began_ms  # wall time; -1: it is none, but records that nobody may ever see
        self.fate = Fate.OPEN
        self.sent: dict[str, PartitionId] = {}
        self.sure: set[str] = set()  # of `sent`: in the log, if the transaction was committed
        self.offsets: dict[Place, int] = {}
        self.seen = ""  # how somebody came to see it as committed

    def __str__(self) -> str:
        return f"transaction {self.number} of {self.client} ({self.fate.value})"


class Ledger:
    """Of all transactions and of records outside of them."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.of_value: dict[str, Attempt] = {}
        self.plain: dict[str, bool] = {}  # records of no transaction; True: acknowledged
        self.at: dict[PartitionId, dict[int, str]] = {}  # whatever anybody has seen at an offset

    # What clients hear

    def begin(self, client: str, now_ms: int) -> Attempt:
        attempt = Attempt(len(self.attempts), client, now_ms)
        self.attempts.append(attempt)
        return attempt

    def send(self, attempt: Attempt, partition: PartitionId, values: Sequence[str]) -> None:
        for value in values:
            attempt.sent[value] = partition
            self.of_value[value] = attempt

    def commit_asked(self, attempt: Attempt) -> None:
        if attempt.fate is Fate.OPEN:
            attempt.fate = Fate.DOUBT

    def committed(self, attempt: Attempt) -> None:
        attempt.fate = Fate.COMMITTED

    def aborted(self, attempt: Attempt) -> None:
        """It was answered, or its only commit was refused for good."""
        if attempt.seen:
            raise Violation("aborted seen", f"{attempt} was not committed, and {attempt.seen}")
        attempt.fate = Fate.ABORTED

    # What readers see

    def appeared(self, partition: PartitionId, offset: int, value: str) -> None:
        """To anybody who reads, also what is not committed."""
        before = self.at.setdefault(partition, {}).setdefault(offset, value)
        if before != value:
            raise Violation("replaced", f"{partition}: {value!r} is at {offset}, where {before!r} was")

    def visible(self, partition: PartitionId, offset: int, value: str) -> None:
        """To somebody who reads what is committed."""
        self.appeared(partition, offset, value)
        if value in self.plain:
            return
        if (attempt := self.of_value.get(value)) is None:
            raise Violation("stranger", f"{partition}: {value!r} at {offset} was never sent")
        if attempt.sent[value] != partition:
            raise Violation("stranger", f"{partition}: {value!r} at {offset} was sent to {attempt.sent[value]}")
        self._see(attempt, f"{value!r} was visible at {offset} of {partition}")

    def offset_seen(self, place: Place, committed: Committed) -> Attempt:
        """Somebody was told that this is the group's offset."""
        attempt = self.attempts[int(committed.metadata)]
        if attempt.offsets.get(place) != committed.offset:
            raise Violation("stranger", f"{place} has {committed}; {attempt} has {attempt.offsets}")
        self._see(attempt, f"{committed} was the offset of {place}")
        return attempt

    def _see(self, attempt: Attempt, how: str) -> None:
        if attempt.fate in (Fate.OPEN, Fate.ABORTED):
            raise Violation("aborted seen", f"{attempt}: {how}")
        attempt.seen = attempt.seen or how

    def answered(self, place: Place) -> int:
        """The last transaction with an offset there whose commit was answered; -1: none."""
        numbers = (one.number for one in reversed(self.attempts) if one.fate is Fate.COMMITTED and place in one.offsets)
        return next(numbers, -1)

    # In the end

    def settle(
        self, logs: Mapping[PartitionId, Sequence[Seen]], offsets: Mapping[Place, Committed], inputs: Inputs
    ) -> None:
        """All that is committed, when nothing is under way any more, and nobody knows of more transactions."""
        shown: dict[str, int] = {}
        for partition, seen in logs.items():
            for offset, value in seen:
                self.visible(partition, offset, value)
                if value in shown:
                    raise Violation("duplicate", f"{partition}: {value!r} is at {shown[value]} and at {offset}")
                shown[value] = offset
        for value, acknowledged in self.plain.items():
            if acknowledged and value not in shown:
                raise Violation("lost", f"{value!r}, of no transaction, is gone")
        for attempt in self.attempts:
            check_whole(attempt, shown)
        check_order(logs)
        places = {place for attempt in self.attempts for place in attempt.offsets}
        for place in sorted(places):
            self._check_offset(place, offsets.get(place), shown)
        for place, outputs in inputs.items():
            check_once(place, logs, offsets.get(place), outputs)

    def _check_offset(self, place: Place, committed: Committed | None, shown: Mapping[str, int]) -> None:
        last = -1 if committed is None else self.offset_seen(place, committed).number
        if committed is not None and not perhaps_committed(self.attempts[last], shown):
            raise Violation("torn", f"{place} has the offset of {self.attempts[last]}, whose records are not there")
        for attempt in self.attempts[last + 1 :]:
            if place in attempt.offsets and certainly_committed(attempt, shown):
                raise Violation("torn", f"{place} has {committed}, and not the offset of {attempt}")


Inputs = Mapping[Place, str]  # where a worker's group reads, and what its output values end with: `<input value`

SOURCE: Final = "<"


def perhaps_committed(attempt: Attempt, shown: Mapping[str, int]) -> bool:
    if attempt.fate is Fate.DOUBT:
        return not attempt.sure or any(value in shown for value in attempt.sure)
    return attempt.fate is Fate.COMMITTED


def certainly_committed(attempt: Attempt, shown: Mapping[str, int]) -> bool:
    if attempt.fate is Fate.DOUBT:
        return any(value in shown for value in attempt.sent)
    return attempt.fate is Fate.COMMITTED


def check_whole(attempt: Attempt, shown: Mapping[str, int]) -> None:
    """`shown` is all that is visible in the end."""
    there = [value for value in attempt.sent if value in shown]
    missing = [value for value in attempt.sure if value not in shown]
    if there and missing:
        raise Violation("torn", f"{attempt}: {there} are visible, {sorted(missing)} are not")
    if attempt.fate is Fate.COMMITTED and missing:
        raise Violation("lost", f"{attempt}: {sorted(missing)} are not visible")


def check_order(logs: Mapping[PartitionId, Sequence[Seen]]) -> None:
    """Each sender's records are in the order that they were sent: values are `sender.number…`."""
    for partition, seen in logs.items():
        last: dict[str, int] = {}
        for offset, value in seen:
            sender, number = value.partition(SOURCE)[0].split(".")[:2]
            if int(number) <= last.get(sender, -1):
                raise Violation("order", f"{partition}: {value!r} at {offset} comes after number {last[sender]}")
            last[sender] = int(number)


def check_once(
    place: Place, logs: Mapping[PartitionId, Sequence[Seen]], committed: Committed | None, mark: str
) -> None:
    """What a worker has read is in its output once, and nothing that it has not. Its values begin with `mark`."""
    end = 0 if committed is None else committed.offset
    asked = sorted(value for offset, value in logs[place.partition] if offset < end)
    worked = [value for seen in logs.values() for _, value in seen if value.startswith(mark)]
    given = sorted(value.partition(SOURCE)[2] for value in worked)
    if asked != given:
        more = sorted(set(given) - set(asked)) or [value for value in given if given.count(value) > 1]
        less = sorted(set(asked) - set(given))
        raise Violation("not once", f"{place} at {end}: too much is {more}, too little {less}")
