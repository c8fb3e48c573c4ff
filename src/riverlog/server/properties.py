"""Reading text in the form of Kafka's `server.properties` (Java's properties files). Pure; knows no setting by name.

`key=value`, `key: value` and `key value` are the same; `#` and `!` open a comment line; a backslash at the end of a
line joins the next one; `\\t \\n \\r \\f \\uXXXX` are escapes; before any other character a backslash means that
character.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

_BLANKS: Final = " \t\f"
_ESCAPES: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


class Property(NamedTuple):
    """One entry. `line` counts from 1 and is where the entry begins."""

    name: str
    value: str
    line: int


class MalformedProperties(ValueError):
    """Text that is not a properties file. `line` counts from 1."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(f"line {line}: {what}")
        self.line = line
        self.what = what


def parse(text: str) -> list[Property]:
    """All entries in order; a name that comes twice is given twice (the last counts). Raises MalformedProperties."""
    entries = []
    for line, logical in _logical_lines(text):
        raw_name, raw_value = _split(logical)
        entries.append(Property(_unescape(raw_name, line), _unescape(raw_value, line), line))
    return entries


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with continuations joined, without comments, blanks before them, and empty ones."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    index = 0
    while index < len(lines):
        first = index + 1
        line = lines[index].lstrip(_BLANKS)
        index += 1
        if not line or line[0] in "#!":
            continue
        while _continues(line):
            line = line[:-1]
            if index == len(lines):
                break
            line += lines[index].lstrip(_BLANKS)
            index += 1
        yield first, line


def _continues(line: str) -> bool:
    """An odd number of backslashes at the end; an even one is that many halved."""
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _split(line: str) -> tuple[str, str]:
    """The raw name and the raw value: at the first `=`, `:` or blank that no backslash precedes."""
    index = 0
    while index < len(line) and line[index] not in "=:" + _BLANKS:
        index += 2 if line[index] == "\\" else 1
    name, rest = line[:index], line[index:].lstrip(_BLANKS)
    if rest and rest[0] in "=:":
        rest = rest[1:].lstrip(_BLANKS)
    return name, rest


def _unescape(raw: str, line: int) -> str:
    if "\\" not in raw:
        return raw
    parts = []
    index = 0
    while index < len(raw):
        if raw[index] != "\\":
            parts.append(raw[index])
            index += 1
            continue
        escape = raw[index + 1 : index + 2]
        if escape == "u":
            digits = raw[index + 2 : index + 6]
            if len(digits) != 4 or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
                raise MalformedProperties(line, f"\\u wants four hexadecimal digits, not {digits!r}")
            parts.append(chr(int(digits, 16)))
            index += 6
        else:
            parts.append(_ESCAPES.get(escape, escape))
            index += 2
    return "".join(parts).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
