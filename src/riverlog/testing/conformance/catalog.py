"""What every catalog must do. Inherit from `CatalogSuite` and say how one is opened, and opened again after a stop.

Invariant of the suite: it uses nothing but the contract, so that a fake which passes it can stand for the real one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from riverlog.catalog.contract import (
    Catalog,
    CatalogUnavailable,
    Change,
    Changed,
    CommitId,
    Conflict,
    Lease,
    LeaseLost,
    Scope,
    Version,
)

TOPICS = Scope("topics", "")
GROUP = Scope("group", "g")


def commit_id(number: int) -> CommitId:
    return CommitId(number.to_bytes(16))


def put(key: str, value: bytes | None, expected: int | None = None, scope: Scope = TOPICS) -> Change:
    return Change(scope, key, value, None if expected is None else Version(expected))


async def soon(work: Awaitable[Any]) -> Any:
    """The outcome, which must come within seconds."""
    return await asyncio.wait_for(work, 10)


async def told(feed: AsyncIterator[Sequence[Changed]], count: int) -> list[tuple[int, str, bytes | None]]:
    """The next `count` changes of a feed."""
    changes: list[tuple[int, str, bytes | None]] = []
    while len(changes) < count:
        changes += [(one.version, one.key, one.value) for one in await soon(anext(feed))]
    return changes


class CatalogSuite:
    """Each test opens its own catalog, in its own loop."""

    async def open(self) -> Catalog:
        """A catalog without rows. Its lasting place is this instance's own."""
        raise NotImplementedError

    async def reopen(self, catalog: Catalog) -> Catalog:
        """The same place, after `catalog` was closed."""
        raise NotImplementedError

    def run(self, story: Callable[[Catalog], Awaitable[None]]) -> None:
        async def whole() -> None:
            catalog = await self.open()
            try:
                await asyncio.wait_for(story(catalog), 30)
            finally:
                await catalog.close()

        asyncio.run(whole())

    def test_rows_of_a_scope_come_back_with_their_versions(self) -> None:
        async def story(catalog: Catalog) -> None:
            first = await catalog.commit(commit_id(1), None, [put("a", b"1"), put("b", b"")])
            second = await catalog.commit(commit_id(2), None, [put("b", b"2")])
            assert 0 < first < second
            rows = await catalog.load(TOPICS)
            assert {key: (row.value, row.version) for key, row in rows.items()} == {
                "a": (b"1", first),
                "b": (b"2", second),
            }
            assert await catalog.load(Scope("topics", "other")) == {}

        self.run(story)

    def test_a_removed_row_is_gone(self) -> None:
        async def story(catalog: Catalog) -> None:
            lease = await catalog.own(GROUP)
            assert isinstance(lease, Lease)
            for scope, held in ((TOPICS, None), (GROUP, lease)):
                await catalog.commit(commit_id(len(scope.name)), held, [put("a", b"1", scope=scope)])
                await catalog.commit(commit_id(10 + len(scope.name)), held, [put("a", None, scope=scope)])
                assert await catalog.load(scope) == {}
            assert await catalog.scopes("topics") == []
            await catalog.commit(commit_id(99), None, [put("a", b"2", 0)])
            assert list(await catalog.load(TOPICS)) == ["a"]

        self.run(story)

    def test_scopes_of_a_kind(self) -> None:
        async def story(catalog: Catalog) -> None:
            changes = [put("x", b"", scope=Scope("group", name)) for name in ("b", "a", "")]
            await catalog.commit(commit_id(1), None, [*changes, put("x", b"")])
            assert await catalog.scopes("group") == [Scope("group", ""), Scope("group", "a"), Scope("group", "b")]
            assert await catalog.scopes("none") == []

        self.run(story)

    def test_a_commit_on_an_old_version_changes_nothing(self) -> None:
        async def story(catalog: Catalog) -> None:
            first = await catalog.commit(commit_id(1), None, [put("a", b"1", 0)])
            second = await catalog.commit(commit_id(2), None, [put("a", b"2", first)])
            for number, change in enumerate(
                [put("a", b"3", first), put("a", b"3", 0), put("a", None, first), put("none", b"3", second)]
            ):
                with pytest.raises(Conflict):
                    await catalog.commit(commit_id(10 + number), None, [put("other", b"3"), change])
            rows = await catalog.load(TOPICS)
            assert {key: row.value for key, row in rows.items()} == {"a": b"2"}

        self.run(story)

    def test_commits_asked_at_once_each_stand_for_themselves(self) -> None:
        async def story(catalog: Catalog) -> None:
            asked = [catalog.commit(commit_id(number), None, [put(f"k{number % 50}", b"", 0)]) for number in range(100)]
            outcomes = await asyncio.gather(*asked, return_exceptions=True)
            assert [type(outcome) is Conflict for outcome in outcomes] == [False] * 50 + [True] * 50
            versions = [outcome for outcome in outcomes if isinstance(outcome, int)]
            assert versions == sorted(set(versions))
            assert len(await catalog.load(TOPICS)) == 50

        self.run(story)

    def test_a_load_sees_what_was_asked_before_it(self) -> None:
        async def story(catalog: Catalog) -> None:
            commits = [catalog.commit(commit_id(number), None, [put("a", b"%d" % number)]) for number in range(10)]
            outcomes = await asyncio.gather(*commits, catalog.load(TOPICS))
            rows: Any = outcomes[-1]
            assert rows["a"].value == b"9"

        self.run(story)

    def test_a_commit_sent_again_takes_effect_once(self) -> None:
        async def story(catalog: Catalog) -> None:
            first = await catalog.commit(commit_id(1), None, [put("a", b"1", 0)])
            await catalog.commit(commit_id(2), None, [put("a", b"2", first)])
            assert await catalog.commit(commit_id(1), None, [put("a", b"1", 0)]) == first
            assert (await catalog.load(TOPICS))["a"].value == b"2"
            both = await asyncio.gather(*(catalog.commit(commit_id(3), None, [put("b", b"", 0)]) for _ in range(2)))
            assert both[0] == both[1]

        self.run(story)

    def test_a_commit_without_changes_is_a_version(self) -> None:
        async def story(catalog: Catalog) -> None:
            first = await catalog.commit(commit_id(1), None, [])
            assert await catalog.commit(commit_id(2), None, []) > first

        self.run(story)

    def test_one_commit_takes_rows_of_several_scopes_or_of_none(self) -> None:
        async def story(catalog: Catalog) -> None:
            lease = await catalog.own(GROUP)
            assert isinstance(lease, Lease)
            other = Scope("group", "h")
            version = await catalog.commit(
                commit_id(1), lease, [put("a", b"1", scope=GROUP), put("a", b"2", scope=other)]
            )
            assert (await catalog.load(GROUP))["a"] == (b"1", version)
            assert (await catalog.load(other))["a"] == (b"2", version)
            with pytest.raises(Conflict):
                changes = [put("a", b"3", scope=GROUP), put("a", b"3", 0, scope=other)]
                await catalog.commit(commit_id(2), lease, changes)
            assert (await catalog.load(GROUP))["a"].value == b"1"

        self.run(story)

    def test_a_lease_of_the_last_start_is_lost(self) -> None:
        async def story(catalog: Catalog) -> None:
            lease = await catalog.own(GROUP)
            assert isinstance(lease, Lease)
            await catalog.commit(commit_id(1), lease, [put("a", b"1", scope=GROUP)])
            await catalog.close()
            again = await self.reopen(catalog)
            try:
                with pytest.raises(LeaseLost):
                    await again.commit(commit_id(2), lease, [put("a", b"2", scope=GROUP)])
                newer = await again.own(GROUP)
                assert isinstance(newer, Lease)
                assert newer.epoch > lease.epoch
                await again.commit(commit_id(3), newer, [put("a", b"3", scope=GROUP)])
                assert (await again.load(GROUP))["a"].value == b"3"
                await again.release(newer)
            finally:
                await again.close()

        self.run(story)

    def test_rows_and_versions_go_on_after_a_stop(self) -> None:
        async def story(catalog: Catalog) -> None:
            first = await catalog.commit(commit_id(1), None, [put("a", b"\x00\xff"), put("gone", b"1")])
            second = await catalog.commit(commit_id(2), None, [put("gone", None)])
            await catalog.close()
            again = await self.reopen(catalog)
            try:
                assert await again.load(TOPICS) == {"a": (b"\x00\xff", first)}
                assert await again.commit(commit_id(3), None, [put("b", b"")]) > second
                assert [key for _, key, _ in await told(again.feed(Version(0)), 2)] == ["a", "b"]
            finally:
                await again.close()

        self.run(story)

    def test_the_feed_tells_the_past_and_then_what_comes(self) -> None:
        async def story(catalog: Catalog) -> None:
            first = await catalog.commit(commit_id(1), None, [put("a", b"1")])
            second = await catalog.commit(commit_id(2), None, [put("b", b"2"), put("c", b"3")])
            feed = catalog.feed(first)
            assert sorted(await told(feed, 2)) == [(second, "b", b"2"), (second, "c", b"3")]
            waiting = asyncio.gather(told(feed, 2), soon(catalog.load(TOPICS)))
            third = await catalog.commit(commit_id(3), None, [put("a", None)])
            fourth = await catalog.commit(commit_id(4), None, [put("d", b"")])
            changes, _ = await waiting
            assert changes == [(third, "a", None), (fourth, "d", b"")]

        self.run(story)

    def test_a_step_of_the_feed_is_whole_commits(self) -> None:
        async def story(catalog: Catalog) -> None:
            feed = catalog.feed(Version(0))
            commits = [
                catalog.commit(commit_id(number), None, [put(f"{number}-{part}", b"") for part in range(3)])
                for number in range(20)
            ]
            versions = await asyncio.gather(*commits)
            seen: list[int] = []
            while not seen or seen[-1] < versions[-1]:
                step = [change.version for change in await soon(anext(feed))]
                assert all(step.count(version) == 3 for version in step)
                seen += step
            assert seen == sorted(seen)
            assert len(seen) == 60

        self.run(story)

    def test_the_feed_knows_nothing_of_owned_scopes(self) -> None:
        async def story(catalog: Catalog) -> None:
            lease = await catalog.own(GROUP)
            assert isinstance(lease, Lease)
            feed = catalog.feed(Version(0))
            await catalog.commit(commit_id(1), lease, [put("a", b"1", scope=GROUP)])
            version = await catalog.commit(commit_id(2), None, [put("b", b"2")])
            assert await told(feed, 1) == [(version, "b", b"2")]

        self.run(story)

    def test_every_follower_is_told_also_one_that_comes_late_or_is_slow(self) -> None:
        async def story(catalog: Catalog) -> None:
            slow = catalog.feed(Version(0))
            await catalog.commit(commit_id(0), None, [put("first", b"")])
            await told(slow, 1)
            for number in range(12):
                changes = [put(f"{number}-{part}", b"") for part in range(1000)]
                await catalog.commit(commit_id(1 + number), None, changes)
            late = catalog.feed(Version(0))
            assert len({key for _, key, _ in await told(slow, 12_000)}) == 12_000
            assert len({key for _, key, _ in await told(late, 12_001)}) == 12_001

        self.run(story)

    def test_a_follower_is_told_of_every_removal_however_many(self) -> None:
        async def story(catalog: Catalog) -> None:
            slow = catalog.feed(Version(0))
            version = await catalog.commit(commit_id(0), None, [put(f"{n}", b"") for n in range(3000)])
            await told(slow, 3000)
            for number in range(30):
                rows = [put(f"{n}", None) for n in range(number * 100, number * 100 + 100)]
                version = await catalog.commit(commit_id(1 + number), None, rows)
            gone = await told(slow, 3000)
            assert {key for _, key, value in gone if value is None} == {f"{n}" for n in range(3000)}
            assert gone[-1][0] == version

        self.run(story)

    def test_an_answered_commit_is_told_without_another_commit(self) -> None:
        async def story(catalog: Catalog) -> None:
            feed = catalog.feed(Version(0))
            for number in range(5):
                version = await catalog.commit(commit_id(number), None, [put("a", b"%d" % number)])
                assert await told(feed, 1) == [(version, "a", b"%d" % number)]

        self.run(story)

    def test_a_closed_catalog_ends_its_feeds_and_refuses(self) -> None:
        async def story(catalog: Catalog) -> None:
            feed = catalog.feed(Version(0))

            async def all_of_it() -> None:
                async for _ in feed:
                    pass

            following = asyncio.gather(all_of_it())
            commit = asyncio.gather(catalog.commit(commit_id(1), None, [put("a", b"1")]), return_exceptions=True)
            await commit
            await catalog.close()
            await soon(following)
            for work in (catalog.load(TOPICS), catalog.commit(commit_id(2), None, []), catalog.own(GROUP)):
                with pytest.raises(CatalogUnavailable):
                    await work
            await catalog.close()

        self.run(story)

    def test_close_waits_for_what_was_asked(self) -> None:
        async def story(catalog: Catalog) -> None:
            commits = [catalog.commit(commit_id(number), None, [put(f"{number}", b"")]) for number in range(20)]
            await asyncio.gather(*commits, catalog.close())
            again = await self.reopen(catalog)
            try:
                assert len(await again.load(TOPICS)) == 20
            finally:
                await again.close()

        self.run(story)

    def test_text_and_values_of_every_kind(self) -> None:
        async def story(catalog: Catalog) -> None:
            scope = Scope("group", "naïve 群 \x00 '; DROP TABLE rows; --")
            key, value = "é/\x00/" + "k" * 500, bytes(range(256)) * 4096
            lease = await catalog.own(scope)
            assert isinstance(lease, Lease)
            await catalog.commit(commit_id(1), lease, [put(key, value, scope=scope)])
            assert (await catalog.load(scope))[key].value == value
            assert await catalog.scopes("group") == [scope]

        self.run(story)
