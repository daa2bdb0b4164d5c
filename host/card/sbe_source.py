"""Writes the soft card's decoder of one (schema, profile) as Python source, to be compiled by Numba: docs/sbe.md.

Straight code with the schema's numbers in it: what stands where, how long a block must be, which number is null. A function for
each kind of frame, and one for each template that walks its groups.
"""

from collections.abc import Iterator

from hdl.frame import FIELDS, MALFORMED_FLAGS, Flag
from hdl.limits import ENTRY_LIMIT, MESSAGE_LIMIT
from hdl.sbe_encoding import Family, bits_of
from hdl.sbe_framing import End, Framing
from hdl.sbe_plan import LIMITS, MARKET_DATA_FIELDS, ORDER_FIELDS, BlockPlan, Form, FramePlan, Source, Value
from hdl.sbe_schema import Block, Data, Group, Schema, Slot
from hdl.sbe_venue import Venue
from host.card.soft_sbe import (
    BY_LENGTH,
    BY_STRUCTURE,
    HUGE,
    LENGTH,
    MALFORMED,
    OTHER,
    PACKET,
    RANGE,
    TEMPLATE,
    TOO_LONG,
    TRUNCATED,
)
from host.card.soft_sbe import Framing as CompiledFraming

INT64_HIGHEST, INT64_LOWEST = 2**63 - 1, -(2**63)

ENDS = {End.PACKET: PACKET, End.LENGTH: BY_LENGTH, End.STRUCTURE: BY_STRUCTURE}

HEAD = '''"""A decoder of the soft card, written by host.card.sbe_source. Do not edit: it is overwritten."""

import numpy as np
from numba import njit

from host.card.ring_writer import has_frame_credit, write_frame
from host.card.soft_feed import advance, done_with_packet
from host.card.soft_sbe import (
    KIND_OF_ENTRY_TYPE,
    Framing,
    begin_packet,
    find_message,
    scaled,
    scaled_binary,
    store_message,
)
from host.memory import INLINED, KERNEL, address_of, load_number

FRAMING = {framing}
HUGE = np.uint64({huge})
'''

PLAIN = '''
@njit(**KERNEL)
def write_plain(ring, state, kind, flags):
    """Write a frame without decoded fields; False where it waits for credit."""
    if state.frames >= {ENTRY_LIMIT}:
        return True
    if state.frames == {ENTRY_LIMIT} - 1:
        kind, flags = {MALFORMED}, {TOO_LONG}
    if state.frames >= state.written:
        if not has_frame_credit(ring):
            return False
        write_frame(ring,{words})
    state.frames += 1
    return True
'''

FEED = '''
@njit(**KERNEL)
def feed_packets(ring, parsing, data, offset, length, timestamp, first):
    """Take packets from ``first`` on; returns the index of the first one that is not done."""
    place = parsing.place[0]
    index = first
    while True:
        index, is_sbe = advance(ring, parsing, data, offset, length, timestamp, index)
        if not is_sbe:
            return index
        done = take_sbe(
            ring, parsing.sbe, data, place.begin, place.end, place.flow, timestamp[index], place.fragment
        )
        if not done_with_packet(parsing, done):
            return index
        index += 1
'''

TAKE = '''
@njit(**INLINED)
def take_sbe(ring, states, data, begin, end, flow, timestamp, fragment):
    """Decode a packet's payload; False where a frame waits for credit: then call again with the same."""
    state = states[0]
    begin_packet(state, FRAMING, data, begin, end, flow, timestamp, fragment)
    while state.message < end - begin:
        message, there, following, readable, cause = find_message(state, FRAMING, data, begin, end)
{measure}        if not store_message(ring, state, data, message, there):
            return False
        if not write_frames(ring, state, address_of(data, message), there, readable, cause):
            state.written = state.frames
            return False
        state.stored = False
        state.written = 0
        state.message = following
    state.message = -1
    return True
'''

MEASURE = """        if cause == 0:
            following = end - begin
            rest = min(there, {MESSAGE_LIMIT})
            there, cause = measured(address_of(data, message), rest)
            if cause == 0:
                following = message + there - begin
            elif cause == {TRUNCATED} and end - message > {MESSAGE_LIMIT}:
                cause = {TOO_LONG}
"""

WRITE = '''
@njit(**INLINED)
def write_frames(ring, state, message, there, readable, cause):
    """Write all frames of the message at an address; False where one waits for credit."""
    if readable and there >= {header}:
        template = {template}
        state.message_type = np.uint16(template)
        known = {schema} == np.uint64({schema_id})
        version = {version}
        done = True
        if not known:
            done = cause != 0 or write_plain(ring, state, {MALFORMED}, {TEMPLATE})
{templates}
        else:
            done = cause != 0 or write_plain(ring, state, {OTHER}, {TEMPLATE})
        if not done:
            return False
    return cause == 0 or write_plain(ring, state, {MALFORMED}, cause)
'''


def decoder_source(venue: Venue) -> str:
    """The source of a module with ``feed_packets``."""
    return "".join(_Writer(venue).module())


class _Writer:
    """Writes one module."""

    def __init__(self, venue: Venue) -> None:
        self._schema = venue.schema
        self._framing = venue.profile.framing
        self._plans = venue.plans
        self._frames: dict[str, str] = {}
        """Body of a function for a frame → its name: templates share them."""

    def module(self) -> Iterator[str]:
        templates = [self._template(plan) for plan in self._plans]
        yield HEAD.format(huge=HUGE, framing=framing_of(self._framing, self._schema))
        yield PLAIN.format(ENTRY_LIMIT=ENTRY_LIMIT, MALFORMED=MALFORMED, TOO_LONG=TOO_LONG, words=_words({}))
        for body, name in self._frames.items():
            yield body.replace("NAME", name, 1)
        yield from templates
        by_structure = self._framing.end is End.STRUCTURE
        if by_structure:
            yield from self._measures()
        header = self._schema.header
        yield WRITE.format(
            header=header.size,
            template=self._load(header.template_id),
            schema=self._load(header.schema_id),
            schema_id=self._schema.id,
            version=self._count("message", header.version),
            templates="\n".join(
                f"        elif template == np.uint64({plan.message.id}):\n"
                f"            done = message_{plan.message.id}(ring, state, message, message + there, "
                f"cause == 0, version)"
                for plan in self._plans
            ),
            MALFORMED=MALFORMED,
            OTHER=OTHER,
            TEMPLATE=TEMPLATE,
        )
        measure = (
            MEASURE.format(MESSAGE_LIMIT=MESSAGE_LIMIT, TOO_LONG=TOO_LONG, TRUNCATED=TRUNCATED) if by_structure else ""
        )
        yield TAKE.format(measure=measure)
        yield FEED

    def _load(self, slot: Slot) -> str:
        return self._number("message", slot.offset, slot.size)

    def _count(self, at: str, slot: Slot) -> str:
        number = self._number(at, slot.offset, slot.size)
        return f"np.int64({number})" if slot.size < 8 else f"np.int64(min({number}, HUGE))"

    def _number(self, at: str, offset: int, size: int, signed: bool = False) -> str:
        """The expression that reads a number."""
        return f"load_number({at} + {offset}, {size}, {int(signed)}, {int(self._schema.byte_order == 'big')})"

    def _template(self, plan: FramePlan) -> str:
        message, header = plan.message, self._schema.header
        lines = [
            "",
            "",
            "@njit(**KERNEL)",
            f"def message_{message.id}(ring, state, message, end, whole, version):",
            f'    """The frames of {message.name}; False where one waits for credit."""',
            f"    b0 = message + {header.size}",
            f"    n0 = {self._count('message', header.block_length)}",
            "    if n0 > end - b0:",
            f"        return {self._failed()}",
            "    at = b0 + n0",
            *self._walk(message, iter(plan.entries), 0, "    "),
            "    if whole and state.frames == 0:",
            f"        return {self._frame(plan.root)}(ring, state, message, b0, n0)",
            "    return True",
            "",
        ]
        return "\n".join(lines)

    @staticmethod
    def _failed() -> str:
        return f"not whole or write_plain(ring, state, {MALFORMED}, {LENGTH})"

    def _walk(self, block: Block, plans: Iterator[BlockPlan], level: int, indent: str) -> Iterator[str]:
        """Lines that go through what stands behind a block: groups, then var data."""
        for group in block.groups:
            yield from (indent + line for line in self._group(group, plans, level + 1))
        for data in block.data:
            yield from (indent + line for line in self._data(data, self._failed()))

    def _group(self, group: Group, plans: Iterator[BlockPlan], level: int) -> Iterator[str]:
        plan = next(plans)
        yield _guard(group)
        yield from self._dimension(group, level, self._failed())
        yield f"    for _ in range(c{level}):"
        yield f"        if {_too_long(group, level)}:"
        yield f"            return {self._failed()}"
        yield f"        if state.frames == {ENTRY_LIMIT - 1}:"
        yield f"            return write_plain(ring, state, {MALFORMED}, {TOO_LONG})"
        yield f"        b{level} = at"
        blocks = ", ".join(f"b{n}, n{n}" for n in range(level + 1))
        yield f"        if not {self._frame(plan)}(ring, state, message, {blocks}):"
        yield "            return False"
        yield f"        at += n{level}"
        yield from self._walk(group, plans, level, "        ")

    def _dimension(self, group: Group, level: int, failed: str) -> Iterator[str]:
        dimension = group.dimension
        yield f"    if {dimension.size} > end - at:"
        yield f"        return {failed}"
        yield f"    n{level} = {self._count('at', dimension.block_length)}"
        yield f"    c{level} = {self._count('at', dimension.count)}"
        yield f"    at += {dimension.size}"

    def _data(self, data: Data, failed: str) -> Iterator[str]:
        yield _guard(data)
        yield f"    if {data.prefix} > end - at:"
        yield f"        return {failed}"
        yield f"    size = {self._count('at', data.length)}"
        yield f"    at += {data.prefix}"
        yield "    if size > end - at:"
        yield f"        return {failed}"
        yield "    at += size"

    def _measures(self) -> Iterator[str]:
        """A function for each template that tells how long a message is, and one that chooses among them."""
        header = self._schema.header
        truncated = _stopped(TRUNCATED)
        for plan in self._plans:
            lines = [
                "",
                "",
                "@njit(**KERNEL)",
                f"def measured_{plan.message.id}(message, end, version):",
                f"    at = message + {header.size}",
                f"    n0 = {self._count('message', header.block_length)}",
                "    if n0 > end - at:",
                f"        return {truncated}",
                "    at += n0",
                "    entries = 0",
                *self._measure(plan.message, 0, "    ", truncated),
                "    return at - message, 0",
                "",
            ]
            yield "\n".join(lines)
        yield "\n".join(
            [
                "",
                "",
                "@njit(**KERNEL)",
                "def measured(message, there):",
                '    """How long a message is by its structure, of the bytes that are there, and why that is not to be known (0: it is)."""',
                "    end = message + there",
                f"    template = {self._load(header.template_id)}",
                f"    version = {self._count('message', header.version)}",
                f"    if {self._load(header.schema_id)} == np.uint64({self._schema.id}):",
                *(
                    f"        if template == np.uint64({plan.message.id}):\n"
                    f"            return measured_{plan.message.id}(message, end, version)"
                    for plan in self._plans
                ),
                f"    return {_stopped(TEMPLATE)}",
                "",
            ]
        )

    def _measure(self, block: Block, level: int, indent: str, truncated: str) -> Iterator[str]:
        for group in block.groups:
            yield indent + _guard(group)
            yield from (indent + line for line in self._dimension(group, level + 1, truncated))
            inside = indent + "        "
            yield f"{indent}    for _ in range(c{level + 1}):"
            if not group.is_followed:
                yield f"{inside}if n{level + 1} == 0:"
                yield f"{inside}    return {_stopped(LENGTH)}"
            yield f"{inside}if n{level + 1} > end - at:"
            yield f"{inside}    return {truncated}"
            yield f"{inside}entries += 1"
            yield f"{inside}if entries == {ENTRY_LIMIT}:"
            yield f"{inside}    return {_stopped(TOO_LONG)}"
            yield f"{inside}at += n{level + 1}"
            yield from self._measure(group, level + 1, inside, truncated)
        for data in block.data:
            yield from (indent + line for line in self._data(data, truncated))

    def _frame(self, plan: BlockPlan) -> str:
        """The name of the function that writes a block's frames."""
        body = "\n".join(self._frame_lines(plan))
        return self._frames.setdefault(body, f"frame_{len(self._frames)}")

    def _frame_lines(self, plan: BlockPlan) -> Iterator[str]:
        blocks = ", ".join(f"b{n}, n{n}" for n in range(plan.level + 1))
        yield from ("", "", "@njit(**KERNEL)")
        yield f"def NAME(ring, state, message, {blocks}):"
        yield "    if state.frames < state.written:"
        yield "        state.frames += 1"
        yield "        return True"
        yield "    if not has_frame_credit(ring):"
        yield "        return False"
        yield "    flags = np.uint64(0)"
        names = ("price", "quantity", "instrument", *(ORDER_FIELDS if plan.is_order else MARKET_DATA_FIELDS))
        for name in (*names, "sequence"):
            source = None if name in plan.constants else plan.sources.get(name)
            if name != "sequence" or source is not None:
                yield f"    {name} = np.uint64({plan.constants.get(name, 0)})"
            if source is not None:
                yield from ("    " + line for line in self._value(name, source))
            elif name in ("price", "quantity"):
                yield f"    flags |= np.uint64({_absent_flag(name)})"
        if plan.kind is None:
            yield "    kind = KIND_OF_ENTRY_TYPE[entry_type]"
        else:
            yield f"    kind = np.uint8({int(plan.kind)})"
        yield f"    if flags & np.uint64({MALFORMED_FLAGS}) != np.uint64(0):"
        yield f"        kind = np.uint8({MALFORMED})"
        values = {name: name for name in names}
        if "sequence" in plan.sources:
            values["sequence"] = "sequence"
        if plan.level:
            values["entry_offset"] = f"b{plan.level} - message"
        yield f"    write_frame(ring,{_words(values)})"
        yield "    state.frames += 1"
        yield "    return True"
        yield ""

    def _value(self, name: str, source: Source) -> Iterator[str]:
        """Lines that set the variable ``name`` from its source, and its flags."""
        value = source.value
        absent = _absent_flag(name) if name in ("price", "quantity") else None
        conditions: list[str] = []
        lines: list[str]
        if source.form is Form.OFFSET:
            conditions.append(f"n{value.level} >= {value.end}")
            lines = [f"{name} = np.uint64(b{value.level} + {value.offset} - message)"]
            if (null := self._null_condition(value, self._raw(value))) is not None:
                conditions.append(null)
        elif value.constant is not None:
            lines = list(self._read(name, source, str(value.constant)))
        else:
            conditions.append(f"n{value.level} >= {value.end}")
            lines = list(self._read(name, source, "raw"))
            if (null := self._null_condition(value, "raw")) is not None:
                lines = [f"if {null}:", *("    " + line for line in lines)]
                if absent is not None:
                    lines += ["else:", f"    flags |= np.uint64({absent})"]
            lines.insert(0, f"raw = {self._raw(value)}")
        if (exponent := source.exponent) is not None and exponent.constant is None:
            conditions.append(f"n{exponent.level} >= {exponent.end}")
            if (null := self._null_condition(exponent, self._raw(exponent))) is not None:
                conditions.append(null)
        if not conditions:
            yield from lines
            return
        yield f"if {' and '.join(conditions)}:"
        yield from ("    " + line for line in lines)
        if absent is not None:
            yield "else:"
            yield f"    flags |= np.uint64({absent})"

    def _raw(self, value: Value) -> str:
        return self._number(f"b{value.level}", value.offset, value.leaf.encoding.primitive.size, value.signed)

    @staticmethod
    def _null_condition(value: Value, raw: str) -> str | None:
        """The condition that a value is there, apart from its block's length; None where it always is."""
        encoding = value.leaf.encoding
        if encoding.is_floating:
            bits = encoding.primitive.bits
            infinity = bits_of(float("inf"), encoding.primitive)
            condition = f"({raw} & np.uint64({(1 << bits - 1) - 1})) <= np.uint64({infinity})"
            if isinstance(encoding.null, float) and encoding.null == encoding.null:
                condition += f" and {raw} != np.uint64({bits_of(encoding.null, encoding.primitive)})"
            return condition
        if encoding.length != 1:
            return f"{raw} != np.uint64(0)" if value.family is Family.CHAR else None
        return None if value.null is None else f"{raw} != {_typed(value, value.null)}"

    def _read(self, name: str, source: Source, raw: str) -> Iterator[str]:
        """Lines that turn the number ``raw`` into the frame's field."""
        value = source.value
        if source.form in LIMITS:
            yield from self._scaled(name, source, raw)
        elif source.form is Form.INTEGER:
            yield f"{name} = np.uint64({raw})" if raw == "raw" else f"{name} = np.uint64({int(raw) % 2**64})"
        elif source.translation is not None:
            word = "if"
            for number, char in source.translation:
                if value.signed or number >= 0:
                    yield f"{word} {raw} == {_typed(value, number)}:"
                    yield f"    {name} = np.uint64({char})"
                    word = "elif"
        elif value.family is Family.CHAR:
            yield f"{name} = np.uint64({raw})"
        else:
            yield f"if {_typed(value, 0)} <= {raw} <= {_typed(value, 9)}:"
            yield f"    {name} = np.uint64({raw}) + np.uint64({ord('0')})"

    def _scaled(self, name: str, source: Source, raw: str) -> Iterator[str]:
        value, (least, highest) = source.value, LIMITS[source.form]
        lowest = -least  # the largest magnitude of a negative number
        encoding = value.leaf.encoding
        if encoding.is_floating:
            mantissa, exponent = (52, 11) if encoding.primitive.size == 8 else (23, 8)
            yield (
                f"{name}, fits = scaled_binary({raw}, {mantissa}, {exponent}, {source.power}, "
                f"np.uint64({highest}), np.uint64({lowest}))"
            )
        elif source.exponent is not None:
            exponent_value = source.exponent
            power = str(exponent_value.constant) if exponent_value.constant is not None else self._raw(exponent_value)
            if value.signed:
                yield f"negative = np.int64({raw}) < 0"
                yield f"magnitude = np.uint64(0) - np.uint64({raw}) if negative else np.uint64({raw})"
            else:
                yield "negative = False"
                yield f"magnitude = np.uint64({raw})"
            if not exponent_value.signed:
                power = f"min({power}, np.uint64(99))"
            yield (
                f"{name}, fits = scaled(magnitude, negative, {source.power} + np.int64({power}), "
                f"np.uint64({highest}), np.uint64({lowest}))"
            )
        else:
            most, least = highest // source.scale, -(lowest // source.scale)
            if value.signed:
                most, least = min(most, INT64_HIGHEST), max(least, INT64_LOWEST)
                yield f"fits = {_typed(value, least)} <= {raw} <= {_typed(value, most)}"
            else:
                yield f"fits = {raw} <= {_typed(value, min(most, 2**64 - 1))}"
            number = raw if raw == "raw" else str(int(raw) % 2**64)
            yield "if fits:"
            yield f"    {name} = np.uint64({number}) * np.uint64({source.scale})"
        yield "if not fits:"
        yield f"    flags |= np.uint64({RANGE})"


OF_MESSAGE = ("timestamp", "payload_offset", "payload_length", "flow", "sequence", "message_type")
"""Frame fields that all frames of a message have from the decoder's state."""


def _words(values: dict[str, str]) -> str:
    """A frame as eight words: its fields from expressions, ``kind`` and ``flags`` from variables, those of the message from the
    state, all others 0."""
    fields = {name: f"state.{name}" for name in OF_MESSAGE}
    fields |= {"kind": "kind", "flags": "flags | state.fragment_flag"} | values
    words = [["np.uint64(0)"] for _ in range(8)]
    for field in FIELDS:
        if field.name in fields:
            number, place = divmod(8 * field.offset, 64)
            value = f"np.uint64({fields[field.name]})"
            if field.bits < 64:
                value = f"({value} & np.uint64({(1 << field.bits) - 1})) << np.uint64({place})"
            words[number].append(value)
    return "".join(f"\n        {' | '.join(parts[1:] or parts)}," for parts in words)


def _stopped(cause: int) -> str:
    """What ``measured`` returns where it cannot tell a message's end."""
    return f"end - message, {cause}"


def _guard(part: Group | Data) -> str:
    """The condition that a group or var data is there: bytes are left, and the message is not older than it."""
    return "if at < end:" if part.since_version == 0 else f"if at < end and version >= {part.since_version}:"


def _too_long(group: Group, level: int) -> str:
    """The condition that an entry is not there whole. Only an entry with something behind its block may be empty."""
    condition = f"n{level} > end - at"
    return condition if group.is_followed else f"n{level} == 0 or {condition}"


def _absent_flag(name: str) -> int:
    return int(Flag.PRICE_ABSENT if name == "price" else Flag.QUANTITY_ABSENT)


def _typed(value: Value, number: int) -> str:
    """A constant of the type that the value is read as."""
    return f"np.int64({number})" if value.signed else f"np.uint64({number})"


def framing_of(framing: Framing, schema: Schema) -> CompiledFraming:
    """A framing as compiled code takes it."""
    none = Slot(0, 0)
    sequence, length, magic = framing.message_sequence, framing.length, framing.magic
    return CompiledFraming(
        big=framing.byte_order == "big",
        packet_size=framing.packet_size,
        packet_sequence_offset=(framing.packet_sequence or none).offset,
        packet_sequence_size=(framing.packet_sequence or none).size,
        message_size=framing.message_size,
        end=ENDS[framing.end],
        length_offset=(length or none).offset,
        length_size=(length or none).size,
        length_excess=framing.length_excess,
        sequence_offset=(sequence or none).offset,
        sequence_size=(sequence or none).size,
        magic_offset=(magic or none).offset,
        magic_size=(magic or none).size,
        magic_value=framing.magic_value,
        needed=framing.needed,
        header_size=schema.header.size,
    )
