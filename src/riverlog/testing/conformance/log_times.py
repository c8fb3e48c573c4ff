"""The suite of all log engines, second part: from times to offsets, exact to the record, whatever a batch is packed in."""

from __future__ import annotations

from typing import Final

import pytest

from riverlog.base.ids import Offset
from riverlog.env.entropy import SeededEntropy
from riverlog.records.builder import stamp_log_append_time
from riverlog.records.compression import Compression
from riverlog.records.header import read_header
from riverlog.storage.contract import Append, LogEngine, TimestampedOffset
from riverlog.testing.clock import ManualClock
from riverlog.testing.conformance.log_engine import P0, P1, LogSuite, append_of, appended, batch_of

BASE: Final = ManualClock().now_ms() - 10_000  # times in here count from it: no retention takes what is that young


async def put(engine: LogEngine, compression: Compression, *batches: list[int]) -> None:
    for times in batches:
        values = [str(time) for time in times]
        await appended(engine, [append_of(P0, *values, timestamps=[BASE + time for time in times], compression=compression)])


def place(found: TimestampedOffset | None) -> tuple[int, int] | None:
    return None if found is None else (found.offset, found.timestamp_ms - BASE)


class LogTimesSuite(LogSuite):
    @pytest.mark.parametrize("compression", list(Compression))
    def test_offsets_by_time_are_exact_to_the_record(self, compression: Compression) -> None:
        async def story() -> None:
            async with self.running() as engine:
                times = [[100, 300, 200], [50], [400, 350, 500], [500]]
                await put(engine, compression, *times)
                flat = [time for batch in times for time in batch]
                for asked in (0, 50, 100, 101, 200, 250, 300, 301, 350, 400, 401, 500):
                    expected = next(at for at, time in enumerate(flat) if time >= asked)
                    found = await engine.offset_for_time(P0, BASE + asked)
                    assert found is not None, asked
                    assert place(found) == (expected, flat[expected]), asked
                    assert found.leader_epoch == engine.watermarks(P0).leader_epoch
                assert await engine.offset_for_time(P0, BASE + 501) is None
                assert await engine.offset_for_time(P1, BASE + 0) is None
                assert place(await engine.offset_of_max_timestamp(P0)) == (6, 500)
                assert await engine.offset_of_max_timestamp(P1) is None

        self.run(story)

    @pytest.mark.parametrize("compression", list(Compression))
    def test_what_lies_before_the_log_start_is_of_no_time(self, compression: Compression) -> None:
        """Also where the log start lies inside a batch whose largest timestamp is before it."""

        async def story() -> None:
            async with self.running() as engine:
                await put(engine, compression, [100, 900, 300, 500, 400], [450, 200])
                assert place(await engine.offset_of_max_timestamp(P0)) == (1, 900)
                assert await engine.delete_before(P0, Offset(2)) == 2
                assert place(await engine.offset_of_max_timestamp(P0)) == (3, 500)
                assert place(await engine.offset_for_time(P0, BASE + 0)) == (2, 300)
                assert place(await engine.offset_for_time(P0, BASE + 301)) == (3, 500)
                assert await engine.offset_for_time(P0, BASE + 600) is None
                assert await engine.delete_before(P0, Offset(4)) == 4
                assert place(await engine.offset_of_max_timestamp(P0)) == (5, 450)
                assert place(await engine.offset_for_time(P0, BASE + 401)) == (5, 450)
                assert await engine.delete_before(P0, Offset(7)) == 7
                assert await engine.offset_of_max_timestamp(P0) is None
                assert await engine.offset_for_time(P0, BASE + 0) is None

        self.run(story)

    @pytest.mark.parametrize("compression", [Compression.NONE, Compression.LZ4])
    def test_under_log_append_time_every_record_has_the_time_of_its_batch(self, compression: Compression) -> None:
        async def story() -> None:
            async with self.running() as engine:
                for arrival in (1000, 2000, 2000):
                    batch = batch_of("a", "b", "c", timestamps=[BASE + 5, BASE + 9000, BASE + 7], compression=compression)
                    header = stamp_log_append_time(batch, read_header(batch), BASE + arrival)
                    await appended(engine, [Append(P0, memoryview(batch), header)])
                assert place(await engine.offset_for_time(P0, BASE + 0)) == (0, 1000)
                assert place(await engine.offset_for_time(P0, BASE + 1001)) == (3, 2000)
                assert await engine.offset_for_time(P0, BASE + 2001) is None
                assert place(await engine.offset_of_max_timestamp(P0)) == (3, 2000)
                await engine.delete_before(P0, Offset(4))
                assert place(await engine.offset_for_time(P0, BASE + 1001)) == (4, 2000)
                assert place(await engine.offset_of_max_timestamp(P0)) == (4, 2000)

        self.run(story)

    @pytest.mark.parametrize("seed", range(3))
    def test_any_history_is_searched_as_a_plain_list_is(self, seed: int) -> None:
        async def story() -> None:
            entropy = SeededEntropy(seed)
            async with self.running() as engine:
                flat: list[int] = []
                for _ in range(20):
                    times = [entropy.below(40) for _ in range(1 + entropy.below(4))]
                    flat += times
                    await put(engine, list(Compression)[entropy.below(5)], times)
                start = 0
                for _ in range(4):
                    left = range(start, len(flat))
                    for asked in range(41):
                        found = await engine.offset_for_time(P0, BASE + asked)
                        assert (found and found.offset) == next((at for at in left if flat[at] >= asked), None)
                    newest = max(left, key=lambda at: (flat[at], -at))
                    assert place(await engine.offset_of_max_timestamp(P0)) == (newest, flat[newest])
                    start += entropy.below(len(flat) // 4)
                    await engine.delete_before(P0, Offset(start))

        self.run(story)
