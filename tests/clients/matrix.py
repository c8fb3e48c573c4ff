"""The records of the client matrix, and what each client does with them: one writer and one reader a client.

Every writer writes RECORDS (or as much of them as its client can say) to partition 0 of a topic with a codec; every reader
gives back a topic's records. Not here: the comparison, which is test_matrix.py."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from benchmarks.peers import kafka
from tools.clients import require, required

HERE: Final = Path(__file__).parent
CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")  # in the order of their numbers in a batch's attributes
seconds_max: Final = 60.0


class Record(NamedTuple):
    """A record as its client hands it out. Timestamps in ms; None: whatever the client stamped."""

    timestamp_ms: int | None
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


START_MS: Final = 1_385_000_000_000
# kcat prints headers as C strings with commas between, so no header has a NUL or a comma.
RECORDS: Final = (
    Record(START_MS, b"key", b"value", (("h", b"1"),)),
    Record(START_MS + 5, None, b"no key"),
    Record(START_MS + 3, b"tombstone", None),
    Record(START_MS + 3, b"", b""),
    Record(START_MS + 7, bytes(range(256)), bytes(range(255, -1, -1))),
    Record(START_MS + 7, "Zürich".encode(), "滑走路".encode(), (("twice", b"a"), ("twice", b"b"), ("", b""))),
    Record(
        START_MS + 8, b"large", b"0123456789abcdef" * 4096, (("binary", bytes(range(45, 256)) + bytes(range(1, 44))),)
    ),
    Record(START_MS + 9, b"last", b"one"),
)
NULL_HEADER: Final = Record(START_MS + 8, b"null header", b"x", (("null", None),))
KCAT_RECORDS: Final = tuple(
    Record(None, key, value, (("h", b"1"), ("h", b"2")))
    for key, value in ((b"key", b"value"), (b"null", None), ("Zürich".encode(), b"x" * 20_000))
)


def write_confluent_kafka(bootstrap: str, topics: Mapping[str, str]) -> Mapping[str, Sequence[Record]]:
    """`topics`: name -> codec. Gives what was written to each."""
    from confluent_kafka import Producer

    for topic, codec in topics.items():
        producer = Producer({"bootstrap.servers": bootstrap, "compression.type": codec, "linger.ms": 50})
        for one in (*RECORDS, NULL_HEADER):
            producer.produce(
                topic, one.value, one.key, partition=0, timestamp=one.timestamp_ms or 0, headers=list(one.headers)
            )
        assert producer.flush(seconds_max) == 0
    return dict.fromkeys(topics, (*RECORDS, NULL_HEADER))


def read_confluent_kafka(bootstrap: str, counts: Mapping[str, int]) -> Mapping[str, list[Record]]:
    """The first records of partition 0 of each topic."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "matrix", "enable.auto.commit": False})
    found: dict[str, list[Record]] = {topic: [] for topic in counts}
    try:
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING) for topic in counts])
        for one in consumer.consume(sum(counts.values()), seconds_max):
            assert one.error() is None
            assert one.offset() == len(found[one.topic()])
            found[one.topic()].append(Record(one.timestamp()[1], one.key(), one.value(), _headers(one.headers() or ())))
    finally:
        consumer.close()
    return found


def write_kafka_python(bootstrap: str, topics: Mapping[str, str]) -> Mapping[str, Sequence[Record]]:
    """`topics`: name -> codec. Gives what was written to each."""
    from kafka import KafkaProducer

    for topic, codec in topics.items():
        compression = None if codec == "none" else codec
        with KafkaProducer(bootstrap_servers=bootstrap, compression_type=compression, linger_ms=50) as producer:
            futures = [
                producer.send(topic, one.value, one.key, list(one.headers), 0, one.timestamp_ms) for one in RECORDS
            ]
            producer.flush(seconds_max)
            assert [future.get(0).offset for future in futures] == list(range(len(RECORDS)))
    return dict.fromkeys(topics, RECORDS)


def read_kafka_python(bootstrap: str, topic: str, count: int) -> list[Record]:
    """The first `count` records of partition 0."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, consumer_timeout_ms=round(seconds_max * 1000), auto_offset_reset="earliest"
    )
    try:
        consumer.assign([TopicPartition(topic, 0)])
        messages = list(islice(consumer, count))
    finally:
        consumer.close()
    assert [message.offset for message in messages] == list(range(count))
    return [Record(one.timestamp, one.key, one.value, _headers(one.headers)) for one in messages]


def write_aiokafka(bootstrap: str, topics: Mapping[str, str]) -> Mapping[str, Sequence[Record]]:
    """`topics`: name -> codec. Gives what was written to each."""
    from aiokafka import AIOKafkaProducer

    async def write(topic: str, codec: str) -> None:
        compression = None if codec == "none" else codec
        async with AIOKafkaProducer(
            bootstrap_servers=bootstrap, compression_type=compression, linger_ms=50
        ) as producer:
            futures = [
                await producer.send(topic, one.value, one.key, 0, one.timestamp_ms, list(one.headers))
                for one in RECORDS
            ]
            assert [(await future).offset for future in futures] == list(range(len(RECORDS)))

    async def write_all() -> None:
        for topic, codec in topics.items():
            await asyncio.wait_for(write(topic, codec), seconds_max)

    asyncio.run(write_all())
    return dict.fromkeys(topics, RECORDS)


def read_aiokafka(bootstrap: str, topic: str, count: int) -> list[Record]:
    """The first `count` records of partition 0."""
    from aiokafka import AIOKafkaConsumer, TopicPartition

    async def read() -> list[Any]:
        async with AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
            consumer.assign([TopicPartition(topic, 0)])
            return [await consumer.getone() for _ in range(count)]

    messages = asyncio.run(asyncio.wait_for(read(), seconds_max))
    assert [message.offset for message in messages] == list(range(count))
    return [Record(one.timestamp, one.key, one.value, _headers(one.headers)) for one in messages]


def write_kcat(bootstrap: str, topics: Mapping[str, str]) -> Mapping[str, Sequence[Record]]:
    """kcat takes text with separators, one list of headers for all, and stamps by itself."""
    lines = b"".join((one.key or b"") + b"=" + (one.value or b"") + b"\n" for one in KCAT_RECORDS)
    for topic, codec in topics.items():
        headers = [option for name, value in KCAT_RECORDS[0].headers for option in ("-H", f"{name}={value.decode()}")]  # type: ignore[union-attr]  # none is null
        run_kcat(bootstrap, "-P", "-t", topic, "-p", "0", "-z", codec, "-K", "=", "-Z", *headers, given=lines)
    return dict.fromkeys(topics, KCAT_RECORDS)


def read_kcat(bootstrap: str, topic: str, count: int) -> list[Record]:
    """kcat prints lengths before keys and values, so that any bytes can be told apart, and headers as `name=value,…`."""
    printed = run_kcat(
        bootstrap, "-C", "-t", topic, "-p", "0", "-o", "beginning", "-c", str(count), "-f", "%o %T %K %S %k%s\n%h\n\n"
    )
    records = []
    for offset in range(count):
        numbers, _, rest = _split(printed, 4)
        assert numbers[0] == offset
        key_size, value_size = numbers[2:]
        key, rest = _taken(rest, key_size)
        value, rest = _taken(rest, value_size)
        headers, _, printed = rest.removeprefix(b"\n").partition(b"\n\n")
        records.append(Record(numbers[1], key, value, _kcat_headers(headers)))
    return records


def run_kcat(bootstrap: str, *args: str, given: bytes = b"") -> bytes:
    """What kcat printed; it must not complain."""
    done = subprocess.run(
        [str(require("kcat")), "-b", bootstrap, "-q", "-X", "broker.address.family=v4", *args],
        input=given, capture_output=True, timeout=seconds_max,
    )  # fmt: skip
    assert (done.returncode, done.stderr.decode()) == (0, "")
    return done.stdout


def run_kafkajs(bootstrap: str, command: str, argument: object) -> Any:
    """What kafkajs.js says to `command`, from its JSON."""
    done = subprocess.run(
        ["node", str(HERE / "kafkajs.js"), bootstrap, command],
        input=json.dumps(argument), capture_output=True, text=True, timeout=2 * seconds_max,
        env={**os.environ, "NODE_PATH": str(require("node")), "KAFKAJS_NO_PARTITIONER_WARNING": "1", "NODE_NO_WARNINGS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", done.stderr
    return json.loads(done.stdout)


def write_kafkajs(bootstrap: str, topics: Mapping[str, str]) -> Mapping[str, Sequence[Record]]:
    """kafkajs has gzip alone; others are plugins of third parties."""
    topics = {topic: codec for topic, codec in topics.items() if codec in ("none", "gzip")}
    records = [one for one in RECORDS if all(name for name, _ in one.headers)]
    told = [to_json(one) for one in records]
    run_kafkajs(
        bootstrap, "produce", [{"topic": topic, "codec": codec, "records": told} for topic, codec in topics.items()]
    )
    return dict.fromkeys(topics, records)


def to_json(record: Record) -> dict[str, object]:
    """For programs in other languages: bytes in base64."""
    return {
        "timestamp": record.timestamp_ms,
        "key": _armoured(record.key),
        "value": _armoured(record.value),
        "headers": [[name, _armoured(value)] for name, value in record.headers],
    }


def from_json(told: Mapping[str, Any]) -> Record:
    """The inverse of to_json."""
    headers = tuple((name, _plain(value)) for name, value in told["headers"])
    return Record(told["timestamp"], _plain(told["key"]), _plain(told["value"]), headers)


def read_kafkajs(bootstrap: str, counts: Mapping[str, int]) -> Mapping[str, list[Record]]:
    """The first records of each topic; kafkajs reads by group alone."""
    told = run_kafkajs(bootstrap, "consume", {"group": "matrix-kafkajs", "counts": counts})
    return {topic: [from_json(one) for one in records] for topic, records in told.items()}


def require_java() -> None:
    """As `require`; the compiler of a JDK too, because our programs are started from their source."""
    require("java")
    if shutil.which("javac") is None:
        reason = "java is there without javac: install a JDK"
        raise pytest.fail.Exception(reason) if "java" in required() else pytest.skip.Exception(reason)


def run_java(bootstrap: str, command: str, argument: str) -> str:
    """What MatrixClient.java, started from its source, prints."""
    done = subprocess.run(
        ["java", *kafka.JVM_TOOL, "-cp", str(require("java")), str(HERE / "MatrixClient.java"), bootstrap, command],
        input=argument, capture_output=True, text=True, timeout=2 * seconds_max,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_java(bootstrap: str, topics: Mapping[str, str]) -> Mapping[str, Sequence[Record]]:
    """The Java client has every codec and every field."""
    records = (*RECORDS, NULL_HEADER)
    lines = [f"{topic}\t{codec}\t{_line(one)}\n" for topic, codec in topics.items() for one in records]
    run_java(bootstrap, "produce", "".join(lines))
    return dict.fromkeys(topics, records)


def read_java(bootstrap: str, counts: Mapping[str, int]) -> Mapping[str, list[Record]]:
    """The first records of each topic."""
    printed = run_java(bootstrap, "consume", "".join(f"{topic}\t{count}\n" for topic, count in counts.items()))
    found: dict[str, list[Record]] = {topic: [] for topic in counts}
    for line in printed.splitlines():
        topic, offset, timestamp, key, value, *headers = line.split("\t")
        assert int(offset) == len(found[topic])
        pairs = tuple((_told_text(name), _told(data)) for name, data in zip(headers[::2], headers[1::2], strict=True))
        found[topic].append(Record(int(timestamp), _told(key), _told(value), pairs))
    return found


def each(read: Callable[[str, str, int], list[Record]]) -> Reader:
    """A reader of many topics from a reader of one."""
    return lambda bootstrap, counts: {topic: read(bootstrap, topic, count) for topic, count in counts.items()}


Reader = Callable[[str, Mapping[str, int]], Mapping[str, list[Record]]]
Writer = Callable[[str, Mapping[str, str]], Mapping[str, Sequence[Record]]]

WRITERS: Final[Mapping[str, Writer]] = {
    "confluent-kafka": write_confluent_kafka,
    "kafka-python": write_kafka_python,
    "aiokafka": write_aiokafka,
    "kcat": write_kcat,
    "kafkajs": write_kafkajs,
    "java": write_java,
}
READERS: Final[Mapping[str, Reader]] = {
    "confluent-kafka": read_confluent_kafka,
    "kafka-python": each(read_kafka_python),
    "aiokafka": each(read_aiokafka),
    "kcat": each(read_kcat),
    "kafkajs": read_kafkajs,
    "java": read_java,
}


def _line(record: Record) -> str:
    """A record in columns: timestamp, key, value, then name and value of each header; bytes as _tell writes them."""
    headers = [part for name, value in record.headers for part in (_tell(name.encode()), _tell(value))]
    return "\t".join([str(record.timestamp_ms), _tell(record.key), _tell(record.value), *headers])


def _tell(data: bytes | None) -> str:
    """Base64 after a dot, so that null (a minus) and empty (the dot alone) differ."""
    return "-" if data is None else "." + base64.b64encode(data).decode()


def _told(text: str) -> bytes | None:
    return None if text == "-" else base64.b64decode(text[1:])


def _told_text(text: str) -> str:
    return (_told(text) or b"").decode()


def _armoured(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _plain(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def _headers(pairs: Sequence[tuple[str, Any]]) -> tuple[tuple[str, bytes | None], ...]:
    return tuple((name, None if value is None else bytes(value)) for name, value in pairs)


def _split(printed: bytes, count: int) -> tuple[list[int], None, bytes]:
    *numbers, rest = printed.split(b" ", count)
    return [int(number) for number in numbers], None, rest


def _taken(printed: bytes, size: int) -> tuple[bytes | None, bytes]:
    return (None, printed) if size < 0 else (printed[:size], printed[size:])


def _kcat_headers(printed: bytes) -> tuple[tuple[str, bytes | None], ...]:
    pairs = [one.partition(b"=") for one in printed.split(b",")] if printed else []
    return tuple((name.decode(), None if value == b"NULL" else value) for name, _, value in pairs)
