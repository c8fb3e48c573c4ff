"""Record batches and kernels: `python -m benchmarks.micro.records [--tiny]`.

Prints a table of microseconds a call and records or bytes a second, for both twins of the kernels, and a hash of what was
computed: two runs with the same hash did the same work.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import NamedTuple

from riverlog.kernels import reference
from riverlog.records.batch import check_batch, only_batch, records_of
from riverlog.records.builder import build_batch, recompressed, stamp, stamp_log_append_time
from riverlog.records.checksum import crc32c
from riverlog.records.compression import Compression
from riverlog.records.header import read_header
from riverlog.records.record import NewRecord

VALUE_BYTES = 82  # with a key of ten bytes about 103 bytes a record


class Row(NamedTuple):
    name: str
    seconds: float  # of one call, the best of five
    records: int  # a call
    bytes: int  # a call


def best_seconds(call: Callable[[], object], seconds: float) -> float:
    """Of one call, in the best of five runs that together take about that long."""
    call()
    started = time.perf_counter()
    call()
    number = max(1, int(seconds / 5 / max(time.perf_counter() - started, 1e-7)))
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(number):
            call()
        best = min(best, time.perf_counter() - started)
    return best / number


def twins() -> Iterator[tuple[str, ModuleType]]:
    yield "reference", reference
    try:
        yield "compiled", importlib.import_module("riverlog.kernels.compiled")
    except ImportError:
        print("the compiled kernels were not built")


def kernel_rows(count: int, seconds: float) -> Iterator[Row]:
    records = [(n, b"key%07d" % n, b"v" * VALUE_BYTES, ()) for n in range(count)]
    section = reference.encode_records(records)
    small = build_batch([NewRecord(n, b"k", b"v" * 900) for n in range(1)])
    batches = bytes(small) * max(1, count // 10)
    for name, kernels in twins():
        calls: dict[str, Callable[[], object]] = {
            "record_spans": partial(kernels.record_spans, section, count),
            "first_at_or_after, the last": partial(kernels.first_at_or_after, section, count, 0, count - 1),
            "max_timestamp": partial(kernels.max_timestamp, section, count, 0),
            "first_null_key, none": partial(kernels.first_null_key, section, count),
            "encode_records": partial(kernels.encode_records, records),
        }
        for what, call in calls.items():
            yield Row(f"{what} ({name})", best_seconds(call, seconds), count, len(section))
        walked = best_seconds(partial(kernels.walk_batches, batches), seconds)
        yield Row(f"walk_batches ({name}; records are batches)", walked, len(batches) // len(small), len(batches))


def batch_rows(seconds: float) -> Iterator[Row]:
    records = [NewRecord(1000 + n, b"key%07d" % n, b"value %d " % n * 9) for n in range(165)]
    batch = build_batch(records)
    view = memoryview(batch)
    header = read_header(batch)
    calls: dict[str, Callable[[], object]] = {
        "only_batch and check_batch": lambda: check_batch(view, only_batch(view)),
        "crc32c alone": lambda: crc32c(view),
        "stamp": lambda: stamp(view, 1, 1),
        "stamp_log_append_time": lambda: stamp_log_append_time(view, header, 5),
        "records_of": lambda: list(records_of(view, header)),
        "build_batch": lambda: build_batch(records),
    }
    for codec in list(Compression)[1:]:
        packed = recompressed(batch, header, codec)
        name = codec.name.lower()
        calls[f"recompressed to {name}"] = partial(recompressed, batch, header, codec)
        calls[f"recompressed from {name}"] = partial(recompressed, packed, read_header(packed), Compression.NONE)
    for what, call in calls.items():
        yield Row(f"{what}, {len(batch) / 1024:.0f} KiB", best_seconds(call, seconds), len(records), len(batch))


def work_hash(count: int) -> str:
    """Of what the kernels computed; the same on every machine and for both twins."""
    section = reference.encode_records([(n, b"key%07d" % n, b"v" * VALUE_BYTES, ()) for n in range(count)])
    found = {b"".join(column.tobytes() for column in kernels.record_spans(section, count)) for _, kernels in twins()}
    assert len(found) == 1, "the twins differ"
    return hashlib.sha256(section + found.pop()).hexdigest()[:16]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="only show that it runs")
    tiny = parser.parse_args(arguments).tiny
    count, seconds = (50, 0.0) if tiny else (10_000, 0.5)
    print(f"{'':48} {'us/call':>10} {'M records/s':>12} {'MB/s':>8}")
    for row in (*kernel_rows(count, seconds), *batch_rows(seconds)):
        per_second = 1e-6 / row.seconds
        print(f"{row.name:48} {row.seconds * 1e6:10.2f} {row.records * per_second:12.2f} {row.bytes * per_second:8.0f}")
    print(f"work {work_hash(count)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
