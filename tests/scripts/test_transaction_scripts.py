"""The golden scripts about one transactional id."""

from __future__ import annotations

from pathlib import Path

import pytest

from riverlog.testing.scripts import check_script
from riverlog.testing.transaction_scripts import TransactionScript

SCRIPTS = sorted((Path(__file__).parent / "transactions").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    check_script(path, TransactionScript().execute)


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 9
