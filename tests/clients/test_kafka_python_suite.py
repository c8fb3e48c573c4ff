"""kafka-python's own integration tests, from its source distribution, against a riverlog process.

EXPECTED names each test that does not pass, with the reason; any other that fails fails here, and so does one that is in
EXPECTED and passes, so that the list stays true."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.clients.conftest import Served
from tools.clients import require

kafka_version: Final = "4.3.0"  # what our ApiVersions looks like to the client
seconds_max: Final = 120

EXPECTED: Final = {
    "test_create_describe_delete_acls": "ACLs come with security; fails on Kafka without an authorizer too",
    "test_ssl_handshake": "the fixture wants a broker that it starts itself; fails on Kafka by address too",
    "test_legacy_kafka_client_ssl": "the fixture wants a broker that it starts itself; fails on Kafka by address too",
    "test_describe_metadata_quorum": "there is no quorum of controllers to describe",
}
# What the broker says about requests that this suite sends and that no handler answers.
REFUSED: Final = re.compile(r"closed: unknown api key (29|55) ")
OLD: Final = re.compile(r"gets records that are \d+ days old")  # the suite produces with timestamps of 1970

# The source distribution lacks this module of its tests; a broker by address needs no more of it.
SERVICE: Final = """
class ExternalService:
    def __init__(self, host, port):
        self.host, self.port = host, port

class SpawnedService:
    def __init__(self, *args, **kwargs):
        raise RuntimeError("only a broker by address is tested here")
"""


@pytest.mark.slow
@pytest.mark.timeout(seconds_max + 30)
def test_kafka_pythons_integration_tests_pass(process: Served, tmp_path: Path) -> None:
    source = Path(require("kafka-python-sdist"))
    shutil.copytree(source / "test", tmp_path / "test")
    shutil.copy(source / "pyproject.toml", tmp_path)
    (tmp_path / "test" / "__init__.py").touch()
    (tmp_path / "test" / "service.py").write_text(SERVICE)
    (tmp_path / "servers" / kafka_version / "kafka-bin").mkdir(parents=True)
    process.complaints()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "test/integration", "-q", "-rfE", "-p", "no:cacheprovider", "-p", "no:riverlog",
         "--disable-warnings", "--show-capture=no", "-o", "log_level=WARNING", "--timeout=60", "--tb=short"],
        cwd=tmp_path, capture_output=True, text=True, timeout=seconds_max,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PROJECT_ROOT": str(tmp_path), "KAFKA_VERSION": kafka_version,
             "KAFKA_URI": f"kafka://{process.bootstrap}"},
    )  # fmt: skip
    failed = set(re.findall(r"^(?:FAILED|ERROR) \S*?::(?:\w+::)?(\w+)", done.stdout, re.MULTILINE))
    assert failed == EXPECTED.keys(), done.stdout[-20_000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= 40
    assert [line for line in process.complaints() if not REFUSED.search(line) and not OLD.search(line)] == []
