"""One group: whose offsets stay whatever its members speak. Classic members: `test_classic.py`, `test_rebalance.py`."""

from __future__ import annotations

from riverlog.base.errors import ErrorKind
from riverlog.base.ids import PartitionId, TopicId
from riverlog.state.groups.commands import (
    CommitPending,
    CommittedOffset,
    DeleteGroup,
    EndPending,
    FetchedOffsets,
    FetchOffsets,
    Result,
)
from riverlog.testing.group_driver import GroupDriver

T0 = PartitionId(TopicId(b"t" * 16), 0)


def pending(driver: GroupDriver, number: int, offset: int, generation: int = -1, member_id: str = "") -> Result:
    token = driver.token()
    committed = CommittedOffset(offset, -1, "", driver.now.wall_ms)
    driver.send(CommitPending(token, "tx", number, member_id, None, generation, {T0: committed}))
    return driver.answers[token]


def ended(driver: GroupDriver, number: int, committed: bool) -> Result:
    token = driver.token()
    driver.send(EndPending(token, "tx", number, committed))
    return driver.answers[token]


def fetched(driver: GroupDriver, require_stable: bool = True) -> FetchedOffsets:
    token = driver.token()
    driver.send(FetchOffsets(token, None, require_stable))
    result = driver.answers[token]
    assert isinstance(result, FetchedOffsets)
    return result


class TestPendingOffsets:
    def test_they_count_once_the_transaction_is_committed(self) -> None:
        driver = GroupDriver()
        assert pending(driver, 1, 5) is None
        assert driver.machine.exists
        assert (fetched(driver).committed, list(fetched(driver).unstable)) == ({}, [T0])
        assert not fetched(driver, require_stable=False).unstable
        driver.reload()
        assert list(fetched(driver).unstable) == [T0]
        assert ended(driver, 1, True) is None
        assert ended(driver, 1, True) is None
        assert (fetched(driver).committed[T0].offset, list(fetched(driver).unstable)) == (5, [])

    def test_they_go_with_an_aborted_one(self) -> None:
        driver = GroupDriver()
        pending(driver, 1, 5)
        ended(driver, 1, False)
        assert not driver.machine.exists
        assert not driver.rows

    def test_who_names_a_generation_must_be_of_it(self) -> None:
        driver = GroupDriver()
        assert pending(driver, 1, 5, generation=1, member_id="c-1") is ErrorKind.ILLEGAL_GENERATION
        (a,) = driver.stable(1)
        assert pending(driver, 1, 5, generation=1, member_id=a) is None
        assert pending(driver, 1, 5, generation=2, member_id=a) is ErrorKind.ILLEGAL_GENERATION
        assert pending(driver, 1, 5, generation=1, member_id="x") is ErrorKind.UNKNOWN_MEMBER_ID
        assert pending(driver, 1, 6) is None  # a producer may leave its member out

    def test_they_go_with_the_group(self) -> None:
        driver = GroupDriver()
        pending(driver, 1, 5)
        token = driver.token()
        driver.send(DeleteGroup(token))
        assert driver.answers[token] is None
        assert not driver.rows
