"""What the HTTP port says of a server: its health, and names as Kafka writes them."""

from __future__ import annotations

import asyncio
import logging

import pytest

from riverlog.broker.transaction_session import Records
from riverlog.gateways.http.session import Answer
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.records.record import NewRecord
from riverlog.server.compose import Server
from riverlog.server.http import complain, health, metrics, request_name
from riverlog.server.settings import load
from riverlog.state.access import LIBRARY_CALLER
from riverlog.testing.clock import ManualClock

SETTINGS = {"listeners": "PLAINTEXT://127.0.0.1:0", "riverlog.http.listener": "127.0.0.1:0"}


async def text_of(answer: Answer) -> str:
    return b"".join([chunk async for chunk in answer.chunks]).decode()


@pytest.mark.parametrize(
    ("key", "name"),
    [(ApiKey.PRODUCE, "Produce"), (ApiKey.OFFSET_COMMIT, "OffsetCommit"), (ApiKey.API_VERSIONS, "ApiVersions")],
)
def test_requests_have_kafkas_names(key: ApiKey, name: str) -> None:
    assert request_name(key) == name


def test_a_server_is_healthy_until_something_failed() -> None:
    async def run() -> None:
        server = await Server.start(load(None, SETTINGS), in_memory=True)
        try:
            answer = health(server)
            assert (answer.status, await text_of(answer)) == (200, "ok\n")
            server.failures.append("the catalog could not be synced")
            server.failures.append("and something else")
            answer = health(server)
            assert (answer.status, await text_of(answer)) == (503, "failed: the catalog could not be synced\n")
        finally:
            await server.stop()

    asyncio.run(run())


def test_each_family_of_the_process_is_there_once_with_all_listeners() -> None:
    async def run() -> None:
        server = await Server.start(load(None, SETTINGS), in_memory=True)
        try:
            lines = (await text_of(metrics(server))).splitlines()
        finally:
            await server.stop()
        types = [line for line in lines if line.startswith("# TYPE")]
        assert len(types) == len(set(types))
        name = "kafka_server_socket_server_metrics_connection_count"
        assert [line for line in lines if line.startswith(name)] == [
            f'{name}{{listener="kafka"}} 0',
            f'{name}{{listener="http"}} 0',
        ]

    asyncio.run(run())


def test_delayed_requests_of_members_are_counted() -> None:
    async def run() -> None:
        server = await Server.start(load(None, SETTINGS), in_memory=True)
        try:
            server.broker.telemetry.delayed_requests = 3
            lines = (await text_of(metrics(server))).splitlines()
        finally:
            await server.stop()
        assert "riverlog_delayed_requests_total 3" in lines

    asyncio.run(run())


def test_transactions_are_counted() -> None:
    async def run() -> None:
        server = await Server.start(load(None, SETTINGS), in_memory=True)
        try:
            await server.create_topic(LIBRARY_CALLER, "t", 1, {})
            session = await server.broker.transactions.session(LIBRARY_CALLER, "tx", 60_000)
            for end in (session.commit, session.abort, session.commit):
                session.begin()
                await session.append([Records("t", 0, [NewRecord(1)])])
                await end()
            session.begin()
            await session.append([Records("t", 0, [NewRecord(1)])])
            lines = (await text_of(metrics(server))).splitlines()
        finally:
            await server.stop()
        assert [line for line in lines if line.startswith("riverlog_transactions")] == [
            "riverlog_transactions_open 1",
            'riverlog_transactions_total{outcome="committed"} 2',
            'riverlog_transactions_total{outcome="aborted"} 1',
            "riverlog_transactions_timed_out_total 0",
        ]

    asyncio.run(run())


def test_a_kafka_client_on_the_http_port_is_told_of_seldom(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        server = await Server.start(load(None, SETTINGS), in_memory=True)
        clock = ManualClock()
        server.broker.clock = clock
        assert server.http is not None
        try:
            for _ in range(20):
                reader, writer = await asyncio.open_connection(server.http.host, server.http.port)
                writer.write(b"\0\0\0\x10\0\x12\0\0 no HTTP \r\n\r\n")
                assert (await reader.read()).startswith(b"HTTP/1.1 400")
                writer.close()
            clock.advance(60_000)
            complain(server, "and again")
        finally:
            await server.stop()

    with caplog.at_level(logging.INFO):
        asyncio.run(run())
    told = [record.getMessage() for record in caplog.records if record.name == "riverlog.server.http"]
    assert len(told) == 2
    assert "sent what is not HTTP" in told[0]
    assert "(0 others before it)" in told[0]
    assert "and again (19 others before it)" in told[1]
