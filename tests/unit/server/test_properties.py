"""The reader of `server.properties` text."""

from __future__ import annotations

import pytest

from riverlog.server.properties import MalformedProperties, Property, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1", {"a": "1"}),
        ("a: 1\nb 2\nc\t=\t3", {"a": "1", "b": "2", "c": "3"}),
        ("# no\n! neither\n\n   a = 1  ", {"a": "1  "}),
        ("a=one,\\\n   two,\\\n\tthree\nb=4", {"a": "one,two,three", "b": "4"}),
        ("a=ends with two backslashes \\\\\nb=2", {"a": "ends with two backslashes \\", "b": "2"}),
        ("a=last line continues\\", {"a": "last line continues"}),
        ("a=\\t\\n\\u00e9\\q\\=\\:", {"a": "\t\né" + "q=:"}),
        ("a\\ b\\=c=1", {"a b=c": "1"}),
        ("empty\nalso=\n", {"empty": "", "also": ""}),
        ("a==1", {"a": "=1"}),
        ("a=1\r\nb=2\rc=3", {"a": "1", "b": "2", "c": "3"}),
        ("a=\\ud83d\\ude00", {"a": "😀"}),
        ("a=1\\\n# not a comment: it continues the value", {"a": "1# not a comment: it continues the value"}),
    ],
)
def test_text_becomes_entries(text: str, expected: dict[str, str]) -> None:
    assert {entry.name: entry.value for entry in parse(text)} == expected


def test_an_entry_knows_the_line_where_it_begins() -> None:
    assert parse("# one\na=1\\\n2\nb=3") == [Property("a", "12", 2), Property("b", "3", 4)]


def test_a_broken_escape_names_its_line() -> None:
    with pytest.raises(MalformedProperties, match=r"line 2: .*four hexadecimal digits"):
        parse("a=1\nb=\\u12")
