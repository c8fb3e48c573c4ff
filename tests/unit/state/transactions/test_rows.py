"""The bytes of a transactional id's rows: golden, there and back, and damaged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riverlog.base.errors import Corruption
from riverlog.base.ids import PartitionId, TopicId
from riverlog.state.transactions.commands import Number, Producer, TransactionState
from riverlog.state.transactions.rows import (
    Addition,
    StateCode,
    StateRow,
    add_key,
    decode_add,
    decode_state,
    encode_add,
    encode_state,
    number_of_key,
)

int16 = st.integers(-(2**15), 2**15 - 1)
int32 = st.integers(-(2**31), 2**31 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)
kept_states = st.sampled_from([TransactionState[code.name] for code in StateCode])
partitions = st.builds(PartitionId, st.binary(min_size=16, max_size=16).map(TopicId), st.integers(0, 2**31 - 1))
additions = st.builds(
    Addition, st.lists(partitions, max_size=3).map(tuple), st.lists(st.text(max_size=8), max_size=3).map(tuple)
)
state_rows = st.builds(
    StateRow,
    state=kept_states,
    producer=st.builds(Producer, int64, st.integers(0, 2**15 - 1)),
    timeout_ms=int32,
    changed_ms=int64,
    number=st.integers(0, 2**63 - 1).map(Number),
    committed=st.booleans(),
    last=st.builds(Producer, int64, int16),
    marker=st.builds(Producer, int64, int16),
    start_ms=int64,
    first=additions,
)

FIRST = Addition((PartitionId(TopicId(b"t" * 16), 3),), ("gé",))
PREPARED = StateRow(
    state=TransactionState.PREPARE_COMMIT,
    producer=Producer(7, 1),
    timeout_ms=60_000,
    changed_ms=1_700_000_000_001,
    number=Number(2),
    committed=True,
    last=Producer(7, 0),
    marker=Producer(7, 1),
    start_ms=1_700_000_000_000,
    first=FIRST,
)
FIRST_HEX = "00000001" + "74" * 16 + "00000003" + "00000001" + "00000003" + "67c3a9"


def test_golden_bytes() -> None:
    """What was written once is read for good: docs/formats/transaction-rows.md."""
    assert encode_state(PREPARED).hex() == (
        "01"
        "03"
        "01"
        "0000000000000002"
        "0000000000000007"
        "0001"
        "0000000000000007"
        "0000"
        "0000000000000007"
        "0001"
        "0000ea60"
        "0000018bcfe56800"
        "0000018bcfe56801" + FIRST_HEX
    )
    assert encode_add(FIRST).hex() == "01" + FIRST_HEX


def test_codes_of_states_stay_what_they_are() -> None:
    names = ["EMPTY", "ONGOING", "PREPARE_COMMIT", "PREPARE_ABORT", "COMPLETE_COMMIT", "COMPLETE_ABORT"]
    assert [(code.name, code.value) for code in StateCode] == list(zip(names, range(1, 7), strict=True))


@given(state_rows)
def test_state_rows_come_back(row: StateRow) -> None:
    assert decode_state("state", encode_state(row)) == row


@given(additions)
def test_additions_come_back(addition: Addition) -> None:
    assert decode_add("add/1/0", encode_add(addition)) == addition


def test_every_row_that_is_cut_short_or_goes_on_is_corrupt() -> None:
    state, add = encode_state(PREPARED), encode_add(FIRST)
    for size in range(len(state)):
        with pytest.raises(Corruption):
            decode_state("state", state[:size])
    for size in range(len(add)):
        with pytest.raises(Corruption):
            decode_add("add/1/0", add[:size])
    with pytest.raises(Corruption, match="after the end"):
        decode_state("state", state + b"\0")
    with pytest.raises(Corruption, match="after the end"):
        decode_add("add/1/0", add + b"\0")


@given(st.binary(max_size=120))
def test_any_bytes_are_a_row_or_corrupt(value: bytes) -> None:
    for known in (value, b"\x01" + value, b"\x01\x02\x00" + value):
        try:
            row = decode_state("state", known)
        except Corruption:
            continue
        assert encode_state(row) == known


@pytest.mark.parametrize(
    ("position", "byte", "what"),
    [
        (0, 2, "format 2 is not known"),
        (1, 0, "not the code of a state"),
        (1, 7, "not the code of a state"),
        (2, 2, "out of their bounds"),
        (3, 0x80, "out of their bounds"),  # the number
        (19, 0x80, "out of their bounds"),  # the epoch
        (61, 0x80, "more than the row holds"),  # partitions
        (61, 0x01, "more than the row holds"),
        (81, 0x80, "not the index of a partition"),
        (85, 0x7F, "more than the row holds"),  # groups
        (93, 0xFF, "not UTF-8"),
    ],
)
def test_damaged_rows_are_named(position: int, byte: int, what: str) -> None:
    value = bytearray(encode_state(PREPARED))
    value[position] = byte
    with pytest.raises(Corruption, match=what):
        decode_state("state", bytes(value))


def test_keys_name_their_transaction() -> None:
    assert add_key(Number(12), 3) == "add/12/3"
    assert number_of_key("add/12/3") == 12
    for key in ("add/12", "add/12/x", "add/x/1", "add/1/2/3", "add/"):
        with pytest.raises(Corruption):
            number_of_key(key)
