"""Writing the flights and reading them back, with `confluent-kafka` as anybody would use it. Counts; draws nothing.

Invariant: `read_back` counts each offset once. A group may be given records again after a rebalance, a log may not hold
them twice: the first is passed over, the second is counted and shows.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

from riverlog.demo.flights import Flight, Tally
from riverlog.env.clock import Clock

TOPIC: Final = "flights"
GROUP: Final = "flights-readers"
partition_count: Final = 4
flush_seconds: Final = 0.02
silence_seconds_max: Final = 30.0
answer_seconds_max: Final = 30.0
messages_at_once: Final = 2_000
log_level: Final = 2  # the clients would tell of the broker that we kill

Progress = Callable[[int], None]  # the count so far


class StreamFailed(Exception):
    """Producing or reading could not go on. The message says why."""


def create_topic(bootstrap: str) -> None:
    """History is kept for ever here (`retention.ms=-1`): by default records of 2013 would be due for removal."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient, NewTopic

    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": log_level})
    topic = NewTopic(TOPIC, num_partitions=partition_count, config={"retention.ms": "-1"})
    try:
        client.create_topics([topic])[TOPIC].result(answer_seconds_max)
    except (KafkaException, TimeoutError) as error:
        raise StreamFailed(f"the topic could not be made: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {answer_seconds_max:.0f} s"
    return f"{error.args[0].str()}"


class Writer:
    """An idempotent producer with acks=all. `write` blocks only while the client's queue is full."""

    def __init__(self, bootstrap: str) -> None:
        from confluent_kafka import Producer

        self.acknowledged = 0
        self.failed: str | None = None
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 5,
                "reconnect.backoff.max.ms": 1_000,
                "log_level": log_level,
            }
        )

    def write(self, flights: Iterable[Flight], progress: Progress) -> None:
        """Returns when every flight is acknowledged. Raises StreamFailed where one is not."""
        producer, delivered = self._producer, self._delivered
        for count, flight in enumerate(flights, 1):
            while True:
                try:
                    producer.produce(
                        TOPIC, flight.value, flight.key, timestamp=flight.timestamp_ms, on_delivery=delivered
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
            if count % 1_000 == 0:
                producer.poll(0)
                self._check()
                progress(self.acknowledged)
        while producer.flush(flush_seconds):
            self._check()
            progress(self.acknowledged)
        self._check()
        progress(self.acknowledged)

    def _delivered(self, error: Any, message: Any) -> None:
        if error is None:
            self.acknowledged += 1
        elif self.failed is None:
            self.failed = f"a flight was not acknowledged: {error.str()}"

    def _check(self) -> None:
        if self.failed is not None:
            raise StreamFailed(self.failed)


class Readers:
    """A group of consumers, one thread each, that count into one tally."""

    def __init__(self, bootstrap: str, *, clock: Clock, readers: int = 2) -> None:
        self.tally = Tally()
        self.read_by = [0] * readers
        self._bootstrap = bootstrap
        self._clock = clock
        self._next = [0] * partition_count
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._failures: list[BaseException] = []

    def read_back(self, progress: Progress) -> Tally:
        """Everything from the beginning to the end of now. Raises StreamFailed where nothing comes any more."""
        ends = self._ends()
        threads = [
            threading.Thread(target=self._guarded, args=(number,), name=f"reader-{number}")
            for number in range(len(self.read_by))
        ]
        for thread in threads:
            thread.start()
        try:
            self._watch(ends, progress)
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        progress(self.tally.count)
        return self.tally

    def _ends(self) -> list[int]:
        from confluent_kafka import KafkaException, TopicPartition
        from confluent_kafka.admin import AdminClient, OffsetSpec

        asked = {TopicPartition(TOPIC, index): OffsetSpec.latest() for index in range(partition_count)}
        client = AdminClient({"bootstrap.servers": self._bootstrap, "log_level": log_level})
        try:
            answers = client.list_offsets(asked)
            ends = {one.partition: future.result(answer_seconds_max).offset for one, future in answers.items()}
        except (KafkaException, TimeoutError) as error:
            raise StreamFailed(f"the ends of the partitions are not known: {_reason(error)}") from error
        return [ends[index] for index in range(partition_count)]

    def _watch(self, ends: list[int], progress: Progress) -> None:
        """Until the ends are reached, or nothing has come for too long."""
        seen, moved_ms = -1, self._clock.monotonic_ms()
        while self._next != ends:
            if self._failures:
                raise StreamFailed(f"a consumer failed: {self._failures[0]}")
            if self.tally.count != seen:
                seen, moved_ms = self.tally.count, self._clock.monotonic_ms()
                progress(seen)
            elif self._clock.monotonic_ms() - moved_ms > silence_seconds_max * 1000:
                raise StreamFailed(
                    f"no record came for {silence_seconds_max:.0f} s: the readers are at {self._next}, the ends are {ends}"
                )
            self._stop.wait(0.05)

    def _guarded(self, number: int) -> None:
        try:
            self._read(number)
        except Exception as error:  # whatever it is, the watcher tells it
            self._failures.append(error)

    def _read(self, number: int) -> None:
        from confluent_kafka import Consumer

        consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": GROUP,
                "auto.offset.reset": "earliest",
                "fetch.message.max.bytes": 4 << 20,
                "log_level": log_level,
            }
        )
        try:
            consumer.subscribe([TOPIC])
            while not self._stop.is_set():
                self._count(number, consumer.consume(messages_at_once, 0.1))
        finally:
            consumer.close()

    def _count(self, number: int, messages: list[Any]) -> None:
        with self._lock:
            for message in messages:
                if (error := message.error()) is not None:
                    if not error.retriable():
                        raise StreamFailed(error.str())
                    continue
                partition, offset = message.partition(), message.offset()
                if offset < self._next[partition]:
                    continue
                if offset > self._next[partition]:
                    raise StreamFailed(f"partition {partition} goes from offset {self._next[partition]} to {offset}")
                self._next[partition] = offset + 1
                key = message.key()
                self.tally.add(None if key is None else key.decode(), json.loads(message.value()))
                self.read_by[number] += 1
