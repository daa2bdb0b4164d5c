"""Encodings of an SBE schema: primitive types and what is made of them.

Numbers in brackets are sections of "Simple Binary Encoding" 1.0 (FIX Trading Community).
"""

import enum
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

NAN = math.nan
"""The null of floating point types [2.4]. One object, so that encodings with it are equal to themselves."""


class Presence(enum.Enum):
    """Whether a value must be there [2.3]."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    CONSTANT = "constant"


class Family(enum.Enum):
    """What a primitive's bits are."""

    CHAR = "char"
    UNSIGNED = "unsigned"
    SIGNED = "signed"
    FLOATING = "floating"


@dataclass(frozen=True)
class Primitive:
    """A primitive type [2.4]: its ``size`` in bytes, and the range and null that it has where the schema gives no other."""

    name: str
    size: int
    family: Family

    @property
    def bits(self) -> int:
        """Its size in bits."""
        return 8 * self.size

    @property
    def null(self) -> int | float:
        """What stands for no value in an optional field."""
        return {
            Family.CHAR: 0,
            Family.UNSIGNED: (1 << self.bits) - 1,
            Family.SIGNED: -(1 << self.bits - 1),
            Family.FLOATING: NAN,
        }[self.family]

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the largest number that its bits can hold; of a floating point type (0, 0)."""
        if self.family is Family.FLOATING:
            return 0, 0
        if self.family is Family.SIGNED:
            return -(1 << self.bits - 1), (1 << self.bits - 1) - 1
        return 0, (1 << self.bits) - 1


PRIMITIVES = {
    primitive.name: primitive
    for primitive in (
        Primitive("char", 1, Family.CHAR),
        *(Primitive(f"int{8 * size}", size, Family.SIGNED) for size in (1, 2, 4, 8)),
        *(Primitive(f"uint{8 * size}", size, Family.UNSIGNED) for size in (1, 2, 4, 8)),
        Primitive("float", 4, Family.FLOATING),
        Primitive("double", 8, Family.FLOATING),
    )
}


def bits_of(number: float, primitive: Primitive) -> int:
    """A floating point number's bits in IEEE 754's format."""
    return int.from_bytes(struct.pack(">d" if primitive.size == 8 else ">f", number), "big")


@dataclass(frozen=True)
class Named:
    """An enum's valid value or a set's choice (then ``number`` is the bit)."""

    name: str
    number: int
    since_version: int = 0


@dataclass(frozen=True)
class Simple:
    """A type, an enum or a set: an array of ``length`` primitives, mostly of 1."""

    name: str
    """The type's name; of a primitive used without a type, its own."""
    primitive: Primitive
    length: int = 1
    presence: Presence = Presence.REQUIRED
    null: int | float | None = None
    """The number that means absent, None where none does."""
    minimum: int | float | None = None
    maximum: int | float | None = None
    constant: int | float | bytes | None = None
    """The value of what is not on the wire; bytes for characters."""
    character_encoding: str = ""
    semantic_type: str = ""
    since_version: int = 0
    deprecated: int | None = None
    values: tuple[Named, ...] = ()
    """Of an enum."""
    choices: tuple[Named, ...] = ()
    """Of a set."""

    @property
    def size(self) -> int:
        """Bytes on the wire; 0 of a constant."""
        return 0 if self.presence is Presence.CONSTANT else self.primitive.size * self.length

    @property
    def is_integer(self) -> bool:
        """Whether it is one whole number (an enum of numbers and a set are)."""
        return self.length == 1 and self.primitive.family in (Family.UNSIGNED, Family.SIGNED)

    @property
    def is_char(self) -> bool:
        """Whether it is one character."""
        return self.length == 1 and self.primitive.family is Family.CHAR

    @property
    def is_floating(self) -> bool:
        """Whether it is one floating point number."""
        return self.length == 1 and self.primitive.family is Family.FLOATING

    def described(self) -> str:
        """Its type in words, such as ``uint16``, ``char[8]``, ``enum of char``."""
        text = self.primitive.name + (f"[{self.length}]" if self.length != 1 else "")
        if self.values:
            text = f"enum of {text}"
        elif self.choices:
            text = f"set of {text}"
        return text


@dataclass(frozen=True)
class Member:
    """A member of a composite; ``offset`` in bytes from the composite's begin."""

    name: str
    offset: int
    encoding: "Simple | Composite"
    since_version: int = 0
    deprecated: int | None = None


@dataclass(frozen=True)
class Composite:
    """A composite type [2.9]."""

    name: str
    members: tuple[Member, ...]
    semantic_type: str = ""
    since_version: int = 0
    deprecated: int | None = None

    @property
    def size(self) -> int:
        """Bytes on the wire."""
        return max((member.offset + member.encoding.size for member in self.members), default=0)

    def described(self) -> str:
        """Its type in words: ``decimal``, or ``composite`` with its name."""
        return "decimal" if decimal_parts(self) else f"composite {self.name}"


Encoding = Simple | Composite


@dataclass(frozen=True)
class Leaf:
    """One primitive, or array of them, of a block: a field, or a member of a composite that is one.

    ``path`` has the field's name and the members' below it; ``offset`` is from the block's begin.
    """

    path: tuple[str, ...]
    offset: int
    encoding: Simple
    since_version: int = 0

    @property
    def name(self) -> str:
        """The path with dots."""
        return ".".join(self.path)

    @property
    def end(self) -> int:
        """The offset behind its last byte."""
        return self.offset + self.encoding.size


def leaves(name: str, offset: int, encoding: Encoding, since_version: int = 0) -> Iterator[Leaf]:
    """What an encoding at ``offset`` is made of, in the schema's order."""
    return _leaves((name,), offset, encoding, since_version)


def _leaves(path: tuple[str, ...], offset: int, encoding: Encoding, since_version: int) -> Iterator[Leaf]:
    if isinstance(encoding, Simple):
        yield Leaf(path, offset, encoding, since_version)
        return
    for member in encoding.members:
        yield from _leaves(
            (*path, member.name), offset + member.offset, member.encoding, max(since_version, member.since_version)
        )


class DecimalParts(NamedTuple):
    """The members of a decimal."""

    mantissa: Member
    exponent: Member


def decimal_parts(encoding: Encoding) -> DecimalParts | None:
    """The parts of a composite that is a decimal [2.8.1]: two members, one an integer named ``exponent``, the other an integer on
    the wire. None for anything else."""
    if isinstance(encoding, Simple) or len(encoding.members) != 2:
        return None
    exponents = [member for member in encoding.members if member.name == "exponent"]
    mantissas = [member for member in encoding.members if member.name != "exponent"]
    if len(exponents) != 1:
        return None
    exponent, mantissa = exponents[0].encoding, mantissas[0].encoding
    if not (isinstance(exponent, Simple) and isinstance(mantissa, Simple)):
        return None
    if not (exponent.is_integer and mantissa.is_integer and mantissa.size):
        return None
    return DecimalParts(mantissas[0], exponents[0])


def with_presence(encoding: Encoding, presence: Presence) -> Encoding:
    """The encoding of a field that says ``presence`` (required or optional) itself; a decimal's is its mantissa's."""
    if isinstance(encoding, Simple):
        if encoding.presence is Presence.CONSTANT:
            return encoding
        null = encoding.null
        if presence is Presence.REQUIRED:
            null = None
        elif null is None:
            null = encoding.primitive.null
        return replace(encoding, presence=presence, null=null)
    parts = decimal_parts(encoding)
    if parts is None:
        return encoding
    mantissa = replace(parts.mantissa, encoding=with_presence(parts.mantissa.encoding, presence))
    members = tuple(mantissa if member is parts.mantissa else member for member in encoding.members)
    return replace(encoding, members=members)
