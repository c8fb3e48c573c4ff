"""How riverlog is started as a peer."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.peers.riverlog import Riverlog


def test_the_command_serves_the_directory_on_the_chosen_port(tmp_path: Path) -> None:
    broker = Riverlog(tmp_path, settings={"num.partitions": "4"})
    broker.prepare()
    command = broker.command()
    assert command[1:4] == ["-m", "riverlog", "serve"]
    assert command[command.index("--kafka") + 1] == broker.bootstrap
    assert command[command.index("--data-dir") + 1] == str(tmp_path / "data")
    assert command[-2:] == ["--set", "num.partitions=4"]


def test_a_process_that_does_not_serve_is_reported_with_what_it_said(tmp_path: Path) -> None:
    false = tmp_path / "python"
    false.write_text("#!/bin/sh\necho no such module >&2\nexit 1\n")
    false.chmod(0o755)
    broker = Riverlog(tmp_path / "directory", python=str(false))
    with pytest.raises(RuntimeError, match="no such module"):
        broker.start()
    broker.stop()
