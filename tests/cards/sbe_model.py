"""docs/sbe.md as a slow, plain program: which frames a payload gives under a drawn schema and profile.

It shares no code with the soft card and knows nothing of compiled schemas. Numbers are exact (int, Fraction).
"""

import fnmatch
import math
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from hdl.frame import FRAME_DTYPE, MARKET_DATA, PRICE_DECIMALS, QUANTITY_DECIMALS, Flag, Kind
from hdl.limits import ENTRY_LIMIT, MESSAGE_LIMIT
from tests.cards.sbe_messages import slot_of
from tests.cards.sbe_schemas import (
    BY_ENTRY_TYPE,
    CHARACTERS,
    OFFSETS,
    SIZES,
    WHOLE_NUMBERS,
    Block,
    Candidate,
    Composite,
    DrawnVenue,
    Encoding,
    Field,
    Leaf,
    Slot,
    standard_null,
)

KIND_OF_ENTRY_TYPE = dict.fromkeys(b"01EFJ", Kind.BOOK_UPDATE) | {ord("2"): Kind.TRADE}

VIEW_OF_ORDERS = ("side", "order_type", "time_in_force", *OFFSETS)
VIEW_OF_MARKET_DATA = ("entry_type", "update_action", "price_level", "number_of_orders", "instrument_sequence")
ORDER_KINDS = (Kind.NEW_ORDER, Kind.CANCEL, Kind.REPLACE, Kind.EXECUTION, Kind.CANCEL_REJECT)

Expected = list[tuple[np.void, bytes]]
"""Frames, each with its raw message; time, place, flow and generation are 0."""


class _Ended(Exception):
    """A message does not go on, for the ``flag``."""

    def __init__(self, flag: Flag) -> None:
        super().__init__(flag)
        self.flag = flag


@dataclass(frozen=True)
class _Instance:
    """A block on the wire: where it begins in the raw message, and how long it is."""

    block: Block
    start: int
    length: int
    outer: "_Instance | None" = None

    @property
    def around(self) -> Iterator["_Instance"]:
        """This block, the entry around it, …, the root."""
        instance: _Instance | None = self
        while instance is not None:
            yield instance
            instance = instance.outer

    @property
    def path(self) -> tuple[str, ...]:
        return tuple(instance.block.name for instance in self.around)[::-1]


class _Found(NamedTuple):
    """A field that a profile names, in the block where it is; the leaf or composite that is meant, and its offset there."""

    instance: _Instance
    field: Field
    encoding: Encoding
    offset: int

    @property
    def is_present(self) -> bool:
        size = self.encoding.size
        return not size or self.offset + size <= self.instance.length


@dataclass
class Model:
    """The rules for one venue. ``seen`` counts what came up."""

    venue: DrawnVenue
    seen: Counter[str] = field(default_factory=Counter)

    def frames(self, payload: bytes) -> Expected:
        """The frames of one packet."""
        return _Packet(self, payload).frames()


class _Packet:
    def __init__(self, model: Model, payload: bytes) -> None:
        self.model = model
        self.venue = model.venue
        self.framing = model.venue.profile.framing
        self.payload = payload
        self.out: Expected = []
        self.sequence = 0

    def frames(self) -> Expected:
        framing, payload = self.framing, self.payload
        if not payload:
            return []
        if len(payload) < framing.packet_size:
            self._malformed(Flag.TRUNCATED, payload)
            return self.out
        packet_sequence = self._framing_number(payload, framing.packet_sequence)
        slots = (framing.length, framing.magic, framing.sequence)
        needed = max(framing.prefix_size, *(slot.offset + slot.size for slot in slots if slot), 0)
        position = framing.packet_size
        while position < len(payload):
            left = payload[position:]
            self.sequence = packet_sequence
            if len(left) < needed:
                self._malformed(Flag.TRUNCATED, left)
                break
            if framing.sequence is not None:
                self.sequence = self._framing_number(left, framing.sequence)
            there = left[framing.prefix_size :]
            if framing.magic is not None and self._framing_number(left, framing.magic, 64) != framing.magic_value:
                self._malformed(Flag.GARBAGE, there[:MESSAGE_LIMIT])
                break
            size = self._message(left, there)
            if size is None:
                break
            position += framing.prefix_size + size
        return self.out

    def _message(self, left: bytes, there: bytes) -> int | None:
        """The frames of one message; its size, or None where the packet ends with it."""
        framing, header = self.framing, self.venue.schema.header
        if framing.end == "structure":
            return _Message(self, there).structured()
        if framing.end == "packet":
            if len(there) > MESSAGE_LIMIT:
                _Message(self, there[:MESSAGE_LIMIT]).cut(Flag.TOO_LONG)
                return None
            size = max(len(there), header.size)
        else:
            size = self._framing_number(left, framing.length, 64)
            size -= framing.prefix_size if framing.counts == "all" else 0
            if size < header.size:
                self._malformed(Flag.LENGTH, there[:MESSAGE_LIMIT])
                return None
        if size > MESSAGE_LIMIT:
            self._malformed(Flag.TOO_LONG, there[:MESSAGE_LIMIT])
            return None
        if size > len(there):
            _Message(self, there).cut(Flag.TRUNCATED)
            return None
        _Message(self, there[:size]).whole()
        return size

    def _framing_number(self, data: bytes, slot: Slot | None, bits: int = 32) -> int:
        if slot is None:
            return 0
        number = int.from_bytes(data[slot.offset : slot.offset + slot.size], self.framing.byte_order)
        return number % (1 << bits)

    def _malformed(self, flag: Flag, raw: bytes, message_type: int = 0, kind: Kind = Kind.MALFORMED) -> None:
        self.emit(raw, kind=kind, flags=flag, message_type=message_type, sequence=self.sequence)

    def emit(self, raw: bytes, **values: int) -> None:
        """Add a frame."""
        frame = np.zeros(1, FRAME_DTYPE)[0]
        for name, value in values.items():
            frame[name] = value
        frame["payload_length"] = len(raw)
        self.out.append((frame, raw))
        for flag in Flag:
            if values["flags"] & flag:
                self.model.seen[flag.name or ""] += 1


class _Message:
    """One message. ``there``: its bytes, or those of them that the packet has; where its structure tells its size, all that follows.
    ``raw`` is what frames point at."""

    def __init__(self, packet: _Packet, raw: bytes) -> None:
        self.packet = packet
        self.model = packet.model
        self.schema = packet.venue.schema
        self.there = self.raw = raw
        self.count = 0
        self.position = 0
        self.template_id = 0
        self.version = 0

    # What ends it

    def whole(self) -> None:
        """All of its bytes are there."""
        try:
            template, known = self._header()
            if not known:
                return
            assert template is not None
            root = self._root(template)
            self._entries(root)
            if not self.count:
                self._frame(root, is_entry=False)
        except _Ended as ended:
            self._malformed(ended.flag)

    def cut(self, flag: Flag) -> None:
        """No more of it is there, or may be looked at: its whole entries, then ``flag``."""
        try:
            template, known = self._header(quiet=True)
            if known:
                assert template is not None
                self._entries(self._root(template))
        except _Ended:
            pass
        self._malformed(flag)

    def structured(self) -> int | None:
        """Its size is that of its structure. The size, or None where the rest of the packet is not read."""
        self.raw = self.there[:MESSAGE_LIMIT]
        entries: list[_Instance] = []
        flag: Flag | None = None
        root = None
        try:
            template, known = self._header(unknown_ends=True)
            if not known:
                return None
            assert template is not None
            root = self._root(template)
            for entry in self._behind(root):
                entries.append(entry)
                if len(entries) == ENTRY_LIMIT:
                    raise _Ended(Flag.TOO_LONG)
        except _Ended as ended:
            flag = ended.flag
        if flag is None:
            self.raw = self.raw[: self.position]
        for entry in entries:
            self._frame(entry, is_entry=True)
        if flag is not None:
            self._malformed(flag)
            return None
        assert root is not None
        if not self.count:
            self._frame(root, is_entry=False)
        return self.position

    # Its parts

    def _take(self, size: int) -> int:
        """Go on by ``size`` bytes; where they begin."""
        start = self.position
        if self.packet.framing.end == "structure":
            if start + size > len(self.raw):
                raise _Ended(Flag.TOO_LONG if len(self.there) > MESSAGE_LIMIT else Flag.TRUNCATED)
        elif start + size > len(self.there):
            raise _Ended(Flag.LENGTH)
        self.position += size
        return start

    def _number(self, start: int, slot: Slot) -> int:
        begin = start + slot.offset
        return int.from_bytes(self.raw[begin : begin + slot.size], self.schema.byte_order)

    def _header(self, quiet: bool = False, unknown_ends: bool = False) -> tuple[Block | None, bool]:
        """The template, and whether it and the schema are known; a frame says that they are not unless ``quiet``."""
        header = self.schema.header
        self._take(header.size)
        self.template_id = self._number(0, slot_of(header, "templateId"))
        self.version = self._number(0, slot_of(header, "version"))
        if self._number(0, slot_of(header, "schemaId")) != self.schema.id:
            if not quiet:
                self._malformed(Flag.TEMPLATE)
            return None, False
        for template in self.schema.messages:
            if template.id == self.template_id:
                return template, True
        if not quiet:
            self._malformed(Flag.TEMPLATE, Kind.MALFORMED if unknown_ends else Kind.OTHER)
        return None, False

    def _root(self, template: Block) -> _Instance:
        length = self._number(0, slot_of(self.schema.header, "blockLength"))
        root = _Instance(template, self._take(length), length)
        newest = max(each.since for path in template.all_blocks() for each in (*path, *path[-1].data, *path[-1].fields))
        if self.version < newest:
            self.model.seen["older version"] += 1
        if self.version > 3:
            self.model.seen["newer version"] += 1
        return root

    def _is_absent(self, since: int) -> bool:
        """Whether what the schema has since that version is not there."""
        return since > self.version or self.position == len(self.raw)

    def _behind(self, outer: _Instance) -> Iterator[_Instance]:
        """The entries of the groups behind a block, each before those in it."""
        for group in outer.block.groups:
            if self._is_absent(group.since):
                continue
            assert group.dimension is not None
            start = self._take(group.dimension.size)
            length = self._number(start, slot_of(group.dimension, "blockLength"))
            count = self._number(start, slot_of(group.dimension, "numInGroup"))
            if count and not length and not group.groups and not group.data:
                raise _Ended(Flag.LENGTH)
            for number in range(count):
                if self.position == start + group.dimension.size and number > ENTRY_LIMIT:
                    break
                entry = _Instance(group, self._take(length), length, outer)
                if outer.block.dimension is not None:
                    self.model.seen["nested group"] += 1
                yield entry
                yield from self._behind(entry)
        for data in outer.block.data:
            if self._is_absent(data.since):
                continue
            start = self._take(data.encoding.member("varData").offset)
            self._take(self._number(start, slot_of(data.encoding, "length")))
            if outer.block.dimension is not None:
                self.model.seen["var data in a group"] += 1

    # Its frames

    def _entries(self, root: _Instance) -> None:
        for entry in self._behind(root):
            self._frame(entry, is_entry=True)
            if self.count == ENTRY_LIMIT:
                break

    def _malformed(self, flag: Flag, kind: Kind = Kind.MALFORMED) -> None:
        self._emit(kind=kind, flags=flag, message_type=self.template_id % (1 << 16), sequence=self.packet.sequence)

    def _emit(self, **values: int) -> None:
        self.count += 1
        if self.count > ENTRY_LIMIT:
            return
        if self.count == ENTRY_LIMIT:
            values = {
                "kind": Kind.MALFORMED,
                "flags": Flag.TOO_LONG,
                "message_type": self.template_id % (1 << 16),
                "sequence": self.packet.sequence,
            }
        self.packet.emit(self.raw, **values)

    def _frame(self, instance: _Instance, is_entry: bool) -> None:
        if self.count >= ENTRY_LIMIT:
            return
        fields = _Fields(self, instance)
        values = fields.values(is_entry)
        if is_entry:
            values["entry_offset"] = instance.start
        self._emit(**values)


class _Fields:
    """The fields of the frame of one block."""

    def __init__(self, message: _Message, instance: _Instance) -> None:
        self.message = message
        self.model = message.model
        self.order = message.schema.byte_order
        self.profile = message.packet.venue.profile
        self.instance = instance
        self.candidates = dict(self.profile.fields)
        self.translations = {name: dict(values) for name, values in self.profile.values}
        path = instance.path
        self.rule = next(
            (
                rule
                for rule in self.profile.rules
                if fnmatch.fnmatchcase(".".join(path) if "." in rule.pattern else path[0], rule.pattern)
            ),
            None,
        )
        self.constants = dict(self.rule.constants) if self.rule is not None else {}

    def values(self, is_entry: bool) -> dict[str, int]:
        """Frame field → value."""
        kind = self._kind(is_entry)
        values: dict[str, int] = {"message_type": self.message.template_id % (1 << 16)}
        flags = Flag(0)
        for name, decimals, low, high, absent in (
            ("price", PRICE_DECIMALS, -(1 << 63), (1 << 63) - 1, Flag.PRICE_ABSENT),
            ("quantity", QUANTITY_DECIMALS, 0, (1 << 64) - 1, Flag.QUANTITY_ABSENT),
        ):
            number = self._decimal(name, decimals)
            if number is None:
                flags |= absent
            elif not (isinstance(number, int) and low <= number <= high):
                flags |= Flag.RANGE
            else:
                values[name] = number
        values["instrument"] = self._whole("instrument", 64)
        values["sequence"] = self._sequence()
        is_order = kind in ORDER_KINDS
        for name in VIEW_OF_ORDERS if is_order else VIEW_OF_MARKET_DATA:
            if name in CHARACTERS:
                values[name] = self._character(name)
            elif name in WHOLE_NUMBERS:
                values[name] = self._whole(name, 8 * FRAME_DTYPE[name].itemsize)
            else:
                values[name] = self._offset(name)
        if is_order:
            self.model.seen["order view"] += 1
        elif kind in MARKET_DATA:
            self.model.seen["market data view"] += 1
        values["flags"] = flags
        values["kind"] = Kind.MALFORMED if flags & Flag.RANGE else kind
        return values

    def _kind(self, is_entry: bool) -> Kind:
        if self.rule is None:
            return Kind.OTHER
        if self.rule.kind != BY_ENTRY_TYPE:
            return Kind[self.rule.kind.upper().replace(" ", "_")]
        if not is_entry:
            return Kind.OTHER
        if "entry_type" not in self.constants and self._find("entry_type", own=True) is None:
            return Kind.DETAIL
        self.model.seen["by entry type"] += 1
        return KIND_OF_ENTRY_TYPE.get(self._character("entry_type"), Kind.STATISTIC)

    # Where fields are

    def _find(self, name: str, own: bool = False) -> _Found | None:
        """The field of the schema that feeds one of the frame; ``own``: only in the frame's own block."""
        for instance in self.instance.around:
            for candidate in self.candidates.get(name, ()):
                found = _named(instance, candidate)
                if found is not None:
                    return found
            if own:
                break
        return None

    def _bits(self, found: _Found) -> int:
        start = found.instance.start + found.offset
        leaf = found.encoding
        assert isinstance(leaf, Leaf)
        return int.from_bytes(self.message.raw[start : start + SIZES[leaf.primitive]], self.order)

    def _number(self, found: _Found) -> int | None:
        """An integer or a character; None where it is absent or null."""
        leaf = found.encoding
        assert isinstance(leaf, Leaf)
        if leaf.constant is not None:
            return leaf.constant[0] if isinstance(leaf.constant, bytes) else int(leaf.constant)
        if not found.is_present:
            return None
        number = self._bits(found)
        if leaf.primitive.startswith("int") and number >> (8 * leaf.size - 1):
            number -= 1 << 8 * leaf.size
        return None if number == null_of(leaf, found.field) else number

    # What they give

    def _whole(self, name: str, bits: int) -> int:
        found = self._find(name)
        number = None if found is None else self._number(found)
        return 0 if number is None else number % (1 << bits)

    def _sequence(self) -> int:
        if self._find("sequence") is None:
            return self.message.packet.sequence
        return self._whole("sequence", 32)

    def _character(self, name: str) -> int:
        if name in self.constants:
            return ord(self.constants[name])
        found = self._find(name)
        number = None if found is None else self._number(found)
        if found is None or number is None:
            return 0
        leaf = found.encoding
        assert isinstance(leaf, Leaf)
        translated = self._translation(name, leaf)
        if translated is not None:
            self.model.seen["translation"] += 1
            return translated.get(number, 0)
        if leaf.primitive == "char":
            return number
        return ord(str(number)) if 0 <= number <= 9 else 0

    def _translation(self, name: str, leaf: Leaf) -> dict[int, int] | None:
        table = self.translations.get(name)
        if table is None:
            return None
        numbers = {number: ord(table[value]) for value, number in leaf.values if value in table}
        numbers |= {int(value): ord(character) for value, character in table.items() if value.isdigit()}
        return numbers or None

    def _offset(self, name: str) -> int:
        found = self._find(name)
        if found is None or not found.is_present:
            return 0
        encoding = found.encoding
        offset = found.instance.start + found.offset
        if isinstance(encoding, Composite):
            return offset
        if encoding.primitive == "char" and encoding.length > 1:
            return offset if self._bits(found) else 0
        if encoding.is_integer or encoding.primitive == "char":
            return 0 if self._number(found) is None else offset
        if encoding.is_float:
            return 0 if self._float(found) is None else offset
        return offset

    def _mantissa(self, found: _Found) -> tuple[int, int] | None:
        """Mantissa and exponent of a decimal; None where it is absent or one of them is null."""
        composite = found.encoding
        assert isinstance(composite, Composite)
        if not found.is_present:
            return None
        parts = []
        for member in sorted(composite.members, key=lambda member: member.name == "exponent"):
            field = found.field
            if member.name == "exponent":
                field = Field(field.name, field.id, field.offset, member.encoding)
            parts.append(self._number(_Found(found.instance, field, member.encoding, found.offset + member.offset)))
        mantissa, exponent = parts
        return None if mantissa is None or exponent is None else (mantissa, exponent)

    def _float(self, found: _Found) -> float | None:
        leaf = found.encoding
        assert isinstance(leaf, Leaf)
        if leaf.constant is not None:
            assert isinstance(leaf.constant, float)
            number = leaf.constant
            if leaf.primitive == "float":
                number = struct.unpack("<f", struct.pack("<f", number))[0]
        elif not found.is_present:
            return None
        else:
            code = "<f" if leaf.primitive == "float" else "<d"
            number = struct.unpack(code, self._bits(found).to_bytes(leaf.size, "little"))[0]
        if math.isnan(number) or (leaf.constant is None and number == null_of(leaf, found.field)):
            return None
        return number

    def _decimal(self, name: str, decimals: int) -> int | Fraction | None:
        """A price or quantity in its unit; None: absent, a Fraction: not a whole number, or not a number."""
        found = self._find(name, own=True)
        if found is None:
            return None
        encoding = found.encoding
        if isinstance(encoding, Leaf) and encoding.is_float:
            number = self._float(found)
            if number is None:
                return None
            if encoding.primitive == "double":
                self.model.seen[f"double {name}"] += 1
            return Fraction(1, 2) if math.isinf(number) else round(Fraction(number) * 10**decimals)
        if isinstance(encoding, Composite):
            parts = self._mantissa(found)
            if parts is None:
                return None
            mantissa, exponent = parts
            if encoding.member("exponent").encoding.size:
                self.model.seen["exponent on the wire"] += 1
        else:
            whole = self._number(found)
            if whole is None:
                return None
            mantissa, exponent = whole, self._stated_exponent(name, found)
            if exponent is None:
                return None
        power = decimals + exponent
        if not mantissa:
            return 0
        return Fraction(1, 2) if power < 0 or power > 40 else mantissa * 10**power

    def _stated_exponent(self, name: str, found: _Found) -> int | None:
        """An integer's exponent: that of the profile, of another field, or 0; None where the other field is null or absent."""
        if found.field.exponent_field:
            for instance in found.instance.around:
                other = _named(instance, Candidate(found.field.exponent_field))
                if other is not None:
                    self.model.seen["exponent in another field"] += 1
                    return self._number(other)
        for candidate in self.candidates[name]:
            if candidate.exponent is not None and _named(found.instance, candidate) == found:
                return candidate.exponent
        return 0


def null_of(leaf: Leaf, field: Field) -> int | float | None:
    """What stands for no value; None where nothing does."""
    if field.presence == "required":
        return None
    if field.null is not None:
        return field.null
    if leaf.null is not None:
        return leaf.null
    return standard_null(leaf.primitive) if "optional" in (leaf.presence, field.presence) else None


def _named(instance: _Instance, candidate: Candidate) -> _Found | None:
    """The field of a block that a candidate names."""
    for each in instance.block.fields:
        if candidate.field in (each.name, each.id):
            return _Found(instance, each, each.encoding, each.offset)
        if isinstance(candidate.field, str) and candidate.field.startswith(f"{each.name}."):
            encoding, offset = each.encoding, each.offset
            for name in candidate.field.split(".")[1:]:
                assert isinstance(encoding, Composite)
                member = encoding.member(name)
                encoding, offset = member.encoding, offset + member.offset
            return _Found(instance, each, encoding, offset)
    return None
