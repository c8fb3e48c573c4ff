"""Places in a log as people write them."""

from __future__ import annotations

import pytest

from riverlog.cli.positions import At, AtTime, BeforeEnd, Earliest, Latest, Place, parse_place, parse_shift

NOW_MS = 1_700_000_000_000


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("earliest", Earliest()),
        ("beginning", Earliest()),
        ("latest", Latest()),
        ("end", Latest()),
        ("0", At(0)),
        ("17", At(17)),
        ("-5", BeforeEnd(5)),
        ("@1357034400000", AtTime(1_357_034_400_000)),
        ("2013-01-01T10:00:00Z", AtTime(1_357_034_400_000)),
        ("2013-01-01T10:00:00", AtTime(1_357_034_400_000)),
        ("2013-01-01T05:00:00-05:00", AtTime(1_357_034_400_000)),
        ("2013-01-01", AtTime(1_356_998_400_000)),
        ("90s", AtTime(NOW_MS - 90_000)),
        ("15m", AtTime(NOW_MS - 900_000)),
        ("2h", AtTime(NOW_MS - 7_200_000)),
        ("7d", AtTime(NOW_MS - 7 * 86_400_000)),
        ("99999999d", AtTime(0)),
    ],
)
def test_places(text: str, place: Place) -> None:
    assert parse_place(text, NOW_MS) == place


@pytest.mark.parametrize("text", ["", "soon", "1.5", "@", "@x", "3w", "9" * 30, "2013-13-01"])
def test_what_is_no_place_says_what_to_give(text: str) -> None:
    with pytest.raises(ValueError, match="is no place in a log: give earliest"):
        parse_place(text, NOW_MS)


@pytest.mark.parametrize(("text", "records"), [("5", 5), ("+5", 5), ("-5", -5), ("0", 0), (" -1 ", -1)])
def test_shifts(text: str, records: int) -> None:
    assert parse_shift(text) == records


@pytest.mark.parametrize("text", ["", "1h", "1.5", "--5", "9" * 19, "9" * 30])
def test_what_is_no_shift_says_what_to_give(text: str) -> None:
    with pytest.raises(ValueError, match="is no number of records: give N to go on, -N to go back"):
        parse_shift(text)
