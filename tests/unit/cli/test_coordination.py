"""The lines of `riverlog group` and `riverlog transaction`: what the parser refuses before anything is asked."""

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
        ("transaction describe", "name at least one transactional id"),
        ("transaction abort t -p 0", "riverlog transaction abort --help says more"),
        ("transaction list --state lost", "--state 'lost' is no state: give empty, ongoing,"),
        ("transaction list --older-than 5", "--older-than '5' is no age: give 90s"),
        ("group destroy", "riverlog group --help says more"),
    ],
)
def test_a_wrong_line(run: Run, line: str, said: str) -> None:
    done = run(*line.split())
    assert done.status == 2
    assert said in done.err
    assert done.err.count("\n") == 1
