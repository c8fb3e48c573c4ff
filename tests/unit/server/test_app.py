"""`run`: from settings to an exit code. The whole process is tested in tests/process."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import riverlog
from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.catalog.contract import CatalogUnavailable
from riverlog.server import app
from riverlog.server.compose import Server
from riverlog.server.settings import ServerSettings, load


@pytest.fixture(autouse=True)
def _this_process_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`run` may do as it likes with a process of its own; this one is pytest's."""
    import gc

    monkeypatch.setattr(app, "_raise_open_files", lambda: None)
    monkeypatch.setattr(app.logging, "basicConfig", lambda **_: None)
    monkeypatch.setattr(app.gc, "freeze", lambda: None)
    threshold = gc.get_threshold()
    yield
    gc.set_threshold(*threshold)


def settings(directory: Path) -> ServerSettings:
    return load(
        None,
        {
            "log.dirs": str(directory),
            "listeners": "PLAINTEXT://127.0.0.1:0",
            "riverlog.http.listener": "127.0.0.1:0",
        },
    )


def test_it_says_one_line_and_ends_with_a_signal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    say = app._say_ready

    def say_and_end(server: Server) -> None:
        say(server)
        threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGTERM)).start()

    monkeypatch.setattr(app, "_say_ready", say_and_end)
    assert app.run(settings(tmp_path / "data")) == 0
    said = capsys.readouterr()
    line = (
        rf"riverlog {re.escape(riverlog.__version__)} ready: kafka 127\.0\.0\.1:\d+, http 127\.0\.0\.1:\d+, "
        rf"data {re.escape(str(tmp_path))}/data, started in \d+\.\d\d s( \(pure Python kernels: .*\))?\n"
    )
    assert re.fullmatch(line, said.out)
    assert said.err == ""


def test_it_says_an_object_where_a_program_starts_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    say = app._say_ready_as_json

    def say_and_end(server: Server) -> None:
        say(server)
        threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGTERM)).start()

    monkeypatch.setattr(app, "_say_ready_as_json", say_and_end)
    assert app.run(settings(tmp_path / "data"), json=True) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    said = json.loads(out)
    assert re.fullmatch(r"127\.0\.0\.1:\d+", said["kafka"])
    assert re.fullmatch(r"127\.0\.0\.1:\d+", said["http"])
    assert said["kafka"] != said["http"]
    assert (said["event"], said["pid"], said["data_dir"]) == ("ready", os.getpid(), str(tmp_path / "data"))
    assert said["version"] == riverlog.__version__
    assert said["cluster_id"]
    assert said["started_in_s"] > 0  # since the process began, which is that of the tests
    assert said["kernels"] in ("compiled", "reference")


def test_a_failure_that_it_cannot_go_on_after_stops_it_with_1(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_say_ready", lambda server: server.failures.append("the catalog could not be synced"))
    assert app.run(settings(tmp_path / "data")) == 1
    assert "stopped: the catalog could not be synced" in caplog.text


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RiverlogError(ErrorKind.STORAGE, "it is in use"), "riverlog: it is in use\n"),
        (CatalogUnavailable("the catalog is damaged"), "riverlog: the catalog is damaged\n"),
        (OSError(98, "cannot listen on x:1: Address already in use"), "riverlog: cannot listen on x:1: Address already in use\n"),
        (PermissionError(13, "Permission denied", "/data/catalog.db"), "riverlog: Permission denied: /data/catalog.db\n"),
    ],
)
def test_a_start_that_fails_is_one_line_and_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    async def failing(_: ServerSettings) -> Server:
        raise error

    monkeypatch.setattr(Server, "start", failing)
    assert app.run(settings(tmp_path / "data")) == 1
    assert capsys.readouterr().err == said


def test_the_start_is_counted_from_the_birth_of_the_process() -> None:
    """Linux tells it in hundredths; this process is older than a test."""
    assert 0.01 < app._seconds_since_process_start() < 7 * 86_400
