"""Writes the codec functions: straight-line code, one function a struct and layout; versions of one layout share it.

Runs of fields of fixed size become one `struct` call, together with the length or count that follows them. Locals of
the generated code: `b` buffer, `p` position, `n` length, `q` where it ends, `m` message, `r` raw bytes.
"""

from __future__ import annotations

import re
from typing import Final

from tools.kafka_schema.classes import HEADER, default_of, type_of
from tools.kafka_schema.definitions import NO_VERSIONS, Field, Message, Module, Struct, snake

CODES: Final = {
    "int8": "b", "int16": "h", "uint16": "H", "int32": "i", "int64": "q", "float64": "d", "bool": "?", "uuid": "16s",
}  # fmt: skip
SIZES: Final = {"b": 1, "B": 1, "x": 1, "?": 1, "h": 2, "H": 2, "i": 4, "q": 8, "d": 8, "16s": 16}
METHODS: Final = {"pack": "pack", "unpack": "unpack_from"}  # of struct.Struct
LETTERS: Final = {"?": "t", "16s": "u"}  # in the names of functions
RESERVED: Final = frozenset("b p q n m r k out parts found items tags tag stop body tagged data".split(" "))  # noqa: SIM905  # shorter than a list


def run_name(verb: str, codes: list[str]) -> str:
    return f"{verb}_{''.join(LETTERS.get(code, code) for code in codes)}"


class Writer:
    """Lines under an indentation."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 1

    def put(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)


class Codec:
    """Makes the functions of one module. `functions` keeps their order of definition."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.functions: dict[str, list[str]] = {}  # name -> lines
        self.by_body: dict[tuple[str, str, str], str] = {}  # (verb, struct, body) -> name
        self.runs: set[tuple[str, tuple[str, ...]]] = set()
        self.element_structs: set[str] = set()  # that may come encoded

    def run(self, verb: str, codes: list[str]) -> str:
        """The name of the bound `pack` or `unpack_from` for a run of fixed fields."""
        self.runs.add((verb, tuple(codes)))
        return run_name(verb, codes)

    def add(self, verb: str, struct: Struct, version: int, head: str, body: list[str]) -> str:
        """The name of the function with that body, made unless an earlier version had the same."""
        key = (verb, struct.name, "\n".join(body))
        if (name := self.by_body.get(key)) is None:
            name = self.by_body[key] = f"{verb}_{snake(struct.name)}_{version}"
            self.functions[name] = [head.replace("NAME", name), *body]
        return name


def least_size(struct: Struct, version: int, flexible: bool) -> int:
    """Bytes that the smallest value takes."""
    size = 1 if flexible else 0
    for field in struct.fields_of(version):
        compact = flexible and field.flexible
        if field.array or field.type in ("bytes", "records"):
            size += 1 if compact else 4
        elif field.type == "string":
            size += 1 if compact else 2
        elif field.struct is not None:
            size += 1 if version in field.nullable else least_size(field.struct, version, flexible)
        else:
            size += SIZES[CODES[field.type]]
    return size


class Read:
    """Makes the body of one decoding function."""

    def __init__(self, codec: Codec, message: Message, struct: Struct, version: int) -> None:
        self.codec = codec
        self.message = message
        self.struct = struct
        self.version = version
        self.flexible = message.is_flexible(version)
        self.out = Writer()
        self.names: list[str] = []  # of the pending run
        self.codes: list[str] = []

    def flush(self) -> None:
        if not self.codes:
            return
        if self.codes == ["B"]:
            self.out.put(f"{self.names[0]} = b[p]")
        else:
            unpack = self.codec.run("unpack", self.codes)
            targets = ", ".join(self.names)
            self.out.put(f"{targets} = {unpack}(b, p)" if len(self.names) > 1 else f"({targets},) = {unpack}(b, p)")
        self.out.put(f"p += {sum(SIZES[code] for code in self.codes)}")
        self.names, self.codes = [], []

    def length(self, name: str, code: str, compact: bool) -> None:
        """Reads a length or count into `name` as the format has it (compact: one more)."""
        self.names.append(name)
        self.codes.append("B" if compact else code)
        self.flush()
        if compact:
            self.out.put(f"if {name} > 127:")
            self.out.put(f"    {name}, p = uvarint_rest(b, p, {name})")

    def field(self, field: Field, target: str) -> None:
        compact = self.flexible and field.flexible
        what = f'"{field.name}"'
        nullable = self.version in field.nullable
        if not field.array and field.type in CODES:
            self.names.append(target)
            self.codes.append(CODES[field.type])
            return
        if field.struct is not None and not field.array:
            self.one_struct(field.struct, target, nullable)
            return
        self.length("n", "h" if field.type == "string" and not field.array else "i", compact)
        null = "n == 0" if compact else "n < 0"
        put = self.out.put
        put(f"if {null}:")
        put(f"    {target} = None" if nullable else f"    bad_null({what}, p)")
        if nullable:
            put("else:")
            self.out.depth += 1
        if field.array:
            self.array(field, target, what, compact)
        else:
            put(f"q = p + n{' - 1' if compact else ''}")
            form = {"string": 'str(b[p:q], "utf-8")', "bytes": "bytes(b[p:q])", "records": "b[p:q]"}[field.type]
            put(f"{target} = {form}")
            put("p = q")
        if nullable:
            self.out.depth -= 1

    def one_struct(self, struct: Struct, target: str, nullable: bool) -> None:
        function = read_struct(self.codec, self.message, struct, self.version)
        if nullable:
            self.length("n", "b", False)
            self.out.put("if n < 0:")
            self.out.put(f"    {target} = None")
            self.out.put("else:")
            self.out.put(f"    ({target},), p = {function}(b, p, 1)")
        else:
            self.flush()
            self.out.put(f"({target},), p = {function}(b, p, 1)")

    def array(self, field: Field, target: str, what: str, compact: bool) -> None:
        put = self.out.put
        n = "n - 1" if compact else "n"
        if field.struct is not None:
            function = read_struct(self.codec, self.message, field.struct, self.version)
            least = least_size(field.struct, self.version, self.flexible)
            put(f"if ({n}) * {least} > len(b) - p:" if compact else f"if {n} * {least} > len(b) - p:")
            put(f"    bad_count({what}, {n}, p)")
            put(f"{target}, p = {function}(b, p, {n})")
        elif field.type == "string":
            put(f"{target}, p = {'compact_strings' if compact else 'strings'}(b, p, {n}, {what})")
        else:
            put(f'{target}, p = numbers(b, p, {n}, "{CODES[field.type]}", {what})')

    def tags(self) -> None:
        """The end of a flexible struct."""
        tagged = self.struct.tagged_fields_of(self.version)
        put = self.out.put
        self.names.append("tags" if tagged else "n")
        self.codes.append("B")
        self.flush()
        if not tagged:
            put("if n:")
            put("    p = skip_tags(b, p, n)")
            return
        for field in tagged:
            put(f"{field.name}: {type_of(field, self.message.kind)} = {default_of(field)}")
        put("if tags:")
        put("    if tags > 127:")
        put("        tags, p = uvarint_rest(b, p, tags)")
        put("    for _ in range(tags):")
        put("        tag, p = uvarint(b, p)")
        put("        n, p = uvarint(b, p)")
        put("        stop = p + n")
        for index, field in enumerate(tagged):
            put(f"        {'elif' if index else 'if'} tag == {field.tag}:")
            self.out.depth += 3
            self.field(field, field.name)
            self.flush()
            self.out.depth -= 3
        put("        else:")
        put("            p = stop")
        put("        if p != stop or stop > len(b):")
        put("            bad_tag(tag, p)")

    def body(self, *, is_root: bool) -> list[str]:
        fields = self.struct.fields_of(self.version)
        tagged = self.struct.tagged_fields_of(self.version)
        assert not {field.name for field in fields + tagged} & RESERVED, self.struct.name
        if not is_root:
            self.out.put("found = []")
            self.out.put("for _ in range(k):")
            self.out.depth += 1
        for field in fields:
            self.field(field, field.name)
        if self.flexible:
            self.tags()
        self.flush()
        arguments = ", ".join(f"{field.name}={field.name}" for field in fields + tagged)
        made = f"{self.struct.name}({arguments})"
        if is_root:
            self.out.put(f"return {made}, p")
        else:
            self.out.put(f"found.append({made})")
            self.out.depth -= 1
            self.out.put("return found, p")
        return self.out.lines


def read_struct(codec: Codec, message: Message, struct: Struct, version: int, *, is_root: bool = False) -> str:
    body = Read(codec, message, struct, version).body(is_root=is_root)
    if is_root:
        head = f"def NAME(b: memoryview, p: int) -> tuple[{struct.name}, int]:"
    else:
        head = f"def NAME(b: memoryview, p: int, k: int) -> tuple[list[{struct.name}], int]:"
    return codec.add("read", struct, version, head, body)


def holds_records(struct: Struct) -> bool:
    return any(field.type == "records" or (field.struct and holds_records(field.struct)) for field in struct.fields)


class Write:
    """Makes the body of one encoding function."""

    def __init__(self, codec: Codec, message: Message, struct: Struct, version: int) -> None:
        self.codec = codec
        self.message = message
        self.struct = struct
        self.version = version
        self.flexible = message.is_flexible(version)
        self.out = Writer()
        self.values: list[str] = []  # of the pending run; pad bytes have none
        self.codes: list[str] = []

    def flush(self, out: str = "out") -> None:
        codes = self.codes
        if codes == ["x"]:
            self.out.put(f"{out}.append(0)")
        elif codes == ["B"]:
            self.out.put(f"{out}.append({self.values[0]})")
        elif codes:
            self.out.put(f"{out} += {self.codec.run('pack', codes)}({', '.join(self.values)})")
        self.values, self.codes = [], []

    def length(self, code: str, value: str, compact: bool, out: str) -> None:
        """Writes the pending run and a length or count. `value` is it as the format has it (compact: one more)."""
        if not compact:
            self.values.append(value)
            self.codes.append(code)
            self.flush(out)
            return
        values, codes = list(self.values), list(self.codes)
        if value != "n":
            self.out.put(f"n = {value}")
        self.out.put("if n < 128:")
        self.out.depth += 1
        self.values.append("n")
        self.codes.append("B")
        self.flush(out)
        self.out.depth -= 1
        self.out.put("else:")
        self.out.depth += 1
        self.values, self.codes = values, codes
        self.flush(out)
        self.out.put(f"put_uvarint({out}, n)")
        self.out.depth -= 1

    def field(self, field: Field, value: str, out: str = "out") -> None:
        compact = self.flexible and field.flexible
        nullable = self.version in field.nullable
        if field.nullable != NO_VERSIONS and not nullable:
            self.out.put(f"if {value} is None:")
            self.out.put(f'    cannot_be_null("{field.name}")')
        if not field.array and field.type in CODES:
            self.values.append(value)
            self.codes.append(CODES[field.type])
        elif field.struct is not None and not field.array:
            self.one_struct(field.struct, value, nullable, out)
        elif field.array:
            self.array(field, value, nullable, compact, out)
        else:
            self.sized(field, value, nullable, compact, out)

    def one_struct(self, struct: Struct, value: str, nullable: bool, out: str) -> None:
        function = write_struct(self.codec, self.message, struct, self.version)
        assert not holds_records(struct)
        if not nullable:
            self.flush(out)
            self.out.put(f"{function}({out}, ({value},))")
            return
        values, codes = [*self.values, f"-1 if {value} is None else 1"], [*self.codes, "b"]
        self.values, self.codes = values, codes
        self.flush(out)
        self.out.put(f"if {value} is not None:")
        self.out.put(f"    {function}({out}, ({value},))")

    def sized(self, field: Field, value: str, nullable: bool, compact: bool, out: str) -> None:
        """Strings, bytes and records."""
        plus = " + 1" if compact else ""
        null = "0" if compact else "-1"
        put = self.out.put
        raw = f"{value}.encode()" if field.type == "string" else value
        if nullable and field.type != "records":
            put(f"if {value} is None:")
            put('    r = b""')
            put(f"    n = {null}")
            put("else:")
            put(f"    r = {raw}")
            put(f"    n = len(r){plus}")
        elif nullable:
            put(f"data = {value}")
            put(f"n = {null} if data is None else records_size(data){plus}")
        elif field.type == "records":
            put(f"data = {value}")
            put(f"n = records_size(data){plus}")
        else:
            put(f"r = {raw}")
            put(f"n = len(r){plus}")
        self.length("h" if field.type == "string" else "i", "n", compact, out)
        if field.type == "records":
            put("if data is not None:" if nullable else "if n:")
            put("    out = put_records(parts, out, data)")
        else:
            put("if r:")
            put(f"    {out} += r")

    def array(self, field: Field, value: str, nullable: bool, compact: bool, out: str) -> None:
        put = self.out.put
        null = "0" if compact else "-1"
        if field.struct is None and field.type != "string":
            self.flush(out)
            function = f"{'put_compact_numbers' if compact else 'put_numbers'}({out}, {value}, \"{CODES[field.type]}\")"
            if nullable:
                put(f"if {value} is None:")
                put(f"    {out}.append(0)" if compact else f'    {out} += b"\\xff\\xff\\xff\\xff"')
                put("else:")
                put(f"    {function}")
            else:
                put(function)
            return
        count = f"len({value}) + 1" if compact else f"len({value})"
        self.length("i", f"{null} if {value} is None else {count}" if nullable else count, compact, out)
        put(f"if {value}:")
        if field.struct is None:
            put(f"    {'put_compact_strings' if compact else 'put_strings'}({out}, {value})")
            return
        function = write_struct(self.codec, self.message, field.struct, self.version)
        if holds_records(field.struct):
            put(f"    out = {function}(parts, out, {value})")
        else:
            put(f"    {function}({out}, {value})")

    def tags(self) -> None:
        """The end of a flexible struct."""
        fields = self.struct.tagged_fields_of(self.version)
        put = self.out.put
        if not fields:
            self.codes.append("x")
            self.flush()
            return
        self.flush()
        put("tags = 0")
        put('tagged = bytearray()')
        for field in fields:
            value = f"m.{field.name}"
            default = default_of(field)
            if field.struct is not None and not field.array:
                put(f"if {value} is not {default} and {value} != {default}:")
            elif field.array and default == "()":
                put(f"if {value}:")
            elif default in ("None", "True", "False"):
                put(f"if {value} is not {default}:")
            else:
                put(f"if {value} != {default}:")
            self.out.depth += 1
            put("tags += 1")
            put("body = bytearray()")
            self.field(field, value, "body")
            self.flush("body")
            put(f"put_tagged(tagged, {field.tag}, body)")
            self.out.depth -= 1
        put("out.append(tags)")
        put("if tags:")
        put("    out += tagged")

    def body(self, *, is_root: bool, encoded: bool) -> list[str]:
        if not is_root:
            self.out.put("for m in items:")
            self.out.depth += 1
            if encoded:
                self.out.put("if isinstance(m, Encoded):")
                self.out.put("    out += m.data")
                self.out.put("    continue")
        for field in self.struct.fields_of(self.version):
            self.field(field, f"m.{field.name}")
        if self.flexible:
            self.tags()
        self.flush()
        if not is_root:
            self.out.depth -= 1
            if holds_records(self.struct):
                self.out.put("return out")
        elif not self.out.lines:
            self.out.put("pass")
        return self.out.lines


def write_struct(codec: Codec, message: Message, struct: Struct, version: int, *, is_root: bool = False) -> str:
    encoded = struct.name in codec.element_structs
    body = Write(codec, message, struct, version).body(is_root=is_root, encoded=encoded)
    if is_root:
        head = f"def NAME(parts: list[Part], out: bytearray, m: {struct.name}) -> None:"
    elif holds_records(struct):
        head = f"def NAME(parts: list[Part], out: bytearray, items: Sequence[{struct.name}]) -> bytearray:"
    else:
        head = f"def NAME(out: bytearray, items: Sequence[{struct.name}]) -> None:"
    return codec.add("write", struct, version, head, body)


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
    "Encoded", "Part", "Reader", "Writer", "bad_count", "bad_null", "bad_tag", "cannot_be_null", "compact_strings",
    "numbers", "put_compact_numbers", "put_compact_strings", "put_numbers", "put_records", "put_strings", "put_tagged",
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
