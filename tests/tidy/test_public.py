"""What `import riverlog` promises. A name that is here stays."""

from __future__ import annotations

import tomllib
from typing import Final

import riverlog
from tests.tidy.tree import ROOT, text

PUBLIC: Final = {"Broker", "__version__"}


def test_the_public_names_are_these_and_each_is_there() -> None:
    assert set(riverlog.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(riverlog, name) is not None


def test_the_package_and_the_project_have_one_version_and_the_changelog_names_it() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert riverlog.__version__ == version
    assert f"\n## {version}" in text("CHANGELOG.md")
