"""The error table against codes that everybody knows."""

from __future__ import annotations

from riverlog.gateways.kafka.schema.error_codes import RETRIABLE, ErrorCode


def test_codes_are_dense() -> None:
    assert sorted(ErrorCode) == list(range(-1, max(ErrorCode) + 1))
    assert ErrorCode.NONE == 0
    assert ErrorCode.UNSUPPORTED_VERSION == 35


def test_what_a_client_may_try_again() -> None:
    assert {ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.CORRUPT_MESSAGE, ErrorCode.REQUEST_TIMED_OUT} <= RETRIABLE
    assert not {ErrorCode.NONE, ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.INVALID_RECORD} & RETRIABLE
