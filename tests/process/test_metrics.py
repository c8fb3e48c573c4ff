"""/metrics and /healthz over HTTP: strictly Prometheus text, the names that dashboards know, the numbers of a known workload."""

from __future__ import annotations

import re
import threading
import time
from typing import Final, NamedTuple
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.heartbeat import HeartbeatRequest
from riverlog.gateways.kafka.schema.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from tests.process.serving import Serve, fetch, one_batch

NAME: Final = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
HELP: Final = re.compile(rf"# HELP (?P<name>{NAME}) \S.*")
TYPE: Final = re.compile(rf"# TYPE (?P<name>{NAME}) (?P<kind>counter|gauge)")
SAMPLE: Final = re.compile(rf"(?P<name>{NAME})(\{{(?P<labels>.*)\}})? (?P<value>-?\d+(\.\d+)?(e[+-]\d+)?)")
LABEL: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)')
Labels = frozenset[tuple[str, str]]


class Page(NamedTuple):
    kinds: dict[str, str]
    samples: dict[tuple[str, Labels], float]

    def value(self, name: str, **labels: object) -> float:
        return self.samples[name, frozenset((key, str(value)) for key, value in labels.items())]


def labels_of(text: str) -> Labels:
    found: list[tuple[str, str]] = []
    position = 0
    while position < len(text):
        match = LABEL.match(text, position)
        assert match is not None, text
        found.append((match[1], match[2]))
        position = match.end()
    assert len(dict(found)) == len(found), f"a label comes twice: {text}"
    return frozenset(found)


def parse(text: str) -> Page:
    """Raises AssertionError where a strict reader would stumble."""
    assert text.endswith("\n")
    kinds: dict[str, str] = {}
    samples: dict[tuple[str, Labels], float] = {}
    helped = current = ""
    for line in text[:-1].split("\n"):
        if (match := HELP.fullmatch(line)) is not None:
            helped = match["name"]
            assert helped not in kinds, f"{helped} is there twice"
        elif (match := TYPE.fullmatch(line)) is not None:
            current = match["name"]
            assert current == helped, f"{current} has no HELP"
            kinds[current] = match["kind"]
            assert (match["kind"] == "counter") == current.endswith("_total"), line
        else:
            match = SAMPLE.fullmatch(line)
            assert match is not None, line
            assert match["name"] == current, f"{line} stands under {current}"
            key = current, labels_of(match["labels"] or "")
            assert key not in samples, f"{line} is there twice"
            samples[key] = float(match["value"])
    return Page(kinds, samples)


def scrape(serve: Serve) -> Page:
    with urlopen(f"http://{serve.http}/metrics", timeout=20) as answer:
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        return parse(answer.read().decode())


def test_the_numbers_of_a_known_workload(serve: Serve) -> None:
    batch = one_batch(b"one", b"two", b"three")
    with serve.client() as client:
        client.create_topic("counted")
        for _ in range(4):
            assert client.produce("counted", batch).error_code == 0
        damaged = bytearray(batch)
        damaged[-1] ^= 1
        assert client.produce("counted", damaged).error_code == 2
        assert len(fetch(client, "counted", 6).records) == 6
        partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=5)
        topic = OffsetCommitRequestTopic(name="counted", partitions=[partition])
        answer = client.ask(ApiKey.OFFSET_COMMIT, 8, OffsetCommitRequest(group_id="readers", topics=[topic]))
        assert answer.topics[0].partitions[0].error_code == 0
        answer = client.ask(ApiKey.HEARTBEAT, 4, HeartbeatRequest(group_id="readers", member_id="nobody"))
        assert answer.error_code != 0
        with serve.client() as stranger:
            stranger.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert stranger.is_hung_up()
        page = scrape(serve)
        requests = "kafka_network_requestmetrics_requests_total"
        assert page.value(requests, request="Produce") == 5
        assert page.value(requests, request="Fetch") == 1
        assert page.value(requests, request="OffsetCommit") == 1
        assert page.value("kafka_network_requestmetrics_requestbytes_total", request="Produce") > 5 * len(batch)
        errors = "kafka_network_requestmetrics_errors_total"
        assert {labels: count for (name, labels), count in page.samples.items() if name == errors} == {
            frozenset({("request", "Produce"), ("error", "CORRUPT_MESSAGE")}): 1,
            frozenset({("request", "Heartbeat"), ("error", "UNKNOWN_MEMBER_ID")}): 1,
        }
        of_topics = "kafka_server_brokertopicmetrics_"
        assert page.value(f"{of_topics}messagesin_total", topic="counted") == 12
        assert page.value(f"{of_topics}bytesin_total", topic="counted") == pytest.approx(4 * len(batch), abs=48)
        assert page.value(f"{of_topics}bytesout_total", topic="counted") == 2 * len(batch)
        assert page.value(f"{of_topics}totalproducerequests_total", topic="counted") == 5
        assert page.value(f"{of_topics}failedproducerequests_total", topic="counted") == 1
        assert page.value("kafka_log_log_size", topic="counted", partition=0) == 4 * len(batch)
        assert page.value("kafka_log_log_logstartoffset", topic="counted", partition=0) == 0
        assert page.value("kafka_log_log_logendoffset", topic="counted", partition=0) == 12
        assert page.value("kafka_log_log_numlogsegments", topic="counted", partition=0) == 1
        assert page.value("kafka_consumergroup_current_offset", group="readers", topic="counted", partition=0) == 5
        assert page.value("kafka_consumergroup_lag", group="readers", topic="counted", partition=0) == 7
        assert page.value("riverlog_engine_commits_total") >= 4
        assert page.value("riverlog_engine_unsynced_bytes") == 0
        assert page.value("riverlog_protocol_errors_total") == 1
        assert page.value("riverlog_internal_errors_total") == 0
        assert page.value("kafka_server_socket_server_metrics_connection_count", listener="kafka") == 1
        assert page.value("kafka_server_socket_server_metrics_connection_creation_total", listener="kafka") == 2
        assert 10e6 < page.value("process_resident_memory_bytes") < 200e6
        assert page.value("process_cpu_seconds_total") > 0


def test_a_server_under_load_is_scraped(serve: Serve) -> None:
    """Counters only go up, and every page is whole."""
    ending = threading.Event()
    failures: list[str] = []

    def load() -> None:
        with serve.client() as client:
            client.create_topic("loaded")
            while not ending.is_set():
                if (answer := client.produce("loaded", one_batch(b"x" * 100), acks=1)).error_code != 0:
                    failures.append(str(answer))

    threads = [threading.Thread(target=load, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        before: dict[tuple[str, Labels], float] = {}
        slowest = 0.0
        for _ in range(20):
            began = time.monotonic()
            page = scrape(serve)
            slowest = max(slowest, time.monotonic() - began)
            for key, value in before.items():
                assert page.samples[key] >= value or page.kinds[key[0]] == "gauge", key
            before = page.samples
            with urlopen(f"http://{serve.http}/healthz", timeout=10) as answer:
                assert (answer.status, answer.read()) == (200, b"ok\n")
    finally:
        ending.set()
        for thread in threads:
            thread.join(20)
    assert failures == []
    assert slowest < 2
    end = scrape(serve).value("kafka_log_log_logendoffset", topic="loaded", partition=0)
    assert end == scrape(serve).value("kafka_server_brokertopicmetrics_messagesin_total", topic="loaded") > 0


def test_other_paths_say_what_there_is(serve: Serve) -> None:
    with pytest.raises(HTTPError) as caught:
        urlopen(f"http://{serve.http}/nothing", timeout=10)
    with caught.value as answer:
        assert answer.code == 404
        assert b"/healthz, /metrics" in answer.read()


def test_damage_makes_it_unhealthy(serve: Serve) -> None:
    """A partition that is offline: the rest is served, and /healthz says so."""
    with serve.client() as client:
        client.create_topic("broken")
        for _ in range(3):
            assert client.produce("broken", one_batch(b"v" * 100)).error_code == 0
    assert serve.stop() == 0
    segment = serve.directory / "topics" / "broken-0" / f"{0:020}.log"
    segment.write_bytes(segment.read_bytes()[:50])
    serve.start()
    with pytest.raises(HTTPError) as caught:
        urlopen(f"http://{serve.http}/healthz", timeout=10)
    with caught.value as answer:
        assert answer.code == 503
        assert answer.read().startswith(b"1 partitions are offline")
    assert "broken-0 is offline" in serve.log()
    with serve.client() as client:
        client.create_topic("whole")
        assert client.produce("whole", one_batch(b"v")).error_code == 0
        assert client.produce("broken", one_batch(b"v")).error_code == 56  # KAFKA_STORAGE_ERROR
