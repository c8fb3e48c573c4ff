"""Ids as text."""

from __future__ import annotations

import pytest

from riverlog.base.ids import TopicId, topic_id_of_text, topic_id_text


def test_a_topic_id_is_22_characters_and_comes_back() -> None:
    for topic_id in (bytes(16), bytes(range(16)), b"\xff" * 16):
        text = topic_id_text(TopicId(topic_id))
        assert len(text) == 22
        assert topic_id_of_text(text) == topic_id


@pytest.mark.parametrize("text", ["", "AAAA", "A" * 23, "é" * 22])
def test_other_text_is_no_topic_id(text: str) -> None:
    with pytest.raises(ValueError, match="topic id"):
        topic_id_of_text(text)
