"""Walks through a packet's SBE messages, element by element (docs/sbe.md, "The packet", "The message")."""

import enum

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import LANES, POSITION_BITS, Message, PayloadBeat
from hdl.byte_window import ByteWindow
from hdl.frame import Flag
from hdl.limits import ENTRY_LIMIT, HEADER_LIMIT, MESSAGE_LIMIT
from hdl.sbe_framing import End, Framing
from hdl.sbe_plan import BlockPlan, Form, FramePlan
from hdl.sbe_schema import SchemaError, Slot
from hdl.sbe_venue import Venue

PACKET_HEADER_BYTES, SEQUENCE_BYTES, SIZE_BYTES = 12, 4, 2

FRAMING = Framing(
    packet_size=PACKET_HEADER_BYTES,
    packet_sequence=Slot(0, SEQUENCE_BYTES),
    message_size=SIZE_BYTES,
    end=End.LENGTH,
    length=Slot(0, SIZE_BYTES),
    length_excess=SIZE_BYTES,
)
"""The one framing that the walker knows: CME's."""


class Element(enum.IntEnum):
    """What the walker is at."""

    PACKET_HEADER = 0
    SIZE = 1
    HEADER = 2
    ROOT = 3
    DIMENSION = 4
    ENTRY = 5
    SKIP_MESSAGE = 6
    SKIP_PACKET = 7
    MESSAGE_END = 8
    PACKET_END = 9


Step = data.StructLayout(
    {
        "has_frame": 1,
        "failed": 1,
        "unknown": 1,
        "block": 16,
        "flags": 16,
        "message_type": 16,
        "entry_offset": 16,
        "sequence": 32,
        "timestamp": 64,
        "root_length": 16,
        "entry_length": 16,
        "has_message": 1,
        "message": Message,
    }
)
"""What was found in one cycle: a frame to be made by block plan number ``block``, the end of a message or packet, or
both. ``failed``: the frame is that of a message that can't be decoded (``unknown``: only because the schema does not know its
template). ``root_length`` and ``entry_length`` are the actual block lengths."""


def undecodable_schema(venue: Venue) -> str | None:
    """Why the card decodes no message of a venue; None where it may."""
    schema = venue.schema
    if venue.profile.framing != FRAMING:
        return "the card knows only CME's framing"
    if schema.byte_order != "little":
        return "byte order bigEndian is not supported by the card"
    if schema.header.size > HEADER_LIMIT:
        return f"a header of {schema.header.size} bytes; at most {HEADER_LIMIT} are supported by the card"
    return None


def undecodable(plan: FramePlan) -> str | None:
    """Why the card does not decode a message, None where it does."""
    message = plan.message
    for group in message.groups:
        for what, names in (("a nested group", group.groups), ("var data in a group", group.data)):
            if names:
                return f"{what} ('{names[0].name}') is not supported by the card"
        if group.dimension.size > HEADER_LIMIT:
            return (
                f"group '{group.name}' has a dimension of {group.dimension.size} bytes; "
                f"at most {HEADER_LIMIT} are supported by the card"
            )
        if group.since_version:
            return f"group '{group.name}' is not in all versions, which is not supported by the card"
    if message.data:
        return f"var data ('{message.data[0].name}') is not supported by the card"
    for block in plan.blocks:
        if block.is_order or block.constants or "sequence" in block.sources:
            return f"the frames of '{block.path[-1]}' are of an order, have constants or their own sequence: not supported by the card"
        for name, source in block.sources.items():
            if (
                source.exponent
                or source.translation
                or source.value.leaf.encoding.is_floating
                or source.form is Form.OFFSET
            ):
                return f"the {name} of '{block.path[-1]}' has a form that is not supported by the card"
    return None


def check_card(venue: Venue) -> None:
    """Raises SchemaError for what the card cannot decode: a line for each message."""
    path = venue.schema.path
    if (reason := undecodable_schema(venue)) is not None:
        raise SchemaError(f"{path}: {reason}")
    reasons = {plan.message.name: undecodable(plan) for plan in venue.plans}
    if any(reasons.values()):
        raise SchemaError(*(f"{path}: message '{name}': {reason}" for name, reason in reasons.items() if reason))


class SbeWalker(wiring.Component):
    """Finds the frames of a packet and captures the bytes that they need.

    Elements (headers, root block, dimensions, entries) are taken at 8 bytes a cycle; each begins in a
    cycle of its own, and a message's end takes one more. ``root`` and ``entry`` hold the blocks of the step that ``o`` holds.
    Latency 2 cycles from an entry's last byte.

    ``blocks`` lists all block plans; ``Step.block`` is an index of it. Raises SchemaError for a schema without a frame plan.
    """

    def __init__(self, venue: Venue):
        check_card(venue)
        self._schema = venue.schema
        self._plans = venue.plans
        self.blocks: list[BlockPlan] = []
        self._root_block: list[int] = []
        for plan in self._plans:
            self._root_block.append(len(self.blocks))
            self.blocks += plan.blocks
        needed = [1, 1]
        for block in self.blocks:
            for source in block.sources.values():
                level = source.value.level
                needed[level] = max(needed[level], source.value.end)
        super().__init__(
            {
                "i": In(stream.Signature(PayloadBeat)),
                "o": Out(stream.Signature(Step)),
                "root": Out(data.ArrayLayout(8, needed[0])),
                "entry": Out(data.ArrayLayout(8, needed[1])),
            }
        )

    def elaborate(self, platform):
        m = Module()
        schema, header = self._schema, self._schema.header
        m.submodules.window = window = ByteWindow()
        wiring.connect(m, wiring.flipped(self.i), window.i)
        here = window.bytes

        element = Signal(Element, init=Element.PACKET_HEADER)
        length = Signal(16, init=PACKET_HEADER_BYTES)
        offset = Signal(16)  # how much of the element was taken before
        left = Signal(16)  # how much of the message was not
        start = Signal(POSITION_BITS)
        template = Signal(range(len(self._plans)))
        group = Signal(8)
        entries = Signal(32)  # of the group, not yet taken
        frames = Signal(range(ENTRY_LIMIT + 1))
        failed, unknown, flags = Signal(), Signal(), Signal(16)
        sequence, message_type = Signal(32), Signal(16)
        root_length, entry_length = Signal(16), Signal(16)

        step = Signal(Step)
        advance = Signal()
        m.d.comb += advance.eq(~self.o.valid | self.o.ready)

        # This cycle's share of the element, of at most 8 bytes.
        rest, share, behind = Signal(16), Signal(range(LANES + 1)), Signal(16)
        whole, cut = Signal(), Signal()
        m.d.comb += [
            rest.eq(length - offset),
            share.eq(Mux(rest > LANES, LANES, rest)),
            whole.eq(window.fill >= share),
            cut.eq(window.ended & ~whole),
            behind.eq(left - share),
        ]

        def take(count):
            m.d.comb += window.take.eq(count)
            m.d.sync += left.eq(left - count)

        def begin(next_element, next_length=0):
            m.d.sync += [element.eq(next_element), length.eq(next_length), offset.eq(0)]

        def fail(cause, skip=Element.SKIP_MESSAGE):
            m.d.sync += [flags.eq(flags | cause), failed.eq(1)]
            begin(skip)

        def number(slot: Slot):
            return Cat(here[slot.offset + n] for n in range(slot.size))

        def each_group(chosen_template, chosen_group):
            """A case for each group of the schema; yields the group within it."""
            with m.Switch(chosen_template):
                for index, plan in enumerate(self._plans):
                    with m.Case(index), m.Switch(chosen_group):
                        for n, its_group in enumerate(plan.message.groups):
                            with m.Case(n):
                                yield index, n, its_group

        # The dimension that the next group has, where there is one.
        next_template, next_group = Signal.like(template), Signal.like(group)
        dimension = Signal(4)
        for _, _, its_group in each_group(next_template, next_group):
            m.d.comb += dimension.eq(its_group.dimension.size)

        def begin_next_group():
            m.d.sync += group.eq(next_group)
            with m.If((dimension == 0) | (behind == 0)):
                begin(Element.SKIP_MESSAGE)
            with m.Elif(dimension > behind):
                fail(Flag.LENGTH)
            with m.Else():
                begin(Element.DIMENSION, dimension)

        def after_packet_header():
            m.d.sync += sequence.eq(first_word)
            begin(Element.SIZE, SIZE_BYTES)

        def after_size():
            size = Cat(here[n] for n in range(SIZE_BYTES))
            m.d.sync += [start.eq(window.position + SIZE_BYTES), left.eq(size - SIZE_BYTES)]
            with m.If(size < SIZE_BYTES + header.size):
                fail(Flag.LENGTH, Element.SKIP_PACKET)
            with m.Elif(size > SIZE_BYTES + MESSAGE_LIMIT):
                fail(Flag.TOO_LONG, Element.SKIP_PACKET)
            with m.Else():
                begin(Element.HEADER, header.size)

        def after_header():
            block_length, template_id = number(header.block_length), number(header.template_id)
            known = Signal()
            with m.Switch(template_id):
                for index, plan in enumerate(self._plans):
                    with m.Case(plan.message.id):
                        m.d.comb += [known.eq(1), next_template.eq(index)]
            m.d.sync += [
                message_type.eq(template_id),
                root_length.eq(block_length),
                entry_length.eq(0),
                template.eq(next_template),
            ]
            with m.If((number(header.schema_id) != schema.id) | ~known):
                fail(Flag.TEMPLATE)
                m.d.sync += unknown.eq(number(header.schema_id) == schema.id)
            with m.Elif(block_length > behind):
                fail(Flag.LENGTH)
            with m.Elif(block_length == 0):
                begin_next_group()
            with m.Else():
                begin(Element.ROOT, block_length)

        def after_dimension():
            block_length, count = Signal(16), Signal(32)
            for _, _, its_group in each_group(template, group):
                m.d.comb += [
                    block_length.eq(number(its_group.dimension.block_length)),
                    count.eq(number(its_group.dimension.count)),
                ]
            m.d.comb += next_group.eq(group + 1)
            m.d.sync += [entry_length.eq(block_length), entries.eq(count)]
            with m.If(count == 0):
                begin_next_group()
            with m.Elif((block_length == 0) | (block_length > behind)):
                fail(Flag.LENGTH)
            with m.Else():
                begin(Element.ENTRY, block_length)

        def after_entry():
            m.d.comb += next_group.eq(group + 1)
            with m.If(frames == ENTRY_LIMIT - 1):
                fail(Flag.TOO_LONG)
            with m.Else():
                m.d.comb += step.has_frame.eq(1)
                m.d.sync += [frames.eq(frames + 1), entries.eq(entries - 1)]
                with m.If(entries == 1):
                    begin_next_group()
                with m.Elif(entry_length > behind):
                    fail(Flag.LENGTH)
                with m.Else():
                    begin(Element.ENTRY, entry_length)

        first_word = Signal(8 * SEQUENCE_BYTES)
        elements = {
            Element.PACKET_HEADER: after_packet_header,
            Element.SIZE: after_size,
            Element.HEADER: after_header,
            Element.ROOT: begin_next_group,
            Element.DIMENSION: after_dimension,
            Element.ENTRY: after_entry,
        }
        m.d.comb += next_template.eq(template)
        finishing = Signal()  # the message's last frame, if it still needs one, and its end
        with m.If(advance):
            with m.Switch(element):
                for its_element, after in elements.items():
                    with m.Case(its_element):
                        if its_element in (Element.PACKET_HEADER, Element.SIZE):
                            with m.If(offset == 0):
                                m.d.sync += start.eq(window.position)
                        if its_element is Element.PACKET_HEADER:
                            with m.If(offset == 0):
                                m.d.sync += first_word.eq(Cat(here[n] for n in range(SEQUENCE_BYTES)))
                        with m.If(whole):
                            take(share)
                            m.d.sync += offset.eq(offset + share)
                            with m.If(rest <= LANES):
                                after()
                        if its_element is Element.SIZE:
                            with m.Elif(window.ended & (window.fill == 0)):
                                begin(Element.PACKET_END)
                        with m.Elif(cut):
                            fail(Flag.TRUNCATED, Element.SKIP_PACKET)
                with m.Case(Element.SKIP_MESSAGE):
                    portion = Signal(range(LANES + 1))
                    bound = Mux(left > LANES, LANES, left)
                    m.d.comb += portion.eq(Mux(window.fill > bound, bound, window.fill))
                    take(portion)
                    with m.If(left == portion):
                        begin(Element.MESSAGE_END)
                    with m.Elif(window.ended & (window.fill == 0)):
                        # Whatever was wrong before, the message's only cause is now that it was cut.
                        fail(Flag.TRUNCATED, Element.MESSAGE_END)
                        m.d.sync += [flags.eq(Flag.TRUNCATED), unknown.eq(0)]
                with m.Case(Element.SKIP_PACKET):
                    take(Mux(window.fill > LANES, LANES, window.fill))
                    with m.If(window.ended & (window.fill <= LANES)):
                        begin(Element.MESSAGE_END)
                with m.Case(Element.MESSAGE_END):
                    m.d.comb += finishing.eq(1)
                with m.Case(Element.PACKET_END):
                    m.d.comb += finishing.eq(1)

        # Blocks are captured as they pass.
        for its_element, captured in ((Element.ROOT, self.root), (Element.ENTRY, self.entry)):
            for n in range(len(captured)):
                with m.If(advance & whole & (element == its_element) & (offset == n // LANES * LANES)):
                    m.d.sync += captured[n].eq(here[n % LANES])

        block = Signal(16)
        with m.Switch(template):
            for index, first in enumerate(self._root_block):
                with m.Case(index):
                    m.d.comb += block.eq(first + Mux(finishing, 0, group + 1))

        held = Signal(16)
        is_message = element == Element.MESSAGE_END
        m.d.comb += [
            held.eq(window.position - start),
            step.block.eq(block),
            step.flags.eq(flags | Mux(window.fragment, Flag.FRAGMENT, 0)),
            step.message_type.eq(message_type),
            step.sequence.eq(sequence),
            step.timestamp.eq(window.timestamp),
            step.root_length.eq(root_length),
            step.message.flow.eq(window.flow),
        ]
        with m.If(finishing):
            m.d.comb += [
                step.has_frame.eq(is_message & (failed | (frames == 0))),
                step.failed.eq(failed),
                step.flags.eq(
                    Mux(frames == ENTRY_LIMIT - 1, Flag.TOO_LONG, flags) | Mux(window.fragment, Flag.FRAGMENT, 0)
                ),
                step.unknown.eq(unknown),
                step.has_message.eq(1),
                step.message.start.eq(start),
                step.message.length.eq(Mux(held > MESSAGE_LIMIT, MESSAGE_LIMIT, held)),
                step.message.frames.eq(frames + step.has_frame),
                step.message.packet_end.eq(window.ended & (window.fill == 0)),
                step.message.release.eq(window.position),
                window.next_packet.eq(step.message.packet_end),
            ]
            m.d.sync += [failed.eq(0), unknown.eq(0), flags.eq(0), frames.eq(0), message_type.eq(0)]
            begin(Element.SIZE, SIZE_BYTES)
            with m.If(step.message.packet_end):
                begin(Element.PACKET_HEADER, PACKET_HEADER_BYTES)
                m.d.sync += sequence.eq(0)
        with m.Else():
            m.d.comb += [
                step.entry_length.eq(entry_length),
                step.entry_offset.eq(held - offset),
            ]
        with m.If(advance):
            m.d.sync += [self.o.valid.eq(step.has_frame | step.has_message), self.o.payload.eq(step)]
        return m
