"""What a crash leaves of the simulated machine's catalog."""

from __future__ import annotations

import pytest

from riverlog.catalog.contract import Change, CommitId, MaybeCommitted, Scope, Version
from riverlog.env.entropy import SeededEntropy
from riverlog.testing.simulation.catalog import CatalogPlace, SimulatedCatalog, outcome
from riverlog.testing.simulation.loop import SimulatedLoop, Time

TOPICS = Scope("topics", "")


async def put(catalog: SimulatedCatalog, number: int) -> Version:
    return await catalog.commit(CommitId(number.to_bytes(16)), None, [Change(TOPICS, f"{number}", b"")])


def killed(seed: int, callbacks: int) -> tuple[set[int], set[int]]:
    """What was answered, and what is there after a process was killed amid ten commits, one after another."""
    place, answered = CatalogPlace(), set[int]()

    async def story() -> None:
        catalog = place.open(SeededEntropy(seed))
        for number in range(10):
            await put(catalog, number)
            answered.add(number)

    loop = SimulatedLoop(Time(), SeededEntropy(seed))
    loop.callbacks_left = callbacks
    loop.live(story())
    place.crash(SeededEntropy(seed))
    rows = outcome(place.rows.load(TOPICS))
    assert not isinstance(rows, Exception)
    return answered, {int(key) for key in rows}


def test_what_was_answered_is_there_and_what_was_under_way_perhaps() -> None:
    more = set()
    for seed in range(20):
        for callbacks in range(2, 40, 3):
            answered, there = killed(seed, callbacks)
            assert answered <= there <= set(range(len(answered) + 1))
            more.add(len(there) - len(answered))
    assert more == {0, 1}


def test_a_lost_reply_is_asked_for_again_by_its_id() -> None:
    place = CatalogPlace()

    async def story() -> None:
        catalog = place.open(SeededEntropy(1))
        place.rows.lost_replies = 1
        with pytest.raises(MaybeCommitted):
            await put(catalog, 1)
        assert await put(catalog, 1) == 1
        assert list(await catalog.load(TOPICS)) == ["1"]
        await catalog.close()

    SimulatedLoop(Time(), SeededEntropy(1)).live(story())
