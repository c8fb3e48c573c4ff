"""Makes the bodies of the decoding functions: a version of a struct becomes straight-line code."""

from __future__ import annotations

from tools.kafka_schema.classes import default_of, type_of
from tools.kafka_schema.definitions import Field, Message, Struct
from tools.kafka_schema.layout import CODES, RESERVED, SIZES, Codec, Lines, least_size


class Read:
    """Makes the body of one decoding function."""

    def __init__(self, codec: Codec, message: Message, struct: Struct, version: int) -> None:
        self.codec = codec
        self.message = message
        self.struct = struct
        self.version = version
        self.flexible = message.is_flexible(version)
        self.out = Lines()
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
            self.out.put("if k > 1:")
            self.out.put("    claim(k)")
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
