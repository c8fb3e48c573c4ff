"""Tables and JSON on stdout."""

from __future__ import annotations

import json

import pytest

from riverlog.cli.output import print_json, print_table


def test_a_pipe_gets_aligned_columns_with_numbers_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("topic", "count"), [("a", 5), ("longer", 12345), ("none", None)], title="these")
    assert capsys.readouterr().out == "these\nTOPIC   COUNT\na           5\nlonger  12345\nnone\n"


def test_a_terminal_gets_every_character_even_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_table(("name",), [("[red]not markup[/]",)])
    assert "[red]not markup[/]" in capsys.readouterr().out


def test_json_is_one_line_for_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "é", "of": [1, None]})
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert json.loads(said) == {"name": "é", "of": [1, None]}
    assert "é" in said
