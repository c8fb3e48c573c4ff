"""Every kind of error has its code."""

from __future__ import annotations

import pytest

from riverlog.base.errors import Corruption, ErrorKind, RiverlogError
from riverlog.gateways.kafka.errors import error_code, fence_lost_code, unauthorized_code
from riverlog.gateways.kafka.schema.error_codes import RETRIABLE, ErrorCode
from riverlog.state.access import ResourceKind


@pytest.mark.parametrize("resource", ResourceKind)
@pytest.mark.parametrize("kind", ErrorKind)
def test_every_kind_has_a_code(kind: ErrorKind, resource: ResourceKind) -> None:
    code = error_code(RiverlogError(kind, "why"), resource)
    assert isinstance(code, ErrorCode)
    assert code != ErrorCode.NONE
    assert (code == ErrorCode.UNKNOWN_SERVER_ERROR) == (kind is ErrorKind.INTERNAL)


def test_two_kinds_never_share_a_code_by_mistake() -> None:
    alone = [kind for kind in ErrorKind if kind is not ErrorKind.FENCE_LOST]
    codes = [error_code(RiverlogError(kind, "")) for kind in alone]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (ErrorKind.UNKNOWN_TOPIC, 3),
        (ErrorKind.INVALID_TOPIC, 17),
        (ErrorKind.STORAGE, 56),
        (ErrorKind.CORRUPT_MESSAGE, 2),
        (ErrorKind.MESSAGE_TOO_LARGE, 10),
        (ErrorKind.INVALID_RECORD, 87),
        (ErrorKind.OUT_OF_ORDER_SEQUENCE, 45),
        (ErrorKind.REBALANCE_IN_PROGRESS, 27),
        (ErrorKind.MEMBER_ID_REQUIRED, 79),
    ],
)
def test_the_codes_that_clients_decide_by(kind: ErrorKind, code: int) -> None:
    assert error_code(RiverlogError(kind, "")) == code


def test_a_refusal_names_the_kind_of_resource() -> None:
    assert [unauthorized_code(kind) for kind in ResourceKind] == [29, 30, 31, 53]
    assert [fence_lost_code(kind) for kind in ResourceKind] == [6, 16, 6, 16]
    denied = RiverlogError(ErrorKind.UNAUTHORIZED, "no")
    assert error_code(denied, ResourceKind.GROUP) == ErrorCode.GROUP_AUTHORIZATION_FAILED


def test_damage_is_a_storage_error_and_may_be_tried_again() -> None:
    code = error_code(Corruption("f", 1, "bad"))
    assert code == ErrorCode.KAFKA_STORAGE_ERROR
    assert code in RETRIABLE
