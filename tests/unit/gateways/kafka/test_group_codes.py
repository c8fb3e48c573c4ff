"""Error codes of groups and of their topics."""

from __future__ import annotations

from riverlog.base.errors import ErrorKind
from riverlog.gateways.kafka.group_codes import group_code, topic_code
from riverlog.gateways.kafka.schema.error_codes import ErrorCode


def test_unauthorized_is_about_what_was_asked_for() -> None:
    assert group_code(ErrorKind.UNAUTHORIZED) == ErrorCode.GROUP_AUTHORIZATION_FAILED
    assert topic_code(ErrorKind.UNAUTHORIZED) == ErrorCode.TOPIC_AUTHORIZATION_FAILED


def test_every_kind_has_a_code_and_none_is_zero() -> None:
    assert group_code(None) == topic_code(None) == 0
    assert all(group_code(kind) and topic_code(kind) for kind in ErrorKind)
    assert group_code(ErrorKind.GROUP_FULL) == ErrorCode.GROUP_MAX_SIZE_REACHED
