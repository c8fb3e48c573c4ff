"""What the HTTP port serves: /metrics and /healthz."""

from __future__ import annotations

import logging
import resource
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from riverlog.env.sockets import Transport
from riverlog.gateways.http.metrics import Family, Sample, metrics_page
from riverlog.gateways.http.session import Answer, HttpSession, plain
from riverlog.gateways.kafka.schema.api_keys import ApiKey

if TYPE_CHECKING:
    from riverlog.server.compose import Server


log = logging.getLogger(__name__)


def http_session(server: Server, transport: Transport) -> HttpSession:
    pages = {"/metrics": lambda: metrics(server), "/healthz": lambda: health(server)}
    clock = server.broker.clock
    return HttpSession(transport, pages, server.tasks, clock.monotonic_ms(), lambda text: complain(server, text))


def complain(server: Server, text: str) -> None:
    """Of all connections together, seldom: a Kafka client that was given this port connects again and again."""
    if (others := server.http_complaints.due(server.broker.clock.monotonic_ms())) is not None:
        log.info("http: %s (%d others before it). Here is /metrics; Kafka clients want the other port", text, others)


def metrics(server: Server) -> Answer:
    return metrics_page(server.broker, lambda: _process(server), request_name)


def request_name(api_key: int) -> str:
    """As Kafka writes it: `OffsetCommit`."""
    return ApiKey(api_key).name.title().replace("_", "")


def health(server: Server) -> Answer:
    """200 as long as records can be taken; 503 names what is wrong."""
    if server.failures.happened.is_set():
        return plain(503, f"failed: {server.failures.message}\n")
    counters = getattr(server.broker.engine, "counters", None)
    offline = getattr(counters, "offline_partitions", 0)
    if offline:
        return plain(503, f"{offline} partitions are offline: see the log, and `riverlog verify`\n")
    return plain(200, "ok\n")


def _process(server: Server) -> Iterator[Family]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = usage.ru_utime + usage.ru_stime
    yield Family("process_cpu_seconds_total", "counter", "CPU time, user and system.", [Sample({}, cpu)])
    yield Family("process_resident_memory_bytes", "gauge", "Resident memory.", [Sample({}, _resident_bytes())])
    yield Family("process_threads", "gauge", "Threads.", [Sample({}, threading.active_count())])
    yield Family(
        "kafka_server_socket_server_metrics_connection_count", "gauge", "Open connections.",
        [Sample({"listener": listener.name}, len(listener.transports)) for listener in server.listeners],
    )  # fmt: skip
    yield Family(
        "kafka_server_socket_server_metrics_connection_creation_total", "counter", "Accepted connections.",
        [Sample({"listener": listener.name}, listener.accepted) for listener in server.listeners],
    )  # fmt: skip
    telemetry = server.broker.telemetry
    yield Family(
        "riverlog_protocol_errors_total", "counter", "Connections closed for what their peers sent.",
        [Sample({}, telemetry.protocol_errors)],
    )  # fmt: skip
    yield Family(
        "riverlog_internal_errors_total", "counter", "Requests that failed by a fault of ours; the log has each.",
        [Sample({}, telemetry.internal_errors)],
    )  # fmt: skip


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
