"""What no file of ours says: unfinished work, silenced checks without a reason, places of one machine."""

from __future__ import annotations

import re
from typing import Final

import pytest

from tests.tidy.tree import ROOT, files, ours, text

# Written in pieces, so that this file does not say them.
UNFINISHED: Final = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK")) + r")\b")
REGISTRIES: Final = tuple(
    f"{host}" for host in ("pypi" + ".org", "python" + "hosted.org", "registry." + "npmjs.org", "repo1." + "maven.org")
)
HOMES: Final = re.compile(
    r"(?<![\w.])/(" + "|".join(("ro" + "ot", "ho" + "me", "Us" + "ers", "wo" + "rk")) + r")/[\w.]"
)
SILENCED: Final = re.compile(r"# (type: ignore|noqa)(\[[\w, -]+\]|: [A-Z]+\d+(, [A-Z]+\d+)*)?(?P<reason>.*)$", re.M)
NOT_OURS: Final = ("LICENSE", "tools/kafka_schema/messages/", "src/riverlog/gateways/kafka/schema/")
SCRATCH: Final = re.compile(r"(^|/)(nohup\.out|core|scratch[^/]*|tmp[^/]*|[^/]*\.(orig|rej|bak|swp|tmp|log|pyc|so))$")
FILE_BYTES_MAX: Final = 1 << 20


def written() -> list[str]:
    """Files of text that people wrote."""
    suffixes = (
        ".py",
        ".pyx",
        ".pyi",
        ".md",
        ".toml",
        ".sql",
        ".tsv",
        ".js",
        ".java",
        ".sh",
        "Makefile",
        "run",
        "NOTICE",
    )
    return [path for path in files() if path.endswith(suffixes) and not path.startswith(NOT_OURS)]


def lines_with(pattern: re.Pattern[str], paths: list[str]) -> list[str]:
    return [
        f"{path}:{number}: {line.strip()[:100]}"
        for path in paths
        for number, line in enumerate(text(path).split("\n"), 1)
        if pattern.search(line)
    ]


def test_nothing_is_left_for_later() -> None:
    assert lines_with(UNFINISHED, written()) == []


def test_a_silenced_check_has_its_reason_on_the_line() -> None:
    found = [
        f"{path}: {match[0]}"
        for path in ours(".py", "src/", "tools/", "benchmarks/")
        for match in SILENCED.finditer(text(path))
        if len(match["reason"].strip(" -#")) < 6
    ]
    assert found == []


@pytest.mark.parametrize("host", REGISTRIES)
def test_no_registry_is_named(host: str) -> None:
    """Where packages come from is the business of the machine that installs them."""
    assert lines_with(re.compile(re.escape(host)), written()) == []


def test_no_path_of_one_machine_is_named() -> None:
    assert lines_with(HOMES, written()) == []
    assert lines_with(re.compile(re.escape(str(ROOT))), written()) == []


def test_there_are_no_scratch_files() -> None:
    assert [path for path in files() if SCRATCH.search(path)] == []


def test_no_file_is_large() -> None:
    assert [path for path in files() if (ROOT / path).stat().st_size > FILE_BYTES_MAX] == []
