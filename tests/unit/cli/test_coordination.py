"""The lines of `riverlog group`: what the parser refuses before anything is asked."""

from __future__ import annotations

import pytest

from tests.unit.cli.conftest import Run


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("group describe", "name at least one group"),
        ("group delete", "name at least one group"),
        ("group reset", "riverlog group reset --help says more"),
        ("group delete-offsets g", "riverlog group delete-offsets --help says more"),
        ("group reset g --to 1 -t t -p x", "riverlog group reset --help says more"),
        ("group destroy", "riverlog group --help says more"),
    ],
)
def test_a_wrong_line(run: Run, line: str, said: str) -> None:
    done = run(*line.split())
    assert done.status == 2
    assert said in done.err
    assert done.err.count("\n") == 1
