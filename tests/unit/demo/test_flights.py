"""The data of the demo, and what is counted in it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from zoneinfo import ZoneInfo

import pytest

from riverlog.demo import flights
from riverlog.demo.flights import DataMissing, Row, Tally, airlines, differences, rows, tally, to_flight


@pytest.fixture(scope="module")
def some() -> list[Row]:
    return list(rows(3000))


def test_a_row_becomes_a_record(some: list[Row]) -> None:
    flight = to_flight(some[0])
    assert flight.key == b"N14228"
    assert datetime.fromtimestamp(flight.timestamp_ms / 1000, UTC) == datetime(2013, 1, 1, 10, 15, tzinfo=UTC)
    value = json.loads(flight.value)
    assert (value["carrier"], value["flight"], value["dep_delay"]) == ("UA", 1545, 2)
    assert list(value) == list(some[0])


def test_what_is_missing_is_null_and_a_missing_tail_number_is_no_key(some: list[Row]) -> None:
    without = next(row for row in some if row["tailnum"] == "NA")
    assert to_flight(without).key is None
    assert json.loads(to_flight(without).value)["tailnum"] is None


def test_the_timestamps_are_the_local_departures(some: list[Row]) -> None:
    zone = ZoneInfo("America/New_York")
    for row in some:
        local = datetime(*(int(row[name]) for name in ("year", "month", "day", "hour", "minute")), tzinfo=zone)
        assert to_flight(row).timestamp_ms == local.timestamp() * 1000


def count(of: list[Row]) -> Tally:
    """As the readers do: from the records."""
    total = Tally()
    for flight in map(to_flight, of):
        total.add(None if flight.key is None else flight.key.decode(), json.loads(flight.value))
    return total


def test_what_comes_back_as_it_went_differs_in_nothing(some: list[Row]) -> None:
    assert differences(tally(some), count(some)) == []


def test_a_lost_flight_is_told_in_three_ways(some: list[Row]) -> None:
    said = differences(tally(some), count(some[1:]))
    assert said[0] == "2,999 records were read, the CSV has 3,000 rows"
    assert said[1].startswith("carrier UA: ")
    assert said[-1].startswith("1 aircraft have other flights, or in another order, than the CSV: N14228")


def test_a_doubled_flight_is_told(some: list[Row]) -> None:
    assert differences(tally(some), count([*some, some[0]]))[0].startswith("3,001 records")


def test_another_order_within_a_key_is_told_and_only_that(some: list[Row]) -> None:
    swapped = list(some)
    tail = next(row["tailnum"] for row in some if sum(one["tailnum"] == row["tailnum"] for one in some) > 1)
    one, other, *_ = (index for index, row in enumerate(some) if row["tailnum"] == tail)
    swapped[one], swapped[other] = swapped[other], swapped[one]
    (said,) = differences(tally(some), count(swapped))
    assert said.startswith(f"1 aircraft have other flights, or in another order, than the CSV: {tail}")


def test_flights_without_a_key_have_no_order(some: list[Row]) -> None:
    without = [row for row in some if row["tailnum"] == "NA"]
    assert len(without) > 1
    assert differences(tally(without), count(without[::-1])) == []


def test_carriers_have_names() -> None:
    assert airlines()["UA"] == "United Air Lines Inc."


def test_missing_data_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(flights, "distribution", missing)
    with pytest.raises(DataMissing, match="make demo"):
        next(rows())
