"""The raw fetch loop and the driver of one request in flight, against a broker of forty lines on a thread."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from benchmarks.peers import fetch, wire


def batch_at(offset: int, count: int) -> bytes:
    """A batch of `count` records that begins at `offset`."""
    return struct.pack(">q", offset) + wire.batch([b"v" * 20] * count, timestamp_ms=0)[8:]


def fetch_answer(version: int, data: bytes, code: int = 0) -> bytes:
    """The body of an answer for partition 0 of topic `t`, without correlation id."""
    head = struct.pack(">i", 0) + (struct.pack(">hi", 0, 0) if version >= 7 else b"")
    partition = struct.pack(">iihqq", 1, 0, code, 100, 100) + (struct.pack(">q", 0) if version >= 5 else b"")
    aborted = struct.pack(">iqq", 1, 5, 6) + (struct.pack(">i", -1) if version >= 11 else b"")
    return head + struct.pack(">i", 1) + wire.text("t") + partition + aborted + struct.pack(">i", len(data)) + data


class TinyBroker(threading.Thread):
    """Answers Produce with success and Fetch with the batch that begins at the offset asked for, else nothing."""

    def __init__(self, batches: dict[int, bytes]) -> None:
        super().__init__(name="tiny-broker", daemon=True)
        self.batches = batches
        self.produced = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.bootstrap = f"127.0.0.1:{self.listener.getsockname()[1]}"

    def run(self) -> None:
        peer, _ = self.listener.accept()
        with peer, peer.makefile("rb") as stream:
            while head := stream.read(4):
                request = stream.read(struct.unpack(">i", head)[0])
                key, version, correlation_id = struct.unpack_from(">hhi", request)
                body = self.answer(key, version, request[15:])
                peer.sendall(struct.pack(">ii", len(body) + 4, correlation_id) + body)

    def answer(self, key: int, version: int, body: bytes) -> bytes:
        match key:
            case wire.PRODUCE:
                return self.produce()
            case wire.LIST_OFFSETS:
                return struct.pack(">i", 1) + wire.text("t") + struct.pack(">iihqq", 1, 0, 0, -1, 9)
            case _:
                return self.fetch(version, body)

    def produce(self) -> bytes:
        self.produced += 1
        return struct.pack(">i", 1) + wire.text("t") + struct.pack(">iihqqi", 1, 0, 0, self.produced, -1, 0)

    def fetch(self, version: int, body: bytes) -> bytes:
        after_name = {4: 17, 11: 25}[version] + 4 + 3 + 4  # fixed fields, number of topics, "t", number of partitions
        (offset,) = struct.unpack_from(">q", body, after_name + (4 if version == 4 else 8))
        return fetch_answer(version, self.batches.get(offset, b""))


@pytest.fixture
def broker() -> Iterator[TinyBroker]:
    running = TinyBroker({0: batch_at(0, 3), 3: batch_at(3, 2) + batch_at(5, 4)[:40], 5: batch_at(5, 4)})
    running.start()
    yield running
    running.join(10)
    running.listener.close()
    assert not running.is_alive()


@pytest.mark.parametrize("version", fetch.fetch_versions)
def test_drain_follows_the_batches_and_leaves_a_cut_one_for_the_next_request(broker: TinyBroker, version: int) -> None:
    got = fetch.drain(broker.bootstrap, "t", records=9, partitions=1, version=version)
    assert (got.records, got.requests) == (9, 3)
    assert got.size_bytes == sum(len(batch_at(0, count)) for count in (3, 2, 4))


def test_drain_says_when_records_are_missing(broker: TinyBroker) -> None:
    with pytest.raises(RuntimeError, match="9 of 10 records are there"):
        fetch.drain(broker.bootstrap, "t", records=10, partitions=1)


def test_one_in_flight_warms_up_and_counts_the_rest(broker: TinyBroker) -> None:
    got = fetch.produce_one_in_flight(broker.bootstrap, "t", count=50)
    assert got.samples == 50
    assert 0 < got.p50_us <= got.p99_us
    assert broker.produced == 50 + fetch.warm_up_requests


@pytest.mark.parametrize("version", fetch.fetch_versions)
def test_an_error_in_a_fetch_answer_is_raised(version: int) -> None:
    with pytest.raises(RuntimeError, match="error 3"):
        fetch.records_span(memoryview(fetch_answer(version, b"", code=3)), version=version)
