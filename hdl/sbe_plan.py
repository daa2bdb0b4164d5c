"""Which field of a schema feeds which field of the frame: the one definition that every SBE decoder reads.

The rules are those of docs/sbe.md, "Fields".
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from hdl.fix_tags import SESSION_TYPES
from hdl.frame import PRICE_DECIMALS, QUANTITY_DECIMALS, Kind
from hdl.limits import HEADER_LIMIT
from hdl.sbe_schema import Field, Group, Message, Schema, SchemaError, ValueKind


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

USED_KINDS = {
    Target.PRICE: (ValueKind.INTEGER, ValueKind.DECIMAL),
    Target.QUANTITY: (ValueKind.INTEGER, ValueKind.DECIMAL),
    Target.CHAR: (ValueKind.CHAR,),
    Target.ACTION: (ValueKind.CHAR, ValueKind.INTEGER),
    Target.INTEGER: (ValueKind.INTEGER,),
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
class Source:
    """Where a frame field comes from. ``scale`` is the power of ten that a price or quantity is multiplied by."""

    field: Field
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
    """The plans of all messages. Raises SchemaError for a price or quantity that has no fixed scale, and for a header
    or dimension beyond HEADER_LIMIT."""
    if schema.header.size > HEADER_LIMIT:
        raise SchemaError(
            f"{schema.path}: a header of {schema.header.size} bytes; at most {HEADER_LIMIT} are supported"
        )
    for message in schema.messages:
        for group in message.groups:
            if group.dimension.size > HEADER_LIMIT:
                raise SchemaError(
                    f"{schema.path}: message '{message.name}': group '{group.name}' has a dimension of "
                    f"{group.dimension.size} bytes; at most {HEADER_LIMIT} are supported"
                )
    if (largest := max(message.template_id for message in schema.messages)) > 0xFFFF:
        raise SchemaError(f"{schema.path}: template id {largest} does not fit the frame's 16 bits")
    return tuple(
        FramePlan(
            message=message,
            root=_block_plan(schema, message, None),
            groups=tuple(_block_plan(schema, message, group) for group in message.groups),
        )
        for message in schema.messages
    )


def _block_plan(schema: Schema, message: Message, group: Group | None) -> BlockPlan:
    sources = {frame_field.name: _source(schema, message, group, frame_field) for frame_field in FRAME_FIELDS}
    kind: Kind | None = MESSAGE_KINDS.get(message.semantic_type, Kind.OTHER)
    if message.semantic_type in MARKET_DATA_TYPES and group is not None:
        entry_type = sources["entry_type"]
        kind = None if entry_type is not None and entry_type.where is Where.ENTRY else Kind.DETAIL
    return BlockPlan(**sources, kind=kind)


def _source(schema: Schema, message: Message, group: Group | None, frame_field: FrameField) -> Source | None:
    blocks = [(Where.ROOT, message.fields)]
    if group is not None:
        # A price or quantity of the root says nothing about one entry.
        blocks = [(Where.ENTRY, group.fields)] + ([] if frame_field.target in DECIMALS else blocks)
    for where, fields in blocks:
        for wanted in frame_field.ids:
            for field in fields:
                if field.id == wanted and _used(schema, message, field, frame_field):
                    return Source(field, where, frame_field.target, _scale(schema, message, field, frame_field))
    return None


def _used(schema: Schema, message: Message, field: Field, frame_field: FrameField) -> bool:
    if field.kind in USED_KINDS[frame_field.target]:
        return True
    if frame_field.target in DECIMALS:
        # Passing over a price silently would look like an order without one.
        raise SchemaError(
            f"{schema.path}: message '{message.name}': field '{field.name}' (id {field.id}) gives the {frame_field.name}, "
            "but is neither an integer nor a decimal with a constant exponent"
        )
    return False


def _scale(schema: Schema, message: Message, field: Field, frame_field: FrameField) -> int:
    if (decimals := DECIMALS.get(frame_field.target)) is None:
        return 1
    power = decimals + field.exponent
    if power < 0 or 10**power > SCALE_LIMIT:
        raise SchemaError(
            f"{schema.path}: message '{message.name}': field '{field.name}' has the exponent {field.exponent}; "
            f"a {frame_field.name} is counted in 1e-{decimals}, so {-decimals} to {18 - decimals} are possible"
        )
    return 10**power
