"""The configurations of groups in the catalog: restarts, conflicts, lost replies, and the group that lives meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.broker.group_configs import SCOPE, GroupConfigs, bounds_of_broker
from riverlog.broker.settings import BrokerSettings
from riverlog.catalog.contract import Change, CommitId
from riverlog.catalog.memory import MemoryCatalog
from riverlog.env.entropy import SeededEntropy
from riverlog.env.tasks import Tasks
from riverlog.state.access import LIBRARY_CALLER, Access, AllowAll, DenyAll
from riverlog.state.group_configs import HEARTBEAT_INTERVAL, SESSION_TIMEOUT, Bounds, group_config_key
from riverlog.state.groups.commands import GroupSettings
from riverlog.state.topics import ConfigChange, ConfigOperation


@asynccontextmanager
async def following(
    catalog: MemoryCatalog, access: Access | None = None, seed: int = 1
) -> AsyncIterator[GroupConfigs]:
    """Each process of one catalog has a seed of its own."""
    configs = GroupConfigs(BrokerSettings(), catalog, SeededEntropy(seed), access or AllowAll())
    await configs.load()
    tasks = Tasks("test")
    tasks.start(configs.follow(), name="follow")
    try:
        yield configs
    finally:
        await tasks.close()


def run(story: Callable[[MemoryCatalog], Awaitable[None]]) -> None:
    async def play() -> None:
        await asyncio.wait_for(story(MemoryCatalog(late=2)), 20)

    asyncio.run(play())


def session_ms(configs: GroupConfigs, group_id: str = "g") -> int:
    return configs.applied(group_id, GroupSettings()).consumer_session_timeout_ms


async def put(configs: GroupConfigs, text: str, group_id: str = "g") -> None:
    change = ConfigChange(SESSION_TIMEOUT, ConfigOperation.SET, text)
    await configs.incremental_alter(LIBRARY_CALLER, group_id, [change])


def test_what_was_answered_holds_and_outlives_the_process() -> None:
    async def story(catalog: MemoryCatalog) -> None:
        async with following(catalog) as configs:
            told: list[str] = []
            configs.watchers.append(told.append)
            await put(configs, "50000")
            assert session_ms(configs) == 50_000
            assert told == ["g"]
            await configs.alter(LIBRARY_CALLER, "other", {HEARTBEAT_INTERVAL: "6000"})
            assert configs.visible(LIBRARY_CALLER) == ["g", "other"]
            await configs.alter(LIBRARY_CALLER, "other", {})
        async with following(catalog.reopened()) as configs:
            assert session_ms(configs) == 50_000
            assert configs.visible(LIBRARY_CALLER) == ["g"]

    run(story)


def test_two_processes_do_not_lose_each_others_changes() -> None:
    async def story(catalog: MemoryCatalog) -> None:
        async with following(catalog) as one, following(catalog, seed=2) as other:
            beat = ConfigChange(HEARTBEAT_INTERVAL, ConfigOperation.SET, "6000")
            await asyncio.gather(put(one, "50000"), other.incremental_alter(LIBRARY_CALLER, "g", [beat]))
            await put(one, "51000")
            async with following(catalog, seed=3) as third:
                applied = third.applied("g", GroupSettings())
                assert applied.consumer_session_timeout_ms == 51_000
                assert applied.consumer_heartbeat_interval_ms == 6_000

    run(story)


def test_a_lost_reply_is_asked_again_and_a_refusal_changes_nothing() -> None:
    async def story(catalog: MemoryCatalog) -> None:
        async with following(catalog) as configs:
            catalog.lost_replies = 1
            await put(configs, "50000")
            catalog.lost_requests = 1
            await put(configs, "51000")
            catalog.refusals = 1
            with pytest.raises(RiverlogError) as refused:
                await put(configs, "52000")
            assert refused.value.kind is ErrorKind.STORAGE
            catalog.conflicts = 1
            await put(configs, "53000")
            assert session_ms(configs) == 53_000

    run(story)


def test_a_row_that_cannot_be_read_leaves_the_group_its_defaults() -> None:
    async def story(catalog: MemoryCatalog) -> None:
        await catalog.commit(CommitId(b"1" * 16), None, [Change(SCOPE, group_config_key("g"), b"?")])
        async with following(catalog) as configs:
            assert session_ms(configs) == 45_000
            await put(configs, "50000", "h")
            await catalog.commit(CommitId(b"2" * 16), None, [Change(SCOPE, group_config_key("h"), b"?")])
            await put(configs, "51000", "i")
            assert session_ms(configs, "h") == 50_000  # as it was understood last

    run(story)


def test_who_may_not_is_told_so() -> None:
    async def story(catalog: MemoryCatalog) -> None:
        async with following(catalog, DenyAll()) as configs:
            with pytest.raises(RiverlogError) as refused:
                await put(configs, "50000")
            assert refused.value.kind is ErrorKind.UNAUTHORIZED
            with pytest.raises(RiverlogError):
                configs.describe(LIBRARY_CALLER, "g", None)
            assert configs.visible(LIBRARY_CALLER) == []
        async with following(catalog) as configs:
            with pytest.raises(RiverlogError) as refused:
                await put(configs, "50000", "g" * 10_000)
            assert refused.value.kind is ErrorKind.INVALID_GROUP_ID

    run(story)


def test_a_closed_catalog_lets_nobody_wait() -> None:
    async def story(catalog: MemoryCatalog) -> None:
        async with following(catalog) as configs:
            await put(configs, "50000")
            await catalog.close()
            with pytest.raises(RiverlogError):
                await put(configs, "51000")

    run(story)


def test_the_brokers_bounds() -> None:
    settings = BrokerSettings(group_consumer_session_timeout_ms_min=100, group_consumer_session_timeout_ms=2_000,
                              group_consumer_heartbeat_interval_ms_min=50, group_consumer_heartbeat_interval_ms=500)  # fmt: skip
    bounds = bounds_of_broker(settings)
    assert bounds_of_broker(BrokerSettings()) == Bounds()
    assert (bounds.session_timeout_ms, bounds.session_timeout_ms_min, bounds.heartbeat_interval_ms) == (2_000, 100, 500)
