"""The Kafka client behind the commands: is somebody there, and what an error of the client means for a person.

Everything here that needs confluent-kafka imports it when it is called, so that `riverlog serve` never does.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from riverlog.cli.errors import WRONG_USE, CommandError
from riverlog.cli.output import print_json

if TYPE_CHECKING:
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient, TopicMetadata

DEFAULT_BOOTSTRAP: Final = "127.0.0.1:9092"
_UNREACHABLE: Final = "can the address be reached that the broker tells its clients (`serve --advertise`)?"
connect_seconds_max: Final = 3.0
answer_seconds_max: Final = 15.0


def configuration(bootstrap: str, **more: Any) -> dict[str, Any]:
    """What every client of ours is told. Raises CommandError where nobody listens.

    The client's own log is thrown away: what matters in it reaches us as errors."""
    check_reachable(bootstrap)
    silent = logging.getLogger("riverlog.cli.client")
    silent.addHandler(logging.NullHandler())
    silent.propagate = False
    return {"bootstrap.servers": bootstrap, "client.id": "riverlog-cli", "logger": silent, **more}


def check_reachable(bootstrap: str) -> None:
    """At once, and not after the client's long patience. Raises CommandError."""
    reasons = []
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        if not host or not port.isdigit() or int(port) > 65_535:
            raise CommandError(f"-b {bootstrap!r} is no address: give HOST:PORT", WRONG_USE)
        try:
            socket.create_connection((host.strip("[]"), int(port)), connect_seconds_max).close()
            return
        except OSError as error:
            reasons.append(f"{error.strerror or error}".lower())
    raise CommandError(
        f"no broker at {bootstrap} ({reasons[0]}): start one with `riverlog serve`, or name another with "
        "-b HOST:PORT or RIVERLOG_BOOTSTRAP"
    )


def admin(bootstrap: str) -> AdminClient:
    """Raises CommandError where nobody listens."""
    from confluent_kafka.admin import AdminClient

    with explained(bootstrap):
        return AdminClient(configuration(bootstrap))


@contextmanager
def explained(bootstrap: str) -> Iterator[None]:
    """Turns errors of the client into CommandError, and what the client itself refuses to ask (a ValueError) too."""
    from confluent_kafka import KafkaException

    try:
        yield
    except KafkaException as error:
        raise CommandError(explain(error.args[0], bootstrap)) from error
    except (ValueError, OverflowError) as error:
        raise CommandError(f"the client refuses to ask for that: {error}", WRONG_USE) from error


def explain(error: Any, bootstrap: str) -> str:
    """One line for a person, from a KafkaError."""
    from confluent_kafka import KafkaError

    said = f"{error.str()}".rstrip(".") or error.name()
    advice = {
        KafkaError.UNKNOWN_TOPIC_OR_PART: "`riverlog topic list` shows what there is",
        KafkaError._UNKNOWN_TOPIC: "`riverlog topic list` shows what there is",
        KafkaError.TOPIC_ALREADY_EXISTS: "`riverlog topic describe` shows it",
        KafkaError.GROUP_ID_NOT_FOUND: "`riverlog group list` shows what there is",
        KafkaError.NON_EMPTY_GROUP: "stop its consumers first",
        KafkaError.MSG_SIZE_TOO_LARGE: "raise the topic's max.message.bytes",
        KafkaError._UNKNOWN_PARTITION: "`riverlog topic describe` shows those that there are",
        KafkaError.TOPIC_EXCEPTION: "use letters a-z and A-Z, digits, '.', '_' and '-'",
        KafkaError.INVALID_RECORD: "a topic with cleanup.policy=compact takes no record without a key",
        KafkaError.INVALID_TIMESTAMP: "the topic's message.timestamp.before.max.ms and .after.max.ms say what it takes",
        KafkaError.LEADER_NOT_AVAILABLE: _UNREACHABLE,
        KafkaError._MSG_TIMED_OUT: _UNREACHABLE,
    }.get(error.code())
    if error.code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT):
        return f"the broker at {bootstrap} does not answer as a Kafka broker would ({said}): is the address right?"
    return f"{said}: {advice}" if advice else said


def each_done(
    futures: Mapping[str, Any],
    what: str,
    bootstrap: str,
    *,
    json: bool,
    reason: Callable[[str, Any], str | None] = lambda name, error: None,
) -> None:
    """Waits for every future and tells of each that is done (`what`: "created topic"). Raises CommandError that names the
    ones that failed, once all have been waited for; `reason` may know more than the error (a KafkaError) of a name."""
    from confluent_kafka import KafkaException

    failed = []
    done = []
    for name, future in futures.items():
        try:
            future.result()
        except KafkaException as error:
            failed.append(f"{name}: {reason(name, error.args[0]) or explain(error.args[0], bootstrap)}")
        else:
            done.append(name)
    verb, _, kind = what.partition(" ")
    if json:
        print_json([{kind: name, verb: name in done} for name in futures])
    else:
        for name in done:
            print(f"{what} {name}")
    if failed:
        raise CommandError("; ".join(failed))


def topic_metadata(client: Any, topic: str, bootstrap: str) -> TopicMetadata:
    """Of one topic, which is not created by asking. Raises CommandError where there is none."""
    with explained(bootstrap):
        topics = client.list_topics(timeout=answer_seconds_max).topics
    if (found := topics.get(topic)) is None:
        raise CommandError(
            f"there is no topic {topic!r} at {bootstrap}: `riverlog topic create {topic}` makes it, "
            "`riverlog topic list` shows what there is"
        )
    if found.error is not None:
        raise CommandError(explain(found.error, bootstrap))
    return found  # type: ignore[no-any-return]  # the client's classes come without types


def list_offsets(client: AdminClient, wanted: dict[TopicPartition, Any], bootstrap: str) -> dict[tuple[str, int], int]:
    """(topic, partition) -> the offset of what was asked for (an OffsetSpec); -1: nothing is that new."""
    if not wanted:
        return {}
    with explained(bootstrap):
        futures = client.list_offsets(wanted, request_timeout=answer_seconds_max)
        return {(one.topic, one.partition): future.result().offset for one, future in futures.items()}
