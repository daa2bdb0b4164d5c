"""Messages of drawn schemas (tests/cards/sbe_schemas.py), encoded by hand: most of them well-formed, some damaged.

All sizes are in bytes. What a message says of its lengths and counts may differ from what is there.
"""

import functools
import math
import struct
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from tests.cards.fuzzing import mostly, weighted
from tests.cards.sbe_schemas import (
    NEWEST_VERSION,
    SIZES,
    Block,
    Composite,
    Data,
    DrawnVenue,
    Field,
    Framing,
    Leaf,
    Slot,
    limits,
    standard_null,
)

LONGEST_PAYLOAD = 9100

BLOCK_LENGTHS = (0, 1, 2, 3, 7, 8, 40, 255, 4096, 65535, (1 << 32) - 1, 1 << 63, (1 << 64) - 1)
COUNTS = (0, 1, 2, 5, 255, 600, 65535, 1 << 31, (1 << 64) - 1)
DATA_LENGTHS = (0, 1, 3, 200, 255, 4096, 65535, (1 << 32) - 1, 1 << 63, (1 << 64) - 1)
MESSAGE_LENGTHS = (0, 1, 3, 7, 8, 11, 12, 40, 4096, 4097, 4100, 65535, (1 << 32) - 1)
VERSIONS = tuple(range(NEWEST_VERSION + 3))


@dataclass(frozen=True)
class DataValue:
    """Var data; None: the length that it has."""

    encoding: Composite
    content: bytes
    stated_length: int | None = None


@dataclass(frozen=True)
class BlockValue:
    """A block's bytes, and the groups and var data behind it."""

    body: bytes
    groups: tuple["GroupValue", ...] = ()
    data: tuple[DataValue, ...] = ()


@dataclass(frozen=True)
class GroupValue:
    """A group; ``repeats`` times its entries. None: the length and the count that it has."""

    dimension: Composite
    filler: bytes
    block_length: int
    entries: tuple[BlockValue, ...]
    repeats: int = 1
    stated_length: int | None = None
    stated_count: int | None = None


@dataclass(frozen=True)
class MessageValue:
    """A message. None of what is stated: as the schema, the framing and the bytes have it."""

    template_id: int
    schema_id: int
    version: int
    filler: bytes
    root: BlockValue
    stated_length: int | None = None
    size: int | None = None
    magic: int | None = None
    tail: bytes = b""
    cut: int = 0


# Encoding


def put(target: bytearray, offset: int, size: int, order: str, number: int) -> None:
    """Write the low bits of a number."""
    target[offset : offset + size] = (number % (1 << 8 * size)).to_bytes(size, order)


def _put_member(target: bytearray, composite: Composite, name: str, order: str, number: int) -> None:
    member = composite.member(name)
    put(target, member.offset, member.encoding.size, order, number)


def _filled(filler: bytes, size: int) -> bytearray:
    return bytearray((filler * (size // len(filler) + 1))[:size])


def encode_block(block: BlockValue, order: str) -> bytes:
    """A block with all that stands behind it."""
    parts = [block.body]
    for group in block.groups:
        dimension = _filled(group.filler, group.dimension.size)
        entries = [encode_block(entry, order) for entry in group.entries]
        count = len(entries) * group.repeats
        length = group.block_length if group.stated_length is None else group.stated_length
        _put_member(dimension, group.dimension, "blockLength", order, length)
        _put_member(
            dimension, group.dimension, "numInGroup", order, count if group.stated_count is None else group.stated_count
        )
        parts += [bytes(dimension), b"".join(entries) * group.repeats]
    for each in block.data:
        prefix = bytearray(each.encoding.size)
        length = len(each.content) if each.stated_length is None else each.stated_length
        _put_member(prefix, each.encoding, "length", order, length)
        parts += [bytes(prefix), each.content]
    return b"".join(parts)


def encode_message(venue: DrawnVenue, value: MessageValue, sequence: int) -> bytes:
    """A message behind its prefix."""
    schema, framing = venue.schema, venue.profile.framing
    order = schema.byte_order
    header = _filled(value.filler, schema.header.size)
    length = len(value.root.body) if value.stated_length is None else value.stated_length
    _put_member(header, schema.header, "blockLength", order, length)
    _put_member(header, schema.header, "templateId", order, value.template_id)
    _put_member(header, schema.header, "schemaId", order, value.schema_id)
    _put_member(header, schema.header, "version", order, value.version)
    message = bytes(header) + encode_block(value.root, order) + value.tail
    message = message[: len(message) - value.cut] if value.cut else message
    whole = _filled(value.filler[::-1], framing.prefix_size) + bytearray(message)
    size = len(message) + (framing.prefix_size if framing.counts == "all" else 0) if value.size is None else value.size
    magic = framing.magic_value if value.magic is None else value.magic
    for slot, number in ((framing.sequence, sequence), (framing.magic, magic), (framing.length, size)):
        if slot is not None and slot.offset + slot.size <= len(whole):
            put(whole, slot.offset, slot.size, framing.byte_order, number)
    return bytes(whole)


def encode_packet(framing: Framing, filler: bytes, sequence: int, messages: list[bytes]) -> bytes:
    """A packet of messages that are encoded already."""
    header = _filled(filler, framing.packet_size)
    if framing.packet_sequence is not None:
        put(header, *framing.packet_sequence, framing.byte_order, sequence)
    return bytes(header) + b"".join(messages)


# Drawing


def _clipped(primitive: str, numbers: set[int]) -> list[int]:
    low, high = limits(primitive)
    return sorted((number for number in numbers if low <= number <= high), key=lambda number: (abs(number), number < 0))


LIMIT_NUMBERS = {0, *(sign * number for sign in (1, -1) for number in range(1, 11))} | {
    sign * (limit // 10**power + more)
    for limit in (1 << 63, 1 << 64)
    for power in range(19)
    for sign in (1, -1)
    for more in (-1, 0, 1)
}
"""Small numbers, and mantissas around the greatest that fit a price or a quantity with their exponent."""

TENS = {sign * digit * 10**power for power in range(20) for digit in (1, 7, 125) for sign in (1, -1)}

integers = {
    primitive: st.one_of(
        st.sampled_from(_clipped(primitive, LIMIT_NUMBERS)),
        st.sampled_from(_clipped(primitive, TENS)),
        st.integers(*limits(primitive)),
        st.sampled_from(limits(primitive)),
    )
    for primitive in SIZES
    if "int" in primitive
}

SMALL_FLOATS = st.integers(-(2**20), 2**20)


def _around(number: float) -> list[float]:
    return [math.nextafter(number, -math.inf), number, math.nextafter(number, math.inf)]


doubles = st.one_of(
    st.sampled_from([0.0, 1.0, 0.5, 100.25, -1.0, -0.0]),
    SMALL_FLOATS.map(lambda number: (2 * number + 1) / 1024),
    SMALL_FLOATS.map(lambda number: (2 * number + 1) / 512),
    SMALL_FLOATS.map(lambda number: number / 100),
    st.sampled_from(
        [5e-324, -5e-324, 2.2250738585072014e-308, 1e-9, 5e-10, 1.5e-9, 5e-9, -5e-9, -4e-9, 1e300, 1.7e308]
    ),
    st.sampled_from(
        [
            sign * each
            for limit in (2**63 / 1e9, 2**63 / 1e8, 2**64 / 1e8)
            for each in _around(limit)
            for sign in (1, -1)
        ]
    ),
    st.sampled_from([math.inf, -math.inf]),
    st.floats(allow_nan=False, width=64),
)
double_bits = st.one_of(
    doubles.map(lambda number: struct.unpack("<Q", struct.pack("<d", number))[0]),
    st.sampled_from([0x7FF8 << 48, 0xFFF8 << 48, (0x7FF0 << 48) + 1, (1 << 64) - 1]),
    st.integers(0, (1 << 64) - 1),
)


def _float_bits(number: float) -> int:
    try:
        return struct.unpack("<I", struct.pack("<f", number))[0]
    except OverflowError:
        return 0x7F80_0000


float_bits = st.one_of(
    doubles.map(_float_bits),
    st.sampled_from([0x7FC0_0000, 0xFFC0_0000, 0x7F80_0001, 0xFFFF_FFFF, 1, 0x8000_0001]),
    st.integers(0, (1 << 32) - 1),
)

characters = st.one_of(st.sampled_from(b"0125EFJ4ABxN ?\0"), st.integers(0, 255))
exponents = st.one_of(st.integers(-12, 12), st.sampled_from([0, -9, -8, -18, 9, 10, -19, 18, 19, 20]))


def _null_of(leaf: Leaf, field: Field) -> int | float:
    for null in (field.null, leaf.null):
        if null is not None:
            return null
    return standard_null(leaf.primitive)


@functools.cache
def _bits(primitive: str, null: int | float, is_exponent: bool, values: tuple[int, ...]) -> st.SearchStrategy[int]:
    """One primitive's bits as a number, seldom its null; ``values`` are an enum's."""
    if primitive == "double":
        return weighted((8, double_bits), (1, st.just(struct.unpack("<Q", struct.pack("<d", null))[0])))
    if primitive == "float":
        return weighted((8, float_bits), (1, st.just(_float_bits(null))))
    usual = characters if primitive == "char" else integers[primitive]
    if is_exponent:
        usual = weighted((9, exponents), (1, usual))
    if values:
        usual = weighted((3, st.sampled_from(values)), (1, usual))
    return weighted((8, usual), (1, st.just(int(null))))


def _leaves(field: Field) -> list[tuple[int, Leaf, bool]]:
    """Offset in the block, leaf, and whether it is an exponent."""
    found = []

    def walk(name: str, offset: int, encoding: Leaf | Composite) -> None:
        if isinstance(encoding, Leaf):
            found.append((offset, encoding, name in ("exponent", "scale")))
            return
        for member in encoding.members:
            walk(member.name, offset + member.offset, member.encoding)

    walk(field.name, field.offset, field.encoding)
    return [(offset, leaf, is_exponent) for offset, leaf, is_exponent in found if leaf.size]


@st.composite
def bodies(draw: st.DrawFn, block: Block, order: str, length: int) -> bytes:
    """A block of the schema in ``length`` bytes: cut, or with bytes of a newer version behind its fields."""
    body = _filled(draw(fillers), max(length, block.block_length))
    for field in block.fields:
        for offset, leaf, is_exponent in _leaves(field):
            size = SIZES[leaf.primitive]
            values = tuple(number for _, number in leaf.values)
            bits = draw(_bits(leaf.primitive, _null_of(leaf, field), is_exponent, values))
            put(body, offset, size, order, bits)
            if leaf.length > 1:
                body[offset + size : offset + leaf.size] = _filled(b"text 12\0", leaf.size - size)
    return bytes(body[:length])


fillers = st.sampled_from([b"\0", b"\xff", b"A", b"\1\2\3\4\5\6\7"])
rarely = st.sampled_from([False] * 7 + [True])
length_changes = st.sampled_from([0] * 66 + [-9, -4, -1, 1, 2, 8])
data_sizes = st.sampled_from([0, 0, 1, 3, 17] * 24 + [250, 2000, 4090, 5000])
entry_counts = st.sampled_from([0, 1, 1, 1, 2, 3])
entry_repeats = st.sampled_from([1] * 240 + [255, 511, 512, 520])
sequences = st.sampled_from([0, 7, 65535, (1 << 32) - 1, (1 << 32) + 5, 1 << 63])
versions = st.sampled_from([NEWEST_VERSION] * len(VERSIONS) + list(VERSIONS))
tails = mostly(b"", st.binary(min_size=1, max_size=9), 9)
junk = mostly(b"", st.binary(min_size=1, max_size=20), 11)
stated_lengths = mostly(None, st.sampled_from(BLOCK_LENGTHS), 7)
stated_sizes = mostly(None, st.sampled_from(MESSAGE_LENGTHS), 7)
cuts = mostly(0, st.integers(1, 30), 5)


@st.composite
def datas(draw: st.DrawFn, data: Data, damaged: bool) -> DataValue:
    """Var data, seldom so long that the message gets too long."""
    greatest = (1 << 8 * data.encoding.member("length").encoding.size) - 1
    content = bytes(_filled(draw(fillers), min(draw(data_sizes), greatest)))
    stated = draw(st.sampled_from(DATA_LENGTHS)) if damaged and draw(rarely) else None
    return DataValue(data.encoding, content, stated)


@st.composite
def block_values(
    draw: st.DrawFn, block: Block, order: str, version: int, length: int, damaged: bool, there: int = 99
) -> BlockValue:
    """A block of ``length`` bytes, with those groups and var data behind it that a sender of the version has, at most the first
    ``there`` of them."""
    body = draw(bodies(block, order, length))
    groups = [group for group in block.groups if group.since <= version][:there]
    data = [data for data in block.data if data.since <= version][: max(there - len(groups), 0)]
    return BlockValue(
        body,
        tuple(draw(group_values(group, order, version, damaged)) for group in groups),
        tuple(draw(datas(each, damaged)) for each in data),
    )


@st.composite
def lengths(draw: st.DrawFn, block: Block, version: int) -> int:
    """A block's length by its version, or seldom another."""
    own = block.length_of_version(version) + (3 if version > NEWEST_VERSION and block.block_length else 0)
    return max(own + draw(length_changes), 0)


@st.composite
def group_values(draw: st.DrawFn, group: Block, order: str, version: int, damaged: bool) -> GroupValue:
    """A group of a few entries, rarely of more than 512."""
    assert group.dimension is not None
    length = draw(lengths(group, version))
    count, repeats = draw(entry_counts), draw(entry_repeats)
    if repeats > 1:
        count, length = 1, min(length, draw(st.sampled_from([1, 5, 7])))
    if not length and not (group.groups or group.data) and not damaged:
        count = 0
    value = GroupValue(
        group.dimension,
        draw(fillers),
        length,
        tuple(draw(block_values(group, order, version, length, damaged)) for _ in range(count)),
        repeats,
    )
    if damaged and draw(rarely):
        value = replace(value, stated_length=draw(st.sampled_from(BLOCK_LENGTHS)))
    if damaged and draw(rarely):
        value = replace(value, stated_count=draw(st.sampled_from(COUNTS)))
    return value


@st.composite
def message_values(draw: st.DrawFn, venue: DrawnVenue) -> MessageValue:
    """A message of the schema, three of four well-formed."""
    schema, framing = venue.schema, venue.profile.framing
    message = draw(st.sampled_from(schema.messages))
    version = draw(versions)
    damaged = draw(st.sampled_from([False, False, False, True]))
    there = draw(st.sampled_from([99] * 14 + [0, 1])) if framing.end != "structure" else 99
    length = draw(lengths(message, version))
    root = draw(block_values(message, schema.byte_order, version, length, damaged, there))
    tail = b"" if framing.end == "structure" else draw(tails)
    value = MessageValue(message.id, schema.id, version, draw(fillers), root, tail=tail)
    if not damaged:
        return value
    others = st.sampled_from([0, 1, 77, message.id + 256, message.id + 65536, message.id + (1 << 32), (1 << 64) - 1])
    return replace(
        value,
        template_id=draw(mostly(message.id, others, 7)),
        schema_id=draw(
            mostly(schema.id, st.sampled_from([schema.id + 1, schema.id + 65536, schema.id + (1 << 32)]), 7)
        ),
        stated_length=draw(stated_lengths),
        size=draw(stated_sizes),
        magic=draw(mostly(None, st.sampled_from([0, framing.magic_value ^ 1, framing.magic_value ^ 0x80]), 3)),
        cut=draw(cuts),
    )


@st.composite
def payloads(draw: st.DrawFn, venue: DrawnVenue) -> bytes:
    """A packet's payload of one or a few messages; rarely cut anywhere, or followed by junk."""
    framing = venue.profile.framing
    counts = [0, 1, 1, 1, 2] if framing.end == "packet" else [0, 1, 1, 2, 2, 3]
    messages = [
        encode_message(venue, draw(message_values(venue)), draw(sequences))
        for _ in range(draw(st.sampled_from(counts)))
    ]
    payload = encode_packet(framing, draw(fillers), draw(sequences), messages)
    payload += draw(junk)
    payload = payload[:LONGEST_PAYLOAD]
    if draw(st.sampled_from([False] * 5 + [True])):
        payload = payload[: draw(st.integers(0, len(payload)))]
    return payload


def payload_lists(venue: DrawnVenue) -> st.SearchStrategy[list[bytes]]:
    """Payloads of the packets of one flow."""
    return st.lists(payloads(venue), min_size=1, max_size=4)


def slot_of(composite: Composite, name: str) -> Slot:
    """Where a number of a header, a dimension or of var data stands."""
    member = composite.member(name)
    return Slot(member.offset, member.encoding.size)
