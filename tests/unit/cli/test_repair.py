"""`riverlog repair`: what it says, and with which exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from riverlog.cli import run
from riverlog.library import Broker


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("data")
    lines = place / "lines"
    lines.write_text("one\ntwo\n")
    with Broker(place / "data") as broker:
        assert run(["produce", "t", str(lines), "-b", broker.bootstrap_servers]) == 0
    return place / "data"


@pytest.fixture
def directory(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "data")
    return tmp_path / "data"


def test_a_sound_directory(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["repair", str(directory), "--skip"]) == 0
    assert capsys.readouterr().out == f"{directory}: nothing to repair\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--skip", "--truncate"], "exclude one another"),
        (["--partition", "0"], "needs a --topic"),
        (["--topic", "typo"], "has no topic typo"),
    ],
)
def test_wrong_use(directory: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str) -> None:
    assert run(["repair", str(directory), *options]) == 2
    assert said in capsys.readouterr().err


def test_what_is_no_data_directory_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["repair", str(tmp_path), "--skip"]) == 2
    assert "no meta.json" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_gone_is_named_by_the_catalog(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Printed, as JSON too, without a change; then its loss is accepted."""
    shutil.rmtree(directory / "topics" / "t-0")
    assert run(["verify", str(directory)]) == 1
    capsys.readouterr()
    assert run(["repair", str(directory), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["done"], said["losses"][0]["what"]) == (False, "the directory is gone")
    assert run(["repair", str(directory)]) == 1
    assert "nothing was done; --skip drops" in capsys.readouterr().out
    assert run(["repair", str(directory), "--truncate", "--topic", "t"]) == 0
    assert "offsets 0 to 1" in capsys.readouterr().out
    assert run(["verify", str(directory)]) == 0
