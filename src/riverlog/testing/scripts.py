"""Golden scripts: commands above a line of dashes, everything that they made visible below it. The diff is what is reviewed.

    open; append p0 a b acks=all
    ---
    opened starts=1 clean
    p0: appended 0..1

A file holds such blocks with an empty line between them, and lines of comment with `#` before the commands. One file is
one story: state goes on from block to block. `RIVERLOG_UPDATE_SCRIPTS=1` writes what was seen instead of comparing.
Invariant: what is printed depends on the commands alone: no clock, no path of this machine, no race.
Not here: what the commands mean (each area has its own runner, such as `RecoveryScript`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

Execute: TypeAlias = Callable[[list[str]], Awaitable[list[str]]]

LINE = "---"


class Block(NamedTuple):
    comments: list[str]
    commands: list[str]
    output: list[str]


def parse_script(text: str) -> list[Block]:
    """Raises ValueError where a block has no line of dashes."""
    blocks: list[Block] = []
    for paragraph in text.strip("\n").split("\n\n"):
        lines = paragraph.split("\n")
        if all(line.startswith("#") for line in lines):
            blocks.append(Block(lines, [], []))
            continue
        if LINE not in lines:
            raise ValueError(f"a block without a line of dashes: {lines[0]}")
        at = lines.index(LINE)
        above = lines[:at]
        comments = [line for line in above if line.startswith("#")]
        commands = [part.strip() for line in above if not line.startswith("#") for part in line.split(";")]
        blocks.append(Block(comments, [command for command in commands if command], lines[at + 1 :]))
    return blocks


def format_block(block: Block, commands_text: list[str], output: list[str]) -> str:
    if not block.commands:
        return "\n".join(block.comments)
    return "\n".join([*commands_text, LINE, *output])


async def run_blocks(text: str, execute: Execute) -> str:
    """The script with the output that its commands gave now."""
    seen: list[str] = []
    for paragraph, block in zip(text.strip("\n").split("\n\n"), parse_script(text), strict=True):
        output: list[str] = []
        for command in block.commands:
            output += await execute(command.split())
        lines = paragraph.split("\n")
        above = lines[: lines.index(LINE)] if LINE in lines else lines
        seen.append(format_block(block, above, output))
    return "\n\n".join(seen) + "\n"


def check_script(path: Path, execute: Execute) -> None:
    """Runs every command of a script by `execute` (its words -> lines of output); raises AssertionError, with both
    texts, where something else came out than the file says."""
    text = path.read_text(encoding="utf-8")
    now = asyncio.run(asyncio.wait_for(run_blocks(text, execute), 60))
    if os.environ.get("RIVERLOG_UPDATE_SCRIPTS"):
        path.write_text(now, encoding="utf-8")
        return
    assert now == text, f"{path.name} says something else; RIVERLOG_UPDATE_SCRIPTS=1 writes what was seen:\n{now}"
