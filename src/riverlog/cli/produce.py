"""`riverlog produce`: lines of a file or of stdin become records.

Invariant: exit 0 means that every line was acknowledged."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

from riverlog.base.limits import request_bytes_max
from riverlog.base.units import INT32_MAX
from riverlog.cli.client import configuration, explain, explained
from riverlog.cli.errors import DONE, WRONG_USE, CommandError, say
from riverlog.cli.output import print_json
from riverlog.cli.shape import MalformedRecord, NewRecord, from_json

flush_seconds_max: Final = 120.0
goodbye_seconds_max: Final = 5.0  # after Ctrl-C
COMPRESSIONS: Final = ("none", "gzip", "snappy", "lz4", "zstd")


def produce(
    topic: str, source: str, separator: str | None, partition: int | None, compression: str, bootstrap: str, json: bool
) -> int:
    """`source` is a file's name, or `-`. With `json` lines are records as `consume --json` prints them."""
    if json and separator is not None:
        raise CommandError("--json lines have keys of their own: leave -K out", WRONG_USE)
    if separator == "":
        raise CommandError("-K needs a separator, such as -K :", WRONG_USE)
    if partition is not None and not 0 <= partition <= INT32_MAX:
        raise CommandError(f"-p {partition}: give a partition's number, 0 or more; without -p the key decides", WRONG_USE)
    if compression not in COMPRESSIONS:
        raise CommandError(f"-z {compression}: give one of {', '.join(COMPRESSIONS)}", WRONG_USE)
    with _opened(source) as lines:
        delivery = _Delivery(topic, partition, compression, bootstrap)
        try:
            for record in _records(lines, separator.encode() if separator else None, json):
                delivery.send(record)
        except KeyboardInterrupt:
            delivery.finish(goodbye_seconds_max)
            raise
        except CommandError:
            delivery.finish()
            raise
        delivery.finish()
    if json:
        print_json({"topic": topic, "records": delivery.acknowledged})
    elif sys.stderr.isatty():
        say(f"{delivery.acknowledged:,} records in topic {topic}")
    return DONE


class _Delivery:
    """The producer and what came of its records. The first that fails ends the command."""

    def __init__(self, topic: str, partition: int | None, compression: str, bootstrap: str) -> None:
        from confluent_kafka import Producer

        self.topic = topic
        self.bootstrap = bootstrap
        self.placed: dict[str, Any] = {} if partition is None else {"partition": partition}
        self.acknowledged = 0
        self.failed: str | None = None
        self.told_of_loss = False
        settings = configuration(bootstrap, **{
            "enable.idempotence": True,
            "compression.type": compression,
            "partitioner": "murmur2_random",  # as the Java client places keys
            "message.max.bytes": request_bytes_max,  # so that the broker's limit is the one that counts
            "message.timeout.ms": round(flush_seconds_max * 1000),
            "error_cb": self.on_error,
        })  # fmt: skip
        with explained(bootstrap):
            self.producer = Producer(settings)

    def send(self, record: NewRecord) -> None:
        more = self.placed if record.timestamp_ms is None else {**self.placed, "timestamp": record.timestamp_ms}
        while True:
            try:
                self.producer.produce(
                    self.topic,
                    record.value,
                    record.key,
                    headers=list(record.headers) or None,
                    on_delivery=self.delivered,
                    **more,
                )
                break
            except BufferError:  # the client's queue is full: let it send
                self.producer.poll(0.5)
        self.producer.poll(0)
        self.check()

    def finish(self, seconds_max: float = flush_seconds_max) -> None:
        left = self.producer.flush(seconds_max)
        self.check()
        if left:
            raise CommandError(f"{left:,} records were not acknowledged within {seconds_max:.0f} s")

    def on_error(self, error: Any) -> None:
        """The client's own troubles: it goes on trying until the records' time is over, and says so once."""
        from confluent_kafka import KafkaError

        if not self.told_of_loss and error.code() in (KafkaError._RESOLVE, KafkaError._ALL_BROKERS_DOWN):
            self.told_of_loss = True
            say(f"{error.str()}: trying for {flush_seconds_max:.0f} s (Ctrl-C ends)")

    def delivered(self, error: Any, message: Any) -> None:
        if error is None:
            self.acknowledged += 1
        elif self.failed is None:
            self.failed = explain(error, self.bootstrap)

    def check(self) -> None:
        if self.failed is not None:
            self.producer.purge()
            raise CommandError(f"{self.failed} ({self.acknowledged:,} records were acknowledged)")


def _records(lines: BinaryIO, separator: bytes | None, json: bool) -> Iterator[NewRecord]:
    for number, ended in enumerate(lines, 1):
        line = ended.removesuffix(b"\n")
        if json:
            if not line.strip():
                continue
            try:
                yield from_json(line)
            except MalformedRecord as error:
                raise CommandError(f"line {number}: {error}") from error
        elif separator is None:
            yield NewRecord(None, line, None, ())
        else:
            key, found, value = line.partition(separator)
            if not found:
                raise CommandError(f"line {number} has no separator {separator.decode()!r} between key and value")
            yield NewRecord(key, value, None, ())


@contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    if source == "-":
        yield sys.stdin.buffer
        return
    try:
        file = open(source, "rb")  # noqa: SIM115 - closed below; the error belongs to the opening alone
    except OSError as error:
        raise CommandError(f"cannot read {source}: {error.strerror}") from error
    with file:
        yield file
