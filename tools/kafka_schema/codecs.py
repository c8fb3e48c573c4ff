"""Writes the codec functions: straight-line code, one function a struct and layout; versions of one layout share it.

Runs of fields of fixed size become one `struct` call, together with the length or count that follows them. Locals of
the generated code: `b` buffer, `p` position, `n` length, `q` where it ends, `m` message, `r` raw bytes.
"""

from __future__ import annotations

import re
from typing import Final

from tools.kafka_schema.classes import HEADER
from tools.kafka_schema.definitions import Message, Module
from tools.kafka_schema.layout import METHODS, Codec, holds_records, run_name
from tools.kafka_schema.reading import read_struct
from tools.kafka_schema.writing import write_struct


def table_lines(name: str, entries: list[tuple[str, str]], kind: str) -> list[str]:
    lines = ["", "", f"{name}: Final[{kind}] = {{"]
    lines += [f"    {key}: {value}," for key, value in entries]
    return [*lines, "}"]


def element_table(codec: Codec, message: Message) -> list[str]:
    """From the type of an element of an array at the top of a response and a version to what encodes it."""
    entries: list[tuple[str, str]] = []
    for field in message.root.fields:
        if field.struct is None or field.struct.name not in codec.element_structs:
            continue
        versions = [
            f"{version}: {write_struct(codec, message, field.struct, version)}"
            for version in range(message.versions.first, message.versions.last + 1)
            if version in field.versions and version not in field.tagged
        ]
        if versions:
            entries.append((field.struct.name, f"{{{', '.join(versions)}}}"))
    return table_lines("WRITE_ELEMENT", entries, "dict[type, dict[int, Callable[..., None]]]")


HELPERS: Final = (
    "Encoded", "Part", "Reader", "Writer", "bad_count", "bad_null", "bad_tag", "cannot_be_null", "claim",
    "compact_strings", "numbers", "put_compact_numbers", "put_compact_strings", "put_numbers", "put_records",
    "put_strings", "put_tagged",
    "put_uvarint", "records_size", "skip_tags", "strings", "uvarint", "uvarint_rest", "NO_TOPIC_ID",
)  # fmt: skip


def uses(text: str, name: str) -> bool:
    return re.search(rf"(?<![\w.]){name}\b", text) is not None


def write_codec(module: Module) -> str:
    """The text of `schema/codec/<module>.py`."""
    codec = Codec(module)
    tables: list[str] = []
    names: list[str] = []
    for message in module.messages:
        if message.kind == "response":
            for field in message.root.fields:
                if field.array and field.struct is not None and not holds_records(field.struct):
                    codec.element_structs.add(field.struct.name)
        suffix = f"_{message.kind.upper()}" if message.kind in ("request", "response") else ""
        if suffix:
            names.append(f'{suffix[1:]}: Final = "{message.name}"')
        reads, writes = [], []
        for version in range(message.versions.first, message.versions.last + 1):
            reads.append((str(version), read_struct(codec, message, message.root, version, is_root=True)))
            writes.append((str(version), write_struct(codec, message, message.root, version, is_root=True)))
        tables += table_lines(f"READ{suffix}", reads, "dict[int, Reader]")
        tables += table_lines(f"WRITE{suffix}", writes, "dict[int, Writer]")
        if message.kind == "response":
            tables += element_table(codec, message)
    functions = "\n".join(line for lines in codec.functions.values() for line in ["", "", *lines])
    return assemble(module, codec, functions + "\n" + "\n".join(tables), names)


def assemble(module: Module, codec: Codec, text: str, names: list[str]) -> str:
    classes = sorted(struct.name for message in module.messages for struct in message.structs)
    classes += sorted(f"DEFAULT_{name}" for name in classes)
    classes = [name for name in classes if uses(text, name)]
    packs = [
        f'{run_name(verb, list(codes))}: Final = Struct(">{"".join(codes)}").{METHODS[verb]}'
        for verb, codes in sorted(codec.runs)
    ]
    head = [f'"""The codec of {" and ".join(message.name for message in module.messages)}. {HEADER}"""', ""]
    head += ["from __future__ import annotations", ""]
    abstract = [name for name in ("Callable", "Sequence") if uses(text, name)]
    if abstract:
        head.append(f"from collections.abc import {', '.join(abstract)}")
    if packs:
        head.append("from struct import Struct")
    head += ["from typing import Final", ""]
    head += import_lines(f"riverlog.gateways.kafka.schema.{module.name}", classes)
    head += import_lines("riverlog.gateways.kafka.wire", [name for name in HELPERS if uses(text, name)])
    return "\n".join([*head, "", *names, *packs]) + "\n" + text + "\n"


def import_lines(module: str, names: list[str]) -> list[str]:
    return [f"from {module} import (", *(f"    {name}," for name in names), ")"]
