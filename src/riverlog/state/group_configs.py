"""Every configuration of a group as data, and what changing some of them comes to. Pure.

Invariant: `GROUP_CONFIGS` has every entry of Kafka's list; what is kept of a group passed its check within the bounds
that the broker had then (`Bounds`). A broker with narrower bounds takes the nearest value that it allows.
Not here: where they are kept and who may change them (`broker/group_configs.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from riverlog.base.errors import Corruption, ErrorKind, RiverlogError
from riverlog.base.limits import kept_text_length_max
from riverlog.base.units import INT32_MAX
from riverlog.state.topic_configs import ConfigType, nearest
from riverlog.state.topics import ConfigChange, ConfigOperation

SESSION_TIMEOUT: Final = "consumer.session.timeout.ms"
HEARTBEAT_INTERVAL: Final = "consumer.heartbeat.interval.ms"
ASSIGNMENT_INTERVAL: Final = "consumer.assignment.interval.ms"

GROUP_PREFIX: Final = "group/"
FORMAT_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the broker's settings say of groups: defaults, and how far a group may go from them."""

    session_timeout_ms: int = 45_000
    session_timeout_ms_min: int = 45_000
    session_timeout_ms_max: int = 60_000
    heartbeat_interval_ms: int = 5_000
    heartbeat_interval_ms_min: int = 5_000
    heartbeat_interval_ms_max: int = 15_000
    assignment_interval_ms: int = 1_000
    assignment_interval_ms_min: int = 0
    assignment_interval_ms_max: int = 15_000


class GroupConfigSpec(NamedTuple):
    """`obeyed` False: a configuration of share or streams groups, which riverlog does not have: refused."""

    name: str
    type: ConfigType
    documentation: str
    obeyed: bool = False


_KINDS: Final = {"share": "share groups", "streams": "streams groups", "errors": "share groups"}

GROUP_CONFIGS: Final[Mapping[str, GroupConfigSpec]] = {
    spec.name: spec
    for spec in (
        GroupConfigSpec(
            ASSIGNMENT_INTERVAL, ConfigType.INT, "At least so long from one target assignment to the next.", True
        ),
        GroupConfigSpec(
            HEARTBEAT_INTERVAL, ConfigType.INT, "How often the members of a consumer group are told to beat.", True
        ),
        GroupConfigSpec(
            SESSION_TIMEOUT, ConfigType.INT, "A member of a consumer group that is silent for so long is out.", True
        ),
        GroupConfigSpec("errors.deadletterqueue.copy.record.enable", ConfigType.BOOLEAN, ""),
        GroupConfigSpec("errors.deadletterqueue.topic.name", ConfigType.STRING, ""),
        GroupConfigSpec("share.assignment.interval.ms", ConfigType.INT, ""),
        GroupConfigSpec("share.auto.offset.reset", ConfigType.STRING, ""),
        GroupConfigSpec("share.delivery.count.limit", ConfigType.INT, ""),
        GroupConfigSpec("share.heartbeat.interval.ms", ConfigType.INT, ""),
        GroupConfigSpec("share.isolation.level", ConfigType.STRING, ""),
        GroupConfigSpec("share.partition.max.record.locks", ConfigType.INT, ""),
        GroupConfigSpec("share.record.lock.duration.ms", ConfigType.INT, ""),
        GroupConfigSpec("share.renew.acknowledge.enable", ConfigType.BOOLEAN, ""),
        GroupConfigSpec("share.session.timeout.ms", ConfigType.INT, ""),
        GroupConfigSpec("streams.assignment.interval.ms", ConfigType.INT, ""),
        GroupConfigSpec("streams.heartbeat.interval.ms", ConfigType.INT, ""),
        GroupConfigSpec("streams.initial.rebalance.delay.ms", ConfigType.INT, ""),
        GroupConfigSpec("streams.num.standby.replicas", ConfigType.INT, ""),
        GroupConfigSpec("streams.session.timeout.ms", ConfigType.INT, ""),
    )
}
OBEYED: Final = tuple(spec for spec in GROUP_CONFIGS.values() if spec.obeyed)


def bounds_of(name: str, bounds: Bounds) -> tuple[int, int, int]:
    """The default, the least and the most of a configuration that is obeyed."""
    match name:
        case _ if name == SESSION_TIMEOUT:
            return bounds.session_timeout_ms, bounds.session_timeout_ms_min, bounds.session_timeout_ms_max
        case _ if name == HEARTBEAT_INTERVAL:
            return bounds.heartbeat_interval_ms, bounds.heartbeat_interval_ms_min, bounds.heartbeat_interval_ms_max
        case _:
            return bounds.assignment_interval_ms, bounds.assignment_interval_ms_min, bounds.assignment_interval_ms_max


def check_group_config(name: str, text: str, bounds: Bounds) -> str:
    """The text to keep. Raises INVALID_CONFIG that says what is allowed."""
    if (spec := GROUP_CONFIGS.get(name)) is None:
        raise _refused(f"unknown group config {name!r}{nearest(name, GROUP_CONFIGS)}")
    if not spec.obeyed:
        kind = _KINDS[name.partition(".")[0]]
        raise _refused(f"{name} is a config of {kind}, and riverlog has none yet: leave it out")
    _, low, high = bounds_of(name, bounds)
    text = text.strip()
    if len(text) > kept_text_length_max or not text.removeprefix("-").isdecimal() or not text.isascii():
        raise _refused(f"{name}={text[:40]!r} is not a whole number of milliseconds")
    if not low <= int(text) <= high or int(text) > INT32_MAX:
        raise _refused(f"{name}={text} is out of the broker's bounds: give {low} to {high}")
    return str(int(text))


def _checked_together(configs: Mapping[str, str], bounds: Bounds) -> Mapping[str, str]:
    session_ms, heartbeat_ms = value_of(configs, SESSION_TIMEOUT, bounds), value_of(configs, HEARTBEAT_INTERVAL, bounds)
    if heartbeat_ms >= session_ms:
        raise _refused(
            f"{HEARTBEAT_INTERVAL}={heartbeat_ms} must be less than {SESSION_TIMEOUT}={session_ms}: lower the first"
        )
    return configs


def value_of(configs: Mapping[str, str], name: str, bounds: Bounds) -> int:
    """What holds for a group that has these: its own, as far as the broker's bounds of today let it."""
    default, low, high = bounds_of(name, bounds)
    text = configs.get(name)
    return default if text is None else min(max(int(text), low), high)


def changed_group_configs(
    current: Mapping[str, str], changes: Sequence[ConfigChange], bounds: Bounds
) -> Mapping[str, str]:
    """What IncrementalAlterConfigs comes to. What is not named stays, also what is not known here, or out of bounds by
    now. Raises INVALID_CONFIG and INVALID_REQUEST."""
    configs = dict(current)
    seen: set[str] = set()
    for name, operation, value in changes:
        if name in seen:
            raise RiverlogError(ErrorKind.INVALID_REQUEST, f"config {name} is named twice: name it once")
        seen.add(name)
        if operation is ConfigOperation.DELETE:
            if name not in GROUP_CONFIGS:
                raise _refused(f"unknown group config {name!r}{nearest(name, GROUP_CONFIGS)}")
            configs.pop(name, None)
        elif operation is ConfigOperation.SET:
            configs[name] = check_group_config(name, _given(name, value), bounds)
        else:
            raise _refused(f"{name} is no list: it can be set and deleted, nothing can be added to it or taken from it")
    return _checked_together(configs, bounds)


def replaced_group_configs(configs: Mapping[str, str | None], bounds: Bounds) -> Mapping[str, str]:
    """What AlterConfigs comes to: these and no others. Raises INVALID_CONFIG and INVALID_REQUEST."""
    checked = {name: check_group_config(name, _given(name, value), bounds) for name, value in configs.items()}
    return _checked_together(checked, bounds)


def _given(name: str, value: str | None) -> str:
    if value is None:
        raise RiverlogError(ErrorKind.INVALID_REQUEST, f"{name} without a value: give one, or delete it")
    return value


def _refused(message: str) -> RiverlogError:
    return RiverlogError(ErrorKind.INVALID_CONFIG, message)


# ---------------------------------------------------------------------- rows: docs/formats/catalog.md


def group_config_key(group_id: str) -> str:
    return GROUP_PREFIX + group_id


def encode_group_configs(configs: Mapping[str, str]) -> bytes:
    return json.dumps({"format": FORMAT_VERSION, "configs": dict(sorted(configs.items()))}).encode()


def decode_group_configs(key: str, value: bytes) -> Mapping[str, str]:
    """Raises Corruption. A configuration that is not known here (a newer riverlog's) is kept, and not obeyed."""
    try:
        row: Any = json.loads(value)
        if row["format"] != FORMAT_VERSION:
            raise Corruption(key, 0, f"format {row['format']} is not known here (a newer riverlog wrote it?)")
        configs = {str(name): str(text) for name, text in row["configs"].items()}
        for name in (SESSION_TIMEOUT, HEARTBEAT_INTERVAL, ASSIGNMENT_INTERVAL):
            int(configs.get(name, "0"))
        return configs
    except (ValueError, KeyError, TypeError, AttributeError) as cause:
        raise Corruption(key, 0, f"not the configs of a group ({cause})") from cause
