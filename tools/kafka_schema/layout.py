"""What the decoding and the encoding side of the generator share: codes of `struct`, runs of fields and the functions made."""

from __future__ import annotations

from typing import Final

from tools.kafka_schema.definitions import Module, Struct, snake

CODES: Final = {
    "int8": "b", "int16": "h", "uint16": "H", "int32": "i", "int64": "q", "float64": "d", "bool": "?", "uuid": "16s",
}  # fmt: skip
SIZES: Final = {"b": 1, "B": 1, "x": 1, "?": 1, "h": 2, "H": 2, "i": 4, "q": 8, "d": 8, "16s": 16}
METHODS: Final = {"pack": "pack", "unpack": "unpack_from"}  # of struct.Struct
LETTERS: Final = {"?": "t", "16s": "u"}  # in the names of functions
RESERVED: Final = frozenset("b p q n m r k out parts found items tags tag stop body tagged data".split(" "))  # noqa: SIM905  # shorter than a list


def run_name(verb: str, codes: list[str]) -> str:
    return f"{verb}_{''.join(LETTERS.get(code, code) for code in codes)}"


class Lines:
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


def holds_records(struct: Struct) -> bool:
    return any(field.type == "records" or (field.struct and holds_records(field.struct)) for field in struct.fields)
