"""Starting and stopping the process: its one line, who is refused, what a clean stop promises and an unclean one leaves."""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
from confluent_kafka import KafkaError, Message, Producer

import riverlog
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.api_versions import ApiVersionsRequest
from riverlog.gateways.kafka.schema.metadata import MetadataRequest, MetadataRequestTopic
from tests.process.serving import (
    QUIET,
    READY,
    Serve,
    fetch_request,
    one_batch,
    read_all,
    refused,
    run_until_it_ends,
    seen,
)


def leader_epoch(serve: Serve, topic: str) -> int:
    with serve.client() as client:
        request = MetadataRequest(topics=[MetadataRequestTopic(name=topic)], allow_auto_topic_creation=False)
        epoch: int = client.ask(ApiKey.METADATA, 12, request).topics[0].partitions[0].leader_epoch
        return epoch


def metric(serve: Serve, name: str) -> float:
    with urlopen(f"http://{serve.http}/metrics", timeout=10) as page:
        text = page.read().decode()
    match = re.search(rf"^{name} (\S+)$", text, re.M)
    assert match is not None, name
    return float(match[1])


def test_the_ready_line(serve: Serve) -> None:
    match = READY.fullmatch(serve.ready_line)
    assert match is not None
    assert match["version"] == riverlog.__version__
    assert match["data"] == str(serve.directory)
    assert 0 < float(match["seconds"]) <= serve.started_seconds + 0.05
    for address in (match["kafka"], match["http"]):
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), timeout=5).close()
    assert serve.log() == "", "a start without trouble says nothing more"


def test_a_second_process_is_told_who_has_the_directory(serve: Serve) -> None:
    code, said = refused(serve.directory)
    assert code == 1
    assert said.count("\n") == 1
    for one in (str(serve.directory), f"process {serve.pid}", f"kafka on {serve.address}", f"http on {serve.http}"):
        assert one in said
    assert json.loads((serve.directory / "riverlog.lock").read_text())["pid"] == serve.pid
    with serve.client() as client:
        assert client.ask(ApiKey.API_VERSIONS, 3, ApiVersionsRequest()).error_code == 0


@pytest.mark.parametrize("option", ["--kafka", "--http"])
def test_listening_to_the_world_needs_a_word(tmp_path: Path, option: str) -> None:
    code, said = run_until_it_ends("serve", "--data-dir", str(tmp_path / "data"), option, "0.0.0.0:0")
    assert code == 2
    assert said.count("\n") == 1
    assert "--insecure" in said
    assert not (tmp_path / "data").exists()


def test_a_port_in_use_is_one_line(serve: Serve, tmp_path: Path) -> None:
    code, said = refused(tmp_path / "other", kafka=serve.address)
    assert code == 1
    assert said == (
        f"riverlog: cannot listen on {serve.address}: Address already in use: "
        "stop who listens there, or give another port (0: a free one)\n"
    )


def test_without_assertions_it_does_not_start(tmp_path: Path) -> None:
    code, said = refused(tmp_path / "data", interpreter=["-O"])
    assert code != 0
    assert said.count("\n") == 1
    assert "PYTHONOPTIMIZE" in said


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, said = refused(tmp_path / "file" / "data")
    assert code == 1
    assert said.count("\n") == 1
    assert str(tmp_path / "file") in said


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(tmp_path: Path, how: signal.Signals) -> None:
    """The long poll in flight is answered; the next start recovers nothing and keeps the leader epoch."""
    with Serve(tmp_path / "data") as serve:
        with serve.client() as client, serve.client() as idle:
            client.create_topic("clean")
            assert client.produce("clean", one_batch(b"one")).error_code == 0
            before = leader_epoch(serve, "clean")
            client.send(ApiKey.FETCH, 12, fetch_request("clean", 1, wait_ms=60_000))
            time.sleep(0.1)  # so that it is parked; answered all the same where it is not
            began = time.monotonic()
            assert serve.stop(how) == 0
            assert time.monotonic() - began < 4
            got = seen(client.receive().responses[0].partitions[0], 1)
            assert got.error_code == 0
            assert got.records == []
            assert client.is_hung_up()
            assert idle.is_hung_up()
        serve.start()
        assert leader_epoch(serve, "clean") == before
        assert metric(serve, "riverlog_engine_recovered_partitions_total") == 0
        with serve.client() as client:
            assert read_all(client, "clean") == [(0, b"one")]
        assert serve.log() == ""


def test_an_unclean_stop_is_recovered_from(tmp_path: Path) -> None:
    with Serve(tmp_path / "data") as serve:
        with serve.client() as client:
            client.create_topic("torn")
            for number in range(10):
                assert client.produce("torn", one_batch(b"%d" % number)).error_code == 0
        before = leader_epoch(serve, "torn")
        serve.kill()
        segment = serve.directory / "topics" / "torn-0" / f"{0:020}.log"
        whole = segment.read_bytes()
        segment.write_bytes(whole + whole[:50])  # a write that the power cut short
        serve.start()
        assert leader_epoch(serve, "torn") > before
        assert metric(serve, "riverlog_engine_recovered_partitions_total") == 1
        with serve.client() as client:
            assert read_all(client, "torn") == [(number, b"%d" % number) for number in range(10)]
            assert client.produce("torn", one_batch(b"more")).base_offset == 10
        assert "cut 50 bytes" in serve.log()


def test_a_clean_stop_with_a_producer_in_flight_loses_nothing(tmp_path: Path) -> None:
    failures: list[str] = []
    acknowledged: list[int] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            failures.append(error.str())
        else:
            acknowledged.append(int(message.value() or b"-1"))

    with Serve(tmp_path / "data") as serve:
        with serve.client() as client:
            client.create_topic("moving")
        producer = Producer(
            {"bootstrap.servers": serve.address, "enable.idempotence": True, "reconnect.backoff.max.ms": 100},
            logger=QUIET,
        )
        ending = threading.Event()

        def load() -> None:
            number = 0
            while not ending.is_set():
                while len(producer) > 5_000:
                    producer.poll(0.01)
                producer.produce("moving", b"%d" % number, on_delivery=delivered)
                number += 1
                producer.poll(0.001 if number % 50 == 0 else 0)

        thread = threading.Thread(target=load, daemon=True)
        thread.start()
        try:
            for _ in range(3):
                count, until = len(acknowledged), time.monotonic() + 20
                while len(acknowledged) < count + 500:
                    assert time.monotonic() < until, "no progress"
                    time.sleep(0.01)
                assert serve.stop() == 0
                serve.start()
        finally:
            ending.set()
            thread.join(10)
        assert producer.flush(30) == 0
        assert failures == []
        assert leader_epoch(serve, "moving") == 0
        with serve.client() as client:
            values = [int(value) for _, value in read_all(client, "moving")]
    assert values == sorted(acknowledged) == list(range(len(values)))


def test_a_directory_that_nobody_knows_is_put_aside_and_named(tmp_path: Path) -> None:
    with Serve(tmp_path / "data") as serve:
        with serve.client() as client:
            client.create_topic("known")
            assert client.produce("known", one_batch(b"v")).error_code == 0
        assert serve.stop() == 0
        stranger = serve.directory / "topics" / "stranger-0"
        stranger.mkdir()
        (stranger / f"{0:020}.log").write_bytes(b"something of somebody's")
        serve.start()
        moved = serve.directory / "orphans" / "stranger-0"
        assert (moved / f"{0:020}.log").read_bytes() == b"something of somebody's"
        assert not stranger.exists()
        assert str(moved) in serve.log()
        with serve.client() as client:
            assert read_all(client, "known") == [(0, b"v")]
