"""The configurations of groups: what is allowed, what changes come to, and their row."""

from __future__ import annotations

from pathlib import Path

import pytest

from riverlog.base.errors import Corruption, ErrorKind, RiverlogError
from riverlog.state.group_configs import (
    ASSIGNMENT_INTERVAL,
    GROUP_CONFIGS,
    HEARTBEAT_INTERVAL,
    OBEYED,
    SESSION_TIMEOUT,
    Bounds,
    bounds_of,
    changed_group_configs,
    check_group_config,
    decode_group_configs,
    encode_group_configs,
    group_config_key,
    replaced_group_configs,
    value_of,
)
from riverlog.state.topics import ConfigChange, ConfigOperation

FACTS = Path(__file__).resolve().parents[4] / "shared" / "kafka-protocol" / "group-configs.tsv"
SET, DELETE = ConfigOperation.SET, ConfigOperation.DELETE


def kind_of(name: str, text: str, bounds: Bounds | None = None) -> ErrorKind:
    with pytest.raises(RiverlogError) as caught:
        check_group_config(name, text, bounds or Bounds())
    return caught.value.kind


def test_the_table_has_every_config_of_kafka() -> None:
    if not FACTS.exists():
        pytest.skip("the facts are not in this checkout")
    names = {line.partition("\t")[0] for line in FACTS.read_text(encoding="utf-8").splitlines()[1:]}
    assert names == set(GROUP_CONFIGS)


def test_defaults_pass_their_own_check() -> None:
    for spec in OBEYED:
        default, low, high = bounds_of(spec.name, Bounds())
        assert check_group_config(spec.name, str(default), Bounds()) == str(default)
        assert low <= default <= high


@pytest.mark.parametrize("text", ["", "x", "1.5", "-1", "4999", "15001", "9" * 50, "٥٠٠٠", "--1", "5000 ms"])
def test_what_is_no_number_within_the_bounds_is_refused(text: str) -> None:
    assert kind_of(HEARTBEAT_INTERVAL, text) is ErrorKind.INVALID_CONFIG


def test_a_number_is_kept_in_its_shortest_form() -> None:
    assert check_group_config(HEARTBEAT_INTERVAL, " 05000 ", Bounds()) == "5000"


def test_configs_of_groups_that_riverlog_has_not_say_so() -> None:
    with pytest.raises(RiverlogError, match="share groups, and riverlog has none"):
        check_group_config("share.isolation.level", "read_committed", Bounds())
    with pytest.raises(RiverlogError, match=r"did you mean consumer\.session\.timeout\.ms"):
        check_group_config("consumer.session.timeout", "50000", Bounds())


def test_heartbeats_come_more_often_than_sessions_end() -> None:
    bounds = Bounds(session_timeout_ms=1_000, session_timeout_ms_min=100, heartbeat_interval_ms=500,
                    heartbeat_interval_ms_min=100)  # fmt: skip
    assert replaced_group_configs({HEARTBEAT_INTERVAL: "999"}, bounds) == {HEARTBEAT_INTERVAL: "999"}
    with pytest.raises(RiverlogError, match="must be less than"):
        replaced_group_configs({HEARTBEAT_INTERVAL: "1000"}, bounds)
    with pytest.raises(RiverlogError, match="must be less than"):
        replaced_group_configs({SESSION_TIMEOUT: "500"}, bounds)


def test_changes_leave_what_they_do_not_name() -> None:
    own = {SESSION_TIMEOUT: "50000", HEARTBEAT_INTERVAL: "6000"}
    changes = [ConfigChange(SESSION_TIMEOUT, DELETE, None), ConfigChange(ASSIGNMENT_INTERVAL, SET, "0")]
    assert changed_group_configs(own, changes, Bounds()) == {ASSIGNMENT_INTERVAL: "0", HEARTBEAT_INTERVAL: "6000"}
    assert own == {SESSION_TIMEOUT: "50000", HEARTBEAT_INTERVAL: "6000"}
    strange = {"of.a.newer.riverlog": "x", SESSION_TIMEOUT: "99999"}  # the broker's bounds were wider then
    changed = changed_group_configs(strange, [ConfigChange(HEARTBEAT_INTERVAL, SET, "6000")], Bounds())
    assert changed == {**strange, HEARTBEAT_INTERVAL: "6000"}


def test_narrower_bounds_of_the_broker_hold_for_what_was_set_before() -> None:
    own = {SESSION_TIMEOUT: "60000"}
    assert value_of(own, SESSION_TIMEOUT, Bounds()) == 60_000
    assert value_of(own, SESSION_TIMEOUT, Bounds(session_timeout_ms_max=50_000)) == 50_000
    assert value_of({}, SESSION_TIMEOUT, Bounds(session_timeout_ms=48_000)) == 48_000


def test_rows() -> None:
    key = group_config_key("a/b")
    assert key == "group/a/b"
    row = encode_group_configs({SESSION_TIMEOUT: "50000"})
    assert row == b'{"format": 1, "configs": {"consumer.session.timeout.ms": "50000"}}'
    assert decode_group_configs(key, row) == {SESSION_TIMEOUT: "50000"}
    newer = b'{"format": 1, "configs": {"of.a.newer.riverlog": "x"}}'
    assert decode_group_configs(key, newer) == {"of.a.newer.riverlog": "x"}
    for bad in (b"", b"[]", b'{"format": 2, "configs": {}}', b'{"format": 1}',
                b'{"format": 1, "configs": {"consumer.session.timeout.ms": "x"}}'):  # fmt: skip
        with pytest.raises(Corruption):
            decode_group_configs(key, bad)
