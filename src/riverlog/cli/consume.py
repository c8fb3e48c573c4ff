"""`riverlog consume`: records of a topic, on stdout as they come.

Without a group it reads every partition from a place and commits nothing. In a group it shares the partitions with the
other members, begins where the group is, and commits exactly what it has printed. Invariant: with `-e` it ends, once it
has given every record that was visible at the start.
"""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from riverlog.cli.client import admin, check_reachable, configuration, explain, explained, topic_metadata
from riverlog.cli.errors import DONE, WRONG_USE, CommandError, forget_stdout, say
from riverlog.cli.places import Ends, Partition, find_ends, find_offsets
from riverlog.cli.positions import Earliest, Latest, Place, parse_place
from riverlog.cli.shape import to_json

poll_seconds: Final = 0.25
messages_at_once: Final = 1_000
fetch_pause_ms: Final = 10  # while the client's queue is full; its own default, a second, is when we have nothing to print


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumeArguments:
    topic: str
    start: str | None  # --from
    group: str | None
    count: int | None
    to_end: bool
    separator: str | None  # -K: print keys too
    bootstrap: str
    json: bool


def consume(arguments: ConsumeArguments) -> int:
    """Ends at the count, at the end, at Ctrl-C, or when nobody reads stdout any more."""
    place = _place(arguments)
    if arguments.count is not None and arguments.count < 1:
        raise CommandError(f"-n {arguments.count}: give a count of at least 1", WRONG_USE)
    reader = _Reader(arguments, place)
    try:
        _print(arguments, reader)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        forget_stdout()
    finally:
        reader.close()
    return DONE


def _place(arguments: ConsumeArguments) -> Place | None:
    """None: where the group is."""
    if arguments.start is None:
        return None if arguments.group else Earliest()
    try:
        place = parse_place(arguments.start, time.time_ns() // 1_000_000)
    except ValueError as error:
        raise CommandError(f"--from: {error}", WRONG_USE) from error
    if arguments.group and not isinstance(place, Earliest | Latest):
        raise CommandError(
            "a group goes on where it is; --from earliest|latest is for one that has committed nothing: "
            f"`riverlog group reset {arguments.group} --to {arguments.start} --execute` moves it",
            WRONG_USE,
        )
    return place


def _print(arguments: ConsumeArguments, reader: _Reader) -> None:
    write, flush = sys.stdout.buffer.write, sys.stdout.buffer.flush
    separator = arguments.separator.encode() if arguments.separator is not None else None
    left = arguments.count
    for messages in reader.batches():
        if left is not None:
            messages = messages[:left]
            left -= len(messages)
        for message in messages:
            write(_line(message, separator, arguments.json))
        flush()
        reader.printed(messages)
        if left == 0:
            return
        if not messages and _nobody_reads():
            raise BrokenPipeError


def _line(message: Any, separator: bytes | None, json: bool) -> bytes:
    if json:
        kind, timestamp_ms = message.timestamp()
        text = to_json(
            topic=message.topic(), partition=message.partition(), offset=message.offset(),
            timestamp_ms=timestamp_ms if kind else None, key=message.key(), value=message.value(),
            headers=message.headers() or (),
        )  # fmt: skip
        return text.encode() + b"\n"
    value = message.value() or b""
    return value + b"\n" if separator is None else (message.key() or b"") + separator + value + b"\n"


def _nobody_reads() -> bool:
    """Has the other end of the pipe gone? Asked while there is nothing to write."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


class _Reader:
    """The client, and where it stands."""

    def __init__(self, arguments: ConsumeArguments, place: Place | None) -> None:
        self.arguments = arguments
        self.bootstrap = arguments.bootstrap
        client = admin(self.bootstrap)
        metadata = topic_metadata(client, arguments.topic, self.bootstrap)
        partitions: list[Partition] = [(arguments.topic, index) for index in sorted(metadata.partitions)]
        self.ends: dict[Partition, Ends] = {}
        self.assigned: set[Partition] | None = None  # None: the group has not said yet
        self.at_end: set[Partition] = set()
        self.is_lost = False
        self.told_of_loss = False
        if arguments.to_end or not arguments.group:
            self.ends = find_ends(client, partitions, self.bootstrap)
        self.consumer = self._consumer(isinstance(place, Latest))
        if arguments.group:
            self.consumer.subscribe([arguments.topic], on_assign=self._on_assign, on_revoke=self._on_revoke)
            return
        assert place is not None, "without a group there is always a place"
        from confluent_kafka import TopicPartition

        offsets = find_offsets(client, place, self.ends, self.bootstrap)
        self.assigned = set(offsets)
        self.at_end = {one for one, offset in offsets.items() if offset >= self.ends[one].end}
        self.consumer.assign([TopicPartition(*one, offset) for one, offset in offsets.items()])

    def _consumer(self, latest: bool) -> Any:
        from confluent_kafka import Consumer

        settings = {
            "group.id": self.arguments.group or "riverlog-cli",
            "enable.auto.commit": self.arguments.group is not None,
            "enable.auto.offset.store": False,
            "enable.partition.eof": self.arguments.to_end,
            "fetch.queue.backoff.ms": fetch_pause_ms,
            "auto.offset.reset": "latest" if latest else "earliest",
            "error_cb": self._on_error,
        }
        with explained(self.bootstrap):
            return Consumer(configuration(self.bootstrap, **settings))

    def batches(self) -> Iterator[list[Any]]:
        """Records as they come, an empty list now and then; ends where `-e` says."""
        while not self._ended():
            with explained(self.bootstrap):
                first = self.consumer.poll(poll_seconds)
                more = self.consumer.consume(messages_at_once - 1, 0) if first is not None else []
            if self.is_lost:
                self._note_loss()
            polled = [] if first is None else [first, *more]
            yield [message for message in polled if self._is_wanted(message)]

    def _is_wanted(self, message: Any) -> bool:
        """Also notes where a partition is at the end that was seen at the start."""
        if message.error() is not None:
            self._note_error(message)
            return False
        self.told_of_loss = False
        if not self.arguments.to_end:
            return True
        partition = (message.topic(), message.partition())
        end = self.ends[partition].end if partition in self.ends else 0
        if message.offset() + 1 >= end:
            self.at_end.add(partition)
        return bool(message.offset() < end)

    def _note_error(self, message: Any) -> None:
        from confluent_kafka import KafkaError

        error = message.error()
        if error.code() == KafkaError._PARTITION_EOF:
            self.at_end.add((message.topic(), message.partition()))
        elif not error.retriable() and error.code() not in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
            raise CommandError(explain(error, self.bootstrap))

    def _on_error(self, error: Any) -> None:
        """The client's own troubles, told while it is polled."""
        from confluent_kafka import KafkaError

        self.is_lost = self.is_lost or error.code() == KafkaError._ALL_BROKERS_DOWN

    def _note_loss(self) -> None:
        """Whoever follows waits for the broker to come back, and is told so once; who reads to the end does not."""
        self.is_lost = False
        if self.arguments.to_end:
            check_reachable(self.bootstrap)
        elif not self.told_of_loss:
            self.told_of_loss = True
            say(f"the broker at {self.bootstrap} went away: waiting for it to come back (Ctrl-C ends)")

    def _ended(self) -> bool:
        return self.arguments.to_end and self.assigned is not None and self.assigned <= self.at_end

    def printed(self, messages: list[Any]) -> None:
        if self.arguments.group:
            for message in messages:
                self.consumer.store_offsets(message)

    def _on_assign(self, consumer: Any, partitions: list[Any]) -> None:
        self.assigned = {(one.topic, one.partition) for one in partitions}
        self.at_end &= self.assigned

    def _on_revoke(self, consumer: Any, partitions: list[Any]) -> None:
        self.assigned = None

    def close(self) -> None:
        """Commits what was printed, and leaves the group."""
        self.consumer.close()
