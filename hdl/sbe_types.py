"""Compiles the types of an SBE schema: elements of XML to encodings. Numbers in brackets are sections of SBE 1.0."""

from collections.abc import Iterable
from dataclasses import replace

from hdl.sbe_encoding import (
    PRIMITIVES,
    Composite,
    Encoding,
    Family,
    Member,
    Named,
    Presence,
    Primitive,
    Simple,
    with_presence,
)
from hdl.sbe_xml import Element, Problems, SchemaError

TYPE_ELEMENTS = ("type", "composite", "enum", "set")

MOST_LENGTH = 1 << 16
"""Elements that an array may have; a block is not longer either."""


class Types:
    """The types of a schema by name. Each is compiled once; what is wrong with it is told once, whoever uses it."""

    def __init__(self, elements: Iterable[Element], problems: Problems) -> None:
        self._elements: dict[str, Element] = {}
        self._compiled: dict[str, Encoding | SchemaError] = {}
        for element in elements:
            with problems.collect():
                name = element.required("name")
                if name in self._elements:
                    first = self._elements[name]
                    element.refuse(f"type '{name}' is defined twice (first in {first.path}:{first.line})")
                self._elements[name] = element
        for name, element in self._elements.items():
            with problems.collect():
                self.named(name, element)

    def named(self, name: str, user: Element, within: tuple[str, ...] = ()) -> Encoding:
        """The encoding of a type or a primitive by name. Raises :class:`SchemaError` at ``user`` where there is none."""
        if name in within:
            user.refuse(f"type '{name}' contains itself")
        if name not in self._elements:
            if name in PRIMITIVES:
                return Simple(name, PRIMITIVES[name])
            user.refuse(f"unknown type '{name}'")
        if name not in self._compiled:
            try:
                self._compiled[name] = self._type(self._elements[name], (*within, name))
            except SchemaError as error:
                self._compiled[name] = error
        compiled = self._compiled[name]
        if isinstance(compiled, SchemaError):
            raise compiled
        return compiled

    def composite(self, name: str, user: Element, role: str) -> tuple[Element, Composite]:
        """A composite by name, for the ``role`` that it plays."""
        encoding = self.named(name, user) if name in self._elements else None
        if not isinstance(encoding, Composite):
            user.refuse(f"there is no composite '{name}' for {role}")
        return self._elements[name], encoding

    def _type(self, element: Element, within: tuple[str, ...]) -> Encoding:
        match element.name:
            case "composite":
                return self._composite(element, within)
            case "enum":
                return self._enum(element, within)
            case "set":
                return self._set(element, within)
        return self._simple(element)

    def _simple(self, element: Element) -> Simple:
        name = element.required("name")
        primitive_name = element.required("primitiveType")
        if primitive_name not in PRIMITIVES:
            element.refuse(f"type '{name}' has the unknown primitive type '{primitive_name}'")
        primitive = PRIMITIVES[primitive_name]
        presence = presence_of(element) or Presence.REQUIRED
        length = element.number("length", 1)
        if length > MOST_LENGTH:
            element.refuse(f"type '{name}' has length {length}; at most {MOST_LENGTH} is possible")
        encoding = Simple(
            name,
            primitive,
            length,
            presence,
            character_encoding=element.get("characterEncoding", ""),
            semantic_type=element.get("semanticType", ""),
            since_version=element.number("sinceVersion", 0),
            deprecated=element.number_if_given("deprecated"),
        )
        if presence is Presence.CONSTANT:
            return self._constant(element, encoding)
        encoding = with_range(element, encoding)
        if (null := element.get("nullValue")) is not None:
            # What a venue calls null is no value, also where it forgot to say that the type is optional.
            return replace(encoding, null=null_literal(element, null, primitive))
        return replace(encoding, null=primitive.null) if presence is Presence.OPTIONAL else encoding

    def _constant(self, element: Element, encoding: Simple) -> Simple:
        if (reference := element.get("valueRef")) is not None:
            return self._referring(encoding, reference, element)
        return with_constant(element, encoding, f"constant type '{encoding.name}'")

    def _referring(self, encoding: Simple, reference: str, user: Element) -> Simple:
        """An encoding whose constant is ``Enum.Value`` [2.7.1]."""
        enum_name, _, value_name = reference.partition(".")
        element = self._elements.get(enum_name)
        if element is None or element.name != "enum":
            user.refuse(f"valueRef '{reference}' names no enum")
        an_enum = self.named(enum_name, user)
        assert isinstance(an_enum, Simple)
        for value in an_enum.values:
            if value.name == value_name:
                is_char = encoding.primitive.family is Family.CHAR
                return replace(encoding, constant=bytes([value.number]) if is_char else value.number)
        user.refuse(f"valueRef '{reference}': enum '{enum_name}' has no value '{value_name}'")

    def _enum(self, element: Element, within: tuple[str, ...]) -> Simple:
        encoding = self._encoded(element, within)
        values = self._named_numbers(element, "validValue", encoding.primitive)
        numbers: dict[int, str] = {}
        for value, child in zip(values, element.named("validValue"), strict=True):
            if value.number in numbers:
                child.refuse(f"'{value.name}' has the value of '{numbers[value.number]}'")
            numbers[value.number] = value.name
        if not values:
            element.refuse(f"enum '{encoding.name}' has no values")
        return replace(encoding, values=values)

    def _set(self, element: Element, within: tuple[str, ...]) -> Simple:
        encoding = self._encoded(element, within)
        if encoding.primitive.family is not Family.UNSIGNED:
            element.refuse(f"set '{encoding.name}' is encoded by {encoding.primitive.name}, not by an unsigned number")
        choices = self._named_numbers(element, "choice", PRIMITIVES["uint8"])
        for choice, child in zip(choices, element.named("choice"), strict=True):
            if choice.number >= encoding.primitive.bits:
                child.refuse(f"bit {choice.number} of '{choice.name}' does not fit {encoding.primitive.name}")
        return replace(encoding, choices=choices)

    def _encoded(self, element: Element, within: tuple[str, ...]) -> Simple:
        """What an enum or a set is encoded by, with the element's own name and attributes."""
        name = element.required("name")
        encoding = self.named(element.required("encodingType"), element, within)
        if not isinstance(encoding, Simple) or not (encoding.is_integer or encoding.is_char) or not encoding.size:
            element.refuse(f"{element.name} '{name}' is encoded neither by a number nor by a char")
        return replace(
            encoding,
            name=name,
            values=(),
            choices=(),
            semantic_type=element.get("semanticType", ""),
            since_version=element.number("sinceVersion", 0),
            deprecated=element.number_if_given("deprecated"),
        )

    @staticmethod
    def _named_numbers(element: Element, child_name: str, primitive: Primitive) -> tuple[Named, ...]:
        found: dict[str, Named] = {}
        for child in element.named(child_name):
            name = child.required("name")
            if name in found:
                child.refuse(f"'{name}' stands twice in {element.name} '{element.get('name', '')}'")
            number = literal(child, child.text, primitive)
            assert isinstance(number, int)
            found[name] = Named(name, number, child.number("sinceVersion", 0))
        return tuple(found.values())

    def _composite(self, element: Element, within: tuple[str, ...]) -> Composite:
        name = element.required("name")
        members: dict[str, Member] = {}
        running = 0
        for child in element.named("ref", *TYPE_ELEMENTS):
            member_name = child.required("name")
            if member_name in members:
                child.refuse(f"'{member_name}' stands twice in composite '{name}'")
            if child.name == "ref":
                encoding = self.named(child.required("type"), child, within)
            else:
                encoding = self._type(child, within)
            is_constant = isinstance(encoding, Simple) and encoding.presence is Presence.CONSTANT
            offset = running if is_constant else child.number("offset", running)
            if offset < running:
                child.refuse(f"'{member_name}' overlaps the member before it: offset {offset}, but {running} is free")
            running = offset + encoding.size
            members[member_name] = Member(
                member_name,
                offset,
                encoding,
                child.number("sinceVersion", 0),
                child.number_if_given("deprecated"),
            )
        return Composite(
            name,
            tuple(members.values()),
            element.get("semanticType", ""),
            element.number("sinceVersion", 0),
            element.number_if_given("deprecated"),
        )

    def of_field(self, element: Element) -> Encoding:
        """The encoding of a field: its type's, with what the field says itself of presence, null and constants."""
        name = element.required("name")
        presence = presence_of(element)
        reference = element.get("valueRef")
        if (type_name := element.get("type")) is None:
            if reference is None:
                element.refuse(f"field '{name}' has no type")
            type_name = reference.partition(".")[0]
        encoding = self.named(type_name, element)
        if reference is not None or (presence is Presence.CONSTANT and encoding.size):
            if not isinstance(encoding, Simple):
                element.refuse(f"constant field '{name}' is a composite")
            encoding = replace(encoding, presence=Presence.CONSTANT, null=None)
            if reference is not None:
                return self._referring(encoding, reference, element)
            return with_constant(element, encoding, f"constant field '{name}'")
        if presence is not None and presence is not Presence.CONSTANT:
            encoding = with_presence(encoding, presence)
        if isinstance(encoding, Simple) and encoding.size:
            encoding = with_range(element, encoding)
            if (null := element.get("nullValue")) is not None:
                encoding = replace(encoding, null=null_literal(element, null, encoding.primitive))
        return encoding


def presence_of(element: Element) -> Presence | None:
    """What an element says of presence; None where it says nothing."""
    if (text := element.get("presence")) is None:
        return None
    try:
        return Presence(text)
    except ValueError:
        element.refuse(f"presence '{text}' is none of {', '.join(presence.value for presence in Presence)}")


def with_constant(element: Element, encoding: Simple, what: str) -> Simple:
    """An encoding with the element's text as its constant. Text without a length has its own."""
    if not element.text:
        element.refuse(f"{what} has no value")
    if encoding.primitive.family is not Family.CHAR:
        if encoding.length != 1:
            element.refuse(f"{what} is an array of numbers")
        return replace(encoding, constant=literal(element, element.text, encoding.primitive))
    if not element.text.isascii():
        element.refuse(f"{what} is not of ASCII characters")
    text = element.text.encode("ascii")
    if "length" in element.attributes and len(text) > encoding.length:
        element.refuse(f"{what} has {len(text)} characters, but its length is {encoding.length}")
    return replace(encoding, length=max(encoding.length, len(text)), constant=text)


def with_range(element: Element, encoding: Simple) -> Simple:
    """An encoding with the element's ``minValue`` and ``maxValue``, where it has them."""
    minimum, maximum = (
        before if text is None else literal(element, text, encoding.primitive)
        for before, text in (
            (encoding.minimum, element.get("minValue")),
            (encoding.maximum, element.get("maxValue")),
        )
    )
    if minimum is not None and maximum is not None and minimum > maximum:
        element.refuse(f"minValue {minimum} is above maxValue {maximum}")
    return replace(encoding, minimum=minimum, maximum=maximum)


def literal(element: Element, text: str, primitive: Primitive) -> int | float:
    """A value in the schema's text as a number; a character's code."""
    if primitive.family is Family.FLOATING:
        try:
            return float(text)
        except ValueError:
            element.refuse(f"'{text}' is not a number of type {primitive.name}")
    if primitive.family is Family.CHAR and len(text) == 1 and ord(text) <= 0xFF:
        return ord(text)
    low, high = primitive.limits
    try:
        number = int(text)
    except ValueError:
        number = high + 1
    if not low <= number <= high:
        what = "one character" if primitive.family is Family.CHAR else f"a number of type {primitive.name}"
        element.refuse(f"'{text}' is not {what}")
    return number


def null_literal(element: Element, text: str, primitive: Primitive) -> int | float:
    """``nullValue`` as a number; a char's is written as its code, or as a character that is no digit."""
    if primitive.family is Family.CHAR and text.isdigit():
        return literal(element, text, PRIMITIVES["uint8"])
    return literal(element, text, primitive)
