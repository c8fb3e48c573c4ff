"""The map of keys and its hash, on both twins."""

from __future__ import annotations

from types import ModuleType

import pytest

SECRET = bytes(range(16))


@pytest.fixture(params=["offset_map", "compiled"])
def kernels(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = pytest.importorskip(f"riverlog.kernels.{request.param}")
    return module


class TestHash:
    @pytest.mark.parametrize(
        ("size", "expected"),
        [  # the vectors that come with SipHash
            (0, "a3817f04ba25a8e66df67214c7550293"),
            (1, "da87c1d86b99af44347659119b22fc45"),
            (15, "5493e99933b0a8117e08ec0f97cfc3d9"),
        ],
    )
    def test_is_siphash(self, kernels: ModuleType, size: int, expected: str) -> None:
        low, high = kernels.keyed_hash(SECRET, bytes(range(size)))
        assert (low.to_bytes(8, "little") + high.to_bytes(8, "little")).hex() == expected

    def test_every_length_as_the_readable_twin(self, kernels: ModuleType) -> None:
        from riverlog.kernels import offset_map

        for size in range(70):
            data = bytes(range(100, 100 + size))
            assert kernels.keyed_hash(SECRET, data) == offset_map.keyed_hash(SECRET, data)

    def test_checksum_is_castagnolis(self, kernels: ModuleType) -> None:
        assert kernels.checksum(b"123456789") == 0xE3069283
        assert kernels.checksum(b"") == 0

    def test_both_ways_of_the_compiled_checksum(self) -> None:
        compiled = pytest.importorskip("riverlog.kernels.compiled")
        for size in (0, 1, 7, 8, 9, 63, 64, 1000):
            data = bytes(at * 7 & 0xFF for at in range(size))
            assert compiled.checksum(data) == compiled.checksum(data, True)


class TestOffsetMap:
    def test_keeps_the_largest_offset(self, kernels: ModuleType) -> None:
        known = kernels.OffsetMap(8, SECRET)
        assert known.get(b"a") == -1
        assert known.put(b"a", 5)
        assert known.put(b"a", 3)
        assert (known.get(b"a"), len(known)) == (5, 1)
        assert known.put(memoryview(b"a"), 9)
        assert known.get(bytearray(b"a")) == 9

    def test_is_full_at_three_quarters_and_takes_known_keys_then(self, kernels: ModuleType) -> None:
        known = kernels.OffsetMap(8, SECRET)
        assert known.capacity == 6
        assert [known.put(b"%d" % at, at) for at in range(8)] == [True] * 6 + [False] * 2
        assert known.put(b"3", 100)
        assert [known.get(b"%d" % at) for at in range(8)] == [0, 1, 2, 100, 4, 5, -1, -1]
        known.clear()
        assert (len(known), known.get(b"3"), known.put(b"7", 7)) == (0, -1, True)

    def test_many_keys(self, kernels: ModuleType) -> None:
        known = kernels.OffsetMap(4001, SECRET)
        assert all(known.put(b"key-%d" % at, at) for at in range(known.capacity))
        assert all(known.get(b"key-%d" % at) == at for at in range(known.capacity))
        assert known.get(b"key") == -1

    @pytest.mark.parametrize(("slots", "secret"), [(1, SECRET), (-5, SECRET), (8, b"short")])
    def test_refuses(self, kernels: ModuleType, slots: int, secret: bytes) -> None:
        with pytest.raises(ValueError):
            kernels.OffsetMap(slots, secret)

    def test_refuses_an_offset_below_zero(self, kernels: ModuleType) -> None:
        with pytest.raises(ValueError):
            kernels.OffsetMap(8, SECRET).put(b"", -1)
