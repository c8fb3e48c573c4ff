"""Codes of transactions, by what a version knows."""

from __future__ import annotations

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.broker.transaction_requests import GroupRefused
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.transaction_codes import transaction_code, transaction_version
from riverlog.state.transactions.commands import Version


@pytest.mark.parametrize(
    ("api_version", "version"),
    [(0, Version.PLAIN), (3, Version.PLAIN), (4, Version.FLEXIBLE), (5, Version.EPOCH_BUMPED)],
)
def test_versions(api_version: int, version: Version) -> None:
    assert transaction_version(api_version) is version


def test_codes() -> None:
    fenced = RiverlogError(ErrorKind.PRODUCER_FENCED, "")
    assert transaction_code(fenced) == ErrorCode.PRODUCER_FENCED
    assert transaction_code(fenced, fenced_is_known=False) == ErrorCode.INVALID_PRODUCER_EPOCH
    unauthorized = RiverlogError(ErrorKind.UNAUTHORIZED, "")
    assert transaction_code(unauthorized) == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    assert transaction_code(GroupRefused("")) == ErrorCode.GROUP_AUTHORIZATION_FAILED
