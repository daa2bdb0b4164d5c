"""Random SBE schemas and profiles: drawn by a seed as plain dataclasses, from which their XML and TOML are written.

Nothing here comes from the schema compiler: what a drawn schema means is said by docs/schema.md, docs/profiles.md and
docs/sbe.md. All sizes and offsets are in bytes.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import NamedTuple, TypeVar
from xml.sax.saxutils import escape, quoteattr

Choice = TypeVar("Choice")

SIZES = {
    "char": 1,
    **{f"{sign}int{8 * size}": size for sign in ("", "u") for size in (1, 2, 4, 8)},
    "float": 4,
    "double": 8,
}
"""Primitive types and their sizes."""

SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
INTEGERS = SIGNED + UNSIGNED

CHARACTERS = ("entry_type", "update_action", "side", "order_type", "time_in_force")
"""Frame fields that are characters of FIX."""

WHOLE_NUMBERS = ("instrument", "sequence", "price_level", "number_of_orders", "instrument_sequence")
OFFSETS = ("client_order_id", "original_order_id", "symbol", "account")
"""Frame fields that tell where something stands in the raw message."""

EXPONENTS = {"price": (-9, 9), "quantity": (-8, 10)}
"""Frame field → the least and the greatest constant exponent that it may have."""

BY_ENTRY_TYPE = "by entry type"
KIND_NAMES = (
    "new order",
    "cancel",
    "replace",
    "execution",
    "cancel reject",
    "session",
    "book update",
    "trade",
    "statistic",
    "definition",
    "status",
    "detail",
    "other",
)
ORDER_KINDS = KIND_NAMES[:5]

NEWEST_VERSION = 3
"""The version of all drawn schemas."""


def limits(primitive: str) -> tuple[int, int]:
    """The least and the greatest number of an integer type."""
    bits = 8 * SIZES[primitive]
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if primitive in SIGNED else (0, (1 << bits) - 1)


def standard_null(primitive: str) -> int | float:
    """What stands for no value in a type that is optional and names no null."""
    if primitive in ("float", "double"):
        return math.nan
    if primitive == "char":
        return 0
    return limits(primitive)[0 if primitive in SIGNED else 1]


@dataclass(frozen=True)
class Leaf:
    """A type, an enum or a set: ``length`` primitives. ``null`` is its nullValue, a character's as code."""

    name: str
    primitive: str
    length: int = 1
    presence: str = "required"
    null: int | float | None = None
    constant: int | float | bytes | None = None
    values: tuple[tuple[str, int], ...] = ()
    """Of an enum: name → number."""
    is_set: bool = False

    @property
    def size(self) -> int:
        return 0 if self.presence == "constant" else self.length * SIZES[self.primitive]

    @property
    def is_integer(self) -> bool:
        return self.primitive in INTEGERS and self.length == 1

    @property
    def is_float(self) -> bool:
        return self.primitive in ("float", "double") and self.length == 1


@dataclass(frozen=True)
class Member:
    """A member of a composite. ``by_ref``: its type stands by itself; ``explicit``: the XML says the offset."""

    name: str
    offset: int
    encoding: "Leaf | Composite"
    explicit: bool = False
    by_ref: bool = False


@dataclass(frozen=True)
class Composite:
    """Members one behind the other, perhaps with gaps."""

    name: str
    members: tuple[Member, ...]

    @property
    def size(self) -> int:
        return max((member.offset + member.encoding.size for member in self.members), default=0)

    def member(self, name: str) -> Member:
        """The member of that name."""
        return next(member for member in self.members if member.name == name)

    @property
    def is_decimal(self) -> bool:
        """Whether it is two integers, one of them the exponent."""
        return (
            len(self.members) == 2
            and any(member.name == "exponent" for member in self.members)
            and all(isinstance(member.encoding, Leaf) and member.encoding.is_integer for member in self.members)
        )


Encoding = Leaf | Composite


@dataclass(frozen=True)
class Field:
    """A field of a block. ``presence`` and ``null`` are what it says itself; empty and None where it says nothing."""

    name: str
    id: int
    offset: int
    encoding: Encoding
    explicit: bool = False
    presence: str = ""
    null: int | float | None = None
    exponent_field: str = ""
    value_ref: str = ""
    since: int = 0


@dataclass(frozen=True)
class Data:
    """Var data: a composite of ``length`` and ``varData``."""

    name: str
    id: int
    encoding: Composite
    since: int = 0


@dataclass(frozen=True)
class Block:
    """A message's root or a group's entry. ``dimension`` is None of a root, whose id is the template's."""

    name: str
    id: int
    block_length: int
    explicit_length: bool
    fields: tuple[Field, ...]
    groups: tuple["Block", ...] = ()
    data: tuple[Data, ...] = ()
    since: int = 0
    dimension: Composite | None = None

    def all_blocks(self, path: tuple["Block", ...] = ()) -> Iterator[tuple["Block", ...]]:
        """Paths to this block and those in it, from the outside in."""
        path = (*path, self)
        yield path
        for group in self.groups:
            yield from group.all_blocks(path)

    def length_of_version(self, version: int) -> int:
        """The block length that a sender of an older version would have."""
        newer = [each for each in self.fields if each.since > version and each.encoding.size]
        if not newer:
            return self.block_length
        return max((f.offset + f.encoding.size for f in self.fields if f.since <= version), default=0)


@dataclass(frozen=True)
class Schema:
    """A schema."""

    id: int
    package: str
    byte_order: str
    header: Composite
    messages: tuple[Block, ...]


class Slot(NamedTuple):
    """An unsigned number of the framing."""

    offset: int
    size: int

    def __str__(self) -> str:
        return f"u{8 * self.size}@{self.offset}"


@dataclass(frozen=True)
class Framing:
    """What stands in front of messages. ``end`` is "length", "packet" or "structure"."""

    byte_order: str
    end: str
    packet_size: int = 0
    packet_sequence: Slot | None = None
    prefix_size: int = 0
    length: Slot | None = None
    counts: str = "message"
    sequence: Slot | None = None
    magic: Slot | None = None
    magic_value: int = 0


class Candidate(NamedTuple):
    """A field of the schema, by name, id or ``composite.member``, that may feed one of the frame."""

    field: str | int
    exponent: int | None = None


@dataclass(frozen=True)
class Rule:
    """A line of ``[frames]``."""

    pattern: str
    kind: str
    constants: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Profile:
    """A profile; ``values`` are frame field → the venue's value → FIX's character."""

    framing: Framing
    rules: tuple[Rule, ...]
    fields: tuple[tuple[str, tuple[Candidate, ...]], ...]
    values: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


@dataclass(frozen=True)
class DrawnVenue:
    """What was drawn for a seed."""

    seed: int
    schema: Schema
    profile: Profile


# Writing


def _attributes(**given: object) -> str:
    return "".join(f" {name}={quoteattr(str(value))}" for name, value in given.items() if value is not None)


def _literal(leaf: Leaf, value: int | float | bytes) -> str:
    if isinstance(value, bytes):
        return value.decode("ascii")
    return repr(value)


def _null_literal(primitive: str, null: int | float | None) -> str | None:
    if null is None:
        return None
    if primitive == "char" and chr(int(null)).isalpha():
        return chr(int(null))
    return repr(null)


class _TypesWriter:
    """Writes the elements of types; those that must stand by themselves are collected in ``top``."""

    def __init__(self) -> None:
        self.top: dict[str, str] = {}

    def use(self, encoding: Encoding) -> str:
        """The name by which a field uses a type, which is written where it is not a bare primitive."""
        if encoding.name not in SIZES and encoding.name not in self.top:
            element = self.element(encoding, encoding.name)
            self.top[encoding.name] = element
        return encoding.name

    def element(self, encoding: Encoding, name: str, offset: int | None = None) -> str:
        """The element of an encoding, as type or as member ``name`` of a composite."""
        if isinstance(encoding, Composite):
            inner = "".join(self._member(member) for member in encoding.members)
            return f"<composite{_attributes(name=name, offset=offset)}>{inner}</composite>"
        leaf = encoding
        if leaf.values or leaf.is_set:
            tag, child = ("set", "choice") if leaf.is_set else ("enum", "validValue")
            choices = (("FIRST", 0), ("LAST", 7)) if leaf.is_set else leaf.values
            inner = "".join(
                f"<{child}{_attributes(name=each)}>{escape(chr(number) if leaf.primitive == 'char' else str(number))}</{child}>"
                for each, number in choices
            )
            attributes = _attributes(name=name, encodingType=self._encoding_type(leaf), offset=offset)
            return f"<{tag}{attributes}>{inner}</{tag}>"
        attributes = _attributes(
            name=name,
            primitiveType=leaf.primitive,
            length=None if leaf.length == 1 else leaf.length,
            presence=None if leaf.presence == "required" else leaf.presence,
            nullValue=_null_literal(leaf.primitive, leaf.null),
            offset=offset,
        )
        if leaf.constant is None:
            return f"<type{attributes}/>"
        return f"<type{attributes}>{escape(_literal(leaf, leaf.constant))}</type>"

    def _member(self, member: Member) -> str:
        offset = member.offset if member.explicit else None
        if member.by_ref:
            return f"<ref{_attributes(name=member.name, type=self.use(member.encoding), offset=offset)}/>"
        return self.element(member.encoding, member.name, offset)

    def _encoding_type(self, leaf: Leaf) -> str:
        if leaf.presence != "optional" and leaf.null is None:
            return leaf.primitive
        presence = "optional" if leaf.presence == "optional" else "required"
        return self.use(Leaf(f"{leaf.name}Encoding", leaf.primitive, presence=presence, null=leaf.null))


def xml_of(schema: Schema) -> str:
    """The schema as XML."""
    types = _TypesWriter()
    header = types.use(schema.header)
    messages = "".join(f"  {_block_xml(types, message)}\n" for message in schema.messages)
    root = _attributes(
        package=schema.package,
        id=schema.id,
        version=NEWEST_VERSION,
        byteOrder=f"{schema.byte_order}Endian",
        headerType=None if header == "messageHeader" else header,
    )
    written = "".join(f"  {element}\n" for element in types.top.values())
    return f"<messageSchema{root}>\n<types>\n{written}</types>\n{messages}</messageSchema>\n"


def _block_xml(types: _TypesWriter, block: Block) -> str:
    inner = "".join(_field_xml(types, each) for each in block.fields)
    inner += "".join(_block_xml(types, group) for group in block.groups)
    inner += "".join(
        f"<data{_attributes(name=each.name, id=each.id, type=types.use(each.encoding), sinceVersion=each.since or None)}/>"
        for each in block.data
    )
    dimension = None if block.dimension is None else types.use(block.dimension)
    attributes = _attributes(
        name=block.name,
        id=block.id,
        dimensionType=None if dimension == "groupSizeEncoding" else dimension,
        blockLength=block.block_length if block.explicit_length else None,
        sinceVersion=block.since or None,
    )
    tag = "message" if block.dimension is None else "group"
    return f"<{tag}{attributes}>{inner}</{tag}>"


def _field_xml(types: _TypesWriter, each: Field) -> str:
    primitive = each.encoding.primitive if isinstance(each.encoding, Leaf) else ""
    attributes = _attributes(
        name=each.name,
        id=each.id,
        type=types.use(each.encoding),
        offset=each.offset if each.explicit else None,
        presence="constant" if each.value_ref else each.presence or None,
        valueRef=each.value_ref or None,
        nullValue=_null_literal(primitive, each.null),
        exponent=each.exponent_field or None,
        sinceVersion=each.since or None,
    )
    return f"<field{attributes}/>"


def toml_of(profile: Profile) -> str:
    """The profile as TOML."""
    framing = profile.framing
    packet = [f"size = {framing.packet_size}"]
    if framing.packet_sequence is not None:
        packet.append(f'sequence = "{framing.packet_sequence}"')
    message = [f"size = {framing.prefix_size}"]
    if framing.length is None:
        message.append(f'end = "{framing.end}"')
    else:
        message += [f'length = "{framing.length}"', f'counts = "{framing.counts}"']
    if framing.sequence is not None:
        message.append(f'sequence = "{framing.sequence}"')
    if framing.magic is not None:
        message.append(f'magic = "{framing.magic} = {framing.magic_value:#x}"')
    lines = ['title = "drawn"', "[framing]", f'byte_order = "{framing.byte_order}"']
    if framing.packet_size:
        lines.append(f"packet = {{ {', '.join(packet)} }}")
    lines += [f"message = {{ {', '.join(message)} }}", "[frames]"]
    for rule in profile.rules:
        constants = "".join(f', {name} = "{value}"' for name, value in rule.constants)
        kind = f'{{ kind = "{rule.kind}"{constants} }}' if constants else f'"{rule.kind}"'
        lines.append(f'"{rule.pattern}" = {kind}')
    lines.append("[fields]")
    for name, candidates in profile.fields:
        written = [_candidate_toml(each) for each in candidates]
        lines.append(f"{name} = {written[0] if len(written) == 1 else '[' + ', '.join(written) + ']'}")
    for name, translation in profile.values:
        lines += [f"[values.{name}]", *(f'{value} = "{character}"' for value, character in translation)]
    return "\n".join(lines) + "\n"


def _candidate_toml(candidate: Candidate) -> str:
    named = f'"{candidate.field}"' if isinstance(candidate.field, str) else str(candidate.field)
    return named if candidate.exponent is None else f"{{ field = {named}, exponent = {candidate.exponent} }}"


# Drawing


@dataclass(frozen=True)
class _Wanted:
    """A candidate's field: blocks that have it have it in one of the ``forms``."""

    role: str
    name: str
    id: int
    candidate: Candidate
    forms: tuple[str, ...]
    is_member: bool = False


@dataclass
class _Drawing:
    """Draws one venue. Features that few schemas would have are taken in turn by the seed."""

    seed: int
    random: Random = field(init=False)
    numbers: int = 0

    def __post_init__(self) -> None:
        self.random = Random(self.seed)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def pick(self, choices: Sequence[Choice]) -> Choice:
        return choices[self.random.randrange(len(choices))]

    def new(self, prefix: str) -> str:
        """A name that no other thing of the schema has."""
        self.numbers += 1
        return f"{prefix}{self.numbers}"

    # Types

    def composite(self, prefix: str, members: Sequence[tuple[str, Encoding]], gaps: float = 0.2) -> Composite:
        """A composite of the members, with gaps between some."""
        placed: list[Member] = []
        end = 0
        for name, encoding in members:
            offset = end + (self.pick((1, 2, 3)) if encoding.size and self.chance(gaps) else 0)
            explicit = bool(encoding.size) and (offset != end or self.chance(0.2))
            by_ref = encoding.name not in SIZES and self.chance(0.5)
            placed.append(Member(name, offset, encoding, explicit, by_ref))
            end = offset + encoding.size
        return Composite(self.new(prefix), tuple(placed))

    def plain_integer(self, primitives: Sequence[str] = INTEGERS) -> Leaf:
        """An integer that is on the wire and has no null."""
        primitive = self.pick(primitives)
        return Leaf(primitive, primitive)

    def integer(self, primitives: Sequence[str] = INTEGERS, constant: float = 0.1) -> Leaf:
        """An integer: required, optional, with a nullValue, or constant."""
        primitive = self.pick(primitives)
        low, high = limits(primitive)
        number = self.pick((low, high, 0, 5, high // 2, max(low, -1)))
        if self.chance(constant):
            value = self.pick((0, 1, 7, 100, max(low, -3), high))
            return Leaf(self.new("Fixed"), primitive, presence="constant", constant=value)
        if self.chance(0.45):
            return Leaf(primitive, primitive)
        null = number if self.chance(0.5) else None
        presence = "optional" if null is None or self.chance(0.6) else "required"
        return Leaf(self.new("Number"), primitive, presence=presence, null=null)

    def floating(self) -> Leaf:
        """A float or double; its null, where it has one, is a NaN or an exact number."""
        primitive = self.pick(("float", "double", "double"))
        if self.chance(0.1):
            value = self.pick((1.5, -0.25, 1e30))
            return Leaf(self.new("Fixed"), primitive, presence="constant", constant=value)
        if self.chance(0.5):
            return Leaf(primitive, primitive)
        null = self.pick((-1.0, 2.0, 0.5)) if self.chance(0.3) else None
        return Leaf(self.new("Real"), primitive, presence="optional", null=null)

    def character(self) -> Leaf:
        """One character: required, optional, with a nullValue, or constant."""
        if self.chance(0.15):
            return Leaf(self.new("Fixed"), "char", presence="constant", constant=self.pick((b"0", b"2", b"E", b"x")))
        if self.chance(0.4):
            return Leaf("char", "char")
        null = self.pick((ord("N"), 32, 63)) if self.chance(0.5) else None
        presence = "optional" if null is None or self.chance(0.5) else "required"
        return Leaf(self.new("Letter"), "char", presence=presence, null=null)

    def enum(self, primitives: Sequence[str] = ("char", "char", "uint8", "uint8", "int8", "uint16", "int64")) -> Leaf:
        """An enum; those of a schema share names of values."""
        primitive = self.pick(primitives)
        names = ("BUY", "SELL", "NEW", "GONE", "PAR")[: self.pick((2, 3, 5))]
        pool = [ord(each) for each in "0125EJABx"] if primitive == "char" else [0, 1, 2, 3, 7, 9, 10, 77]
        numbers = self.random.sample(pool, len(names))
        null = None
        if self.chance(0.3):
            null = self.pick((ord("N"), 63)) if primitive == "char" else self.pick((11, 4, limits(primitive)[1]))
        presence = "optional" if self.chance(0.3) else "required"
        values = tuple(zip(names, numbers, strict=True))
        return Leaf(self.new("Enum"), primitive, presence=presence, null=null, values=values)

    def choices(self) -> Leaf:
        """A set."""
        return Leaf(self.new("Set"), self.pick(UNSIGNED), is_set=True)

    def decimal(self, on_wire: bool, least: int, greatest: int) -> Composite:
        """A decimal whose exponent is constant, then within the limits, or on the wire."""
        mantissa = self.integer(constant=0)
        if on_wire:
            exponent = self.integer(("int8", "int8", "int8", "int16", "int32", "uint8", "int64"), constant=0)
        else:
            exponent = Leaf(
                self.new("Fixed"), "int8", presence="constant", constant=self.random.randint(least, greatest)
            )
        members = [(self.pick(("mantissa", "value")), mantissa), ("exponent", exponent)]
        if self.chance(0.2):
            members.reverse()
        return self.composite("Decimal", members)

    def text(self) -> Leaf:
        """An array of characters."""
        return Leaf(self.new("Text"), "char", length=self.pick((2, 5, 9, 20)))

    def anything(self) -> Encoding:
        """A type that is on the wire."""
        return self.pick(
            (
                lambda: self.integer(constant=0),
                lambda: Leaf("char", "char"),
                self.text,
                self.text,
                lambda: Leaf(self.new("Array"), self.pick(INTEGERS), length=self.pick((2, 3, 7))),
                self.choices,
                self.enum,
                lambda: Leaf("double", "double"),
                lambda: self.decimal(self.chance(0.5), -9, 9),
                self.nested,
            )
        )()

    def nested(self) -> Composite:
        """A composite in a composite."""
        inner = self.composite("Inner", [("one", self.plain_integer()), ("letter", self.text())])
        return self.composite("Outer", [("first", self.choices()), ("inner", inner), ("last", self.enum(("uint8",)))])

    # Header, dimensions, var data

    def header(self, with_length: bool) -> Composite:
        """A message header; ``with_length``: what the framing reads stands first in it."""
        u8, u16, u32, u64 = (Leaf(primitive, primitive) for primitive in UNSIGNED)
        kinds: tuple[list[tuple[str, Encoding]], ...] = (
            [("blockLength", u16), ("templateId", u16), ("schemaId", u16), ("version", u16)],
            [("blockLength", u16), ("templateId", u8), ("schemaId", u8), ("version", u16)],
            [
                ("blockLength", u16),
                ("templateId", u16),
                ("schemaId", u16),
                ("version", u16),
                ("numGroups", u16),
                ("numVarDataFields", u16),
            ],
            [
                ("sent", Leaf("int64", "int64")),
                ("templateId", u32),
                ("marks", self.choices()),
                ("version", u8),
                ("shift", Leaf("int8", "int8")),
                ("blockLength", u16),
                ("schemaId", u32),
            ],
            [("version", u16), ("schemaId", u64), ("templateId", u64), ("serial", u64), ("blockLength", u64)],
            [("templateId", u32), ("blockLength", u32), ("version", u16), ("schemaId", u16)],
        )
        members = kinds[(self.seed + self.seed // 8) % len(kinds)]
        if with_length:
            members = [("messageLength", u32 if self.chance(0.3) else u16), ("serial", u32), *members]
        drawn = self.composite("Header", members, gaps=0.1)
        return drawn if self.chance(0.5) else replace(drawn, name="messageHeader")

    def dimension(self) -> Composite:
        """A group's dimension."""
        u8, u16, u32, u64 = (Leaf(primitive, primitive) for primitive in UNSIGNED)
        return self.pick(
            (
                lambda: self.composite("Dimension", [("blockLength", u16), ("numInGroup", self.pick((u8, u16)))], 0),
                lambda: self.composite("Dimension", [("blockLength", u16), ("numInGroup", self.pick((u8, u16)))], 0),
                lambda: self.composite("Dimension", [("numInGroup", self.pick((u8, u16))), ("blockLength", u8)]),
                lambda: self.composite("Dimension", [("blockLength", u16), ("numInGroup", u32)]),
                lambda: self.composite(
                    "Dimension",
                    [("blockLength", u16), ("numInGroup", u16), ("numGroups", u8), ("numVarDataFields", u8)],
                ),
                lambda: self.composite("Dimension", [("numInGroup", u64), ("spare", u8), ("blockLength", u32)]),
                lambda: Composite(
                    self.new("Dimension"),
                    (Member("blockLength", 0, u16), Member("numInGroup", 7, u8, explicit=True)),
                ),
            )
        )()

    def data(self, since: int) -> Data:
        """Var data."""
        length = self.pick(("uint8", "uint16", "uint16", "uint32", "uint64"))
        size = SIZES[length]
        gap, spare = self.pick(((0, False), (0, False), (2, False), (1, True)))
        members = [Member("length", 0, Leaf(length, length))]
        if spare:
            members.append(Member("spare", size, Leaf("int8", "int8")))
        explicit = bool(gap) and not spare
        members.append(Member("varData", size + gap, Leaf("uint8", "uint8", length=0), explicit=explicit))
        return Data(self.new("data"), 900 + self.numbers, Composite(self.new("VarData"), tuple(members)), since)

    # Blocks

    def encoding_of(self, wanted: _Wanted) -> tuple[Encoding, str]:
        """The encoding of a candidate's field, and the field that has its exponent."""
        least, greatest = EXPONENTS.get(wanted.role, (0, 0))
        match self.pick(wanted.forms):
            case "integer":
                return self.integer(), ""
            case "other field":
                return self.integer(constant=0.3), "scale"
            case "decimal":
                return self.decimal(False, least, greatest), ""
            case "wire decimal":
                return self.decimal(True, least, greatest), ""
            case "float":
                return self.floating(), ""
            case "character":
                return self.character(), ""
            case "enum":
                return self.enum(), ""
            case "number enum":
                return self.enum(("uint8", "int8", "uint16")), ""
            case "set":
                return self.choices(), ""
        return self.anything(), ""

    def field(self, wanted: _Wanted) -> Field:
        """A field, not yet placed."""
        encoding, exponent_field = self.encoding_of(wanted)
        if wanted.is_member:
            if str(wanted.candidate.field).endswith(".inner.value"):
                inner = self.composite("Inner", [("value", encoding), ("rest", self.text())])
                encoding = self.composite("Outer", [("lead", self.plain_integer()), ("inner", inner)])
            else:
                encoding = self.composite("Holder", [("lead", self.plain_integer()), ("value", encoding)])
            return Field(wanted.name, wanted.id, 0, encoding)
        presence, null, value_ref = "", None, ""
        if isinstance(encoding, Leaf) and encoding.values and self.chance(0.2) and wanted.role in CHARACTERS:
            name, number = self.pick(encoding.values)
            value_ref = f"{encoding.name}.{name}"
            constant = bytes([number]) if encoding.primitive == "char" else number
            encoding = replace(encoding, presence="constant", null=None, constant=constant)
        elif encoding.size and (isinstance(encoding, Leaf) or encoding.is_decimal) and self.chance(0.3):
            presence = self.pick(("required", "optional"))
            if presence == "optional" and isinstance(encoding, Leaf) and encoding.is_integer and self.chance(0.4):
                null = self.pick((limits(encoding.primitive)[1], 3, 0))
        return Field(
            wanted.name,
            wanted.id,
            0,
            encoding,
            presence=presence,
            null=null,
            exponent_field=exponent_field,
            value_ref=value_ref,
        )

    def placed(self, fields: Sequence[Field], since: int) -> tuple[tuple[Field, ...], int]:
        """The fields with offsets and versions, the newest last; and where they end."""
        placed: list[Field] = []
        end = 0
        newer = self.pick((0, 0, 1, 2))
        for number, each in enumerate(fields):
            gap = self.pick((1, 2, 5)) if each.encoding.size and self.chance(0.15) else 0
            explicit = bool(each.encoding.size) and (bool(gap) or self.chance(0.2))
            if number >= len(fields) - newer:
                since = self.random.randint(since, NEWEST_VERSION)
            placed.append(replace(each, offset=end + gap, explicit=explicit, since=since))
            end += gap + each.encoding.size
        return tuple(placed), end

    def block(self, name: str, number: int, wanted: Sequence[_Wanted], depth: int, since: int, most: int) -> Block:
        """A block with the groups in it; depth 0 is a root."""
        is_root = depth == 0
        fields: list[Field] = []
        if is_root or not self.chance(0.2):
            share = 0.5 if is_root else 0.6
            fields = [self.field(each) for each in wanted if self.chance(share)]
            fields += [Field(self.new("filler"), 800 + n, 0, self.anything()) for n in range(self.pick((0, 0, 1)))]
            self.random.shuffle(fields)
        if is_root or (any(each.exponent_field for each in fields) and self.chance(0.5)):
            exponent = self.integer(("int8", "int8", "int16", "uint8"), constant=0)
            if self.chance(0.15):
                exponent = Leaf(self.new("Fixed"), "int8", presence="constant", constant=self.random.randint(-8, 9))
            fields.insert(self.random.randint(0, len(fields)), Field("scale", 799, 0, exponent))
        placed, end = self.placed(fields, since)
        block_length = end + (self.pick((1, 4)) if self.chance(0.2) else 0)
        deep = most > depth
        dimension = None if is_root else self.dimension()
        groups: list[Block] = []
        inner_since = since
        for n in range(self.pick((1, 2) if is_root else (0, 1)) if deep else 0):
            inner_since = max(inner_since, self.pick((0, 0, 0, 1, NEWEST_VERSION)))
            group = self.new("Group")
            groups.append(self.block(group, 600 + self.numbers + n, wanted, depth + 1, inner_since, most))
        data: list[Data] = []
        data_since = since
        for _ in range(self.pick((0, 1, 1, 2) if is_root or depth == 1 else (0, 0, 1))):
            data_since = max(data_since, self.pick((0, 0, 0, 2)))
            data.append(self.data(data_since))
        if not is_root and not fields and not groups and not data:
            data.append(self.data(since))
        explicit = block_length != end or self.chance(0.3)
        return Block(name, number, block_length, explicit, placed, tuple(groups), tuple(data), since, dimension)

    # Profile

    def candidates(self) -> list[_Wanted]:
        """The fields that the profile names."""
        forms = {
            "price": ("integer", "other field", "decimal", "decimal", "wire decimal", "float"),
            "quantity": ("integer", "integer", "other field", "decimal", "wire decimal", "float"),
            **dict.fromkeys(WHOLE_NUMBERS, ("integer", "integer", "integer", "number enum", "set")),
            **dict.fromkeys(CHARACTERS, ("character", "character", "enum", "enum", "integer")),
            **dict.fromkeys(OFFSETS, ("anything",)),
        }
        wanted: list[_Wanted] = []
        id_of = 1
        for role, all_forms in forms.items():
            often = role in ("price", "quantity", "entry_type", "side")
            if role == "sequence" and self.seed % 3:
                continue
            if not often and self.chance(0.35):
                continue
            for _ in range(self.pick((1, 2, 2, 3) if often else (1, 1, 2))):
                id_of += 1
                name = self.new(role.split("_")[0])
                style = self.pick(("name", "name", "id", "member"))
                member = f"{name}.inner.value" if self.chance(0.3) else f"{name}.value"
                named = {"name": name, "id": id_of, "member": member}[style]
                exponent = None
                its_forms = all_forms
                if style == "member" and role in EXPONENTS:
                    style, named = "name", name
                if role in EXPONENTS and self.chance(0.25):
                    exponent, its_forms = self.random.randint(*EXPONENTS[role]), ("integer",)
                if style == "member":
                    its_forms = tuple(form for form in all_forms if form != "anything") or ("integer", "character")
                    if role in OFFSETS:
                        its_forms = ("set",)
                wanted.append(
                    _Wanted(role, name, id_of, Candidate(named, exponent), its_forms, is_member=style == "member")
                )
        return wanted

    def rules(self, messages: Sequence[Block]) -> tuple[Rule, ...]:
        """The lines of ``[frames]``; some are behind one that goes first."""
        rules: dict[str, Rule] = {}
        for number, message in enumerate(messages):
            lines = []
            for path in message.all_blocks():
                name = ".".join(block.name for block in path)
                if self.chance(0.15):
                    continue
                if len(path) == 1:
                    kind = self.pick((BY_ENTRY_TYPE, BY_ENTRY_TYPE, self.pick(ORDER_KINDS), self.pick(KIND_NAMES)))
                    if (self.seed + number) % 3 == 0:
                        kind = self.pick(ORDER_KINDS)
                else:
                    kind = self.pick((BY_ENTRY_TYPE, BY_ENTRY_TYPE, BY_ENTRY_TYPE, self.pick(KIND_NAMES)))
                pattern = name + ("*" if self.chance(0.2) else "")
                constants = []
                if self.chance(0.25):
                    names = self.random.sample(CHARACTERS, self.pick((1, 2)))
                    constants = [(each, self.pick(("0", "1", "2", "E", "4"))) for each in names]
                lines.append(Rule(pattern, kind, tuple(constants)))
            if self.chance(0.7):
                lines.reverse()
            rules |= {line.pattern: line for line in lines}
        if self.chance(0.3):
            rules["*"] = Rule("*", self.pick(KIND_NAMES))
        return tuple(rules.values())

    def translations(
        self, wanted: Sequence[_Wanted], fields_of: dict[str, list[Field]]
    ) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
        """What the profile translates: enums by names, or numbers where all fields are integers."""
        found = []
        for role in CHARACTERS:
            names = [each for each in wanted if each.role == role]
            leaves = [_leaf_of(each) for one in names for each in fields_of.get(one.name, [])]
            if any(leaf.values for leaf in leaves) and self.chance(0.7):
                keys = self.random.sample(("BUY", "SELL", "NEW", "GONE", "PAR"), self.pick((2, 4)))
                if not any(key == name for leaf in leaves for name, _ in leaf.values for key in keys):
                    keys.append("BUY")
            elif leaves and all(leaf.is_integer and not leaf.values for leaf in leaves) and self.chance(0.7):
                keys = self.random.sample(("0", "1", "2", "5", "77", "200"), 3)
            else:
                continue
            characters = self.random.sample("0125EJQ", len(keys))
            found.append((role, tuple(zip(keys, characters, strict=True))))
        return tuple(found)

    def framing(self, kind: str, header: Composite) -> Framing:
        """A framing of a kind."""
        order = self.pick(("little", "big"))
        packet_size = self.pick((0, 4, 8, 12, 32)) if kind not in ("none",) else 0
        packet_sequence = None
        if packet_size and self.chance(0.8):
            size = self.pick([size for size in (2, 4, 8) if size <= packet_size])
            packet_sequence = Slot(self.random.randint(0, packet_size - size), size)
        base = Framing(order, "length", packet_size, packet_sequence)
        if kind == "none":
            return replace(base, end="packet")
        if kind == "header":
            sequence = Slot(header.member("serial").offset, 4)
            length = header.member("messageLength")
            return replace(
                base,
                length=Slot(length.offset, length.encoding.size),
                counts=self.pick(("message", "all")),
                sequence=sequence if self.chance(0.6) else None,
            )
        end = "length"
        sizes: list[tuple[str, int]] = []
        if kind in ("structure", "packet"):
            end = kind
        else:
            sizes.append(("length", self.pick((2, 2, 4))))
        if kind == "magic" or self.chance(0.25):
            sizes.append(("magic", self.pick((1, 2))))
        if self.chance(0.3):
            sizes.append(("sequence", self.pick((1, 2))))
        self.random.shuffle(sizes)
        slots: dict[str, Slot] = {}
        position = 0
        for name, size in sizes:
            position += self.pick((0, 0, 1))
            slots[name] = Slot(position, size)
            position += size
        prefix = min(position + self.pick((0, 0, 1)), max(position, 8))
        return replace(
            base,
            end=end,
            prefix_size=prefix,
            counts=self.pick(("message", "all")),
            magic_value=self.random.randrange(1 << 8 * slots["magic"].size) if "magic" in slots else 0,
            **slots,
        )

    def venue(self) -> DrawnVenue:
        """The schema and its profile."""
        kind = ("length", "structure", "magic", "header", "packet", "structure", "magic", "none")[self.seed % 8]
        header = self.header(with_length=kind == "header")
        wanted = self.candidates()
        most = (3, 1, 2)[self.seed % 3]
        template_size = header.member("templateId").encoding.size
        ids = [5, 9, 200, *((60_000, 256 + 5) if template_size >= 2 else ())]
        ids = self.random.sample(ids, self.pick((2, 2, 3)))
        messages: list[Block] = []
        for number, template in enumerate(ids):
            name = self.new(f"M{number}x")
            depth = most if number == 0 else self.pick((0, 1))
            messages.append(self.block(name, template, wanted, 0, 0, depth))
        fields_of: dict[str, list[Field]] = {}
        for message in messages:
            for path in message.all_blocks():
                for each in path[-1].fields:
                    fields_of.setdefault(each.name, []).append(each)
        fields: dict[str, tuple[Candidate, ...]] = {}
        for role in dict.fromkeys(each.role for each in wanted):
            of_role = [each for each in wanted if each.role == role]
            if any(each.name in fields_of for each in of_role):
                fields[role] = tuple(each.candidate for each in of_role)
        there = [each for each in wanted if each.role in fields]
        profile = Profile(
            self.framing(kind, header),
            self.rules(messages),
            tuple(fields.items()),
            self.translations(there, fields_of),
        )
        schema_id = self.random.randint(1, 1 << 8 * min(header.member("schemaId").encoding.size, 4)) - 1
        order = ("little", "big")[(self.seed + self.seed // 8) % 2]
        return DrawnVenue(self.seed, Schema(schema_id, f"drawn.{self.seed}", order, header, tuple(messages)), profile)


def _leaf_of(each: Field) -> Leaf:
    encoding = each.encoding
    if isinstance(encoding, Composite) and encoding.members[-1].name == "inner":
        encoding = encoding.member("inner").encoding
    if isinstance(encoding, Composite):
        encoding = encoding.member("value").encoding
    assert isinstance(encoding, Leaf)
    return encoding


def draw_venue(seed: int) -> DrawnVenue:
    """The schema and profile of a seed, always the same."""
    return _Drawing(seed).venue()
