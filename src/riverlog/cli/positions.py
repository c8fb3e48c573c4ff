"""Where in a log somebody wants to be, as people write it: `earliest`, `latest`, an offset, `-N` from the end, a time.

A time is ISO 8601 (`2013-01-01T10:00:00Z`; without a zone it is UTC), `@` and milliseconds since 1970, or an age:
`90s`, `15m`, `2h`, `7d` ago. Pure.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeAlias

from riverlog.base.units import DAY_MS, HOUR_MS, INT64_MAX, MINUTE_MS, SECOND_MS

_UNITS_MS: Final = {"s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
_AGE: Final = re.compile(r"(\d{1,9})([smhd])")
_WHOLE: Final = re.compile(r"-?\d{1,19}")
FORMS: Final = (
    "earliest, latest, an offset, -N (N before the end), "
    "or a time (2013-01-01T10:00:00Z, @MILLISECONDS, or 90s, 15m, 2h, 7d ago)"
)


class Earliest(NamedTuple):
    """The oldest record that there is."""


class Latest(NamedTuple):
    """After the newest record."""


class At(NamedTuple):
    offset: int


class BeforeEnd(NamedTuple):
    records: int


class AtTime(NamedTuple):
    """The first record with that timestamp or a later one."""

    timestamp_ms: int


Place: TypeAlias = Earliest | Latest | At | BeforeEnd | AtTime


def parse_place(text: str, now_ms: int) -> Place:
    """Raises ValueError that says what to give."""
    text = text.strip()
    if text in ("earliest", "beginning"):
        return Earliest()
    if text in ("latest", "end"):
        return Latest()
    if _WHOLE.fullmatch(text) and abs(number := int(text)) <= INT64_MAX:
        return At(number) if number >= 0 else BeforeEnd(-number)
    if text.startswith("@") and text[1:].isascii() and text[1:].isdigit() and int(text[1:]) <= INT64_MAX:
        return AtTime(int(text[1:]))
    if age := _AGE.fullmatch(text):
        return AtTime(max(0, now_ms - int(age[1]) * _UNITS_MS[age[2]]))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no place in a log: give {FORMS}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return AtTime(max(0, round(moment.timestamp() * 1000)))


def parse_shift(text: str) -> int:
    """So many records on, or back where it is below zero. Raises ValueError that says what to give."""
    if re.fullmatch(r"[+-]?\d{1,19}", text.strip()) and abs(shift := int(text)) <= INT64_MAX:
        return shift
    raise ValueError(f"{text!r} is no number of records: give N to go on, -N to go back")
