"""The text file `partition.metadata`: which topic a directory is of. See docs/formats/partition-metadata.md."""

from __future__ import annotations

from typing import Final

from riverlog.base.ids import TopicId, topic_id_of_text, topic_id_text
from riverlog.storage.format.errors import FormatError

VERSION: Final = 0


def encode(topic_id: TopicId) -> bytes:
    return f"version: {VERSION}\ntopic_id: {topic_id_text(topic_id)}".encode("ascii")


def decode(data: bytes | bytearray | memoryview) -> TopicId:
    """Raises FormatError."""
    lines = bytes(data).split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    if len(lines) != 2 or lines[0].rstrip() != b"version: %d" % VERSION:
        raise FormatError(0, f"partition metadata has a line `version: {VERSION}` and one with the topic id")
    position = len(lines[0]) + 1
    if not lines[1].startswith(b"topic_id: "):
        raise FormatError(position, "partition metadata without a topic id")
    try:
        text = lines[1][10:].strip().decode("ascii")
        topic_id = topic_id_of_text(text)
    except ValueError as error:
        raise FormatError(position, str(error)) from error
    if topic_id_text(topic_id) != text:
        raise FormatError(position, f"{text!r} is not how a topic id is written")
    return topic_id
