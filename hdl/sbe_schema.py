"""Reads an SBE schema (XML, SBE 1.0 and RC2 to RC4) into plain dataclasses.

What the decoder does not do yet (big endian, nested groups, var data) is refused here, with file and
line. Rules are those of "Simple Binary Encoding" 1.0 (FIX Trading Community), section numbers in brackets.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hdl.sbe_encoding import PRIMITIVE_BYTES, Field, ValueKind, default_null, literal, null_value, simple_value
from hdl.sbe_xml import Element, SchemaError, parse_xml

__all__ = [
    "Dimension",
    "Field",
    "Group",
    "Header",
    "Message",
    "Schema",
    "SchemaError",
    "Slot",
    "ValueKind",
    "load_schema",
]


@dataclass(frozen=True)
class Slot:
    """Where an unsigned number stands in a header or a dimension; offset and size in bytes."""

    offset: int
    size: int


@dataclass(frozen=True)
class Dimension:
    """What stands before a group's entries [3.4.8]."""

    size: int
    block_length: Slot
    count: Slot


@dataclass(frozen=True)
class Group:
    """A repeating group without groups of its own."""

    name: str
    id: int
    dimension: Dimension
    block_length: int
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class Message:
    """A message template."""

    name: str
    template_id: int
    block_length: int
    semantic_type: str
    fields: tuple[Field, ...]
    groups: tuple[Group, ...]
    since_version: int = 0


@dataclass(frozen=True)
class Header:
    """The message header [3.1]; ``size`` in bytes."""

    size: int
    block_length: Slot
    template_id: Slot
    schema_id: Slot
    version: Slot


@dataclass(frozen=True)
class Schema:
    """A schema: all that a decoder needs, little endian."""

    id: int
    version: int
    package: str
    header: Header
    messages: tuple[Message, ...]
    path: str = ""


def load_schema(path: Path | str) -> Schema:
    """Read a schema. Raises :class:`SchemaError` (``file:line: reason``) for what is wrong or not supported,
    and OSError where the file cannot be read."""
    return _Compiler(parse_xml(Path(path))).schema(str(path))


class _Compiler:
    """Resolves names of types while it walks the messages. One schema, one use."""

    def __init__(self, root: Element) -> None:
        if root.name != "messageSchema":
            root.refuse(f"not an SBE schema: the root element is <{root.name}>, not <messageSchema>")
        if (order := root.get("byteOrder", "littleEndian")) != "littleEndian":
            root.refuse(f"byte order '{order}' is not supported, only littleEndian")
        for include in root.named("include"):
            include.refuse("XInclude is not supported: put the schema into one file")
        self._root = root
        self._types: dict[str, Element] = {}
        for types in root.named("types"):
            for element in types.children:
                if element.name in ("type", "composite", "enum", "set"):
                    name = element.required("name")
                    if name in self._types:
                        element.refuse(f"type '{name}' is defined twice (first in line {self._types[name].line})")
                    self._types[name] = element

    def schema(self, path: str) -> Schema:
        root = self._root
        messages: dict[int, Message] = {}
        for element in root.named("message"):
            message = self._message(element)
            if message.template_id in messages:
                element.refuse(
                    f"template id {message.template_id} of '{message.name}' is taken by "
                    f"'{messages[message.template_id].name}'"
                )
            messages[message.template_id] = message
        if not messages:
            root.refuse("the schema has no messages")
        return Schema(
            id=root.number("id"),
            version=root.number("version", 0),
            package=root.get("package", ""),
            header=self._header(),
            messages=tuple(messages.values()),
            path=path,
        )

    def _header(self) -> Header:
        name = self._root.get("headerType", "messageHeader")
        composite = self._composite(name, self._root, "header")
        size, slots = self._slots(composite)
        for needed in ("blockLength", "templateId", "schemaId", "version"):
            if needed not in slots:
                composite.refuse(f"header '{name}' has no field '{needed}' of an unsigned type")
        return Header(size, slots["blockLength"], slots["templateId"], slots["schemaId"], slots["version"])

    def _dimension(self, group: Element) -> Dimension:
        name = group.get("dimensionType", "groupSizeEncoding")
        composite = self._composite(name, group, "dimension")
        size, slots = self._slots(composite)
        for needed in ("blockLength", "numInGroup"):
            if needed not in slots:
                composite.refuse(f"dimension '{name}' has no field '{needed}' of an unsigned type")
        return Dimension(size, slots["blockLength"], slots["numInGroup"])

    def _composite(self, name: str, user: Element, role: str) -> Element:
        element = self._types.get(name)
        if element is None or element.name != "composite":
            user.refuse(f"there is no composite '{name}' for the {role}")
        return element

    def _slots(self, composite: Element) -> tuple[int, dict[str, Slot]]:
        """Size of a composite and its unsigned numbers by name."""
        members = list(self._members(composite, ()))
        slots = {
            member.name: Slot(member.offset, member.size)
            for member in members
            if member.size and member.length == 1 and member.primitive.startswith("uint")
        }
        return max((member.offset + member.size for member in members), default=0), slots

    def _message(self, element: Element) -> Message:
        name = element.required("name")
        fields, block_length = self._block(element)
        groups = []
        for child in element.children:
            if child.name == "group":
                groups.append(self._group(child))
            elif child.name == "data":
                child.refuse(f"var data ('{child.get('name', '')}') is not supported")
            elif child.name == "field" and groups:
                child.refuse(f"field '{child.get('name', '')}' stands behind a group")
        return Message(
            name=name,
            template_id=element.number("id"),
            block_length=block_length,
            semantic_type=element.get("semanticType", ""),
            fields=fields,
            groups=tuple(groups),
            since_version=element.number("sinceVersion", 0),
        )

    def _group(self, element: Element) -> Group:
        for child in element.children:
            if child.name in ("group", "data"):
                what = "a nested group" if child.name == "group" else "var data in a group"
                child.refuse(f"{what} ('{child.get('name', '')}') is not supported")
        fields, block_length = self._block(element)
        return Group(element.required("name"), element.number("id", 0), self._dimension(element), block_length, fields)

    def _block(self, element: Element) -> tuple[tuple[Field, ...], int]:
        """Fields of a message or group and the length of their block in bytes."""
        fields: list[Field] = []
        end = 0
        for child in element.named("field"):
            field = self._field(child, end)
            if field.size:
                for other in fields:
                    if (
                        other.size
                        and field.offset < other.offset + other.size
                        and other.offset < field.offset + field.size
                    ):
                        child.refuse(f"field '{field.name}' overlaps field '{other.name}'")
                end = field.offset + field.size
            fields.append(field)
        needed = max((field.offset + field.size for field in fields if field.size), default=0)
        block_length = element.number("blockLength", needed)
        if block_length < needed:
            element.refuse(
                f"'{element.get('name', '')}' has blockLength {block_length}, but its fields need {needed} bytes"
            )
        return tuple(fields), block_length

    def _field(self, element: Element, running: int) -> Field:
        name = element.required("name")
        presence = element.get("presence")
        reference = element.get("valueRef")
        if (type_name := element.get("type")) is None:
            if reference is None:
                element.refuse(f"field '{name}' has no type")
            type_name = reference.partition(".")[0]
        encoding = self._named_type(type_name, element, (), presence)
        if reference is not None:
            encoding = replace(encoding, constant=self._value_reference(reference, element), size=0, null=None)
        elif presence == "constant" and encoding.size:
            if not element.text:
                element.refuse(f"constant field '{name}' has no value")
            encoding = replace(encoding, constant=literal(element, encoding.primitive), size=0, null=None)
        return replace(
            encoding,
            name=name,
            id=element.number("id"),
            offset=element.number("offset", running) if encoding.size else 0,
            semantic_type=element.get("semanticType", encoding.semantic_type),
            since_version=element.number("sinceVersion", 0),
        )

    def _named_type(self, name: str, user: Element, path: tuple[str, ...], presence: str | None) -> Field:
        """The encoding of a type by name; offset, id and name are the caller's to fill in."""
        if name in path:
            user.refuse(f"type '{name}' contains itself")
        if (element := self._types.get(name)) is not None:
            return self._type(element, (*path, name), presence)
        if name in PRIMITIVE_BYTES:
            return simple_value(name, 1, presence, None)
        user.refuse(f"unknown type '{name}'")

    def _type(self, element: Element, path: tuple[str, ...], presence: str | None) -> Field:
        semantic_type = element.get("semanticType", "")
        if element.name == "composite":
            return replace(self._composite_value(element, path, presence), semantic_type=semantic_type)
        if element.name in ("enum", "set"):
            encoding = self._named_type(element.required("encodingType"), element, path, presence)
            if encoding.kind not in (ValueKind.INTEGER, ValueKind.CHAR):
                element.refuse(
                    f"{element.name} '{element.get('name', '')}' is encoded neither by a number nor by a char"
                )
            return replace(encoding, semantic_type=semantic_type)
        return replace(self._simple_type(element, presence), semantic_type=semantic_type)

    def _simple_type(self, element: Element, presence: str | None) -> Field:
        name = element.get("name", "")
        primitive = element.required("primitiveType")
        if primitive not in PRIMITIVE_BYTES:
            element.refuse(f"type '{name}' has the unknown primitive type '{primitive}'")
        own = element.get("presence", "required")
        if own not in ("required", "optional", "constant"):
            element.refuse(f"type '{name}' has the unknown presence '{own}'")
        if own == "constant":
            reference = element.get("valueRef")
            if reference is None and not element.text:
                element.refuse(f"constant type '{name}' has no value")
            length = element.number("length", len(element.text) if primitive == "char" and reference is None else 1)
            field = simple_value(primitive, length, None, None)
            if reference is not None:
                return replace(field, size=0, constant=self._value_reference(reference, element))
            if field.kind is ValueKind.OTHER:
                return replace(field, size=0)
            return replace(field, size=0, constant=literal(element, primitive))
        length = element.number("length", 1)
        if length == 0:
            element.refuse(f"type '{name}' has length 0, which only var data may have")
        null = element.get("nullValue")
        number = None if null is None else null_value(element, null, primitive)
        return simple_value(primitive, length, presence if presence not in (None, "constant") else own, number)

    def _members(self, composite: Element, path: tuple[str, ...]) -> Iterator[Field]:
        """Members of a composite with their offsets in it [2.9]."""
        running = 0
        for child in composite.children:
            if child.name == "ref":
                member = self._named_type(child.required("type"), child, path, None)
            elif child.name in ("type", "enum", "set", "composite"):
                member = self._type(child, path, None)
            else:
                continue
            offset = child.number("offset", running) if member.size else running
            if offset < running:
                child.refuse(f"'{child.get('name', '')}' overlaps the member before it")
            running = offset + member.size
            yield replace(member, name=child.required("name"), offset=offset)

    def _composite_value(self, composite: Element, path: tuple[str, ...], presence: str | None) -> Field:
        members = list(self._members(composite, path))
        size = max((member.offset + member.size for member in members), default=0)
        names = {member.name: member for member in members}
        mantissa, exponent = names.get("mantissa"), names.get("exponent")
        if (
            len(members) != 2
            or mantissa is None
            or exponent is None
            or not mantissa.kind is exponent.kind is ValueKind.INTEGER
            or mantissa.size == 0
            or mantissa.offset != 0
            or exponent.constant is None
        ):
            return Field("", 0, 0, size, "", False, ValueKind.OTHER)
        null = None if presence == "required" else mantissa.null
        if presence == "optional" and null is None:
            null = default_null(mantissa.primitive)
        return replace(mantissa, kind=ValueKind.DECIMAL, exponent=exponent.constant, null=null)

    def _value_reference(self, reference: str, user: Element) -> int:
        """The number of ``Enum.Value``."""
        enum_name, _, value_name = reference.partition(".")
        element = self._types.get(enum_name)
        if element is None or element.name != "enum":
            user.refuse(f"valueRef '{reference}' names no enum")
        encoding = self._named_type(element.required("encodingType"), element, (enum_name,), None)
        for value in element.named("validValue"):
            if value.get("name") == value_name:
                return literal(value, encoding.primitive)
        user.refuse(f"valueRef '{reference}': enum '{enum_name}' has no value '{value_name}'")
