"""A running server for a test of its own, or for a module's tests that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.serving import Serve


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Over an empty directory, with no setting changed."""
    with Serve(tmp_path / "data") as running:
        yield running
