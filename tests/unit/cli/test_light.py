"""What is not imported: the package and `--version` cost nothing, `serve` reads its line without a parser and a client."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "asyncio",
    "sqlite3",
    "cyclopts",
    "rich",
    "confluent_kafka",
    "riverlog.storage",
    "riverlog.broker",
    "riverlog.server",
)


def loaded(code: str) -> set[str]:
    """Those of HEAVY that are imported after `code`."""
    ask = f"import sys\n{code}\nprint(*(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True, timeout=30)
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "code",
    [
        "import riverlog",
        "import riverlog.cli; assert riverlog.cli.run(['--version']) == 0",
        "from riverlog.cli.serve import quick_arguments; assert quick_arguments(['--data-dir', '/x'])",
    ],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    assert loaded(code) == set()


def test_serve_needs_no_parser_no_table_and_no_client() -> None:
    code = "import riverlog.cli; assert riverlog.cli.run(['serve', '--kafka', '0.0.0.0:1']) == 2"
    assert not loaded(code) & {"cyclopts", "rich", "confluent_kafka"}
