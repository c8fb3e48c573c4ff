"""The Kafka codec: `python -m benchmarks.micro.kafka_wire [--tiny]`.

Prints microseconds a call beside the target, what the imports cost, and a hash of the bytes that were made: two runs with the
same hash did the same work.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from riverlog.gateways.kafka import wire
from riverlog.gateways.kafka.connection import BufferPool, Connection
from riverlog.gateways.kafka.schema import fetch, metadata, produce
from riverlog.gateways.kafka.schema.api_keys import ApiKey

TOPIC_ID = bytes(range(16))
BATCH_BYTES = 1024


class Slices:
    """Stands for `storage.contract.Slices`: a megabyte of somebody else's."""

    size = 1 << 20


class Case(NamedTuple):
    name: str
    call: Callable[[], object]
    target_us: float | None  # of the issue; None where it has none
    made: bytes  # for the hash


def best_seconds(call: Callable[[], object], seconds: float) -> float:
    """Of one call, in the best of five runs that together take about that long."""
    call()
    started = time.perf_counter()
    call()
    number = max(1, int(seconds / 5 / max(time.perf_counter() - started, 1e-7)))
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(number):
            call()
        best = min(best, time.perf_counter() - started)
    return best / number


def joined(parts: list[wire.Part]) -> bytes:
    return b"".join(bytes(part) for part in parts if isinstance(part, (bytes, bytearray, memoryview)))


def receiving(frame: bytes) -> Callable[[], object]:
    """From the receive buffer to the decoded request, header and all."""
    buffer = memoryview(bytearray(frame))
    connection = Connection(BufferPool())

    def receive() -> object:
        return [request.decode() for request in connection.receive(buffer)]

    return receive


def produce_request(version: int) -> bytes:
    partition = produce.PartitionProduceData(index=0, records=bytes(BATCH_BYTES))
    topic = produce.TopicProduceData(name="topic", topic_id=TOPIC_ID, partition_data=[partition])
    request = produce.ProduceRequest(acks=-1, timeout_ms=30_000, topic_data=[topic])
    return wire.encode_request(ApiKey.PRODUCE, version, 1, "rdkafka", request)


def produce_response(version: int) -> bytes:
    partition = produce.PartitionProduceResponse(index=0, base_offset=5, log_start_offset=0)
    topic = produce.TopicProduceResponse(name="topic", topic_id=TOPIC_ID, partition_responses=[partition])
    return joined(wire.encode_response(ApiKey.PRODUCE, version, 1, produce.ProduceResponse(responses=[topic])))


def fetch_request(version: int) -> bytes:
    partition = fetch.FetchPartition(partition=0, fetch_offset=100, partition_max_bytes=1 << 20)
    topic = fetch.FetchTopic(topic="topic", topic_id=TOPIC_ID, partitions=[partition])
    request = fetch.FetchRequest(max_wait_ms=500, min_bytes=1, topics=[topic])
    return wire.encode_request(ApiKey.FETCH, version, 1, "rdkafka", request)


def fetch_response(version: int) -> bytes:
    partition = fetch.PartitionData(
        partition_index=0, high_watermark=9, last_stable_offset=9, log_start_offset=0, records=Slices()
    )
    topic = fetch.FetchableTopicResponse(topic="topic", topic_id=TOPIC_ID, partitions=[partition])
    return joined(wire.encode_response(ApiKey.FETCH, version, 1, fetch.FetchResponse(responses=[topic])))


def metadata_topics() -> list[metadata.MetadataResponseTopic]:
    """100 topics of 10 partitions."""
    return [
        metadata.MetadataResponseTopic(
            name=f"topic-{number}",
            topic_id=TOPIC_ID,
            partitions=[
                metadata.MetadataResponsePartition(
                    partition_index=index, leader_id=1, leader_epoch=3, replica_nodes=(1,), isr_nodes=(1,)
                )
                for index in range(10)
            ],
        )
        for number in range(100)
    ]


def metadata_response(version: int, topics: list[metadata.MetadataResponseTopic]) -> bytes:
    broker = metadata.MetadataResponseBroker(node_id=1, host="127.0.0.1", port=9092)
    response = metadata.MetadataResponse(brokers=[broker], cluster_id="cluster", controller_id=1, topics=topics)
    return joined(wire.encode_response(ApiKey.METADATA, version, 1, response))


def cases() -> Iterator[Case]:
    for version in (3, 9, 13):
        frame = produce_request(version)
        yield Case(f"Produce v{version}: decode, 1 partition, 1 KiB", receiving(frame), 10, frame)
        answer = partial(produce_response, version)
        yield Case(f"Produce v{version}: make and encode the answer", answer, 10, answer())
    for version in (4, 12, 17):
        frame = fetch_request(version)
        yield Case(f"Fetch v{version}: decode, 1 partition", receiving(frame), 15, frame)
        answer = partial(fetch_response, version)
        yield Case(f"Fetch v{version}: make and encode the answer", answer, 15, answer())
    topics = metadata_topics()
    made = metadata_response(12, topics)
    yield Case("Metadata v12: make and encode 100 x 10", lambda: metadata_response(12, metadata_topics()), 5000, made)
    yield Case("Metadata v12: encode 100 x 10", lambda: metadata_response(12, topics), 5000, made)
    kept = [
        wire.embed(metadata.MetadataResponseTopic, wire.encode_element(ApiKey.METADATA, 12, topic)) for topic in topics
    ]
    assert metadata_response(12, kept) == made
    yield Case("Metadata v12: 100 topics kept as bytes", lambda: metadata_response(12, kept), None, made)


IMPORTS = """
import base64, enum, importlib, struct, sys, time, typing, collections.abc
def resident(): return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6
def done(what):
    global started, before
    print(f"{what}: {(time.perf_counter() - started) * 1000:.1f} ms, {resident() - before:.1f} MB")
    started, before = time.perf_counter(), resident()
started, before = time.perf_counter(), resident()
from riverlog.gateways.kafka import wire
done("wire")
from riverlog.gateways.kafka.schema.api_keys import CODECS
for name in list(CODECS.values())[:45]: importlib.import_module("riverlog.gateways.kafka.schema." + name)
done("the classes of 45 api keys")
wire.load_codecs([0, 1, 3, 18])
done("the codecs of Produce, Fetch, Metadata, ApiVersions")
wire.load_codecs(list(CODECS)[:45])
done("the codecs of the other 41")
"""


def import_costs() -> str:
    """In a fresh process, with the bytecode there as after an installation."""
    with tempfile.TemporaryDirectory() as directory:
        environment = os.environ | {"PYTHONPYCACHEPREFIX": directory}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        command = [sys.executable, "-c", IMPORTS]
        subprocess.run(command, capture_output=True, check=True, env=environment)
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="each call a few times only: shows that it runs")
    options = parser.parse_args(arguments)
    digest = hashlib.sha256()
    print(f"{'':48} {'us a call':>10} {'target':>8}")
    for case in cases():
        seconds = best_seconds(case.call, 0.0 if options.tiny else 1.0)
        target = "" if case.target_us is None else f"{case.target_us:g}"
        print(f"{case.name:48} {seconds * 1e6:10.2f} {target:>8}")
        digest.update(case.made)
    if not options.tiny:
        print(import_costs(), end="")
    print(f"work {digest.hexdigest()[:16]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
