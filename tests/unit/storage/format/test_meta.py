"""What a data directory is."""

import json

import pytest

from riverlog.base.ids import NodeId
from riverlog.records.checksum import crc32c
from riverlog.storage.format import meta
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.meta import Meta

META = Meta("sBq9yE0sT1e4gEhcUzjYxA", NodeId(0), 3)


def test_it_is_json_for_people() -> None:
    data = meta.encode(META)
    value = {"format_version": 1, "cluster_id": META.cluster_id, "node_id": 0, "starts": 3}
    crc = crc32c((json.dumps(value, indent=2) + "\n").encode())
    assert json.loads(data) == {**value, "crc32c": f"{crc:08x}"}
    assert meta.decode(data) == META


def test_without_its_checksum_it_is_read_as_the_first_release_wrote_it() -> None:
    value = {"format_version": 1, "cluster_id": META.cluster_id, "node_id": 0, "starts": 3}
    assert meta.decode(json.dumps(value, indent=2).encode()) == META
    assert meta.decode(json.dumps(value).encode()) == META
    with pytest.raises(FormatError, match="not known: crc32d"):
        meta.decode(json.dumps({**value, "crc32d": "00000000"}).encode())


def test_every_flipped_bit_is_found() -> None:
    data = meta.encode(META)
    for at in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << at % 8
        with pytest.raises(FormatError):
            meta.decode(flipped)


def test_a_later_format_says_what_to_do() -> None:
    with pytest.raises(FormatError, match="use the riverlog that wrote it"):
        meta.decode(meta.encode(META._replace(format_version=2)))


@pytest.mark.parametrize(
    "change",
    [{"starts": -1}, {"starts": "1"}, {"starts": True}, {"cluster_id": ""}, {"cluster_id": 1}, {"node_id": 2**31}],
)
def test_other_values_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(FormatError, match=f"no {next(iter(change))}"):
        meta.decode(json.dumps(json.loads(meta.encode(META)) | change).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b"{}", b"1" * 10_000])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        meta.decode(data)
