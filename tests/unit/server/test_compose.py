"""A server in this process: what a start that fails leaves behind, what a stop waits for, what it tells clients of itself."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import PartitionId, TopicName
from riverlog.broker.transaction_session import Records
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from riverlog.gateways.kafka.schema.metadata import MetadataRequest
from riverlog.records.record import NewRecord
from riverlog.server.compose import Server, drain_seconds_max
from riverlog.server.settings import ServerSettings, load
from riverlog.state.access import LIBRARY_CALLER
from riverlog.state.transactions.commands import TransactionState
from riverlog.testing.kafka_client import KafkaClient


def settings(directory: Path | None = None, **others: str) -> ServerSettings:
    values = {"listeners": "PLAINTEXT://127.0.0.1:0", "riverlog.http.listener": "127.0.0.1:0"}
    if directory is not None:
        values["log.dirs"] = str(directory)
    return load(None, values | {name.replace("_", "."): value for name, value in others.items()})


def serving(story: Callable[[Server], Awaitable[None]], chosen: ServerSettings, *, in_memory: bool = True) -> None:
    async def run() -> None:
        server = await Server.start(chosen, in_memory=in_memory)
        try:
            await story(server)
        finally:
            await server.stop()

    asyncio.run(run())


def advertised(server: Server) -> tuple[str, int]:
    """What a client is told."""
    with KafkaClient(server.kafka.text) as client:
        (broker,) = client.ask(ApiKey.METADATA, 12, MetadataRequest(topics=[])).brokers
        return broker.host, broker.port


def test_clients_are_told_the_address_that_they_came_in_by() -> None:
    async def story(server: Server) -> None:
        assert await asyncio.to_thread(advertised, server) == ("127.0.0.1", server.kafka.port)

    serving(story, settings())


def test_an_advertised_address_overrules_and_port_0_means_the_one_that_it_came_in_by() -> None:
    async def story(server: Server) -> None:
        assert await asyncio.to_thread(advertised, server) == ("broker.example", server.kafka.port)

    serving(story, settings(advertised_listeners="PLAINTEXT://broker.example:0"))


def test_the_lock_file_names_process_and_addresses(tmp_path: Path) -> None:
    async def story(server: Server) -> None:
        assert server.http is not None
        said = json.loads((tmp_path / "data" / "riverlog.lock").read_text())
        assert said == {
            "pid": os.getpid(),
            "addresses": {"kafka": server.kafka.text, "http": server.http.text},
        }

    serving(story, settings(tmp_path / "data"), in_memory=False)


def test_a_start_that_fails_at_its_last_step_lets_everything_go(tmp_path: Path) -> None:
    """The port is taken: the directory is free again, no descriptor is left, and the next start is a clean one."""

    async def run() -> None:
        first = await Server.start(settings(), in_memory=True)
        chosen = settings(tmp_path / "data", listeners=f"PLAINTEXT://{first.kafka.text}")
        with pytest.raises(OSError, match="Address already in use"):
            await Server.start(chosen)
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(OSError, match="Address already in use"):
            await Server.start(chosen)
        assert len(os.listdir("/proc/self/fd")) == before
        await first.stop()
        second = await Server.start(chosen)
        counters = second.broker.engine.counters  # type: ignore[attr-defined]  # of the local engine
        assert counters.recovered_partitions == 0
        await second.stop()

    asyncio.run(run())


def test_a_topic_is_made_or_refused() -> None:
    async def story(server: Server) -> None:
        await server.create_topic(LIBRARY_CALLER, "made", 3, {})
        assert server.broker.topics.by_name["made"].partition_count == 3
        with pytest.raises(RiverlogError) as caught:
            await server.create_topic(LIBRARY_CALLER, "made", 3, {})
        assert caught.value.kind is ErrorKind.TOPIC_EXISTS

    serving(story, settings())


def test_a_stop_does_not_wait_for_a_group_that_waits_for_its_members() -> None:
    """A first member that waits in JoinGroup for others would be in flight for as long as the group likes: it is told to
    ask again."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await Server.start(settings(group_initial_rebalance_delay_ms="60000"), in_memory=True)
        client = await asyncio.to_thread(KafkaClient, server.kafka.text)
        with client:
            protocol = JoinGroupRequestProtocol(name="range", metadata=b"\0\0")
            request = JoinGroupRequest(
                group_id="waiting",
                session_timeout_ms=30_000,
                rebalance_timeout_ms=60_000,
                member_id="",
                protocol_type="consumer",
                protocols=[protocol],
            )
            client.send(ApiKey.JOIN_GROUP, 3, request)
            while not server.gateway.busy:
                await asyncio.to_thread(lambda: None)
            began = loop.time()
            await server.stop()
            assert loop.time() - began < drain_seconds_max / 2
            assert client.receive().error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
            assert client.is_hung_up()

    asyncio.run(run())


def test_a_start_ends_the_transactions_that_took_too_long_and_keeps_those_that_were_committed(tmp_path: Path) -> None:
    async def partition(server: Server) -> PartitionId:
        return PartitionId(server.broker.topics.by_name[TopicName("t")].topic_id, 0)

    async def begin(server: Server) -> None:
        await server.create_topic(LIBRARY_CALLER, "t", 1, {})
        session = await server.broker.transactions.session(LIBRARY_CALLER, "done", 60_000)
        session.begin()
        await session.append([Records("t", 0, [NewRecord(server.broker.clock.now_ms())])])
        await session.commit()
        orphan = await server.broker.transactions.session(LIBRARY_CALLER, "orphan", 1)
        orphan.begin()
        try:
            await orphan.append([Records("t", 0, [NewRecord(server.broker.clock.now_ms())])])
        except RiverlogError:
            pass  # it has timed out already

    async def look(server: Server) -> None:
        woken = asyncio.Event()
        place = await partition(server)
        subscription = server.broker.engine.subscribe([place], woken.set)
        while (marks := server.broker.engine.watermarks(place)).last_stable_offset < marks.log_end:
            woken.clear()
            await woken.wait()
        subscription.close()
        done, orphan = await server.broker.transactions.describe(LIBRARY_CALLER, ["done", "orphan"])
        assert done.state in (TransactionState.PREPARE_COMMIT, TransactionState.COMPLETE_COMMIT)
        assert orphan.state in (TransactionState.PREPARE_ABORT, TransactionState.COMPLETE_ABORT)

    serving(begin, settings(tmp_path / "data"), in_memory=False)
    serving(look, settings(tmp_path / "data"), in_memory=False)
