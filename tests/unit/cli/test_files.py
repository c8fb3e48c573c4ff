"""`riverlog dump` and `riverlog verify` over a directory that a broker has just left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from riverlog.cli import run
from riverlog.library import Broker


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two records in one partition, and a clean stop."""
    place = tmp_path_factory.mktemp("data")
    lines = place / "lines"
    lines.write_text("one:1\ntwo:2\n")
    with Broker(place / "data") as broker:
        assert run(["produce", "t", str(lines), "-K", ":", "-b", broker.bootstrap_servers]) == 0
    return place / "data"


def segment(directory: Path) -> Path:
    (found,) = directory.glob("topics/t-0/*.log")
    return found


def test_a_segment_is_dumped_with_its_records(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dump", str(segment(directory)), "--records"]) == 0
    said = capsys.readouterr().out
    assert "batch base_offset=0" in said
    assert "key=two" in said
    assert run(["dump", str(segment(directory)), "--records", "--json"]) == 0
    entries = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [entry["value"] for entry in entries if entry["kind"] == "record"] == ["1", "2"]


def test_what_is_no_file_of_ours_is_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "picture.png").write_bytes(b"")
    assert run(["dump", str(tmp_path / "picture.png")]) == 2
    assert "picture.png is not a file of a data directory" in capsys.readouterr().err
    assert run(["dump", str(tmp_path / "00000000000000000000.log")]) == 1
    assert "there is no such file" in capsys.readouterr().err
    assert run(["dump", str(tmp_path)]) == 2
    assert "is a directory: give one file of it" in capsys.readouterr().err


def test_of_the_catalog_dump_says_what_reads_it(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dump", str(directory / "catalog.db")]) == 2
    assert "`sqlite3 catalog.db .dump` reads it" in capsys.readouterr().err


def test_a_catalog_that_is_damaged_or_missing_is_found(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And verify leaves it as it was."""
    path = directory / "catalog.db"
    sound = path.read_bytes()
    for content, said in (
        (None, "is missing"),
        (b"no database" * 1000, "is damaged: file is not a database"),
        (b"", "is damaged: no such table: rows"),
        (sound[:4096] + b"\xff" * 4096 + sound[8192:], "is damaged"),
    ):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        try:
            assert run(["verify", str(directory)]) == 1
            assert f"{path}: {said}" in capsys.readouterr().out
            assert content is None or path.read_bytes() == content
        finally:
            path.write_bytes(sound)
    assert run(["verify", str(directory)]) == 0


def test_a_sound_directory_is_said_to_be_sound(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", str(directory)]) == 0
    assert "everything is as it was written" in capsys.readouterr().out
    assert run(["verify", str(directory / "none")]) == 2


def test_a_flipped_bit_is_found_and_its_place_named(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = segment(directory)
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    try:
        assert run(["verify", str(directory), "--json"]) == 1
        found = json.loads(capsys.readouterr().out)
        assert not found["sound"]
        assert any(problem["path"] == str(path) for problem in found["problems"])
    finally:
        path.write_bytes(sound)
