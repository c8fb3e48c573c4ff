"""The runner of golden scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from riverlog.testing.scripts import check_script, parse_script

SCRIPT = """# What this story is about.

# And its first step.
say a; say b c
---
a
b c

quiet
---
"""


async def execute(words: list[str]) -> list[str]:
    return [" ".join(words[1:])] if words[0] == "say" else []


def test_a_script_is_parsed_into_blocks() -> None:
    about, first, second = parse_script(SCRIPT)
    assert about.commands == []
    assert first.commands == ["say a", "say b c"]
    assert first.output == ["a", "b c"]
    assert (second.commands, second.output) == (["quiet"], [])
    with pytest.raises(ValueError, match="without a line of dashes: say a"):
        parse_script("say a")


def test_a_script_that_says_what_happens_passes(tmp_path: Path) -> None:
    path = tmp_path / "story.txt"
    path.write_text(SCRIPT)
    check_script(path, execute)


def test_a_script_that_says_something_else_fails_or_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "story.txt"
    path.write_text(SCRIPT.replace("a\nb c", "x"))
    with pytest.raises(AssertionError, match=r"story\.txt says something else"):
        check_script(path, execute)
    monkeypatch.setenv("RIVERLOG_UPDATE_SCRIPTS", "1")
    check_script(path, execute)
    assert path.read_text() == SCRIPT
