"""`python -m tools.kafka_schema [--out DIRECTORY] [--check]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from tools.kafka_schema.classes import HEADER, write_classes
from tools.kafka_schema.codecs import write_codec
from tools.kafka_schema.definitions import load_errors, load_modules
from tools.kafka_schema.tables import write_api_keys, write_error_codes

TARGET: Final = Path(__file__).parents[2] / "src/riverlog/gateways/kafka/schema"


def generate() -> dict[str, str]:
    """From the path under the target directory to the text of each file."""
    modules = load_modules()
    files = {
        "__init__.py": f'"""Kafka\'s messages as classes. {HEADER}"""\n',
        "codec/__init__.py": f'"""The bytes of Kafka\'s messages, imported by `wire` when first used. {HEADER}"""\n',
        "api_keys.py": write_api_keys(modules),
        "error_codes.py": write_error_codes(load_errors()),
    }
    for module in modules:
        files[f"{module.name}.py"] = write_classes(module)
        files[f"codec/{module.name}.py"] = write_codec(module)
    return files


def present(target: Path) -> set[str]:
    """The Python files under the target directory, as paths from there."""
    return {path.relative_to(target).as_posix() for path in target.rglob("*.py")}


def differences(files: dict[str, str], target: Path) -> list[str]:
    """What is missing, different or too much, one line each."""
    found = [f"{name}: not ours, or no longer made" for name in sorted(present(target) - set(files))]
    for name, text in sorted(files.items()):
        path = target / name
        if not path.exists():
            found.append(f"{name}: missing")
        elif path.read_text("utf-8") != text:
            found.append(f"{name}: differs")
    return found


def write(files: dict[str, str], target: Path) -> None:
    for name in present(target) - set(files):
        (target / name).unlink()
    for name, text in files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.kafka_schema", description=__doc__)
    parser.add_argument("--out", type=Path, default=TARGET, help="the directory to write or to compare with")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where anything differs")
    options = parser.parse_args(arguments)
    files = generate()
    if options.check:
        found = differences(files, options.out)
        for line in found:
            print(line, file=sys.stderr)
        if found:
            print("run: python -m tools.kafka_schema", file=sys.stderr)
        return 1 if found else 0
    write(files, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
