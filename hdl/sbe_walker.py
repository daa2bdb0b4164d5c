"""Walks through a packet's SBE messages, element by element (docs/sbe.md, "The packet", "The message")."""

import enum

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import LANES, POSITION_BITS, Message, PayloadBeat
from hdl.byte_window import ByteWindow
from hdl.frame import Flag
from hdl.limits import ENTRY_LIMIT, MESSAGE_LIMIT
from hdl.sbe_framing import End
from hdl.sbe_nodes import Place, nodes_of
from hdl.sbe_schema import SchemaError, Slot
from hdl.sbe_venue import Venue


class Element(enum.IntEnum):
    """What the walker is at."""

    PACKET_HEADER = 0
    PREFIX = 1
    HEADER = 2
    ROOT = 3
    NEXT = 4
    DIMENSION = 5
    ENTRY = 6
    DATA_LENGTH = 7
    DATA = 8
    SKIP_MESSAGE = 9
    SKIP_PACKET = 10
    MESSAGE_END = 11
    PACKET_END = 12


def step_layout(levels: int) -> data.StructLayout:
    """What was found in one cycle: a frame to be made by block plan number ``block``, the end of a message or packet, or
    both.

    ``failed``: the frame is that of a message that can't be decoded (``unknown``: only because the schema does not know
    its template). ``lengths`` and ``offsets`` are those of the blocks on each level, where they begin in the message.
    """
    return data.StructLayout(
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
            "lengths": data.ArrayLayout(16, levels),
            "offsets": data.ArrayLayout(16, levels),
            "has_message": 1,
            "message": Message,
        }
    )


def check_card(venue: Venue) -> None:
    """Raises SchemaError for a framing that the card cannot read."""
    if (reason := undecodable(venue)) is not None:
        raise SchemaError(f"{venue.profile.path}: {reason}")


def undecodable(venue: Venue) -> str | None:
    """Why the card does not decode a venue, None where it does."""
    if (needed := venue.profile.framing.needed) > LANES:
        return f"the framing of a message is read from {needed} bytes; the card looks at {LANES}"
    return None


class SbeWalker(wiring.Component):
    """Finds the frames of a packet and captures the bytes that they need.

    Elements (headers, blocks, dimensions, lengths, var data) are taken at 8 bytes a cycle; each begins in a
    cycle of its own, what stands behind a block is found in one more, and a message's end takes one. ``blocks`` has the
    bytes of the blocks on each level that the step held in ``o`` needs. Latency 2 cycles from an entry's last byte.

    ``plans`` lists all block plans; ``Step.block`` is an index of it. Raises SchemaError as :func:`check_card` does.
    """

    def __init__(self, venue: Venue):
        check_card(venue)
        self._venue = venue
        self._nodes = nodes_of(venue)
        self.plans = [block for plan in venue.plans for block in plan.blocks]
        needed = [1] * self._nodes.depth
        for plan in self.plans:
            for source in plan.sources.values():
                for value in (source.value, source.exponent):
                    if value is not None:
                        needed[value.level] = max(needed[value.level], value.end)
        super().__init__(
            {
                "i": In(stream.Signature(PayloadBeat)),
                "o": Out(stream.Signature(step_layout(self._nodes.depth))),
                **{f"block{level}": Out(data.ArrayLayout(8, size)) for level, size in enumerate(needed)},
            }
        )

    @property
    def blocks(self):
        """The captured blocks, by level."""
        return [getattr(self, f"block{level}") for level in range(self._nodes.depth)]

    def elaborate(self, platform):
        m = Module()
        schema, framing, nodes = self._venue.schema, self._venue.profile.framing, self._nodes.nodes
        header, plans, levels = schema.header, self._venue.plans, self._nodes.depth
        by_length, by_structure = framing.end is End.LENGTH, framing.end is End.STRUCTURE
        m.submodules.window = window = ByteWindow()
        wiring.connect(m, wiring.flipped(self.i), window.i)
        here = window.bytes
        first_element = Element.PACKET_HEADER if framing.packet_size else Element.PREFIX

        element = Signal(Element, init=first_element)
        length = Signal(16, init=framing.packet_size)
        offset = Signal(16)  # how much of the element was taken before
        left = Signal(16)  # how much of the message, or of what it may have, was not
        start = Signal(POSITION_BITS)
        template = Signal(range(max(len(plans), 2)))
        version = Signal(8 * header.version.size)
        node = Signal(range(max(len(nodes), 2)))
        node_there, entry_ends = Signal(), Signal()  # what comes next: a node, or an entry's end; else the message's
        entries = [Signal(32, name=f"entries{level}") for level in range(levels)]  # of the group, not yet taken
        block_length = [Signal(16, name=f"block_length{level}") for level in range(levels)]
        block_offset = [Signal(16, name=f"block_offset{level}") for level in range(levels)]
        frames = Signal(range(ENTRY_LIMIT + 1))
        failed, unknown, flags = Signal(), Signal(), Signal(16)
        packet_sequence, sequence, message_type = Signal(32), Signal(32), Signal(16)

        step = Signal(self.o.payload.shape())
        advance = Signal()
        m.d.comb += advance.eq(~self.o.valid | self.o.ready)

        # This cycle's share of the element, of at most 8 bytes.
        rest, share, behind = Signal(16), Signal(range(LANES + 1)), Signal(16)
        whole, cut, held = Signal(), Signal(), Signal(16)
        m.d.comb += [
            rest.eq(length - offset),
            share.eq(Mux(rest > LANES, LANES, rest)),
            whole.eq(window.fill >= share),
            cut.eq(window.ended & ~whole),
            behind.eq(left - share),
            held.eq(window.position - start),
        ]

        # Of an element of several beats, the bytes of those before the last.
        sizes = [framing.packet_size, header.size, *(each.size for each in nodes)]
        kept = Signal(data.ArrayLayout(8, max(*sizes, 1)))
        for n in range(len(kept)):
            with m.If(advance & (offset == n // LANES * LANES)):
                m.d.sync += kept[n].eq(here[n % LANES])

        def number(slot: Slot, size: int, byte_order):
            """A number in an element of ``size`` bytes whose last beat is here."""
            last = (max(size, 1) - 1) // LANES * LANES
            places = range(slot.offset, slot.offset + slot.size)
            its_bytes = [here[n - last] if n >= last else kept[n] for n in places]
            return Cat(reversed(its_bytes) if byte_order == "big" else its_bytes)

        def take(count):
            m.d.comb += window.take.eq(count)
            m.d.sync += left.eq(left - count)

        def begin(next_element, next_length=0):
            m.d.sync += [element.eq(next_element), length.eq(next_length), offset.eq(0)]

        skip = Element.SKIP_PACKET if by_structure else Element.SKIP_MESSAGE

        def fail(cause, skip=skip):
            m.d.sync += [flags.eq(flags | cause), failed.eq(1)]
            begin(skip)

        def overrun():
            """An element is longer than what is left of the message."""
            fail(Flag.TRUNCATED if by_structure else Flag.LENGTH)

        def go_to(place: Place):
            m.d.sync += [
                node.eq(place.node or 0),
                node_there.eq(place.node is not None),
                entry_ends.eq(place.entry_ends),
            ]
            begin(Element.NEXT)

        def begin_entry(size, after):
            with m.If(size > after):
                overrun()
            with m.Else():
                begin(Element.ENTRY, size)

        def next_entry(its_node, level, after):
            with m.If(entries[level] == 1):
                go_to(its_node.following)
            with m.Else():
                m.d.sync += entries[level].eq(entries[level] - 1)
                begin_entry(block_length[level], after)

        def each_node(is_group=None):
            """A case for each node that is a group (or var data); yields its number and itself."""
            with m.Switch(node):
                for index, its_node in enumerate(nodes):
                    if is_group is None or its_node.is_group == is_group:
                        with m.Case(index):
                            yield index, its_node

        def after_packet_header():
            if framing.packet_sequence is not None:
                found = number(framing.packet_sequence, framing.packet_size, framing.byte_order)
                m.d.sync += [packet_sequence.eq(found), sequence.eq(found)]
            begin(Element.PREFIX)

        def read_prefix():
            def found(slot: Slot):
                return number(slot, LANES, framing.byte_order)

            m.d.comb += window.take.eq(framing.message_size)
            m.d.sync += start.eq(window.position + framing.message_size)
            if framing.message_sequence is not None:
                m.d.sync += sequence.eq(found(framing.message_sequence))
            declared = Const(MESSAGE_LIMIT) if framing.length is None else found(framing.length)
            excess = 0 if framing.length is None else framing.length_excess
            m.d.sync += left.eq(declared - excess)
            begin(Element.HEADER, header.size)
            if by_length:
                with m.If(declared < header.size + excess):
                    fail(Flag.LENGTH, Element.SKIP_PACKET)
                with m.Elif(declared > MESSAGE_LIMIT + excess):
                    fail(Flag.TOO_LONG, Element.SKIP_PACKET)
            if framing.magic is not None:
                with m.If(found(framing.magic) != framing.magic_value):
                    m.d.sync += [flags.eq(Flag.GARBAGE), failed.eq(1)]
                    begin(Element.SKIP_PACKET)

        def after_header():
            def found(slot: Slot):
                return number(slot, header.size, schema.byte_order)

            root_length, template_id = found(header.block_length), found(header.template_id)
            known, its_template = Signal(), Signal.like(template)
            with m.Switch(template_id):
                for index, plan in enumerate(plans):
                    if plan.message.id < 1 << len(template_id):
                        with m.Case(plan.message.id):
                            m.d.comb += [known.eq(1), its_template.eq(index)]
            m.d.sync += [
                message_type.eq(template_id),
                version.eq(found(header.version)),
                block_length[0].eq(root_length),
                template.eq(its_template),
            ]
            ours = found(header.schema_id) == schema.id
            with m.If(~ours | ~known):
                fail(Flag.TEMPLATE)
                if not by_structure:
                    m.d.sync += unknown.eq(ours)
            with m.Elif(root_length > behind):
                overrun()
            with m.Else():
                begin(Element.ROOT, root_length)

        def after_root():
            with m.Switch(template):
                for index, place in enumerate(self._nodes.first):
                    with m.Case(index):
                        go_to(place)

        def after_dimension():
            for _, its_node in each_node(is_group=True):
                level = its_node.depth + 1
                size, count = (number(slot, its_node.size, schema.byte_order) for slot in its_node.slots)
                m.d.sync += [block_length[level].eq(size), entries[level].eq(count)]
                with m.If(count == 0):
                    go_to(its_node.following)
                if not its_node.inside:
                    with m.Elif(size == 0):
                        fail(Flag.LENGTH)
                with m.Else():
                    begin_entry(size, behind)

        def after_entry():
            limited = frames == ENTRY_LIMIT - 1
            for index, its_node in each_node(is_group=True):
                level = its_node.depth + 1
                m.d.comb += step.block.eq(its_node.block)
                m.d.sync += block_offset[level].eq(held - offset)
                if its_node.first == Place(index, entry_ends=True):
                    next_entry(its_node, level, behind)
                else:
                    go_to(its_node.first)
            with m.If(limited):
                m.d.sync += [flags.eq(flags | Flag.TOO_LONG), failed.eq(1)]
                begin(skip)
            with m.Else():
                m.d.comb += step.has_frame.eq(1)
                m.d.sync += frames.eq(frames + 1)

        def after_data_length():
            for _, its_node in each_node(is_group=False):
                size = number(its_node.slots[0], its_node.size, schema.byte_order)
                with m.If(size == 0):
                    go_to(its_node.following)
                with m.Elif(size > behind):
                    overrun()
                with m.Else():
                    begin(Element.DATA, size)

        def after_data():
            for _, its_node in each_node(is_group=False):
                go_to(its_node.following)

        elements = {
            Element.PACKET_HEADER: after_packet_header,
            Element.HEADER: after_header,
            Element.ROOT: after_root,
            Element.DIMENSION: after_dimension,
            Element.ENTRY: after_entry,
            Element.DATA_LENGTH: after_data_length,
            Element.DATA: after_data,
        }
        finishing = Signal()  # the message's last frame, if it still needs one, and its end
        nothing_left = window.ended & (window.fill == 0)
        with m.If(advance):
            with m.Switch(element):
                for its_element, after in elements.items():
                    with m.Case(its_element):
                        if its_element is Element.PACKET_HEADER:
                            with m.If(offset == 0):
                                m.d.sync += start.eq(window.position)
                        with m.If(whole):
                            take(share)
                            m.d.sync += offset.eq(offset + share)
                            with m.If(rest <= LANES):
                                after()
                        with m.Elif(cut):
                            if its_element in (Element.PACKET_HEADER, Element.HEADER) or framing.end is not End.PACKET:
                                fail(Flag.TRUNCATED, Element.SKIP_PACKET)
                            else:
                                fail(Flag.LENGTH)
                with m.Case(Element.PREFIX):
                    m.d.sync += [start.eq(window.position), sequence.eq(packet_sequence)]
                    with m.If((window.fill >= framing.needed) & (window.fill != 0)):
                        read_prefix()
                    with m.Elif(nothing_left):
                        begin(Element.PACKET_END)
                    with m.Elif(window.ended):
                        fail(Flag.TRUNCATED, Element.SKIP_PACKET)
                with m.Case(Element.NEXT):
                    with m.If(~node_there):
                        begin(Element.MESSAGE_END if by_structure else Element.SKIP_MESSAGE)
                    with m.Elif(entry_ends):
                        for _, its_node in each_node(is_group=True):
                            next_entry(its_node, its_node.depth + 1, left)
                    # Where only the packet's end ends a message, one has to wait and see whether something follows.
                    with m.Elif((left == 0) | nothing_left | (window.fill != 0) | by_length):
                        absent = (left == 0) if by_length else (left == 0) | nothing_left
                        for _, its_node in each_node():
                            too_old = version < its_node.since_version if its_node.since_version else Const(0)
                            with m.If(absent | too_old):
                                go_to(its_node.following)
                            with m.Elif(its_node.size > left):
                                overrun()
                            with m.Else():
                                begin(Element.DIMENSION if its_node.is_group else Element.DATA_LENGTH, its_node.size)
                with m.Case(Element.SKIP_MESSAGE):
                    portion = Signal(range(LANES + 1))
                    bound = Mux(left > LANES, LANES, left) if by_length else Const(LANES)
                    m.d.comb += portion.eq(Mux(window.fill > bound, bound, window.fill))
                    take(portion)
                    if by_length:
                        with m.If(left == portion):
                            begin(Element.MESSAGE_END)
                        with m.Elif(nothing_left):
                            # Whatever was wrong before, the message's only cause is now that it was cut.
                            begin(Element.MESSAGE_END)
                            m.d.sync += [failed.eq(1), flags.eq(Flag.TRUNCATED), unknown.eq(0)]
                    else:
                        with m.If(window.ended & (window.fill <= LANES)):
                            begin(Element.MESSAGE_END)
                            with m.If(held + portion > MESSAGE_LIMIT):
                                m.d.sync += [failed.eq(1), flags.eq(Flag.TOO_LONG), unknown.eq(0)]
                with m.Case(Element.SKIP_PACKET):
                    portion = Mux(window.fill > LANES, LANES, window.fill)
                    take(portion)
                    with m.If(window.ended & (window.fill <= LANES)):
                        begin(Element.MESSAGE_END)
                        if by_structure:
                            with m.If((flags == Flag.TRUNCATED) & (held + portion > MESSAGE_LIMIT)):
                                m.d.sync += flags.eq(Flag.TOO_LONG)
                with m.Case(Element.MESSAGE_END):
                    m.d.comb += finishing.eq(1)
                with m.Case(Element.PACKET_END):
                    m.d.comb += finishing.eq(1)

        # Blocks are captured as they pass.
        level = Signal(range(levels))
        with m.If(element == Element.ENTRY):
            for _, its_node in each_node(is_group=True):
                m.d.comb += level.eq(its_node.depth + 1)
        in_block = (element == Element.ROOT) | (element == Element.ENTRY)
        for its_level, captured in enumerate(self.blocks):
            for n in range(len(captured)):
                with m.If(advance & whole & in_block & (level == its_level) & (offset == n // LANES * LANES)):
                    m.d.sync += captured[n].eq(here[n % LANES])

        is_message = element == Element.MESSAGE_END
        m.d.comb += [
            step.flags.eq(flags | Mux(window.fragment, Flag.FRAGMENT, 0)),
            step.message_type.eq(message_type),
            step.sequence.eq(sequence),
            step.timestamp.eq(window.timestamp),
            step.message.flow.eq(window.flow),
            *(step.lengths[each].eq(block_length[each]) for each in range(levels)),
            step.offsets[0].eq(header.size),
            *(
                step.offsets[each].eq(Mux(level == each, held - offset, block_offset[each]))
                for each in range(1, levels)
            ),
        ]
        with m.If(finishing):
            with m.Switch(template):
                for index, block in enumerate(self._nodes.root_block):
                    with m.Case(index):
                        m.d.comb += step.block.eq(block)
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
                step.message.packet_end.eq(nothing_left),
                step.message.release.eq(window.position),
                window.next_packet.eq(step.message.packet_end),
            ]
            m.d.sync += [failed.eq(0), unknown.eq(0), flags.eq(0), frames.eq(0), message_type.eq(0)]
            begin(Element.PREFIX)
            with m.If(step.message.packet_end):
                begin(first_element, framing.packet_size)
                m.d.sync += [sequence.eq(0), packet_sequence.eq(0)]
        with m.Else():
            m.d.comb += step.entry_offset.eq(held - offset)
        with m.If(advance):
            m.d.sync += [self.o.valid.eq(step.has_frame | step.has_message), self.o.payload.eq(step)]
        return m
