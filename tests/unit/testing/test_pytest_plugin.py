"""The plugin as another project's tests meet it: pytest in a process of its own, over a directory that knows nothing of us."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

USES: Final = '''
import socket

def test_the_broker_is_there(riverlog_broker, riverlog_topic):
    host, _, port = riverlog_broker.bootstrap_servers.rpartition(":")
    socket.create_connection((host, int(port)), timeout=10).close()
    assert riverlog_topic.startswith("test-the-broker-is-there")

def test_each_test_has_its_own_topic(riverlog_broker, riverlog_topic, request):
    assert riverlog_topic.startswith("test-each-test")
    request.config.first = riverlog_broker

def test_and_all_share_the_broker(riverlog_broker, request):
    assert request.config.first is riverlog_broker
'''
USES_NOT: Final = '''
import sys

def test_nothing_of_riverlog_was_imported():
    loaded = sorted(name for name in sys.modules if name.split(".")[0] == "riverlog")
    assert loaded == ["riverlog", "riverlog.testing", "riverlog.testing.pytest_plugin"]
    assert not {"h11", "sqlite3", "crc32c", "confluent_kafka"} & sys.modules.keys()
'''


def run_pytest(directory: Path, text: str, *options: str) -> str:
    """What pytest says; its exit code must be 0."""
    (directory / "test_theirs.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, str(directory)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV"))}
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_suite_that_uses_the_fixtures(tmp_path: Path) -> None:
    assert "3 passed" in run_pytest(tmp_path, USES, "-W", "error")


def test_a_suite_that_does_not_use_them_pays_nothing(tmp_path: Path) -> None:
    # Hypothesis, a plugin of our own tests, imports sqlite3 by itself.
    assert "1 passed" in run_pytest(tmp_path, USES_NOT, "-p", "no:hypothesispytest", "-p", "no:anyio")


def test_the_fixtures_say_what_they_are(tmp_path: Path) -> None:
    said = run_pytest(tmp_path, USES, "--fixtures", "-q")
    assert "riverlog_broker" in said
    assert "A broker in memory, in this process" in said
    assert "The name of a fresh topic of one partition." in said
