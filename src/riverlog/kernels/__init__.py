"""Functions over buffers: the compiled ones where they were built, else their readable twin. Same names, same results.

`reference.py`, `offset_map.py`, `thinning.py` and `checking.py` are the specification, `compiled.pyx` the fast twin; one suite of
tests runs on both. The choice is made once, by whether the extension can be imported; who needs one of the two (a test, a
benchmark) imports it by its name.
"""

from __future__ import annotations

from typing import Final

from riverlog.kernels.results import (
    Batches,
    Checked,
    Fault,
    IndexState,
    MalformedRecord,
    Mapped,
    Spans,
    Thinned,
    ThinnedWindow,
    TimestampedDelta,
    WalkEnd,
    WindowEnd,
)

try:
    from riverlog.kernels.compiled import (
        OffsetMap,
        check_batches,
        encode_records,
        first_at_or_after,
        first_null_key,
        map_records,
        map_window,
        max_timestamp,
        murmur2,
        partition_for_key,
        read_varlongs,
        rebase_records,
        record_spans,
        thin_records,
        thin_window,
        walk_batches,
        write_varlongs,
    )
except ImportError:
    from riverlog.kernels.checking import check_batches
    from riverlog.kernels.offset_map import OffsetMap
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
    from riverlog.kernels.thinning import (
        map_records,
        map_window,
        rebase_records,
        thin_records,
        thin_window,
    )

IMPLEMENTATION: Final[str] = "reference" if murmur2.__module__.endswith(".reference") else "compiled"

__all__ = [
    "IMPLEMENTATION",
    "Batches",
    "Checked",
    "Fault",
    "IndexState",
    "MalformedRecord",
    "Mapped",
    "OffsetMap",
    "Spans",
    "Thinned",
    "ThinnedWindow",
    "TimestampedDelta",
    "WalkEnd",
    "WindowEnd",
    "check_batches",
    "encode_records",
    "first_at_or_after",
    "first_null_key",
    "map_records",
    "map_window",
    "max_timestamp",
    "murmur2",
    "partition_for_key",
    "read_varlongs",
    "rebase_records",
    "record_spans",
    "thin_records",
    "thin_window",
    "walk_batches",
    "write_varlongs",
]
