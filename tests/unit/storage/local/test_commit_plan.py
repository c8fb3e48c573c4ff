"""How a commit is planned and shared."""

from __future__ import annotations

from riverlog.base.units import KIB
from riverlog.storage.local.commit_plan import PendingBytes, Way, plan_commit, run_bytes_max, share_work

S, J = Way.SEGMENTS, Way.JOURNAL
SMALL = PendingBytes(4 * KIB, 1)


def test_every_partition_gets_a_way() -> None:
    assert plan_commit([], 3) == []
    assert plan_commit([SMALL], 3) == [S]
    assert plan_commit([SMALL] * 1000, 3) == [J] * 1000


def test_few_files_are_synced_where_they_are() -> None:
    assert plan_commit([SMALL] * 2, 3) == [S] * 2
    assert plan_commit([SMALL] * 3, 3) == [J] * 3
    assert plan_commit([PendingBytes(4 * KIB, 3)], 3) == [J]  # rolled, or with names
    assert plan_commit([SMALL], 1) == [J]


def test_long_runs_are_synced_beside_a_journal_of_short_ones() -> None:
    long = PendingBytes(run_bytes_max, 1)
    assert plan_commit([SMALL, long, SMALL, SMALL], 3) == [J, S, J, J]
    assert plan_commit([long] * 100, 3) == [S] * 100
    assert plan_commit([SMALL, long, SMALL], 3) == [S] * 3


def test_many_bytes_in_few_files_are_not_written_twice() -> None:
    middling = PendingBytes(200 * KIB, 1)
    assert plan_commit([middling] * 50, 3) == [S] * 50
    assert plan_commit([PendingBytes(40 * KIB, 1)] * 50, 3) == [J] * 50


def test_what_must_be_synced_is() -> None:
    assert plan_commit([SMALL, SMALL, SMALL, PendingBytes(0, 1, True)], 3) == [J, J, J, S]


def test_what_a_settling_has_synced_needs_no_journal() -> None:
    assert plan_commit([SMALL, SMALL, SMALL, PendingBytes(10, 0)], 3) == [J, J, J, S]


def test_without_a_journal_everything_is_synced() -> None:
    assert plan_commit([SMALL] * 100, 0) == [S] * 100


def test_work_is_shared_evenly_and_whole() -> None:
    assert share_work(0, 4) == []
    assert share_work(3, 8) == [range(0, 1), range(1, 2), range(2, 3)]
    for count in range(1, 40):
        for threads in range(1, 10):
            shares = share_work(count, threads)
            assert [at for share in shares for at in share] == list(range(count))
            sizes = {len(share) for share in shares}
            assert max(sizes) - min(sizes) <= 1
            assert 0 not in sizes
            assert len(shares) <= threads
