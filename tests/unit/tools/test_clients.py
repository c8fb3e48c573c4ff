"""The installer of foreign clients: found, missing, required."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import clients
from tools.clients.__main__ import main


@pytest.fixture(autouse=True)
def nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with an empty cache and no programs."""
    monkeypatch.setenv("RIVERLOG_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("RIVERLOG_REQUIRE", raising=False)


@pytest.mark.parametrize("name", clients.CLIENTS)
def test_a_missing_client_skips_its_tests_by_name(name: str) -> None:
    with pytest.raises(pytest.skip.Exception, match=name):
        clients.require(name)


@pytest.mark.parametrize("name", ["kcat", "node", "java"])
def test_a_missing_client_that_is_required_fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIVERLOG_REQUIRE", "kcat, node,java")
    with pytest.raises(pytest.fail.Exception, match=name):
        clients.require(name)


def test_a_client_that_is_there_is_given(tmp_path: Path) -> None:
    program = tmp_path / "kcat"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert clients.require("kcat") == program
    assert clients.install("kcat") is None


def test_what_cannot_be_installed_is_told_and_fails_only_where_it_is_needed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr(clients, "CLIENTS", {})
    monkeypatch.setattr("tools.clients.__main__.CLIENTS", clients.CLIENTS)
    clients.CLIENTS["kcat"] = clients.Client("kcat", lambda: None, refuse)
    assert main([]) == 0
    assert capsys.readouterr().out == "kcat: missing: no network\n"
    assert main(["kcat"]) == 1
    monkeypatch.setenv("RIVERLOG_REQUIRE", "kcat")
    assert main([]) == 1


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kafkacat"]) == 2
    assert "kcat" in capsys.readouterr().err
