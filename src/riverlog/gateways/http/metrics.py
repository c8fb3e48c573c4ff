"""/metrics: Prometheus text, under the names that Kafka's own metrics usually have there, and riverlog_* for what Kafka has not.

Everything is counted elsewhere as plain ints; here they are only read. A page is made in steps of some hundred lines.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any, Final, NamedTuple

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import PartitionId
from riverlog.broker.broker import Broker
from riverlog.env.clock import Clock
from riverlog.gateways.http.session import Answer

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
lines_per_step: Final = 400


class Sample(NamedTuple):
    labels: Mapping[str, str]
    value: float


class Family(NamedTuple):
    name: str
    kind: str  # counter or gauge
    help: str
    samples: Iterable[Sample]


def metrics_page(broker: Broker, extra: Callable[[], Iterable[Family]], request_name: Callable[[int], str]) -> Answer:
    return Answer(200, CONTENT_TYPE, _pages(broker, extra, request_name))


async def _pages(
    broker: Broker, extra: Callable[[], Iterable[Family]], request_name: Callable[[int], str]
) -> AsyncIterator[bytes]:
    lines: list[str] = []
    for family in (*_families(broker, request_name), *extra()):
        lines.append(f"# HELP {family.name} {family.help}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for sample in family.samples:
            lines.append(f"{family.name}{_labels(sample.labels)} {sample.value}")
            if len(lines) >= lines_per_step:
                yield ("\n".join(lines) + "\n").encode()
                lines.clear()
                await _breathe(broker.clock)
    yield ("\n".join(lines) + "\n").encode()


async def _breathe(clock: Clock) -> None:
    await clock.sleep(0)


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    inside = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return "{" + inside + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _families(broker: Broker, request_name: Callable[[int], str]) -> Iterator[Family]:
    yield from _requests(broker, request_name)
    yield from _topics(broker)
    yield from _logs(broker)
    yield from _groups(broker)
    yield from _transactions(broker)
    yield from _engine(broker)


def _requests(broker: Broker, request_name: Callable[[int], str]) -> Iterator[Family]:
    requests = broker.telemetry.requests
    yield Family(
        "kafka_network_requestmetrics_requests_total", "counter", "Requests, by kind.",
        [Sample({"request": request_name(key)}, one.count) for key, one in requests.items()],
    )  # fmt: skip
    yield Family(
        "kafka_network_requestmetrics_requestbytes_total", "counter", "Bytes of requests, by kind.",
        [Sample({"request": request_name(key)}, one.bytes_in) for key, one in requests.items()],
    )  # fmt: skip
    yield Family(
        "kafka_network_requestmetrics_errors_total", "counter", "Errors that were answered, by kind of request.",
        [
            Sample({"request": request_name(key), "error": error}, count)
            for key, one in requests.items()
            for error, count in one.errors.items()
        ],
    )  # fmt: skip
    yield Family(
        "riverlog_delayed_requests_total", "counter", "Requests of members of groups that had to wait: they asked too often.",
        [Sample({}, broker.telemetry.delayed_requests)],
    )  # fmt: skip


TOPIC_FAMILIES: Final = (
    ("messagesin_total", "messages_in", "Records appended."),
    ("bytesin_total", "bytes_in", "Bytes appended."),
    ("bytesout_total", "bytes_out", "Bytes fetched."),
    ("totalproducerequests_total", "produces", "Partitions in produce requests."),
    ("failedproducerequests_total", "failed_produces", "Partitions in produce requests that were refused."),
    ("totalfetchrequests_total", "fetches", "Partitions in fetch requests."),
    ("failedfetchrequests_total", "failed_fetches", "Partitions in fetch requests that were refused."),
)


def _topics(broker: Broker) -> Iterator[Family]:
    by_id = broker.topics.by_id
    counted = [(by_id[key].name, one) for key, one in broker.telemetry.topics.items() if key in by_id]
    for name, attribute, text in TOPIC_FAMILIES:
        samples = [Sample({"topic": topic}, getattr(one, attribute)) for topic, one in counted]
        yield Family(f"kafka_server_brokertopicmetrics_{name}", "counter", text, samples)


def _transactions(broker: Broker) -> Iterator[Family]:
    counters = broker.telemetry.transactions
    yield Family(
        "riverlog_transactions_open", "gauge", "Transactions that are open now.",
        [Sample({}, broker.transactions.open_count())],
    )  # fmt: skip
    yield Family(
        "riverlog_transactions_total", "counter", "Transactions that were decided since the start, by outcome.",
        [Sample({"outcome": "committed"}, counters.committed), Sample({"outcome": "aborted"}, counters.aborted)],
    )  # fmt: skip
    yield Family(
        "riverlog_transactions_timed_out_total", "counter", "Transactions that were aborted for their time-out.",
        [Sample({}, counters.timed_out)],
    )  # fmt: skip


def _logs(broker: Broker) -> Iterator[Family]:
    for name, attribute, text in (
        ("size", "bytes", "Bytes of a partition's segments."),
        ("numlogsegments", "segments", "Segments of a partition."),
        ("logstartoffset", "log_start", "First offset of a partition."),
        ("logendoffset", "log_end", "Next offset of a partition."),
    ):
        yield Family(f"kafka_log_log_{name}", "gauge", text, _of_partitions(broker, attribute))


def _of_partitions(broker: Broker, attribute: str) -> Iterator[Sample]:
    for topic in list(broker.topics.by_name.values()):
        for index in range(topic.partition_count):
            try:
                size = broker.engine.size(PartitionId(topic.topic_id, index))
            except RiverlogError:
                continue  # offline, or just deleted
            yield Sample({"topic": topic.name, "partition": str(index)}, getattr(size, attribute))


def _groups(broker: Broker) -> Iterator[Family]:
    offsets: list[Sample] = []
    lags: list[Sample] = []
    for group, topic_id, index, offset in broker.groups.committed():
        topic = broker.topics.by_id.get(topic_id)
        if topic is None:
            continue
        labels = {"group": group, "topic": topic.name, "partition": str(index)}
        offsets.append(Sample(labels, offset))
        try:
            end = broker.engine.watermarks(PartitionId(topic_id, index)).high_watermark
        except RiverlogError:
            continue
        lags.append(Sample(labels, max(0, end - offset)))
    yield Family("kafka_consumergroup_current_offset", "gauge", "Committed offset of a group.", offsets)
    yield Family("kafka_consumergroup_lag", "gauge", "Records that a group has not committed yet.", lags)


def _engine(broker: Broker) -> Iterator[Family]:
    counters: Any = getattr(broker.engine, "counters", None)
    if counters is None:
        return
    gauges = {"unsynced_bytes", "offline_partitions", "dirty_ratio_max"}
    for one in fields(counters):
        kind = "gauge" if one.name in gauges else "counter"
        name = f"riverlog_engine_{one.name}" + ("" if kind == "gauge" else "_total")
        yield Family(name, kind, f"{one.name.replace('_', ' ')}.", [Sample({}, getattr(counters, one.name))])
