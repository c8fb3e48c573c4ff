"""Topics out of a consumer's metadata."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riverlog.state.groups.subscription import subscribed_topics
from riverlog.testing.group_driver import subscription


def test_the_union_of_all_members() -> None:
    assert subscribed_topics([subscription("a", "b"), subscription("b", "ü")]) == {"a", "b", "ü"}
    assert subscribed_topics([]) == frozenset()


@pytest.mark.parametrize("size", range(6 + 2 + 1))
def test_what_is_cut_short_is_unknown(size: int) -> None:
    assert subscribed_topics([subscription("a"), subscription("a")[:size]]) is None


def test_what_is_not_text_is_unknown() -> None:
    assert subscribed_topics([subscription("a").replace(b"a", b"\xff")]) is None


@given(st.binary(max_size=64))
def test_no_bytes_crash_it(metadata: bytes) -> None:
    subscribed_topics([metadata])
