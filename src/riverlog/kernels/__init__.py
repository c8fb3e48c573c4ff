"""Functions over buffers: the compiled ones where they were built, else their readable twin. Same names, same results.

`reference.py` is the specification, `compiled.pyx` the fast twin; one suite of tests runs on both. The choice is made
once, by whether the extension can be imported; who needs one of the two (a test, a benchmark) imports it by its name.
"""

from __future__ import annotations

from typing import Final

from riverlog.kernels.results import Batches, Fault, MalformedRecord, Spans, TimestampedDelta, WalkEnd

try:
    from riverlog.kernels.compiled import (
        encode_records,
        first_at_or_after,
        first_null_key,
        max_timestamp,
        murmur2,
        partition_for_key,
        read_varlongs,
        record_spans,
        walk_batches,
        write_varlongs,
    )
except ImportError:
    from riverlog.kernels.reference import (
        encode_records,
        first_at_or_after,
        first_null_key,
        max_timestamp,
        murmur2,
        partition_for_key,
        read_varlongs,
        record_spans,
        walk_batches,
        write_varlongs,
    )

IMPLEMENTATION: Final[str] = "reference" if murmur2.__module__.endswith(".reference") else "compiled"

__all__ = [
    "IMPLEMENTATION",
    "Batches",
    "Fault",
    "MalformedRecord",
    "Spans",
    "TimestampedDelta",
    "WalkEnd",
    "encode_records",
    "first_at_or_after",
    "first_null_key",
    "max_timestamp",
    "murmur2",
    "partition_for_key",
    "read_varlongs",
    "record_spans",
    "walk_batches",
    "write_varlongs",
]
