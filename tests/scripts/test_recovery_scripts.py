"""The golden scripts about recovery."""

from __future__ import annotations

from pathlib import Path

import pytest

from riverlog.testing.recovery_scripts import RecoveryScript
from riverlog.testing.scripts import check_script

SCRIPTS = sorted((Path(__file__).parent / "recovery").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    check_script(path, RecoveryScript().execute)


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 6
