"""Makes the bodies of the encoding functions: a version of a struct becomes straight-line code."""

from __future__ import annotations

from tools.kafka_schema.classes import default_of
from tools.kafka_schema.definitions import NO_VERSIONS, Field, Message, Struct
from tools.kafka_schema.layout import CODES, Codec, Lines, holds_records


class Write:
    """Makes the body of one encoding function."""

    def __init__(self, codec: Codec, message: Message, struct: Struct, version: int) -> None:
        self.codec = codec
        self.message = message
        self.struct = struct
        self.version = version
        self.flexible = message.is_flexible(version)
        self.out = Lines()
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
