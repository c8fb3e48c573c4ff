"""About 70 lines a function, 400 a file. What is longer is declared here with its reason; the numbers only go down."""

from __future__ import annotations

import ast
from typing import Final

from tests.tidy.tree import ours, text

function_lines_max: Final = 70
file_lines_max: Final = 400

LONG_FILES: Final[dict[str, tuple[int, str]]] = {
    "src/riverlog/env/sockets.py": (
        430,
        "listener and transport share the order of what a connection still has to write",
    ),
    "src/riverlog/gateways/kafka/wire.py": (
        458,
        "what generated code calls: readers and writers of the primitives, in one namespace for speed",
    ),
    "src/riverlog/state/topic_configs.py": (
        440,
        "a table: an entry for each configuration that Kafka has",
    ),
    "src/riverlog/storage/partition_check.py": (
        403,
        "one walk over one partition: what each of its files must agree with",
    ),
    "src/riverlog/storage/repair.py": (
        525,
        "one order, told from what is damaged to what the checkpoint says afterwards",
    ),
    "src/riverlog/testing/conformance/log_engine.py": (
        580,
        "one suite: every promise of the contract as a test",
    ),
    "src/riverlog/testing/conformance/log_transactions.py": (
        430,
        "one suite: every promise about transactions as a test",
    ),
    "src/riverlog/testing/fakes.py": (
        415,
        "files that forget, descriptor by descriptor: the whole of env/files once more",
    ),
}
LONG_FUNCTIONS: Final[dict[str, tuple[int, str]]] = {
    "src/riverlog/gateways/kafka/errors.py:error_code": (
        140,
        "one arm for each kind of error, and mypy proves that none is forgotten",
    ),
}


def long_files() -> dict[str, int]:
    """Path -> lines."""
    return {path: count for path in ours(".py", "src/") if (count := text(path).count("\n")) > file_lines_max}


def long_functions() -> dict[str, int]:
    """`path:name` -> lines from `def` to the end, the docstring included."""
    found = {}
    for path in ours(".py", "src/"):
        for node in ast.walk(ast.parse(text(path))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                count = (node.end_lineno or node.lineno) - node.lineno + 1
                if count > function_lines_max:
                    found[f"{path}:{node.name}"] = count
    return found


def check(found: dict[str, int], declared: dict[str, tuple[int, str]]) -> None:
    too_long = {name: count for name, count in found.items() if count > declared.get(name, (0, ""))[0]}
    assert not too_long, "find the seam, or declare it with its reason"
    assert not declared.keys() - found.keys(), "these are short enough now: take them off the list"
    slack = {name: limit for name, (limit, _) in declared.items() if limit > found[name] + 20}
    assert not slack, "these have become shorter: lower their numbers"
    assert all(reason for _, reason in declared.values())


def test_files_are_short() -> None:
    check(long_files(), LONG_FILES)


def test_functions_are_short() -> None:
    check(long_functions(), LONG_FUNCTIONS)
