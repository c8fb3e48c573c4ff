"""Incremental fetch sessions: epochs, what is told again, fairness, the limit."""

from __future__ import annotations

from itertools import count

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.gateways.kafka.fetch_sessions import FetchSessions, Told, Wanted


def sessions(limit: int = 2) -> FetchSessions:
    numbers = count(10)
    return FetchSessions(limit, lambda bound: next(numbers))


def wanted(topic: str, index: int, offset: int = 0) -> Wanted:
    return Wanted(topic, index, -1, offset, -1, 1000)


def test_the_epoch_must_be_the_next_one() -> None:
    cache = sessions()
    session = cache.open()
    assert cache.resume(session.id, 1).epoch == 2
    for epoch in (1, 3):
        with pytest.raises(RiverlogError) as caught:
            cache.resume(session.id, epoch)
        assert caught.value.kind is ErrorKind.INVALID_FETCH_SESSION_EPOCH
    assert cache.resume(session.id, 2) is session


def test_an_unknown_or_closed_session_is_refused() -> None:
    cache = sessions()
    session = cache.open()
    cache.close(session.id)
    with pytest.raises(RiverlogError) as caught:
        cache.resume(session.id, 1)
    assert caught.value.kind is ErrorKind.FETCH_SESSION_NOT_FOUND


def test_only_what_changed_is_told() -> None:
    session = sessions().open()
    session.update([wanted("a", 0), wanted("a", 1)], ())
    assert session.changed(("a", 0), Told(5, 0), size=0, failed=False), "never told before"
    assert not session.changed(("a", 0), Told(5, 0), size=0, failed=False)
    assert session.changed(("a", 0), Told(6, 0), size=0, failed=False), "the high watermark moved"
    assert session.changed(("a", 0), Told(6, 1), size=0, failed=False), "the log start moved"
    assert session.changed(("a", 0), Told(6, 1), size=0, failed=True)
    assert session.changed(("a", 0), Told(6, 1), size=0, failed=False), "well again: told again"


def test_who_got_data_goes_to_the_end() -> None:
    session = sessions().open()
    session.update([wanted("a", 0), wanted("a", 1), wanted("b", 0)], ())
    session.changed(("a", 0), Told(1, 0), size=100, failed=False)
    assert list(session.wanted) == [("a", 1), ("b", 0), ("a", 0)]


def test_partitions_are_updated_in_place_and_forgotten() -> None:
    session = sessions().open()
    session.update([wanted("a", 0), wanted("a", 1)], ())
    session.update([wanted("a", 0, offset=7)], [("a", 1)])
    assert [one.offset for one in session.wanted.values()] == [7]


def test_the_least_recently_used_goes_when_it_is_full() -> None:
    cache = sessions(limit=2)
    first, second = cache.open(), cache.open()
    cache.resume(first.id, 1)
    cache.open()
    assert len(cache) == 2
    assert cache.evicted == 1
    cache.resume(first.id, 2)
    with pytest.raises(RiverlogError):
        cache.resume(second.id, 1)


def test_no_slots_means_no_session() -> None:
    cache = sessions(limit=0)
    assert cache.open().id == 0
    assert len(cache) == 0


def test_all_sessions_together_remember_a_limited_number_of_partitions() -> None:
    numbers = count(10)
    cache = FetchSessions(100, lambda bound: next(numbers), partitions_max=10)
    first = cache.open([wanted("a", at) for at in range(4)])
    second = cache.open([wanted("b", at) for at in range(4)])
    assert cache.resume(first.id, 1) is first, "so the second is the least recently used"
    third = cache.open([wanted("c", at) for at in range(5)])
    assert (len(cache), cache.partitions, cache.evicted) == (2, 9, 1)
    with pytest.raises(RiverlogError):
        cache.resume(second.id, 1)
    cache.update(third, [wanted("c", at) for at in range(4, 6)], [("c", 0)])
    assert cache.partitions == 9
    cache.update(third, [wanted("c", at) for at in range(6, 9)], ())
    assert (len(cache), cache.partitions, cache.evicted) == (1, 8, 2)
    cache.close(third.id)
    cache.close(third.id)
    assert cache.partitions == 0


def test_a_session_that_is_too_large_is_not_kept() -> None:
    numbers = count(10)
    cache = FetchSessions(100, lambda bound: next(numbers), partitions_max=3)
    large = cache.open([wanted("a", at) for at in range(4)])
    assert large.id == 0
    assert len(large.wanted) == 4, "the answer is a full one"
    assert (len(cache), cache.partitions) == (0, 0)
    growing = cache.open([wanted("a", 0)])
    with pytest.raises(RiverlogError) as caught:
        cache.update(growing, [wanted("a", at) for at in range(4)], ())
    assert caught.value.kind is ErrorKind.FETCH_SESSION_NOT_FOUND
    assert "full fetches" in caught.value.message
    assert (len(cache), cache.partitions) == (0, 0)
