"""Whose turn it is at the disk, of those who read what the page cache does not have, and what they leave behind.

Invariants: at most `riverlog.catchup.threads` cold reads are under way, started partition after partition in turn, so that no
reader starves, and at most `riverlog.catchup.bytes.per.second` bytes; what is read ahead of a reader, and waits for it, is at
most `ahead_bytes_max`, and comes after everybody who asks; a descriptor and a buffer that a thread uses stay its own until it
has ended, also where nobody waits for it any more. What was brought into the page cache for a reader of old data leaves it
once it was sent, so that it takes no room from what the tail needs.
Not here: what is read (`reading.py`), the fetch around it (`fetching.py`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from riverlog.base.ids import Offset, PartitionId
from riverlog.base.units import KIB, MIB
from riverlog.env.executor import Executor
from riverlog.env.files import File
from riverlog.storage.local.damage import is_current, readable_bytes
from riverlog.storage.local.partition import LocalPartition, Place
from riverlog.storage.local.reading import Cold, ColdAnswer, Extent, cold_read_bytes_max, make_cold, read_cold
from riverlog.storage.local.segments import Segment

if TYPE_CHECKING:
    from riverlog.storage.local.engine import LocalEngine

ahead_bytes_max: Final = 32 * MIB  # that were read for readers who have not asked yet
ahead_ms_max: Final = 10_000  # that it waits for them
readers_ahead_max: Final = 64  # for whom that is done
readers_known_max: Final = 256  # whose last place is remembered
drop_lag_bytes: Final = 4 * MIB  # that were sent and are not dropped yet
credit_ms: Final = 100  # of bytes that were allowed and not read: what a read itself takes counts
chunk_bytes_min: Final = 64 * KIB  # of one cold read under a limit
tail_kept_bytes: Final = 64 * MIB  # at the end of a partition that stay in the page cache, whoever read them
close_behind_bytes: Final = 64 * MIB  # another reader that is no further behind finds what the first one brought


class Turns:
    """A limited number of places at the disk, and of bytes a second. Who asks waits in the line of a key; the lines are served
    in turn."""

    def __init__(self, engine: LocalEngine, places: int, bytes_per_second: int) -> None:
        self._engine = engine
        self._free = places
        self._bytes_per_second = bytes_per_second
        self._lines: dict[object, deque[asyncio.Future[None]]] = {}
        self._paid_ms = 0.0  # when, on the monotonic clock, the bytes that were read will have been allowed
        self._pausing = False

    @property
    def is_idle(self) -> bool:
        """Somebody who comes now has not to wait, and there is a place for another one."""
        return self._free > 0 and not self._lines and not self._pausing

    async def take(self, key: object) -> None:
        """A place; `give_back` returns it."""
        if self._free and not self._lines and self._may_go():
            self._free -= 1
            return
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(key, deque()).append(waiting)
        try:
            await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                self.give_back(0)
            raise

    def try_take(self) -> bool:
        """A place, for somebody who does not wait, and comes after all who do."""
        if not self.is_idle or not self._may_go():
            return False
        self._free -= 1
        return True

    def give_back(self, size: int) -> None:
        """The place is free again, and that many bytes were read."""
        self._free += 1
        self.spend(size)
        self._serve()

    def spend(self, size: int) -> None:
        if self._bytes_per_second and size:
            now_ms = self._engine.clock.monotonic_ms()
            self._paid_ms = max(self._paid_ms, now_ms - credit_ms) + size * 1000 / self._bytes_per_second

    def _serve(self) -> None:
        while self._free and self._lines and self._may_go():
            key, line = next(iter(self._lines.items()))
            del self._lines[key]
            while line and line[0].done():
                line.popleft()  # he has gone
            if line:
                self._free -= 1
                line.popleft().set_result(None)
            if line:
                self._lines[key] = line  # behind the others

    def _may_go(self) -> bool:
        if not self._bytes_per_second:
            return True
        if self._pausing:
            return False
        if (left_ms := self._paid_ms - self._engine.clock.monotonic_ms()) <= 0:
            return True
        self._pausing = True
        self._engine.tasks.start(self._pause(left_ms), name="pause of old reads")
        return False

    async def _pause(self, milliseconds: float) -> None:
        try:
            await self._engine.clock.sleep(milliseconds / 1000)
        except asyncio.CancelledError:
            self._bytes_per_second = 0  # the engine is closed: nobody is to wait for the rest of it
            raise
        finally:
            self._pausing = False
            self._serve()


class Reader(NamedTuple):
    """Where somebody will go on who has read up to there."""

    segment: Segment
    position: int


class Ahead(NamedTuple):
    """What is read, or was, for a reader who is expected."""

    segment: Segment
    bytes_max: int
    reading: asyncio.Future[ColdAnswer]
    since_ms: int = 0


class Brought(NamedTuple):
    """What one cold read brought into the page cache, and was sent from there."""

    partition: LocalPartition
    segment: Segment
    extents: Sequence[Extent]
    size: int


class Catchup:
    """Owned by the engine."""

    def __init__(self, engine: LocalEngine, executor: Executor) -> None:
        settings = engine.settings
        self.engine = engine
        self.executor = executor  # with one thread more than there are places: it drops pages
        self.turns = Turns(engine, settings.catchup_threads, settings.catchup_bytes_per_second)
        self.chunk_bytes_max = chunk_bytes(settings.catchup_bytes_per_second)
        self.ahead: dict[tuple[PartitionId, Offset], Ahead] = {}
        self._ahead_bytes = 0
        self._readers: dict[tuple[PartitionId, Offset], Reader] = {}
        self._scratch: list[bytearray] = []
        self._sent: deque[Brought] = deque()
        self._sent_bytes = 0

    # Reading

    def expected(
        self, partition: LocalPartition, offset: Offset, bytes_max: int, first: bool, end: Place
    ) -> Cold | None:
        """The read of somebody for whom it was done, or begun, before he came; of what lies before `end`."""
        if (ahead := self.ahead.get((partition.id, offset))) is None or offset >= end.offset:
            return None
        return self.cold(partition, ahead.segment, offset, bytes_max, first, end)

    def cold(
        self,
        partition: LocalPartition,
        segment: Segment,
        offset: Offset,
        bytes_max: int,
        first: bool,
        end: Place | None = None,
    ) -> Cold | None:
        """A read of that segment. None: nothing of it can be read."""
        if not is_current(partition, segment) or not (limit := readable_bytes(partition, segment, end)):
            return None
        return make_cold(segment, limit, offset, bytes_max, first)

    async def read(self, partition: LocalPartition, cold: Cold) -> ColdAnswer:
        """What is to be sent; who has sent it calls `sent`. Raises OSError."""
        cold = cold._replace(bytes_max=min(cold.bytes_max, self.chunk_bytes_max))
        key = (partition.id, cold.offset)
        reads_on = self._readers.pop(key, None) is not None
        if (answer := await self._from_ahead(key, cold)) is None:
            await self.turns.take(partition.id)
            answer = await asyncio.shield(self._launch(cold))
        if answer.size:
            place = Reader(cold.segment, answer.position + answer.size)
            self._readers[(partition.id, answer.next_offset)] = place
            if len(self._readers) > readers_known_max:
                del self._readers[next(iter(self._readers))]
            if reads_on and not answer.damage:
                self._read_ahead(partition, cold, answer.next_offset)
        return answer

    def _launch(self, cold: Cold) -> asyncio.Future[ColdAnswer]:
        """With a place that was taken. Raises OSError."""
        descriptors, segment = self.engine.descriptors, cold.segment
        try:
            file = descriptors.borrow(segment)
        except OSError:
            self.turns.give_back(0)
            raise
        scratch = self._scratch.pop() if self._scratch else bytearray(cold_read_bytes_max)

        def ended(reading: asyncio.Future[ColdAnswer]) -> None:
            self._scratch.append(scratch)
            descriptors.give_back(segment)
            good = not reading.cancelled() and reading.exception() is None
            self.turns.give_back(sum(extent.size for extent in reading.result().brought) if good else 0)

        reading = self.executor.run(partial(read_cold, self.engine.files, file, cold, scratch))
        reading.add_done_callback(ended)
        return reading

    # Ahead of the reader

    def _read_ahead(self, partition: LocalPartition, cold: Cold, offset: Offset) -> None:
        """For one who reads on and on: the next chunk, where nobody else wants the disk."""
        key = (partition.id, offset)
        self._make_room_ahead()
        if not self.turns.is_idle or key in self.ahead or self._ahead_bytes + cold.bytes_max > ahead_bytes_max:
            return
        segment = partition.segments[partition.segment_at(offset)]
        place = self._readers.get(key)  # None: what was read ahead there went just now, with whom it was for
        start = place.position if place is not None and place.segment is segment else 0
        following = self.cold(partition, segment, offset, cold.bytes_max, True)
        if following is None or start >= following.limit or not self.turns.try_take():
            return
        try:
            count = min(following.bytes_max, following.limit - start)
            if self.engine.descriptors.file(segment).resident(start, count):
                self.turns.give_back(0)  # the loop will find it
                return
            reading = self._launch(following)
        except OSError:
            return  # the reader will be told
        self.ahead[key] = Ahead(segment, following.bytes_max, reading, self.engine.clock.monotonic_ms())
        self._ahead_bytes += following.bytes_max

    async def _from_ahead(self, key: tuple[PartitionId, Offset], cold: Cold) -> ColdAnswer | None:
        if (ahead := self.ahead.get(key)) is None:
            return None
        self._forget_ahead(key)
        try:
            answer = await asyncio.shield(ahead.reading)
        except OSError:
            return None  # it is tried again, and whoever asked is told
        segment = cold.segment
        if ahead.segment is not segment or not 0 < answer.size <= cold.bytes_max:
            return None
        if answer.position + answer.size > cold.limit:
            return None  # he reads what is committed, and the read ahead went on behind that
        if segment.file is not None and not segment.file.resident(answer.position, answer.size) and not answer.data:
            return None  # it was long ago
        self.engine.counters.ahead_reads += 1
        return answer

    def _forget_ahead(self, key: tuple[PartitionId, Offset]) -> None:
        self._ahead_bytes -= self.ahead.pop(key).bytes_max

    def _make_room_ahead(self) -> None:
        """The oldest go that nobody came for, and what they brought into the page cache as if it had been sent."""
        long_ago_ms = self.engine.clock.monotonic_ms() - ahead_ms_max
        while self.ahead:
            key, oldest = next(iter(self.ahead.items()))
            if len(self.ahead) < readers_ahead_max and oldest.since_ms > long_ago_ms:
                return
            self._forget_ahead(key)
            self._readers.pop(key, None)
            reading, partition = oldest.reading, self.engine.partitions.get(key[0])
            good = reading.done() and not reading.cancelled() and reading.exception() is None
            if partition is not None and good:
                self.sent(partition, oldest.segment, reading.result().brought)

    # Behind the reader

    def sent(self, partition: LocalPartition, segment: Segment, extents: Sequence[Extent]) -> None:
        """These were sent. They are dropped a little later: the socket holds the last ones for a moment, and a page that is
        held stays."""
        size = sum(extent.size for extent in extents)
        self._sent.append(Brought(partition, segment, extents, size))
        self._sent_bytes += size
        while self._sent_bytes > drop_lag_bytes:
            brought = self._sent.popleft()
            self._sent_bytes -= brought.size
            self._drop(brought)

    def _drop(self, brought: Brought) -> None:
        partition, segment = brought.partition, brought.segment
        if not brought.extents or not is_current(partition, segment) or self._is_wanted(brought):
            return
        descriptors = self.engine.descriptors
        try:
            file = descriptors.borrow(segment)
        except OSError:
            return
        self.engine.counters.dropped_bytes += brought.size
        dropping = self.executor.run(partial(drop, file, brought.extents))
        dropping.add_done_callback(lambda _: descriptors.give_back(segment))

    def _is_wanted(self, brought: Brought) -> bool:
        """The end of a partition is the tail's; and another reader may come to the same bytes soon."""
        partition, segment = brought.partition, brought.segment
        start, end = brought.extents[0].position, sum(brought.extents[-1])
        left = partition.visible_bytes(segment) - end
        for later in reversed(partition.segments):
            if left >= tail_kept_bytes or later is segment:
                break
            left += partition.visible_bytes(later)
        if left < tail_kept_bytes:
            return True
        return any(
            reader.segment is segment and start - close_behind_bytes <= reader.position < end
            for reader in self._readers.values()
        )


def chunk_bytes(bytes_per_second: int) -> int:
    """What one cold read gives at most: with a limit a quarter of a second's, so that readers take turns."""
    if not bytes_per_second:
        return cold_read_bytes_max
    return min(cold_read_bytes_max, max(chunk_bytes_min, bytes_per_second // 4))


# On a thread


def drop(file: File, extents: Sequence[Extent]) -> None:
    for extent in extents:
        file.advise_dontneed(extent.position, extent.size)
