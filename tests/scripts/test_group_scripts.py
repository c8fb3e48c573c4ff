"""The golden scripts about groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from riverlog.testing.group_scripts import GroupScript
from riverlog.testing.scripts import check_script

SCRIPTS = sorted((Path(__file__).parent / "groups").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    check_script(path, GroupScript().execute)


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 7
