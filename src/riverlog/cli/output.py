"""What commands print: tables for people, JSON for programs (one document, or one line a record)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any


def print_json(value: Any) -> None:
    """One document: indented for a terminal, one line for a pipe."""
    print(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """Columns of plain text; those whose every cell is a number are set to the right. Never cut, never wrapped."""
    cells = [["" if cell is None else f"{cell}" for cell in row] for row in rows]
    numeric = [all(_is_number(row[index]) for row in cells) for index in range(len(columns))]
    if not sys.stdout.isatty():
        _print_plain(columns, cells, numeric, title)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=Text(title) if title else None, title_justify="left", pad_edge=False)
    for name, right in zip(columns, numeric, strict=True):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(table)


def _is_number(text: str) -> bool:
    return text in ("", "-") or text.lstrip("-").replace(".", "", 1).isdigit()


def _print_plain(columns: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool], title: str) -> None:
    """For a pipe: aligned with blanks, so that it can be cut by column and read in a log."""
    table = [[name.upper() for name in columns], *cells]
    widths = [max(len(row[index]) for row in table) for index in range(len(columns))]
    if title:
        print(title)
    for row in table:
        texts = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        print("  ".join(texts).rstrip())
