"""From a `riverlog serve` line to settings, read alike by the quick reader and by the parser of all commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from riverlog.cli import app
from riverlog.cli.errors import CommandError
from riverlog.cli.serve import ServeArguments, overrides, quick_arguments, refuse_where_it_cannot_run

LINES = [
    [],
    ["--data-dir", "/data"],
    ["--data-dir=/data", "--kafka=127.0.0.1:0", "--http", "127.0.0.1:0"],
    ["--advertise", "broker.example:9092", "--config", "server.properties", "--insecure"],
    ["--set", "a=1", "--set=b=2=3", "--set", "c="],
    ["--json", "--data-dir", "/data"],
]


@pytest.mark.parametrize("line", LINES)
def test_both_readers_read_a_plain_line_alike(line: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[ServeArguments] = []
    monkeypatch.setattr(app, "run_server", lambda arguments: seen.append(arguments) or 0)
    assert app.run_command(["serve", *line]) == 0
    assert seen == [quick_arguments(line)]


@pytest.mark.parametrize(
    "line",
    [
        ["--help"],
        ["--bogus"],
        ["extra"],
        ["--data-dir"],
        ["--data-dir="],
        ["--data-dir", "--insecure"],
        ["--kafka", "a:1", "--kafka", "b:2"],
        ["--insecure=true"],
        ["--insecure", "--insecure"],
        ["--json", "--json"],
        ["--json=true"],
    ],
)
def test_a_line_that_is_not_plain_is_left_to_the_parser_of_all_commands(line: list[str]) -> None:
    assert quick_arguments(line) is None


def test_options_become_settings_and_win_over_set() -> None:
    arguments = ServeArguments(
        data_dir="/d", kafka="127.0.0.1:1", advertise="h:2", http="127.0.0.1:3", insecure=True,
        set=("num.partitions=4", "log.dir=/other", "listeners=PLAINTEXT://127.0.0.1:9"),
    )  # fmt: skip
    assert overrides(arguments) == {
        "num.partitions": "4",
        "log.dirs": "/d",
        "listeners": "PLAINTEXT://127.0.0.1:1",
        "advertised.listeners": "PLAINTEXT://h:2",
        "riverlog.http.listener": "127.0.0.1:3",
        "riverlog.insecure": "true",
    }


@pytest.mark.parametrize("text", ["novalue", "=1", " =1"])
def test_a_set_without_a_name_is_wrong_use(text: str) -> None:
    with pytest.raises(CommandError, match="give --set name=value") as caught:
        overrides(ServeArguments(set=(text,)))
    assert caught.value.status == 2


def test_windows_is_told_of_wsl() -> None:
    with pytest.raises(CommandError, match="WSL"):
        refuse_where_it_cannot_run("win32", True)


def test_without_assertions_it_does_not_start() -> None:
    with pytest.raises(CommandError, match="PYTHONOPTIMIZE"):
        refuse_where_it_cannot_run("linux", False)


def test_a_wrong_setting_is_one_line_and_exit_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from riverlog.cli import run

    assert run(["serve", "--data-dir", str(tmp_path), "--set", "num.partition=3"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("riverlog: unknown setting 'num.partition': did you mean 'num.partitions'")
    assert said.count("\n") == 1
    assert run(["serve", "--kafka", "0.0.0.0:9092"]) == 2
    assert "--insecure" in capsys.readouterr().err
