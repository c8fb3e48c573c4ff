"""JoinGroup: what each version adds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from riverlog.state.access import DenyAll
from riverlog.testing.group_driver import subscription
from riverlog.testing.group_world import GroupWorld, group_world


def run(story: Callable[[GroupWorld], Awaitable[None]]) -> None:
    async def play() -> None:
        async with group_world() as world:
            await asyncio.wait_for(story(world), 20)

    asyncio.run(play())


@pytest.mark.parametrize("version", range(10))
def test_a_first_member_leads(version: int) -> None:
    async def story(world: GroupWorld) -> None:
        joined = await world.join(version)
        assert (joined.error_code, joined.generation_id, joined.protocol_name) == (0, 1, "range")
        assert joined.leader == joined.member_id
        assert joined.protocol_type == ("consumer" if version >= 7 else None)
        assert [(one.member_id, one.metadata) for one in joined.members] == [(joined.member_id, subscription("t"))]
        assert not joined.skip_assignment

    run(story)


@pytest.mark.parametrize("version", range(10))
def test_an_id_is_given_first_from_version_4_on(version: int) -> None:
    async def story(world: GroupWorld) -> None:
        request = JoinGroupRequest(
            group_id="g",
            session_timeout_ms=10_000,
            rebalance_timeout_ms=60_000 if version >= 1 else -1,
            protocol_type="consumer",
            protocols=[JoinGroupRequestProtocol(name="range", metadata=b"")],
        )
        answer = await world.ask(ApiKey.JOIN_GROUP, version, request)
        assert answer.error_code == (ErrorCode.MEMBER_ID_REQUIRED if version >= 4 else 0)
        assert answer.member_id.startswith("riverlog-")

    run(story)


@pytest.mark.parametrize("version", range(10))
def test_refusals(version: int) -> None:
    async def story(world: GroupWorld) -> None:
        for fields, code in (
            ({"group_id": ""}, ErrorCode.INVALID_GROUP_ID),
            ({"session_timeout_ms": 5}, ErrorCode.INVALID_SESSION_TIMEOUT),
            ({"member_id": "nobody"}, ErrorCode.UNKNOWN_MEMBER_ID),
            ({"protocols": []}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        ):
            joined = await world.join(version, **fields)  # type: ignore[arg-type]
            assert joined.error_code == code
            assert joined.protocol_name == (None if version >= 7 else "")
            assert joined.generation_id == -1
        world.topics.access = DenyAll()
        assert (await world.join(version)).error_code == ErrorCode.GROUP_AUTHORIZATION_FAILED

    run(story)


def test_in_version_0_the_session_time_out_is_that_of_the_rebalance() -> None:
    async def story(world: GroupWorld) -> None:
        await world.join(0)
        (member,) = world.groups._machines.runners["g"].machine.side.membership
        assert member.rebalance_timeout_ms == 10_000

    run(story)


@pytest.mark.parametrize(("version", "skips"), [(8, False), (9, True)])
def test_a_static_leader_that_comes_back(version: int, skips: bool) -> None:
    async def story(world: GroupWorld) -> None:
        before = await world.stable(group_instance_id="i")
        joined = await world.join(version, group_instance_id="i")
        assert (joined.error_code, joined.generation_id) == (0, before.generation)
        assert joined.skip_assignment is skips
        assert joined.leader == (joined.member_id if skips else before.member_id)
        assert [one.group_instance_id for one in joined.members] == (["i"] if skips else [])

    run(story)


def test_a_reason_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def story(world: GroupWorld) -> None:
        await world.join(9, reason="need to revoke")

    with caplog.at_level("DEBUG", logger="riverlog"):
        run(story)
    assert "need to revoke" in caplog.text
