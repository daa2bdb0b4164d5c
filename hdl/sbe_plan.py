"""Which field of a schema feeds which field of the frame: the one definition that every SBE decoder reads.

The rules are those of docs/sbe.md, "Fields".
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from hdl.fix_tags import SESSION_TYPES
from hdl.frame import PRICE_DECIMALS, QUANTITY_DECIMALS, Kind
from hdl.limits import HEADER_LIMIT
from hdl.sbe_encoding import Family, Leaf, decimal_parts
from hdl.sbe_schema import Block, Field, Group, Message, Schema, SchemaError


class Where(enum.Enum):
    """The block that a source is read from."""

    ENTRY = "entry"
    ROOT = "root"


class Target(enum.Enum):
    """How a value becomes a frame field."""

    PRICE = "price"
    QUANTITY = "quantity"
    CHAR = "char"
    ACTION = "action"
    """A character, or a number 0 to 9 as its digit; any other number is 0."""
    INTEGER = "integer"
    """The low bits of the number, sign-extended to the frame field's width."""


@dataclass(frozen=True)
class FrameField:
    """A row of docs/sbe.md's table: field ids in order of preference, and what they must be to be used."""

    name: str
    ids: tuple[int, ...]
    target: Target


FRAME_FIELDS = (
    FrameField("price", (270, 44, 31), Target.PRICE),
    FrameField("quantity", (271, 38, 32), Target.QUANTITY),
    FrameField("instrument", (48,), Target.INTEGER),
    FrameField("entry_type", (269,), Target.CHAR),
    FrameField("update_action", (279,), Target.ACTION),
    FrameField("price_level", (1023,), Target.INTEGER),
    FrameField("number_of_orders", (346,), Target.INTEGER),
    FrameField("instrument_sequence", (83,), Target.INTEGER),
)

DECIMALS = {Target.PRICE: PRICE_DECIMALS, Target.QUANTITY: QUANTITY_DECIMALS}

USED_FAMILIES = {
    Target.PRICE: (Family.UNSIGNED, Family.SIGNED),
    Target.QUANTITY: (Family.UNSIGNED, Family.SIGNED),
    Target.CHAR: (Family.CHAR,),
    Target.ACTION: (Family.CHAR, Family.UNSIGNED, Family.SIGNED),
    Target.INTEGER: (Family.UNSIGNED, Family.SIGNED),
}

SCALE_LIMIT = 10**18
"""The largest power of ten below 2^63."""

MARKET_DATA_TYPES = ("X", "W")
"""Semantic types of messages whose entries are market data: incremental refresh, snapshot."""

MESSAGE_KINDS = {"d": Kind.DEFINITION, "f": Kind.STATUS} | dict.fromkeys(SESSION_TYPES, Kind.SESSION)
"""Kind by a message's semantic type; anything else is OTHER."""

ENTRY_KINDS = dict.fromkeys((ord(char) for char in "01EFJ"), Kind.BOOK_UPDATE) | {ord("2"): Kind.TRADE}
"""Kind by MDEntryType in messages of MARKET_DATA_TYPES; anything else is STATISTIC."""


@dataclass(frozen=True)
class Value:
    """A number, or a character's code, of a block; a decimal's mantissa."""

    leaf: Leaf
    exponent: int = 0

    @property
    def offset(self) -> int:
        """Where it stands in the block, in bytes."""
        return self.leaf.offset

    @property
    def size(self) -> int:
        """Bytes on the wire; 0 of a constant."""
        return self.leaf.encoding.size

    @property
    def family(self) -> Family:
        """What its bits are."""
        return self.leaf.encoding.primitive.family

    @property
    def signed(self) -> bool:
        """Whether it may be negative."""
        return self.family is Family.SIGNED

    @property
    def null(self) -> int | None:
        """The number that means absent."""
        null = self.leaf.encoding.null
        return null if isinstance(null, int) else None

    @property
    def constant(self) -> int | None:
        """The number of what is not on the wire."""
        constant = self.leaf.encoding.constant
        if isinstance(constant, bytes):
            return constant[0]
        return constant if isinstance(constant, int) else None


@dataclass(frozen=True)
class Source:
    """Where a frame field comes from. ``scale`` is the power of ten that a price or quantity is multiplied by."""

    value: Value
    where: Where
    target: Target
    scale: int = 1


@dataclass(frozen=True)
class BlockPlan:
    """Frames made from one block: a group's entries, or the message itself. None: the frame field is 0
    (for price and quantity: absent)."""

    price: Source | None
    quantity: Source | None
    instrument: Source | None
    entry_type: Source | None
    update_action: Source | None
    price_level: Source | None
    number_of_orders: Source | None
    instrument_sequence: Source | None
    kind: Kind | None
    """The frames' kind; None: by ENTRY_KINDS from the value of ``entry_type``."""

    def sources(self) -> Iterator[tuple[str, Source]]:
        """The frame fields that have a source, by name, in the order of FRAME_FIELDS."""
        for frame_field in FRAME_FIELDS:
            if (source := getattr(self, frame_field.name)) is not None:
                yield frame_field.name, source


@dataclass(frozen=True)
class FramePlan:
    """How a message becomes frames: ``groups`` in the order of ``message.groups``, ``root`` where no entry gave one."""

    message: Message
    root: BlockPlan
    groups: tuple[BlockPlan, ...]


def plan_frames(schema: Schema) -> tuple[FramePlan, ...]:
    """The plans of all messages. Raises SchemaError for what :func:`undecodable` names, in any of them."""
    if (reason := _undecodable_schema(schema)) is not None:
        raise SchemaError(f"{schema.path}: {reason}")
    reasons = {message.name: undecodable(schema, message) for message in schema.messages}
    if any(reasons.values()):
        raise SchemaError(
            *(f"{schema.path}: message '{name}': {reason}" for name, reason in reasons.items() if reason is not None)
        )
    return tuple(_frame_plan(message) for message in schema.messages)


def _undecodable_schema(schema: Schema) -> str | None:
    if schema.byte_order != "little":
        return "byte order bigEndian is not supported by the card"
    if schema.header.size > HEADER_LIMIT:
        return f"a header of {schema.header.size} bytes; at most {HEADER_LIMIT} are supported by the card"
    return None


def undecodable(schema: Schema, message: Message) -> str | None:
    """Why the card cannot decode a message, None where it can: big endian, var data, nested groups, a header or dimension
    beyond HEADER_LIMIT, a price or quantity that has no fixed scale."""
    if (reason := _undecodable_schema(schema)) is not None:
        return reason
    for group in message.groups:
        for what, names in (("a nested group", group.groups), ("var data in a group", group.data)):
            if names:
                return f"{what} ('{names[0].name}') is not supported by the card"
        if group.dimension.size > HEADER_LIMIT:
            return (
                f"group '{group.name}' has a dimension of "
                f"{group.dimension.size} bytes; at most {HEADER_LIMIT} are supported by the card"
            )
    if message.data:
        return f"var data ('{message.data[0].name}') is not supported by the card"
    if message.id > 0xFFFF:
        return f"template id {message.id} does not fit the frame's 16 bits"
    try:
        _frame_plan(message)
    except SchemaError as error:
        return str(error)
    return None


def _frame_plan(message: Message) -> FramePlan:
    return FramePlan(
        message=message,
        root=_block_plan(message, None),
        groups=tuple(_block_plan(message, group) for group in message.groups),
    )


def _block_plan(message: Message, group: Group | None) -> BlockPlan:
    sources = {frame_field.name: _source(message, group, frame_field) for frame_field in FRAME_FIELDS}
    kind: Kind | None = MESSAGE_KINDS.get(message.semantic_type, Kind.OTHER)
    if message.semantic_type in MARKET_DATA_TYPES and group is not None:
        entry_type = sources["entry_type"]
        kind = None if entry_type is not None and entry_type.where is Where.ENTRY else Kind.DETAIL
    return BlockPlan(**sources, kind=kind)


def _source(message: Message, group: Group | None, frame_field: FrameField) -> Source | None:
    blocks: list[tuple[Where, Block]] = [(Where.ROOT, message)]
    if group is not None:
        # A price or quantity of the root says nothing about one entry.
        blocks = [(Where.ENTRY, group)] + ([] if frame_field.target in DECIMALS else blocks)
    for where, block in blocks:
        for wanted in frame_field.ids:
            for field in block.fields:
                if field.id == wanted and (value := _value(field, frame_field)):
                    return Source(value, where, frame_field.target, _scale(field, value, frame_field))
    return None


def _value(field: Field, frame_field: FrameField) -> Value | None:
    """A field's value, if the frame field can take it."""
    value = None
    is_decimal = frame_field.target in DECIMALS
    leaves = tuple(field.leaves())
    if len(leaves) == 1 and len(leaves[0].path) == 1 and leaves[0].encoding.length == 1:
        value = Value(leaves[0])
    elif is_decimal and (parts := decimal_parts(field.encoding)):
        mantissa, exponent = (
            next(leaf for leaf in leaves if leaf.path[-1] == part.name) for part in (parts.mantissa, parts.exponent)
        )
        if isinstance(exponent.encoding.constant, int):
            value = Value(mantissa, exponent.encoding.constant)
    if value is not None and value.family in USED_FAMILIES[frame_field.target]:
        return value
    if is_decimal:
        # Passing over a price silently would look like an order without one.
        raise SchemaError(
            f"field '{field.name}' (id {field.id}) gives the {frame_field.name}, "
            "but is neither an integer nor a decimal with a constant exponent"
        )
    return None


def _scale(field: Field, value: Value, frame_field: FrameField) -> int:
    if (decimals := DECIMALS.get(frame_field.target)) is None:
        return 1
    power = decimals + value.exponent
    if power < 0 or 10**power > SCALE_LIMIT:
        raise SchemaError(
            f"field '{field.name}' has the exponent {value.exponent}; "
            f"a {frame_field.name} is counted in 1e-{decimals}, so {-decimals} to {18 - decimals} are possible"
        )
    return 10**power
