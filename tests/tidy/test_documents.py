"""Documents: every link leads somewhere, every chapter and format page is in its index, every byte format has its page."""

from __future__ import annotations

import re
from typing import Final

import pytest

from tests.tidy.tree import ROOT, files, ours, text

LINK: Final = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
CODE: Final = re.compile(r"```.*?```|`[^`\n]*`", re.S)
EXPECTED: Final = (
    "README.md",
    "ARCHITECTURE.md",
    "STYLE.md",
    "CHANGELOG.md",
    "LICENSE",
    "NOTICE",
    "docs/rfcs/0000-template.md",
)
# Modules of storage/format that describe no file of their own.
NO_FORMAT: Final = {"__init__", "errors", "names", "rows"}
PAGES: Final = {
    "leader_epochs": "leader-epoch-checkpoint",
    "txn_index": "transaction-index",
}


def anchor(heading: str) -> str:
    """As the usual renderers make it."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


def anchors(path: str) -> set[str]:
    return {anchor(line.lstrip("#")) for line in CODE.sub("", text(path)).split("\n") if line.startswith("#")}


@pytest.mark.parametrize("path", ours(".md"))
def test_links_lead_somewhere(path: str) -> None:
    broken = []
    for target in LINK.findall(CODE.sub("", text(path))):
        if "://" in target or target.startswith("mailto:"):
            continue
        file, _, part = target.partition("#")
        found = ((ROOT / path).parent / file).resolve() if file else ROOT / path
        page = found.relative_to(ROOT).as_posix() if found.suffix == ".md" else ""
        if not found.exists() or (part and page and part not in anchors(page)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("path", EXPECTED)
def test_the_face_of_the_project_is_there(path: str) -> None:
    assert path in files()


def test_every_chapter_is_in_the_index() -> None:
    index = text("docs/guide/README.md")
    chapters = [path.rpartition("/")[2] for path in ours(".md", "docs/guide/") if not path.endswith("README.md")]
    assert [name for name in chapters if f"]({name})" not in index] == []


def test_every_format_page_is_linked_from_the_guide() -> None:
    guide = "".join(text(path) for path in ours(".md", "docs/guide/", "docs/formats/"))
    names = [path.rpartition("/")[2] for path in ours(".md", "docs/formats/")]
    assert [name for name in names if f"{name})" not in guide and f"{name}#" not in guide] == []


def test_every_byte_format_has_its_page() -> None:
    modules = {path.rpartition("/")[2].removesuffix(".py") for path in ours(".py", "src/riverlog/storage/format/")}
    pages = {PAGES.get(name, name.replace("_", "-")) for name in modules - NO_FORMAT}
    missing = {page for page in pages if f"docs/formats/{page}.md" not in files()}
    assert missing == set()
