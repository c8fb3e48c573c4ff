"""Both twins of the kernels give the same results, for all records and numbers, and read nothing outside what they
are given."""

from __future__ import annotations

from array import array
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riverlog.kernels import reference
from riverlog.kernels.reference import NewRecord

INT64 = st.integers(-(2**63), 2**63 - 1)
INT32 = st.integers(-(2**31), 2**31 - 1)
DATA = st.one_of(st.none(), st.binary(max_size=40), st.binary(min_size=60, max_size=200))
RECORD = st.tuples(
    st.one_of(st.integers(-70, 70), INT64), DATA, DATA, st.lists(st.tuples(st.binary(max_size=70), DATA), max_size=3)
)
RECORDS = st.lists(RECORD, max_size=8)


@pytest.fixture(scope="module")
def compiled() -> ModuleType:
    module: ModuleType = pytest.importorskip("riverlog.kernels.compiled")
    return module


def read_back(kernels: ModuleType, data: bytes, count: int) -> list[NewRecord]:
    """The records, by the spans that the kernel found."""
    spans = kernels.record_spans(data, count)
    records: list[NewRecord] = []
    for number in range(count):
        key_start, value_start = spans.key_starts[number], spans.value_starts[number]
        key_length, value_length = spans.key_lengths[number], spans.value_lengths[number]
        headers = []
        position = spans.header_starts[number]
        for _ in range(spans.header_counts[number]):
            (length,), position = kernels.read_varlongs(data, 1, position)
            key = data[position : position + length]
            (length,), position = kernels.read_varlongs(data, 1, position + length)
            headers.append((key, None if length < 0 else data[position : position + length]))
            position += max(length, 0)
        assert position == spans.ends[number]
        records.append(
            (
                spans.timestamp_deltas[number],
                None if key_length < 0 else data[key_start : key_start + key_length],
                None if value_length < 0 else data[value_start : value_start + value_length],
                headers,
            )
        )
    return records


@pytest.mark.parametrize("name", ["reference", "compiled"])
@given(records=RECORDS, data=st.data())
@settings(derandomize=True, max_examples=150, deadline=None)
def test_what_was_encoded_is_read_back(name: str, records: list[NewRecord], data: st.DataObject) -> None:
    kernels: ModuleType = pytest.importorskip(f"riverlog.kernels.{name}")
    offset_deltas = data.draw(st.none() | st.lists(INT32, min_size=len(records), max_size=len(records)))
    encoded = kernels.encode_records(records, offset_deltas)
    assert encoded == reference.encode_records(records, offset_deltas)
    assert read_back(kernels, encoded, len(records)) == records
    expected = list(range(len(records))) if offset_deltas is None else offset_deltas
    assert list(kernels.record_spans(encoded, len(records)).offset_deltas) == expected


@pytest.mark.parametrize("name", ["reference", "compiled"])
@given(deltas=st.lists(st.integers(-(2**40), 2**40), max_size=20), base=st.integers(0, 2**41), wanted=st.integers(0, 2**42))
@settings(derandomize=True, max_examples=150, deadline=None)
def test_time_lookup_is_a_scan(name: str, deltas: list[int], base: int, wanted: int) -> None:
    kernels: ModuleType = pytest.importorskip(f"riverlog.kernels.{name}")
    records = kernels.encode_records([(delta, b"key", None, ()) for delta in deltas])
    timestamps = [base + delta for delta in deltas]
    first = next(((n, found) for n, found in enumerate(timestamps) if found >= wanted), None)
    assert kernels.first_at_or_after(records, len(deltas), base, wanted) == first
    largest = (timestamps.index(max(timestamps)), max(timestamps)) if timestamps else None
    assert kernels.max_timestamp(records, len(deltas), base) == largest


@pytest.mark.parametrize("name", ["reference", "compiled"])
@given(keys=st.lists(st.none() | st.binary(max_size=3), max_size=20))
@settings(derandomize=True, max_examples=100, deadline=None)
def test_the_first_null_key(name: str, keys: list[bytes | None]) -> None:
    kernels: ModuleType = pytest.importorskip(f"riverlog.kernels.{name}")
    records = kernels.encode_records([(0, key, b"v", ()) for key in keys])
    assert kernels.first_null_key(records, len(keys)) == (keys.index(None) if None in keys else -1)


@pytest.mark.parametrize("name", ["reference", "compiled"])
@given(values=st.lists(INT64 | st.integers(-200, 200), max_size=50), before=st.binary(max_size=5))
@settings(derandomize=True, max_examples=150, deadline=None)
def test_runs_of_numbers(name: str, values: list[int], before: bytes) -> None:
    kernels: ModuleType = pytest.importorskip(f"riverlog.kernels.{name}")
    run = kernels.write_varlongs(values)
    assert kernels.read_varlongs(before + run, len(values), len(before)) == (array("q", values), len(before + run))
    assert run == reference.write_varlongs(values)


@given(key=st.binary(max_size=100), partitions=st.integers(1, 2**31 - 1))
@settings(derandomize=True, max_examples=200, deadline=None)
def test_keys_hash_as_in_kafka_python(compiled: ModuleType, key: bytes, partitions: int) -> None:
    kafka = pytest.importorskip("kafka.partitioner.default")
    expected = kafka.murmur2(key)
    for kernels in (reference, compiled):
        assert kernels.murmur2(key) & 0xFFFFFFFF == expected & 0xFFFFFFFF
        assert kernels.partition_for_key(memoryview(key), partitions) == (expected & 0x7FFFFFFF) % partitions
