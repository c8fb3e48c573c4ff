"""The files of the repository as git knows them, for the tests of taste. Files that are not committed yet count too."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
SOURCE: Final = ROOT / "src" / "riverlog"
GENERATED: Final = "src/riverlog/gateways/kafka/schema/"


@cache
def files() -> tuple[str, ...]:
    """Paths from the root, with slashes; without what .gitignore names."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive: everything but what is installed or built
        listed = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file()]
        listed = [path for path in listed if not path.startswith((".venv/", "build/")) and "__pycache__" not in path]
    return tuple(sorted(path for path in listed if path and (ROOT / path).is_file()))


def ours(suffix: str, *folders: str) -> list[str]:
    """Files of a kind under these folders that people wrote."""
    return [
        path
        for path in files()
        if path.endswith(suffix) and path.startswith(folders or "") and not path.startswith(GENERATED)
    ]


@cache
def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")
