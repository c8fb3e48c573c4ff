"""A whole fetch: many partitions under one budget of bytes, answered at once where nothing needs a disk.

Invariant: an answer that is thrown away has given back what it held. Not here: one partition's read (`reading.py`), waiting
for new records (the broker).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import Offset
from riverlog.storage.answers import out_of_range, unknown
from riverlog.storage.contract import (
    NO_SLICES,
    AbortedTransaction,
    Fetched,
    FetchedPartition,
    FileRegion,
    Isolation,
    Read,
    Slices,
)
from riverlog.storage.local.damage import behind_damage, is_current, note_damage, readable_bytes
from riverlog.storage.local.partition import LocalPartition
from riverlog.storage.local.reading import Cold, ColdAnswer, make_cold, read_visible
from riverlog.storage.local.segments import Segment
from riverlog.storage.local.transactions import aborted_within, stable_end

if TYPE_CHECKING:
    from riverlog.storage.local.engine import LocalEngine

log = logging.getLogger(__name__)

NO_OFFSET: Final = Offset(-1)


class Fetching:
    """Owned by the engine."""

    def __init__(self, engine: LocalEngine) -> None:
        self.engine = engine

    def read(self, reads: Sequence[Read], bytes_max: int, isolation: Isolation) -> Fetched | Awaitable[Fetched]:
        answers: list[FetchedPartition] = []
        size = 0
        for at, read in enumerate(reads):
            answer = self._read_one(read, bytes_max - size, isolation, size == 0)
            if isinstance(answer, Cold):
                return self._read_on(reads, at, answer, answers, bytes_max, size, isolation)
            answers.append(answer)
            size += answer.slices.size
        self.engine.counters.warm_reads += 1
        return Fetched(answers, size)

    def _read_one(self, read: Read, budget: int, isolation: Isolation, first: bool) -> FetchedPartition | Cold:
        if (partition := self.engine.partitions.get(read.partition)) is None:
            return failed(unknown(read.partition.topic_id))
        error = partition.failure or out_of_range(partition.name, partition.log_start, partition.log_end, read.offset)
        if error is not None:
            return failed(error, partition)
        limit = read.bytes_max if read.bytes_max < budget else budget
        if limit <= 0 and not first:
            return self._fetched(partition, NO_SLICES, isolation)
        end = partition.high
        if partition.transactions is not None and isolation is Isolation.READ_COMMITTED:
            end = stable_end(partition)
        if self.engine.catchup.ahead:
            expected = self.engine.catchup.expected(partition, read.offset, limit, first, end)
            if expected is not None:
                return expected
        try:
            found = read_visible(partition, self.engine.descriptors, read.offset, limit, first, end)
        except (OSError, RiverlogError) as found_out:
            return failed(unreadable(partition, found_out), partition)
        if isinstance(found, Cold):
            return found
        if found is None:
            return self._fetched(partition, NO_SLICES, isolation)
        aborted: Sequence[AbortedTransaction] = ()
        if partition.transactions is not None and isolation is Isolation.READ_COMMITTED:
            aborted = aborted_within(partition, found.segment, found.position, read.offset, end.offset)
        return self._fetched(partition, found, isolation, aborted)

    def _fetched(
        self,
        partition: LocalPartition,
        slices: Slices,
        isolation: Isolation,
        aborted: Sequence[AbortedTransaction] = (),
    ) -> FetchedPartition:
        high = partition.high.offset
        return FetchedPartition(
            slices,
            high,
            high if partition.transactions is None else partition.stable_offset(),
            partition.log_start,
            aborted if isolation is Isolation.READ_COMMITTED else None,
        )

    async def _read_on(
        self,
        reads: Sequence[Read],
        at: int,
        cold: Cold,
        answers: list[FetchedPartition],
        bytes_max: int,
        size: int,
        isolation: Isolation,
    ) -> Fetched:
        """The rest of a fetch, one of whose partitions needs a disk."""
        try:
            answer: FetchedPartition | Cold = cold
            while True:
                if isinstance(answer, Cold):
                    answer = await self._read_cold(reads[at], answer, bytes_max - size, isolation)
                answers.append(answer)
                size += answer.slices.size
                at += 1
                if at == len(reads):
                    return Fetched(answers, size)
                answer = self._read_one(reads[at], bytes_max - size, isolation, size == 0)
        except BaseException:
            for one in answers:
                one.slices.close()
            raise

    async def _read_cold(self, read: Read, cold: Cold, budget: int, isolation: Isolation) -> FetchedPartition:
        """Reads on a thread. Where the offset lies behind the segment's last batch, the next segment is asked; where the
        segment was taken or replaced meanwhile, or turned out to be damaged, the partition is, from the beginning."""
        engine = self.engine
        engine.counters.cold_reads += 1
        examined: Segment | None = None
        while True:
            segment, first = cold.segment, cold.first
            if isinstance(partition := self._open(read), FetchedPartition):
                return partition
            try:
                answer = await engine.catchup.read(partition, cold)
            except OSError as error:
                if isinstance(partition := self._open(read), FetchedPartition):
                    return partition
                if is_current(partition, segment):
                    return failed(unreadable(partition, error), partition)
                answer = None
            if isinstance(partition := self._open(read), FetchedPartition):
                return partition
            following: FetchedPartition | Cold
            if answer is None or not is_current(partition, segment):
                following = self._read_one(read, budget, isolation, first)
            else:
                self._learn(partition, segment, answer)
                if answer.size:
                    return self._sliced(partition, segment, answer, read.offset, isolation)
                if answer.again and answer.damage is None and examined is segment:
                    return failed(
                        unreadable(partition, OSError("its batches are not where its index has them")), partition
                    )
                if answer.again or answer.damage is not None:
                    examined = segment
                    following = self._read_one(read, budget, isolation, first)
                else:
                    following = self._after(partition, cold, answer, isolation)
            if isinstance(following, FetchedPartition):
                return following
            cold = following

    def _open(self, read: Read) -> LocalPartition | FetchedPartition:
        """The partition, or what its readers get."""
        if (partition := self.engine.partitions.get(read.partition)) is None:
            return failed(unknown(read.partition.topic_id))
        if partition.failure is not None:
            return failed(partition.failure, partition)
        return partition

    def _learn(self, partition: LocalPartition, segment: Segment, answer: ColdAnswer) -> None:
        """What a thread has found beside what was asked for."""
        if answer.damage is not None:
            note_damage(self.engine, partition, segment, answer.damage.position, answer.damage.what)
        if answer.loaded is not None and (segment.index is None or (answer.again and segment.saved)):
            self.engine.checkpoints.loaded(segment, answer.loaded)
        self.engine.counters.cold_read_bytes += answer.size

    def _after(
        self, partition: LocalPartition, cold: Cold, answer: ColdAnswer, isolation: Isolation
    ) -> FetchedPartition | Cold:
        """Where nothing was read of a segment that is good: not even one batch fits, or its batches end before the offset."""
        nothing = self._fetched(partition, NO_SLICES, isolation)
        if not answer.ended:
            return nothing
        if (error := behind_damage(partition, cold.segment, cold.offset)) is not None:
            return failed(error, partition)
        at = partition.segment_at(cold.segment.base_offset) + 1
        end = stable_end(partition) if isolation is Isolation.READ_COMMITTED else partition.high
        if at == len(partition.segments) or not partition.visible_bytes(after := partition.segments[at], end):
            return nothing
        if not (limit := readable_bytes(partition, after, end)):
            error = behind_damage(partition, after, cold.offset)
            return nothing if error is None else failed(error, partition)
        return make_cold(after, limit, cold.offset, cold.bytes_max, cold.first)

    def _sliced(
        self, partition: LocalPartition, segment: Segment, answer: ColdAnswer, offset: Offset, isolation: Isolation
    ) -> FetchedPartition:
        """What was read, as it is sent."""
        engine = self.engine
        aborted: Sequence[AbortedTransaction] = ()
        if partition.transactions is not None and isolation is Isolation.READ_COMMITTED:
            aborted = partition.transactions.aborted.overlapping(offset, answer.next_offset)
        if answer.data:
            slices = Slices(
                (answer.data,), answer.size, partial(engine.catchup.sent, partition, segment, answer.brought)
            )
            return self._fetched(partition, slices, isolation, aborted)
        try:
            file = engine.descriptors.borrow(segment)
        except OSError as error:
            return failed(unreadable(partition, error), partition)

        def sent() -> None:
            engine.descriptors.give_back(segment)
            engine.catchup.sent(partition, segment, answer.brought)

        region = FileRegion(file.descriptor, answer.position, answer.size, True)
        return self._fetched(partition, Slices((region,), answer.size, sent), isolation, aborted)


def failed(error: RiverlogError, partition: LocalPartition | None = None) -> FetchedPartition:
    if partition is None:
        return FetchedPartition(NO_SLICES, NO_OFFSET, NO_OFFSET, NO_OFFSET, None, error)
    high = partition.high.offset
    return FetchedPartition(NO_SLICES, high, high, partition.log_start, None, error)


def unreadable(partition: LocalPartition, error: Exception) -> RiverlogError:
    if isinstance(error, RiverlogError):
        return error  # of damage that was logged when it was found
    log.error("%s could not be read: %s", partition.name, error)
    return RiverlogError(ErrorKind.STORAGE, f"{partition.name} could not be read: {error}")
