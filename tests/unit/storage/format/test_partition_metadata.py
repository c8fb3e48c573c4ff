"""Which topic a directory is of."""

import pytest

from riverlog.base.ids import TopicId
from riverlog.storage.format import partition_metadata
from riverlog.storage.format.errors import FormatError

TOPIC_ID = TopicId(bytes(range(16)))


def test_the_file_is_kafkas_text() -> None:
    assert partition_metadata.encode(TOPIC_ID) == b"version: 0\ntopic_id: AAECAwQFBgcICQoLDA0ODw"
    assert partition_metadata.decode(partition_metadata.encode(TOPIC_ID)) == TOPIC_ID
    assert partition_metadata.decode(partition_metadata.encode(TOPIC_ID) + b"\n") == TOPIC_ID


@pytest.mark.parametrize(
    "data",
    [
        *[
            b"",
            b"version: 0",
            b"version: 1\ntopic_id: AAECAwQFBgcICQoLDA0ODw",
            b"version: 0\nid: AAECAwQFBgcICQoLDA0ODw",
        ],
        *[
            b"version: 0\ntopic_id: AAEC",
            b"version: 0\ntopic_id: \xff",
            b"version: 0\ntopic_id: AAECAwQFBgcICQoLDA0ODw\nx",
        ],
    ],
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        partition_metadata.decode(data)


def test_an_id_has_one_spelling() -> None:
    """The last of the 22 characters has bits that no id uses: a flipped one must not go unseen."""
    with pytest.raises(FormatError, match="is not how a topic id is written"):
        partition_metadata.decode(partition_metadata.encode(TOPIC_ID)[:-1] + b"x")
