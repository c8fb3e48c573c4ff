"""What one client wrote every client reads: key, value, headers and timestamp byte for byte, in every codec.

The broker keeps a producer's batches as they came, so the codec in their headers is the producer's too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

import pytest

from riverlog.records.header import read_header
from tests.clients.conftest import Served
from tests.clients.matrix import CODECS, READERS, WRITERS, Record, require_java
from tools.clients import require

NEEDS: Final = {"kcat": partial(require, "kcat"), "kafkajs": partial(require, "node"), "java": require_java}
NODE_READS: Final = ("none", "gzip")

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning"),  # kafka-python's schemas
]
clients = [pytest.param(name, marks=[pytest.mark.oracle] if name == "java" else []) for name in WRITERS]


class Written(NamedTuple):
    """A topic that a writer made."""

    codec: str
    records: Sequence[Record]


@pytest.fixture(scope="module")
def written(process: Served) -> dict[str, dict[str, Written]]:
    """Writer -> topic -> what is in it; filled by the tests of the writers, which come first."""
    return {}


def codecs_of(segment: bytes) -> list[str]:
    """The codec of each batch."""
    codecs, position = [], 0
    while position < len(segment):
        header = read_header(segment, position)
        codecs.append(CODECS[header.compression])
        position += header.size
    return codecs


def topics_of(writer: str) -> dict[str, str]:
    return {f"matrix-{writer}-{codec}": codec for codec in CODECS}


def written_by(writer: str, served: Served, written: dict[str, dict[str, Written]]) -> Mapping[str, Written]:
    """Writes once a session. Skips where the client is missing."""
    if writer in NEEDS:
        NEEDS[writer]()
    if writer not in written:
        topics = topics_of(writer)
        served.create_topics(list(topics))
        records = WRITERS[writer](served.bootstrap, topics)
        written[writer] = {topic: Written(topics[topic], records[topic]) for topic in records}
    return written[writer]


@pytest.mark.parametrize("writer", clients)
def test_the_broker_keeps_the_batches_as_the_writer_compressed_them(
    writer: str, served: Served, written: dict[str, dict[str, Written]]
) -> None:
    for topic, (codec, _) in written_by(writer, served, written).items():
        codecs = codecs_of(served.first_segment(topic).read_bytes())
        assert codec in codecs, topic
        assert set(codecs) <= {codec, "none"}, topic  # some clients send a small batch plain where that is shorter


@pytest.mark.parametrize("reader", clients)
def test_it_reads_what_every_client_wrote(reader: str, served: Served, written: dict[str, dict[str, Written]]) -> None:
    if reader in NEEDS:
        NEEDS[reader]()
    for writer in WRITERS:
        if writer not in NEEDS or written.get(writer):
            written_by(writer, served, written)
    expected = {
        topic: one.records
        for of_writer in written.values()
        for topic, one in of_writer.items()
        if reader != "kafkajs" or one.codec in NODE_READS
    }
    found = READERS[reader](served.bootstrap, {topic: len(records) for topic, records in expected.items()})
    assert found.keys() == expected.keys()
    for topic, records in expected.items():
        stamped = [
            one if one.timestamp_ms is not None else one._replace(timestamp_ms=read.timestamp_ms)
            for one, read in zip(records, found[topic], strict=True)
        ]
        assert found[topic] == stamped, (reader, topic)
