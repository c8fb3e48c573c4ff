"""The process at its limits: connections, bytes in flight, unsynced bytes, slow readers. Memory is asked of the kernel."""

from __future__ import annotations

import os
import re
import resource
import selectors
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.request import urlopen

import pytest

from riverlog.base.units import MIB
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.api_versions import ApiVersionsRequest
from riverlog.gateways.kafka.schema.create_topics import CreatableTopic, CreateTopicsRequest
from riverlog.gateways.kafka.wire import encode_request
from riverlog.testing.kafka_client import KafkaClient
from tests.process.serving import Serve, fetch, fetch_request, one_batch, read_all

idle_connection_count: Final = 10_000
ABORT: Final = struct.pack("ii", 1, 0)  # SO_LINGER: leave no port behind in TIME_WAIT


@contextmanager
def open_files(count: int) -> Iterator[None]:
    """Lets this process open that many; skips where the system does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count:
        pytest.skip(f"the hard limit on open files is {hard}, {count} are needed: raise it (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def peak_bytes(serve: Serve) -> int:
    """The most memory that it ever had resident."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{serve.pid}/status").read_text())
    assert match is not None
    return int(match[1]) * 1024


def make_topic(client: KafkaClient, name: str, partitions: int) -> None:
    topic = CreatableTopic(name=name, num_partitions=partitions, replication_factor=1)
    answer = client.ask(ApiKey.CREATE_TOPICS, 5, CreateTopicsRequest(topics=[topic], timeout_ms=10_000))
    assert answer.topics[0].error_code == 0


def seconds_of_a_round_trip(client: KafkaClient, topic: str) -> float:
    """Writes a record with acks=all, and reads it."""
    began = time.monotonic()
    answer = client.produce(topic, one_batch(b"prompt"))
    assert answer.error_code == 0
    assert fetch(client, topic, answer.base_offset).records == [(answer.base_offset, b"prompt")]
    return time.monotonic() - began


@pytest.mark.slow
def test_ten_thousand_idle_connections(serve: Serve) -> None:
    """Each has said hello once, as clients do."""
    with open_files(idle_connection_count + 500), serve.client() as client:
        client.create_topic("beside")
        before = serve.resident_bytes()
        hello = encode_request(ApiKey.API_VERSIONS, 0, 1, "idle", ApiVersionsRequest())
        host, _, port = serve.address.rpartition(":")
        idle: list[socket.socket] = []
        began = time.monotonic()
        try:
            for _ in range(idle_connection_count):
                one = socket.create_connection((host, int(port)), timeout=20)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
                one.sendall(hello)
                idle.append(one)
            for one in idle:
                assert one.recv(4)
            seconds = time.monotonic() - began
            grown = serve.resident_bytes() - before
            print(f"{len(idle)} connections in {seconds:.1f} s: {before / MIB:.0f} MiB and {grown / MIB:.0f} MiB more")
            assert grown < 300e6
            assert seconds_of_a_round_trip(client, "beside") < 2
        finally:
            for one in idle:
                one.close()
        until = time.monotonic() + 20
        while not re.search(r'connection_count\{listener="kafka"\} 1\n', metrics(serve)):
            assert time.monotonic() < until, "connections that are gone are still counted"
            time.sleep(0.05)


def metrics(serve: Serve) -> str:
    with urlopen(f"http://{serve.http}/metrics", timeout=20) as page:
        text: str = page.read().decode()
        return text


@pytest.mark.parametrize("limit", ["max.connections", "max.connections.per.ip"])
def test_a_connection_too_many_is_closed_and_named(tmp_path: Path, limit: str) -> None:
    with Serve(tmp_path / "data", f"{limit}=3") as serve:
        clients = [serve.client() for _ in range(3)]
        for client in clients:
            assert client.ask(ApiKey.API_VERSIONS, 0, ApiVersionsRequest()).error_code == 0
        with serve.client() as refused:
            assert refused.is_hung_up()
        assert f"{limit} is reached" in serve.log()
        clients.pop().close()
        until = time.monotonic() + 10
        while True:
            with serve.client() as client:
                try:
                    assert client.ask(ApiKey.API_VERSIONS, 0, ApiVersionsRequest()).error_code == 0
                    break
                except ConnectionError:  # the server has not seen yet that one is gone
                    assert time.monotonic() < until, "a place that came free is not given again"
        for client in clients:
            client.close()


class Flood:
    """Many connections that send at once what they have, and count what is answered."""

    def __init__(self, serve: Serve, frame: bytes, *, connections: int, frames_each: int) -> None:
        self.frame = memoryview(frame)
        self.to_send = connections * frames_each
        self.answered = 0
        self.selector = selectors.DefaultSelector()
        host, _, port = serve.address.rpartition(":")
        for _ in range(connections):
            one = socket.create_connection((host, int(port)))
            one.setblocking(False)
            place = {"left": frames_each, "position": 0, "in": bytearray()}
            self.selector.register(one, selectors.EVENT_READ | selectors.EVENT_WRITE, place)

    def run(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self.answered < self.to_send:
            assert time.monotonic() < until, f"{self.answered} of {self.to_send} were answered"
            for key, events in self.selector.select(1):
                one, place = key.fileobj, key.data
                assert isinstance(one, socket.socket)
                if events & selectors.EVENT_READ:
                    self._read(one, place)
                if events & selectors.EVENT_WRITE:
                    self._write(one, place)

    def _write(self, one: socket.socket, place: dict[str, int]) -> None:
        try:
            place["position"] += one.send(self.frame[place["position"] :])
        except BlockingIOError:
            return
        if place["position"] == len(self.frame):
            place["position"] = 0
            place["left"] -= 1
            if not place["left"]:
                self.selector.modify(one, selectors.EVENT_READ, place)

    def _read(self, one: socket.socket, place: dict[str, bytearray]) -> None:
        data = one.recv(65_536)
        assert data, "the server has hung up"
        place["in"] += data
        while len(place["in"]) >= 4 and len(place["in"]) >= 4 + (size := int.from_bytes(place["in"][:4], "big")):
            del place["in"][: 4 + size]
            self.answered += 1

    def close(self) -> None:
        for key in list(self.selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self.selector.close()


@pytest.mark.slow
def test_many_large_requests_at_once_wait_for_each_other(tmp_path: Path) -> None:
    """50 connections with frames of 4 MB each: the memory that requests take is that of queued.max.request.bytes."""
    with Serve(tmp_path / "data", f"queued.max.request.bytes={16 * MIB}") as serve:
        with serve.client() as client:
            make_topic(client, "bulk", 4)
            batch = one_batch(b"x" * 1_000_000)
            request = client.produce_request("bulk", [(partition, batch) for partition in range(4)])
            frame = encode_request(ApiKey.PRODUCE, 9, 1, "flood", request)
            assert client.produce("bulk", batch).error_code == 0
            before = serve.resident_bytes()
            flood = Flood(serve, frame, connections=50, frames_each=2)
            try:
                flood.run(60)
            finally:
                flood.close()
            grown = peak_bytes(serve) - before
            print(f"100 requests of {len(frame) / MIB:.1f} MiB on 50 connections: {grown / MIB:.0f} MiB more at most")
            assert grown < 64 * MIB
            got = fetch(client, "bulk", 0, partition=3)
            assert got.high_watermark == 100


@pytest.mark.slow
def test_half_a_frame_does_not_hold_up_the_others_for_ever(tmp_path: Path) -> None:
    """Connections that announce large frames and send no more than the start have all of the memory there is for
    requests; who sends whole ones gets on all the same."""
    with Serve(tmp_path / "data", f"queued.max.request.bytes={4 * MIB}") as serve, serve.client() as client:
        client.create_topic("beside")
        stuck = [serve.client() for _ in range(20)]
        for one in stuck:
            one.socket.sendall(struct.pack(">i", 50_000_000) + bytes(struct.pack(">hhih", 0, 9, 1, -1)) + bytes(300_000))
        for _ in range(5):
            assert seconds_of_a_round_trip(client, "beside") < 5
            assert client.produce("beside", one_batch(b"y" * 900_000)).error_code == 0
        for one in stuck:
            one.close()
        assert seconds_of_a_round_trip(client, "beside") < 5


@pytest.mark.slow
def test_reading_waits_for_the_disk(tmp_path: Path) -> None:
    """acks=1 as fast as the wire carries: what is not synced yet stays near riverlog.unsynced.bytes.max."""
    with Serve(tmp_path / "data", f"riverlog.unsynced.bytes.max={MIB}") as serve, serve.client() as client:
        client.create_topic("ahead")
        frame = encode_request(
            ApiKey.PRODUCE, 9, 1, "flood", client.produce_request("ahead", [(0, one_batch(b"x" * 100_000))], acks=1)
        )
        flood = Flood(serve, frame, connections=4, frames_each=250)
        thread = threading.Thread(target=flood.run, args=(60,), daemon=True)
        thread.start()
        most = 0
        while thread.is_alive():
            match = re.search(r"^riverlog_engine_unsynced_bytes (\d+)$", metrics(serve), re.M)
            assert match is not None
            most = max(most, int(match[1]))
        flood.close()
        assert flood.answered == 1_000
        print(f"at most {most / MIB:.2f} MiB were not synced")
        assert 0 < most < 2 * MIB
        until = time.monotonic() + 10
        while fetch(client, "ahead", 1_000).high_watermark < 1_000:
            assert time.monotonic() < until


def forget_pages(directory: Path) -> None:
    """Drops the files of a directory from the page cache, so that reading them needs the disk."""
    for path in directory.glob("*.log"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fdatasync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


@pytest.mark.slow
@pytest.mark.parametrize("state", ["in the page cache", "on the disk"])
def test_who_does_not_read_its_answers_costs_no_memory_and_holds_up_nobody(serve: Serve, state: str) -> None:
    """100 MB are asked for over and over, and not read. The tail goes on meanwhile."""
    with serve.client() as client, serve.client() as lazy:
        client.create_topic("old")
        client.create_topic("beside")
        for _ in range(110):
            assert client.produce("old", one_batch(b"x" * 1_000_000), acks=1).error_code == 0
        assert seconds_of_a_round_trip(client, "old") < 5
        if state == "on the disk":
            forget_pages(serve.directory / "topics" / "old-0")
        before = serve.resident_bytes()
        for number in range(200):
            lazy.send(ApiKey.FETCH, 12, fetch_request("old", number % 100, bytes_max=50 * MIB))
        worst = max(seconds_of_a_round_trip(client, "beside") for _ in range(50))
        grown = peak_bytes(serve) - before
        print(f"{state}: {grown / MIB:.0f} MiB more, the slowest round trip beside it {worst * 1000:.0f} ms")
        assert worst < 2
        assert grown < 300 * MIB
        for number in range(8):  # read at last: every answer is whole
            (part,) = lazy.receive().responses[0].partitions
            assert part.error_code == 0
            assert part.records[:8] == struct.pack(">q", number % 100)


def test_idle_connections_are_closed_and_waiting_ones_are_not(tmp_path: Path) -> None:
    with Serve(tmp_path / "data", "connections.max.idle.ms=400") as serve:
        with serve.client() as idle, serve.client() as polling:
            idle.create_topic("quiet")
            polling.send(ApiKey.FETCH, 12, fetch_request("quiet", 0, wait_ms=1_500))
            began = time.monotonic()
            assert idle.is_hung_up()
            assert 0.3 < time.monotonic() - began < 5
            assert polling.receive().responses[0].partitions[0].error_code == 0
            assert time.monotonic() - began > 1.2
            assert polling.is_hung_up()
        with serve.client() as client:
            for number in range(10):
                client.produce("quiet", one_batch(b"%d" % number))
                time.sleep(0.08)
            assert len(read_all(client, "quiet")) == 10
