"""The few things of the contract that do something."""

from __future__ import annotations

from riverlog.base.ids import Offset, Position
from riverlog.storage.contract import NO_SLICES, Fetched, FetchedPartition, FileRegion, Slices


def test_slices_are_released_once() -> None:
    released: list[str] = []
    slices = Slices((b"abc",), 3, lambda: released.append("released"))
    slices.close()
    slices.close()
    assert released == ["released"]
    NO_SLICES.close()


def test_a_fetch_closes_all_that_it_holds() -> None:
    released: list[int] = []
    partitions = [
        FetchedPartition(
            Slices((FileRegion(3, Position(0), 10, True),), 10, lambda at=at: released.append(at)),  # type: ignore[misc]
            Offset(1),
            Offset(1),
            Offset(0),
        )
        for at in range(2)
    ]
    fetched = Fetched(partitions, 20)
    fetched.close()
    fetched.close()
    assert released == [0, 1]
