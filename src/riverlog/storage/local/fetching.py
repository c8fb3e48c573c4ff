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
from riverlog.env.files import File
from riverlog.storage.answers import out_of_range, unknown
from riverlog.storage.contract import NO_SLICES, Fetched, FetchedPartition, FileRegion, Isolation, Read, Slices
from riverlog.storage.format.errors import FormatError
from riverlog.storage.local.partition import LocalPartition
from riverlog.storage.local.reading import Cold, ColdAnswer, read_cold, read_visible
from riverlog.storage.local.segments import Segment

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
        try:
            found = read_visible(partition, self.engine.descriptors, read.offset, limit, first)
        except (OSError, FormatError) as damage:
            return failed(unreadable(partition, damage), partition)
        if isinstance(found, Cold):
            return found
        return self._fetched(partition, NO_SLICES if found is None else found, isolation)

    def _fetched(self, partition: LocalPartition, slices: Slices, isolation: Isolation) -> FetchedPartition:
        high = partition.high.offset
        return FetchedPartition(
            slices,
            high,
            partition.producers.last_stable_offset(high),
            partition.log_start,
            () if isolation is Isolation.READ_COMMITTED else None,
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
                    answer = await self._read_cold(reads[at], answer, isolation)
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

    async def _read_cold(self, read: Read, cold: Cold, isolation: Isolation) -> FetchedPartition:
        """Reads on a thread. Where the offset lies behind the segment's last batch, the next segment is asked."""
        self.engine.counters.cold_reads += 1
        while True:
            segment = cold.segment
            partition = self.engine.partitions.get(read.partition)
            try:
                file = self.engine.descriptors.borrow(segment)
            except OSError as error:
                if partition is None:
                    return failed(unknown(read.partition.topic_id))
                return failed(unreadable(partition, error), partition)
            try:
                answer = await self.engine.readers.run(partial(read_cold, self.engine.files, file, cold))
                if (partition := self.engine.partitions.get(read.partition)) is None:
                    return failed(unknown(read.partition.topic_id))
                slices = self._slices(segment, file, answer)
            except (OSError, RiverlogError) as error:
                if partition is None:
                    return failed(unknown(read.partition.topic_id))
                return failed(unreadable(partition, error), partition)
            finally:
                self.engine.descriptors.give_back(segment)
            if answer.loaded is not None and segment.index is None:
                self.engine.checkpoints.loaded(segment, answer.loaded)
            self.engine.counters.cold_read_bytes += answer.size
            if answer.size or not answer.ended:
                return self._fetched(partition, slices, isolation)
            if (after := self._segment_after(partition, segment)) is None:
                return self._fetched(partition, NO_SLICES, isolation)
            limit = partition.visible_bytes(after)
            cold = Cold(after, after.index, limit, cold.offset, cold.bytes_max, cold.first)

    def _slices(self, segment: Segment, file: File, answer: ColdAnswer) -> Slices:
        """What was read, as it is sent; the caller has the segment borrowed."""
        if not answer.size:
            return NO_SLICES
        if file.descriptor < 0:
            return Slices((answer.data,), answer.size)
        descriptors = self.engine.descriptors
        descriptors.borrow(segment)
        region = FileRegion(file.descriptor, answer.position, answer.size, True)
        return Slices((region,), answer.size, lambda: descriptors.give_back(segment))

    def _segment_after(self, partition: LocalPartition, segment: Segment) -> Segment | None:
        at = partition.segment_at(segment.base_offset) + 1
        if at < len(partition.segments) and partition.visible_bytes(partition.segments[at]):
            return partition.segments[at]
        return None


def failed(error: RiverlogError, partition: LocalPartition | None = None) -> FetchedPartition:
    if partition is None:
        return FetchedPartition(NO_SLICES, NO_OFFSET, NO_OFFSET, NO_OFFSET, None, error)
    high = partition.high.offset
    return FetchedPartition(NO_SLICES, high, high, partition.log_start, None, error)


def unreadable(partition: LocalPartition, error: Exception) -> RiverlogError:
    if isinstance(error, RiverlogError):
        log.error("%s: %s", partition.name, error.message)
        return error
    log.error("%s could not be read: %s", partition.name, error)
    return RiverlogError(ErrorKind.STORAGE, f"{partition.name} could not be read: {error}")
