"""Which field of a schema feeds which field of the frame: the one definition that every SBE decoder reads.

It is made from a schema and a profile. The rules are those of docs/sbe.md, "Fields".
"""

import enum
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction

from hdl.frame import PRICE_DECIMALS, QUANTITY_DECIMALS, Kind
from hdl.sbe_encoding import PRIMITIVES, Family, Leaf, Presence, Simple, decimal_parts
from hdl.sbe_profile import TRANSLATED, Candidate, Profile
from hdl.sbe_schema import Block, Field, Message, Schema, SchemaError


class Form(enum.Enum):
    """How a value becomes a frame field."""

    PRICE = "price"
    QUANTITY = "quantity"
    CHAR = "char"
    """A character; of a number 0 to 9 its digit, of any other 0; or what the profile translates it to."""
    INTEGER = "integer"
    """The low bits of the number, sign-extended to the frame field's width."""
    OFFSET = "offset"
    """Where the value begins in the raw message."""


FORMS = {
    "price": Form.PRICE,
    "quantity": Form.QUANTITY,
    **dict.fromkeys(("instrument", "sequence", "price_level", "number_of_orders", "instrument_sequence"), Form.INTEGER),
    **dict.fromkeys(TRANSLATED, Form.CHAR),
    **dict.fromkeys(("client_order_id", "original_order_id", "symbol", "account"), Form.OFFSET),
}
"""Frame fields in the order in which decoders fill them."""

COMMON = ("price", "quantity", "instrument", "sequence")
MARKET_DATA_FIELDS = ("entry_type", "update_action", "price_level", "number_of_orders", "instrument_sequence")
ORDER_FIELDS = ("side", "order_type", "time_in_force", "client_order_id", "original_order_id", "symbol", "account")
ORDER_KINDS = (Kind.NEW_ORDER, Kind.CANCEL, Kind.REPLACE, Kind.EXECUTION, Kind.CANCEL_REJECT)
"""Kinds whose frames have the order view; those of SBE of any other kind have the market data view."""

DECIMALS = {Form.PRICE: PRICE_DECIMALS, Form.QUANTITY: QUANTITY_DECIMALS}

LIMITS = {Form.PRICE: (-(1 << 63), (1 << 63) - 1), Form.QUANTITY: (0, (1 << 64) - 1)}
"""The least and the largest number that the frame field can hold."""

MOST_POWER = 18
"""A price or quantity is multiplied by at most 10^18, the largest power of ten below 2^63."""

ENTRY_KINDS = dict.fromkeys((ord(char) for char in "01EFJ"), Kind.BOOK_UPDATE) | {ord("2"): Kind.TRADE}
"""Kind by MDEntryType where the profile says ``by entry type``; anything else is STATISTIC."""


@dataclass(frozen=True)
class Value:
    """A leaf of the block at ``level``: 0 is the root, then the entries that lie in one another."""

    leaf: Leaf
    level: int

    @property
    def offset(self) -> int:
        """Where it stands in its block, in bytes."""
        return self.leaf.offset

    @property
    def size(self) -> int:
        """Bytes on the wire; 0 of a constant."""
        return self.leaf.encoding.size

    @property
    def primitive_size(self) -> int:
        """Bytes of one number or character of it."""
        return self.leaf.encoding.primitive.size

    @property
    def end(self) -> int:
        """How long its block must be to have it."""
        return self.leaf.end

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
        """The number that means absent; None where none does, or any NaN."""
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
    """Where a frame field comes from.

    A price or quantity is ``value × 10^power``, where ``power`` counts what the frame field's unit adds; with an ``exponent`` on
    the wire, that is added to it.
    """

    value: Value
    form: Form
    power: int = 0
    exponent: Value | None = None
    translation: tuple[tuple[int, int], ...] | None = None
    """Value → character; any other value gives 0."""

    @property
    def scale(self) -> int:
        """The power of ten that a price or quantity without an exponent on the wire is multiplied by."""
        return 10**self.power


@dataclass(frozen=True)
class BlockPlan:
    """The frames made from one block: a group's entries, or the message itself."""

    path: tuple[str, ...]
    """``(template,)`` or ``(template, group, …)``."""
    kind: Kind | None
    """The frames' kind; None: by ENTRY_KINDS from ``entry_type``."""
    sources: dict[str, Source] = field(default_factory=dict)
    """Frame field → source, in the order of FORMS. A frame field that is not there is 0 (price and quantity: absent)."""
    constants: dict[str, int] = field(default_factory=dict)
    """Frame field → the profile's character, which goes before a source."""

    @property
    def level(self) -> int:
        """How deep the block lies: 0 is the root."""
        return len(self.path) - 1

    @property
    def is_order(self) -> bool:
        """Whether the frames have the order view."""
        return self.kind in ORDER_KINDS


@dataclass(frozen=True)
class FramePlan:
    """How a message becomes frames: ``root`` where no entry gave one, ``entries`` of all groups in the schema's order, those in a
    group's entries behind it."""

    message: Message
    root: BlockPlan
    entries: tuple[BlockPlan, ...]

    @property
    def blocks(self) -> tuple[BlockPlan, ...]:
        """All of them, the root first."""
        return (self.root, *self.entries)


def plan_frames(schema: Schema, profile: Profile) -> tuple[FramePlan, ...]:
    """The plans of all messages.

    Raises :class:`SchemaError` for each field that the profile names and that cannot become what it is named for, for a
    template id beyond the frame's 16 bits, and for what the profile names and the schema does not have at all.
    """
    problems: list[str] = []
    for name, candidates in profile.fields:
        if not any(
            _named(each, candidate)
            for message in schema.messages
            for each in _all_fields(message)
            for candidate in candidates
        ):
            listed = ", ".join(map(str, candidates))
            problems.append(f"{profile.path}: [fields] {name}: the schema {schema.path} has no field {listed}")
    plans: list[FramePlan] = []
    for message in schema.messages:
        try:
            plans.append(_frame_plan(profile, message))
        except SchemaError as error:
            problems.append(f"{schema.path}: message '{message.name}': {error}")
    if problems:
        raise SchemaError(*problems)
    return tuple(plans)


def _all_fields(block: Block) -> Iterator[Field]:
    yield from block.fields
    for group in block.groups:
        yield from _all_fields(group)


def _frame_plan(profile: Profile, message: Message) -> FramePlan:
    if message.id > 0xFFFF:
        raise SchemaError(f"template id {message.id} does not fit the frame's 16 bits")
    root = _block_plan(profile, (message.name,), (message,))
    return FramePlan(message, root, tuple(_entry_plans(profile, (message.name,), (message,))))


def _entry_plans(profile: Profile, path: tuple[str, ...], blocks: tuple[Block, ...]) -> Iterator[BlockPlan]:
    for group in blocks[-1].groups:
        inner = (*path, group.name), (*blocks, group)
        yield _block_plan(profile, *inner)
        yield from _entry_plans(profile, *inner)


def _block_plan(profile: Profile, path: tuple[str, ...], blocks: tuple[Block, ...]) -> BlockPlan:
    rule = profile.rule_of(path)
    kind = rule.kind
    names = (*COMMON, *(ORDER_FIELDS if kind in ORDER_KINDS else MARKET_DATA_FIELDS))
    candidates = dict(profile.fields)
    sources = {
        name: source
        for name in FORMS
        if name in names and (source := _source(profile, name, candidates.get(name, ()), blocks)) is not None
    }
    constants = {name: char for name, char in rule.constants if name in names}
    if kind is None and (len(path) == 1 or not ("entry_type" in constants or _is_own(sources.get("entry_type"), path))):
        # No entry that says itself what it is: an order's share in a trade, or a message without entries.
        kind = Kind.OTHER if len(path) == 1 else Kind.DETAIL
    return BlockPlan(path, kind, sources, constants)


def _is_own(source: Source | None, path: tuple[str, ...]) -> bool:
    """Whether a source stands in the block itself."""
    return source is not None and source.value.level == len(path) - 1


def _source(profile: Profile, name: str, candidates: tuple[Candidate, ...], blocks: tuple[Block, ...]) -> Source | None:
    form = FORMS[name]
    own = len(blocks) - 1
    # A price or quantity of the root says nothing about one entry.
    for level in (own,) if form in DECIMALS else range(own, -1, -1):
        for candidate in candidates:
            for each in blocks[level].fields:
                if _named(each, candidate):
                    return _source_of(profile, name, each, candidate, blocks, level)
    return None


def _named(field: Field, candidate: Candidate) -> bool:
    """Whether a profile's name or id means a field, or a member of it."""
    if isinstance(candidate.field, int):
        return field.id == candidate.field
    return field.name == candidate.field or any(leaf.name == candidate.field for leaf in field.leaves())


def _source_of(
    profile: Profile, name: str, field: Field, candidate: Candidate, blocks: tuple[Block, ...], level: int
) -> Source:
    form = FORMS[name]
    leaves = {leaf.name: leaf for leaf in field.leaves()}
    leaf = leaves.get(candidate.field) if isinstance(candidate.field, str) else None
    if leaf is None and field.name in leaves:
        leaf = leaves[field.name]
    where = f"field '{field.name}' (id {field.id}) gives the {name}, but is"
    if form is Form.OFFSET:
        if leaf is None:
            leaf = Leaf((field.name,), field.offset, Simple(field.name, PRIMITIVES["uint8"], field.size))
        if not leaf.encoding.size:
            raise SchemaError(f"{where} a constant, which stands nowhere in the message")
        return Source(Value(leaf, level), form)
    if form in DECIMALS:
        return _decimal_source(form, field, leaf, leaves, blocks, level, where, candidate.exponent)
    if leaf is None or leaf.encoding.length != 1 or leaf.encoding.is_floating:
        raise SchemaError(f"{where} {field.encoding.described()}, neither a number nor a character")
    if form is Form.INTEGER and not leaf.encoding.is_integer:
        raise SchemaError(f"{where} {leaf.encoding.described()}, no whole number")
    return Source(Value(leaf, level), form, translation=_translation(profile, name, leaf.encoding))


def _decimal_source(
    form: Form,
    field: Field,
    leaf: Leaf | None,
    leaves: dict[str, Leaf],
    blocks: tuple[Block, ...],
    level: int,
    where: str,
    given: int | None,
) -> Source:
    decimals = DECIMALS[form]
    if leaf is None and (parts := decimal_parts(field.encoding)):
        leaf = leaves[f"{field.name}.{parts.mantissa.name}"]
        exponent = leaves[f"{field.name}.{parts.exponent.name}"]
        if isinstance(exponent.encoding.constant, int):
            return Source(Value(leaf, level), form, _power(decimals, exponent.encoding.constant, where))
        return Source(Value(leaf, level), form, decimals, Value(exponent, level))
    if leaf is None or leaf.encoding.length != 1 or leaf.encoding.is_char:
        raise SchemaError(f"{where} {field.encoding.described()}, no number")
    if field.exponent_field and leaf.encoding.is_integer:
        return Source(Value(leaf, level), form, decimals, _exponent_field(field, blocks, level, where))
    if leaf.encoding.is_floating and isinstance(constant := leaf.encoding.constant, float):
        return Source(Value(_whole(form, leaf, constant, where), level), form)
    if given is not None and leaf.encoding.is_floating:
        raise SchemaError(f"{where} {leaf.encoding.described()}, which has no exponent")
    return Source(Value(leaf, level), form, _power(decimals, given or 0, where))


def _whole(form: Form, leaf: Leaf, constant: float, where: str) -> Leaf:
    """A floating point constant in the frame field's unit, rounded as on the wire; what does not fit as a number that does not."""
    if leaf.encoding.primitive.size == 4:
        constant = struct.unpack("<f", struct.pack("<f", constant))[0]
    if math.isnan(constant):
        raise SchemaError(f"{where} a constant that is no number")
    least, most = LIMITS[form]
    number = most + 1 if math.isinf(constant) else round(Fraction(constant) * 10 ** DECIMALS[form])
    if not least <= number <= most:
        number = (1 << 64) - 1 if form is Form.PRICE else -1
    primitive = PRIMITIVES["int64" if number < 0 else "uint64"]
    return replace(leaf, encoding=Simple(leaf.name, primitive, presence=Presence.CONSTANT, constant=number))


def _power(decimals: int, exponent: int, where: str) -> int:
    power = decimals + exponent
    if not 0 <= power <= MOST_POWER:
        raise SchemaError(
            f"{where} a decimal with the exponent {exponent}; {-decimals} to {MOST_POWER - decimals} are possible"
        )
    return power


def _exponent_field(field: Field, blocks: tuple[Block, ...], level: int, where: str) -> Value:
    """The value of the field that has this one's exponent, in its own block or in one around it."""
    for outer in range(level, -1, -1):
        for each in blocks[outer].fields:
            if each.name == field.exponent_field:
                if not isinstance(each.encoding, Simple) or not each.encoding.is_integer:
                    raise SchemaError(f"{where} without an exponent: '{each.name}' is no whole number")
                return Value(next(each.leaves()), outer)
    raise SchemaError(f"{where} without an exponent: there is no field '{field.exponent_field}'")


def _translation(profile: Profile, name: str, encoding: Simple) -> tuple[tuple[int, int], ...] | None:
    given = dict(profile.values).get(name)
    if given is None:
        return None
    numbers = {value.name: value.number for value in encoding.values}
    pairs = []
    for text, char in given:
        if text in numbers:
            pairs.append((numbers[text], ord(char)))
        elif text.removeprefix("-").isdigit() and not encoding.is_char:
            pairs.append((int(text), ord(char)))
        elif len(text) == 1 and encoding.is_char:
            pairs.append((ord(text), ord(char)))
    # A venue's values differ from field to field: what none of them knows is not translated at all.
    return tuple(pairs) or None
