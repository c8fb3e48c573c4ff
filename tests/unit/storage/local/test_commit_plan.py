"""How a commit is planned and shared."""

from __future__ import annotations

from riverlog.storage.local.commit_plan import PendingBytes, Way, plan_commit, share_work


def test_every_partition_gets_a_way() -> None:
    assert plan_commit([]) == []
    assert plan_commit([PendingBytes(1, 1), PendingBytes(1 << 30, 3)]) == [Way.SEGMENTS] * 2


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
