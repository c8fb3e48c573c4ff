"""The parser of all commands: what it offers and how it says no."""

from __future__ import annotations

import re

import pytest

from riverlog.cli import run as run_cli
from tests.unit.cli.conftest import Run

COMMANDS = {
    "": {"serve", "topic", "produce", "consume", "group", "transaction", "dump", "verify", "simulate"},
    "topic": {"create", "list", "describe", "alter", "delete"},
    "group": {"list", "describe", "delete", "delete-offsets", "reset"},
    "transaction": {"list", "describe", "open", "abort"},
}


@pytest.mark.parametrize("of", COMMANDS)
def test_help_names_the_commands(of: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli([*of.split(), "--help"]) == 0
    said = capsys.readouterr().out
    assert {name for name in COMMANDS[of] if re.search(rf"│ {name} ", said)} == COMMANDS[of]


def test_without_a_command_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli([]) == 0
    assert "Usage: riverlog COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize("tokens", [["--version"], ["--version", "--version"]])
def test_version(tokens: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(tokens) == 0
    assert re.fullmatch(r"riverlog \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    "command", ["topic create x", "topic list", "topic describe x", "topic alter x -p 2", "topic delete x", "produce x",
                "consume x", "group list", "group describe x", "group delete x", "group reset x --to 1",
                "group delete-offsets x -t y", "transaction list", "transaction describe x", "transaction open",
                "transaction abort x -p 0 --start 1"],
)  # fmt: skip
def test_every_command_says_where_no_broker_is_and_takes_json(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli([*command.split(), "--json", "-b", "127.0.0.1:1"]) == 1
    assert capsys.readouterr().err == (
        "riverlog: no broker at 127.0.0.1:1 (connection refused): start one with `riverlog serve`, "
        "or name another with -b HOST:PORT or RIVERLOG_BOOTSTRAP\n"
    )


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        ((), "riverlog serve --help says more"),
        (("--data-dir",), "requires an argument"),
        (("--insecure=maybe",), "riverlog serve --help says more"),
    ],
)
def test_a_wrong_serve_line(tokens: tuple[str, ...], said: str, run: Run) -> None:
    done = run("serve", *(tokens or ("--bogus",)))
    assert done.status == 2
    assert said in done.err
    assert done.err.count("\n") == 1
