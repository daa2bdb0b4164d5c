"""Values of an SBE schema: primitive types, their nulls and constants, and what a field is made of."""

import enum
from dataclasses import dataclass
from typing import NoReturn

from hdl.sbe_xml import Element


class ValueKind(enum.Enum):
    """What a field's bytes are."""

    INTEGER = "integer"
    """A whole number: a number type, an enum or a set over one, a constant of these."""
    CHAR = "char"
    """One character, an enum over it, or a constant of these."""
    DECIMAL = "decimal"
    """An integer mantissa with the schema's constant exponent."""
    OTHER = "other"
    """Anything else: arrays, floats, composites, decimals whose exponent is on the wire."""


@dataclass(frozen=True)
class Field:
    """A field of a block. ``offset`` and ``size`` in bytes; a constant has size 0."""

    name: str
    id: int
    offset: int
    size: int
    primitive: str
    """Primitive type (of the mantissa, in a decimal); empty for composites."""
    signed: bool
    kind: ValueKind
    exponent: int = 0
    """Power of ten of a decimal; 0 for integers."""
    null: int | None = None
    """The number that means absent, as its type reads it."""
    constant: int | None = None
    """The number, or the character's code, of a field that is not on the wire."""
    semantic_type: str = ""
    since_version: int = 0
    length: int = 1
    """Elements of an array."""


PRIMITIVE_BYTES = {
    "char": 1,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "uint8": 1,
    "uint16": 2,
    "uint32": 4,
    "uint64": 8,
    "float": 4,
    "double": 8,
}


def default_null(primitive: str) -> int | None:
    """SBE's null of an optional type without ``nullValue`` [2.4]; None where it is no number."""
    bits = PRIMITIVE_BYTES[primitive] * 8
    if primitive == "char":
        return 0
    if primitive.startswith("uint"):
        return (1 << bits) - 1
    return -(1 << bits - 1) if primitive.startswith("int") else None


def simple_value(primitive: str, length: int, presence: str | None, null: int | None) -> Field:
    """A primitive, or an array of ``length`` of them."""
    if length != 1 or primitive in ("float", "double"):
        kind = ValueKind.OTHER
    else:
        kind = ValueKind.CHAR if primitive == "char" else ValueKind.INTEGER
    optional = presence == "optional" and kind is not ValueKind.OTHER
    return Field(
        name="",
        id=0,
        offset=0,
        size=PRIMITIVE_BYTES[primitive] * length,
        primitive=primitive,
        signed=primitive.startswith("int"),
        kind=kind,
        null=(default_null(primitive) if null is None else null) if optional else None,
        length=length,
    )


def literal(element: Element, primitive: str) -> int:
    """A constant's or an enum value's text as a number."""
    text = element.text
    if primitive == "char":
        if len(text) != 1 or ord(text) > 0xFF:
            element.refuse(f"'{text}' is not one character")
        return ord(text)
    return _ranged(element, text, primitive)


def null_value(element: Element, text: str, primitive: str) -> int | None:
    """``nullValue`` as a number; a char's may be written as its code or as itself."""
    if primitive in ("float", "double"):
        return None
    if primitive == "char" and len(text) == 1 and not text.isdigit():
        return ord(text)
    return _ranged(element, text, primitive)


def _ranged(element: Element, text: str, primitive: str) -> int:
    try:
        number = int(text)
    except ValueError:
        _refuse_number(element, text, primitive)
    bits = PRIMITIVE_BYTES[primitive] * 8
    signed = primitive.startswith("int")
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
    if not low <= number < high:
        _refuse_number(element, text, primitive)
    return number


def _refuse_number(element: Element, text: str, primitive: str) -> NoReturn:
    element.refuse(f"'{text}' is not a number of type {primitive}")
