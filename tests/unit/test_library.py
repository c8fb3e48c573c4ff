"""`riverlog.Broker`: a Kafka port inside a Python program, up quickly and gone without a trace."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from pathlib import Path
from statistics import median
from urllib.request import urlopen

import pytest

import riverlog
from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.records.builder import build_batch
from riverlog.records.record import NewRecord
from riverlog.testing.kafka_client import KafkaClient


def produce(broker: riverlog.Broker, topic: str) -> int:
    """Writes one record; gives its offset."""
    with KafkaClient(broker.bootstrap_servers) as client:
        client.create_topic(topic)
        answer = client.produce(topic, build_batch([NewRecord(time.time_ns() // 1_000_000, b"k", b"v")]))
        assert answer.error_code == 0
        return answer.base_offset


def is_listening(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_it_is_up_in_a_moment() -> None:
    """After the imports: the promise is 100 ms; the bound here leaves room for a busy machine."""
    riverlog.Broker().start().stop()
    seconds: list[float] = []
    for _ in range(5):
        began = time.perf_counter()
        with riverlog.Broker() as broker:
            seconds.append(time.perf_counter() - began)
            assert produce(broker, "first") == 0
    print(f"up in {median(seconds) * 1000:.1f} ms")
    assert median(seconds) < 1


def test_it_starts_stops_and_starts_again_empty() -> None:
    broker = riverlog.Broker()
    for _ in range(2):
        assert broker.start() is broker
        address = broker.bootstrap_servers
        assert produce(broker, "again") == 0
        with pytest.raises(RuntimeError, match="runs already"):
            broker.start()
        broker.stop()
        broker.stop()
        assert not is_listening(address)
        with pytest.raises(RuntimeError, match="does not run"):
            _ = broker.bootstrap_servers


def test_a_directory_keeps_what_was_written(tmp_path: Path) -> None:
    for expected in range(3):
        with riverlog.Broker(tmp_path / "data") as broker:
            assert produce(broker, "kept") == expected
    assert (tmp_path / "data" / "catalog.db").exists()


def test_a_directory_that_is_in_use_is_refused_where_it_was_asked_for(tmp_path: Path) -> None:
    with riverlog.Broker(tmp_path / "data") as first:
        with pytest.raises(RiverlogError, match=f"in use by process {os.getpid()}.*{first.bootstrap_servers}"):
            riverlog.Broker(tmp_path / "data").start()
        assert produce(first, "mine") == 0


def test_wrong_settings_are_raised_in_the_callers_thread() -> None:
    before = threading.active_count()
    broker = riverlog.Broker(settings={"num.partition": 3})
    with pytest.raises(RiverlogError, match=r"did you mean 'num\.partitions'"):
        broker.start()
    with pytest.raises(RiverlogError, match="--insecure"):
        riverlog.Broker(kafka="0.0.0.0:0").start()
    with riverlog.Broker() as first, pytest.raises(OSError, match="Address already in use"):
        riverlog.Broker(kafka=first.bootstrap_servers).start()
    assert threading.active_count() == before
    with pytest.raises(RuntimeError, match="does not run"):
        broker.create_topic("t")


def test_settings_are_python_values_under_kafkas_names() -> None:
    with riverlog.Broker(settings={"num.partitions": 3, "auto.create.topics.enable": False}) as broker:
        with KafkaClient(broker.bootstrap_servers) as client, pytest.raises(AssertionError):
            client.create_topic("unknown")
        broker.create_topic("known", 2, {"retention.ms": -1})
        with pytest.raises(RiverlogError) as caught:
            broker.create_topic("known")
        assert caught.value.kind is ErrorKind.TOPIC_EXISTS
        with pytest.raises(RiverlogError):
            broker.create_topic("other", configs={"retention.ms": "soon"})


def test_http_is_there_where_it_is_asked_for() -> None:
    with riverlog.Broker() as broker:
        assert broker.http_address is None
    with riverlog.Broker(http="127.0.0.1:0") as broker:
        with urlopen(f"http://{broker.http_address}/healthz", timeout=10) as answer:
            assert answer.read() == b"ok\n"


def test_two_brokers_in_one_process_know_nothing_of_each_other() -> None:
    with riverlog.Broker() as one, riverlog.Broker() as other:
        assert one.bootstrap_servers != other.bootstrap_servers
        assert [produce(one, "same"), produce(one, "same"), produce(other, "same")] == [0, 1, 0]


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("kept", [False, True])
def test_twenty_lives_leave_no_thread_and_no_descriptor(tmp_path: Path, kept: bool) -> None:
    directory = tmp_path / "data" if kept else None
    with riverlog.Broker(directory) as broker:
        produce(broker, "lives")
    threads, descriptors = threading.active_count(), open_descriptors()
    for _ in range(20):
        with riverlog.Broker(directory, http="127.0.0.1:0") as broker:
            produce(broker, "lives")
            with urlopen(f"http://{broker.http_address}/metrics", timeout=10) as answer:
                assert answer.read()
    assert threading.active_count() == threads
    assert open_descriptors() <= descriptors


def test_a_stop_ends_a_long_poll_and_leaves_no_complaint(caplog: pytest.LogCaptureFixture) -> None:
    from riverlog.gateways.kafka.schema.api_keys import ApiKey
    from riverlog.gateways.kafka.schema.fetch import FetchPartition, FetchRequest, FetchTopic

    broker = riverlog.Broker().start()
    with caplog.at_level(logging.INFO), KafkaClient(broker.bootstrap_servers) as client:
        client.create_topic("polled")
        topic = FetchTopic(topic="polled", partitions=[FetchPartition(partition=0, partition_max_bytes=1 << 20)])
        request = FetchRequest(max_wait_ms=60_000, min_bytes=1, max_bytes=1 << 20, session_epoch=-1, topics=[topic])
        client.send(ApiKey.FETCH, 12, request)
        began = time.monotonic()
        broker.stop()
        assert time.monotonic() - began < 3
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_stop_that_fails_says_so_to_who_stopped_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from riverlog.server.compose import Server

    broker = riverlog.Broker().start()
    whole = Server.stop

    async def failing(self: Server) -> None:
        await whole(self)
        raise OSError("the last sync failed")

    monkeypatch.setattr(Server, "stop", failing)
    with pytest.raises(OSError, match="the last sync failed"):
        broker.stop()
    monkeypatch.undo()
    with broker:
        assert produce(broker, "again") == 0
