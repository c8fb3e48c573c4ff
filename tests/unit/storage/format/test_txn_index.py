"""Aborted transactions as Kafka writes them."""

import pytest

from riverlog.base.ids import Offset, ProducerId
from riverlog.storage.format import txn_index
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.txn_index import AbortedEntry

ENTRY = AbortedEntry(ProducerId(7), Offset(10), Offset(19), Offset(10))


def test_an_entry_has_34_bytes() -> None:
    data = txn_index.encode([ENTRY])
    assert data.hex() == "00000000000000000007000000000000000a0000000000000013000000000000000a"
    assert txn_index.decode(data) == [ENTRY]
    assert txn_index.decode(b"") == []


@pytest.mark.parametrize(
    ("data", "position"),
    [
        (txn_index.encode([ENTRY])[:-1], 0),
        (b"\x00\x01" + txn_index.encode([ENTRY])[2:], 0),
        (txn_index.encode([ENTRY, ENTRY]), 34),
        (txn_index.encode([ENTRY._replace(first_offset=Offset(20))]), 0),
    ],
)
def test_other_bytes_are_refused_with_their_place(data: bytes, position: int) -> None:
    with pytest.raises(FormatError) as raised:
        txn_index.decode(data)
    assert raised.value.position == position
