"""Windows of a segment, and the files that a group becomes."""

from __future__ import annotations

from itertools import pairwise

import pytest

from riverlog.base.errors import Corruption
from riverlog.base.ids import Offset, ProducerId
from riverlog.kernels import IndexState, OffsetMap
from riverlog.records.builder import build_batch
from riverlog.records.checksum import crc32c
from riverlog.records.record import NewRecord
from riverlog.storage.compaction import LastOfProducers, Mapping, Thinning, Transactions
from riverlog.storage.format import txn_index
from riverlog.storage.format.checkpoint import ABORTED, COMPACTED
from riverlog.storage.format.offset_index import OffsetIndex
from riverlog.storage.format.time_index import TimeIndex
from riverlog.storage.format.txn_index import AbortedEntry
from riverlog.storage.local import cleaner
from riverlog.storage.local.cleaner import Windows, Writer, map_slice, state_of, thin_slice
from riverlog.testing.fakes import CrashableFiles

ABORTED_ENTRY = AbortedEntry(ProducerId(1), Offset(2), Offset(3), Offset(2))


def batch(base_offset: int, size: int = 50, time: int = 1000) -> bytes:
    return bytes(
        build_batch([NewRecord(time + base_offset, b"k%d" % base_offset, b"v" * size)], base_offset=base_offset)
    )


def files_with(content: bytes) -> CrashableFiles:
    files = CrashableFiles()
    files.make_directory("/p")
    files.open("/p/log", create=True).write_at(content, 0)
    return files


def windows_of(files: CrashableFiles, size: int) -> Windows:
    return Windows(files.open("/p/log"), "/p/log", size, bytearray())


def passes(latest: int) -> tuple[Mapping, Thinning]:
    mapping = Mapping(OffsetMap(100, bytes(16)), Offset(0), Transactions())
    thinning = Thinning(
        mapping.map,
        Offset(latest),
        Transactions(),
        LastOfProducers(),
        now_ms=0,
        delete_retention_ms=0,
        index_interval_bytes=100,
    )
    return mapping, thinning


def test_a_segment_through_both_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaner, "window_bytes", 300)
    monkeypatch.setattr(cleaner, "slice_bytes", 400)
    log = b"".join(batch(at, 900 if at == 4 else 50) for at in range(8))  # one is larger than a window
    files = files_with(log)
    mapping, thinning = passes(7)
    windows, slices = windows_of(files, len(log)), 0
    while not map_slice(windows, mapping, True).ended:
        slices += 1
    assert (mapping.latest, len(mapping.map)) == (7, 8)
    assert slices > 1
    writer = Writer(files, "/p", Offset(0), 77)
    thinning.begin_group(7)
    windows = windows_of(files, len(log))
    while not thin_slice(windows, thinning, writer, False).ended:
        pass
    (fresh,) = writer.finish(Offset(7), [ABORTED_ENTRY])
    name = "/p/00000000000000000000"
    assert files.read(name + ".log.cleaned") == log
    assert fresh.mark[:7] == (0, len(log), 7, 1007, 7, 77, COMPACTED | ABORTED)
    assert fresh.aborted == [ABORTED_ENTRY]
    sums = fresh.mark.checksums
    assert sums is not None
    assert sums.log == crc32c(log)
    index = OffsetIndex.decode(files.read(name + ".index.cleaned"), Offset(0))
    assert [(one.offset, one.position) for one in index] == [(one.offset, one.position) for one in fresh.offsets]
    assert len(index) > 2
    times = TimeIndex.decode(files.read(name + ".timeindex.cleaned"), Offset(0))
    assert times.last == (1007, 7)
    assert txn_index.decode(files.read(name + ".txnindex.cleaned")) == [ABORTED_ENTRY]
    assert writer.bases == [0]


def test_a_segment_that_grows_too_large_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaner, "window_bytes", 250)
    monkeypatch.setattr(cleaner, "INT32_MAX", 500)
    log = b"".join(batch(at) for at in range(8))
    files = files_with(log)
    mapping, thinning = passes(7)
    map_slice(windows_of(files, len(log)), mapping, True)
    writer = Writer(files, "/p", Offset(0), 0)
    thinning.begin_group(7)
    assert thin_slice(windows_of(files, len(log)), thinning, writer, True).ended
    fresh = writer.finish(Offset(7), ())
    assert len(fresh) > 1
    assert [one.mark.base_offset for one in fresh] == writer.bases
    parts = [files.read(f"/p/{base:020d}.log.cleaned") for base in writer.bases]
    assert b"".join(parts) == log
    assert all(len(part) <= 500 for part in parts)
    for one, after in pairwise(fresh):
        assert one.mark.last_offset == after.mark.base_offset - 1
        assert one.mark.max_timestamp_ms == 1000 + one.mark.last_offset
        assert all(entry.offset >= after.mark.base_offset for entry in after.offsets)


def test_a_split_leaves_each_aborted_transaction_to_the_segment_of_its_marker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaner, "INT32_MAX", 300)
    files = files_with(b"")
    writer = Writer(files, "/p", Offset(0), 0)
    entries = [ABORTED_ENTRY._replace(last_offset=Offset(last)) for last in (3, 5, 6, 9)]
    writer.write(batch(0), ())
    writer.split(Offset(5), entries[:2])  # the second marker is what did not fit any more
    writer.write(batch(5), ())
    fresh = writer.finish(Offset(9), entries[2:])
    assert [list(one.aborted) for one in fresh] == [entries[:1], entries[1:]]
    for one in fresh:
        content = files.read(f"/p/{one.mark.base_offset:020d}.txnindex.cleaned")
        assert txn_index.decode(content) == one.aborted


def test_a_file_that_is_too_short_and_a_batch_that_is_cut() -> None:
    log = batch(0) + batch(1)
    for size, content in ((len(log), log[:-1]), (len(log) - 1, log), (len(log) - 100, log)):
        files = files_with(content)
        mapping, _ = passes(1)
        with pytest.raises(Corruption) as damage:
            map_slice(windows_of(files, size), mapping, True)
        assert damage.value.path == "/p/log"


def test_the_state_of_a_new_segment() -> None:
    data = batch(3, time=5000) + batch(4, time=4999) + batch(5, time=4000)
    assert state_of(data) == IndexState(len(data), 5003, 3)
