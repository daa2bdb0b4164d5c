"""Reads an SBE schema (XML) into plain dataclasses: all of SBE 1.0, and of 2.0 RC what the XML alone expresses.

Numbers in brackets are sections of "Simple Binary Encoding" 1.0 (FIX Trading Community).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hdl.sbe_encoding import Composite, Encoding, Family, Leaf, Simple, leaves
from hdl.sbe_types import TYPE_ELEMENTS, Types
from hdl.sbe_xml import Element, Problem, Problems, SchemaError, parse_xml

__all__ = [
    "Block",
    "Data",
    "Dimension",
    "Field",
    "Group",
    "Header",
    "Message",
    "Problem",
    "Schema",
    "SchemaError",
    "Slot",
    "load_schema",
]

MOST_BLOCK_BYTES = 1 << 16
"""A block length beyond does not fit any header."""

ByteOrder = Literal["little", "big"]


class Slot(NamedTuple):
    """Where an unsigned number stands in a header or a dimension; offset and size in bytes."""

    offset: int
    size: int


@dataclass(frozen=True)
class Field:
    """A field of a block; ``offset`` in bytes from the block's begin."""

    name: str
    id: int
    offset: int
    encoding: Encoding
    semantic_type: str = ""
    since_version: int = 0
    deprecated: int | None = None
    exponent_field: str = ""
    """The field with this one's decimal exponent (the attribute ``exponent``, Binance's way), empty where there is none."""

    @property
    def size(self) -> int:
        """Bytes on the wire; 0 of a constant."""
        return self.encoding.size

    def leaves(self) -> Iterator[Leaf]:
        """What it is made of, with offsets in the block."""
        return leaves(self.name, self.offset, self.encoding, self.since_version)


@dataclass(frozen=True)
class Data:
    """Var data [3.5]: a length, then so many bytes. ``prefix`` is where the bytes begin, ``length`` where the length stands."""

    name: str
    id: int
    length: Slot
    prefix: int
    is_text: bool
    """Whether the schema says that the bytes are characters."""
    semantic_type: str = ""
    since_version: int = 0
    deprecated: int | None = None


@dataclass(frozen=True)
class Dimension:
    """What stands before a group's entries [3.4.8]: ``size`` bytes. The last two only where the schema has them (2.0 RC2)."""

    size: int
    block_length: Slot
    count: Slot
    num_groups: Slot | None = None
    num_var_data: Slot | None = None


@dataclass(frozen=True)
class Block:
    """A message's root or a group's entry: fields in ``block_length`` bytes, then groups, then var data [3.3]."""

    name: str
    id: int
    block_length: int
    fields: tuple[Field, ...] = ()
    groups: "tuple[Group, ...]" = ()
    data: tuple[Data, ...] = ()
    semantic_type: str = ""
    since_version: int = 0
    deprecated: int | None = None

    @property
    def is_followed(self) -> bool:
        """Whether something may stand behind its bytes."""
        return bool(self.groups or self.data)

    def leaves(self) -> Iterator[Leaf]:
        """The leaves of all fields, in the schema's order."""
        for field in self.fields:
            yield from field.leaves()


@dataclass(frozen=True)
class _Dimensioned:
    dimension: Dimension


@dataclass(frozen=True)
class Group(Block, _Dimensioned):
    """A repeating group [3.4]; as a block, one of its entries."""


@dataclass(frozen=True)
class Message(Block):
    """A message template; its id is the template id."""


@dataclass(frozen=True)
class Header:
    """The message header [3.1]; ``size`` in bytes. ``leaves`` are all of its fields."""

    size: int
    block_length: Slot
    template_id: Slot
    schema_id: Slot
    version: Slot
    num_groups: Slot | None = None
    num_var_data: Slot | None = None
    leaves: tuple[Leaf, ...] = ()


@dataclass(frozen=True)
class Schema:
    """A schema: all that a decoder needs."""

    id: int
    version: int
    package: str
    byte_order: ByteOrder
    header: Header
    messages: tuple[Message, ...]
    semantic_version: str = ""
    path: str = ""


def load_schema(path: Path | str) -> Schema:
    """Read a schema. Raises :class:`SchemaError` (a line ``file:line: reason`` for each thing that is wrong or not
    supported), and OSError where the file cannot be read."""
    return _Compiler(parse_xml(Path(path))).schema(str(path))


class _Compiler:
    """Walks the messages of one schema."""

    def __init__(self, root: Element) -> None:
        if root.name != "messageSchema":
            root.refuse(f"not an SBE schema: the root element is <{root.name}>, not <messageSchema>")
        self._root = root
        self._problems = Problems()
        types = (child for types in root.named("types") for child in types.named(*TYPE_ELEMENTS))
        self._types = Types(types, self._problems)

    def schema(self, path: str) -> Schema:
        root, problems = self._root, self._problems
        schema_id = version = 0
        order = "littleEndian"
        header: Header | None = None
        with problems.collect():
            schema_id, version = root.number("id"), root.number("version", 0)
        with problems.collect():
            if (order := root.get("byteOrder", order)) not in ("littleEndian", "bigEndian"):
                root.refuse(f"byteOrder '{order}' is neither littleEndian nor bigEndian")
        with problems.collect():
            header = self._header()
        messages: dict[int, Message] = {}
        elements = [
            *root.named("message"),
            *(child for some in root.named("messages") for child in some.named("message")),
        ]
        for element in elements:
            with problems.collect():
                message = self._message(element)
                if message.id in messages:
                    element.refuse(
                        f"template id {message.id} of '{message.name}' is taken by '{messages[message.id].name}'"
                    )
                messages[message.id] = message
        with problems.collect():
            if not elements:
                root.refuse("the schema has no messages")
        problems.raise_found()
        assert header is not None
        return Schema(
            id=schema_id,
            version=version,
            package=root.get("package", ""),
            byte_order="big" if order == "bigEndian" else "little",
            header=header,
            messages=tuple(messages.values()),
            semantic_version=root.get("semanticVersion", ""),
            path=path,
        )

    def _header(self) -> Header:
        name = self._root.get("headerType", "messageHeader")
        element, composite = self._types.composite(name, self._root, "the header")
        slots = _slots(composite)
        for needed in ("blockLength", "templateId", "schemaId", "version"):
            if needed not in slots:
                element.refuse(f"header '{name}' has no field '{needed}' of an unsigned type")
        return Header(
            composite.size,
            slots["blockLength"],
            slots["templateId"],
            slots["schemaId"],
            slots["version"],
            slots.get("numGroups"),
            slots.get("numVarDataFields"),
            tuple(leaf for member in composite.members for leaf in leaves(member.name, member.offset, member.encoding)),
        )

    def _dimension(self, group: Element) -> Dimension:
        name = group.get("dimensionType", "groupSizeEncoding")
        element, composite = self._types.composite(name, group, "the dimension")
        slots = _slots(composite)
        for needed in ("blockLength", "numInGroup"):
            if needed not in slots:
                element.refuse(f"dimension '{name}' has no field '{needed}' of an unsigned type")
        return Dimension(
            composite.size,
            slots["blockLength"],
            slots["numInGroup"],
            slots.get("numGroups"),
            slots.get("numVarDataFields"),
        )

    def _message(self, element: Element) -> Message:
        return Message(**self._block(element, element.number("id")))

    def _group(self, element: Element) -> Group:
        return Group(dimension=self._dimension(element), **self._block(element, element.number("id", 0)))

    def _block(self, element: Element, block_id: int) -> dict[str, Any]:
        """What a message and a group have in common, by the names of :class:`Block`."""
        name = element.required("name")
        if "alignment" in element.attributes:
            element.refuse(f"alignment of '{name}' is not supported: say it with offset and blockLength")
        problems = Problems()
        fields: list[Field] = []
        groups: list[Group] = []
        data: list[Data] = []
        names: set[str] = set()
        end = 0
        for child in element.named("field", "group", "data"):
            with problems.collect():
                self._check_place(child, names, bool(groups), bool(data))
                if child.name == "field":
                    field = self._field(child, end)
                    fields.append(field)
                    end = field.offset + field.size if field.size else end
                elif child.name == "group":
                    groups.append(self._group(child))
                else:
                    data.append(self._data(child))
        problems.raise_found()
        block_length = element.number("blockLength", end)
        if block_length < end:
            element.refuse(f"'{name}' has blockLength {block_length}, but its fields need {end} bytes")
        if block_length > MOST_BLOCK_BYTES:
            element.refuse(f"'{name}' has blockLength {block_length}; at most {MOST_BLOCK_BYTES} is possible")
        return {
            "name": name,
            "id": block_id,
            "block_length": block_length,
            "fields": tuple(fields),
            "groups": tuple(groups),
            "data": tuple(data),
            "semantic_type": element.get("semanticType", ""),
            "since_version": element.number("sinceVersion", 0),
            "deprecated": element.number_if_given("deprecated"),
        }

    @staticmethod
    def _check_place(child: Element, names: set[str], after_group: bool, after_data: bool) -> None:
        """Fields, then groups, then data; and no name twice, since columns and profiles go by names."""
        name = child.required("name")
        if name in names:
            child.refuse(f"'{name}' stands twice in its block")
        names.add(name)
        if after_data and child.name != "data":
            child.refuse(f"{child.name} '{name}' stands behind var data")
        if after_group and child.name == "field":
            child.refuse(f"field '{name}' stands behind a group")

    def _field(self, element: Element, running: int) -> Field:
        name = element.required("name")
        encoding = self._types.of_field(element)
        offset = element.number("offset", running) if encoding.size else running
        if offset < running:
            element.refuse(f"field '{name}' overlaps the field before it: offset {offset}, but {running} is free")
        return Field(
            name,
            element.number("id"),
            offset,
            encoding,
            element.get("semanticType", encoding.semantic_type),
            element.number("sinceVersion", 0),
            element.number_if_given("deprecated"),
            element.get("exponent", ""),
        )

    def _data(self, element: Element) -> Data:
        name = element.required("name")
        type_element, composite = self._types.composite(element.required("type"), element, f"var data '{name}'")
        slots = _slots(composite)
        bytes_of = [member for member in composite.members if member.name == "varData"]
        if "length" not in slots or not bytes_of:
            type_element.refuse(f"var data '{composite.name}' needs a 'length' of an unsigned type, and 'varData'")
        text = bytes_of[0].encoding
        if not isinstance(text, Simple) or text.primitive.size != 1 or text.length > 1:
            type_element.refuse(f"varData of '{composite.name}' is not of bytes (length 0)")
        if composite.members[-1] is not bytes_of[0]:
            type_element.refuse(f"'{composite.members[-1].name}' stands behind varData in '{composite.name}'")
        return Data(
            name,
            element.number("id"),
            slots["length"],
            bytes_of[0].offset,
            text.primitive.family is Family.CHAR or bool(text.character_encoding),
            element.get("semanticType", ""),
            element.number("sinceVersion", 0),
            element.number_if_given("deprecated"),
        )


def _slots(composite: Composite) -> dict[str, Slot]:
    """The unsigned numbers of a composite by name."""
    return {
        member.name: Slot(member.offset, encoding.size)
        for member in composite.members
        if isinstance(encoding := member.encoding, Simple)
        and encoding.size
        and encoding.length == 1
        and encoding.primitive.family is Family.UNSIGNED
    }
