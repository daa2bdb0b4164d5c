"""Walks through a packet's SBE messages, from element to element (docs/sbe.md, "The packet", "The message")."""

import enum
from collections import Counter
from collections.abc import Callable, Sequence
from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import LANES, POSITION_BITS, Message, PayloadBeat
from hdl.frame import Flag
from hdl.limits import ENTRY_LIMIT, MESSAGE_LIMIT
from hdl.packet_history import PacketHistory, rows_for
from hdl.sbe_framing import End
from hdl.sbe_nodes import Place, nodes_of
from hdl.sbe_operands import Operand, on_wire, operands_of, span_of
from hdl.sbe_plan import BlockPlan
from hdl.sbe_schema import SchemaError, Slot
from hdl.sbe_venue import Venue


class State(enum.IntEnum):
    """What the walker waits for, or decides; the number of its bit."""

    PACKET_BEGIN = 0
    """To the packet's place."""
    CATCH_UP = 1
    """With what came already."""
    PACKET_HEADER = 2
    PREFIX = 3
    HEADER = 4
    TEMPLATE = 5
    """The header is there: which template, and how long is the root?"""
    ROOT_FOUND = 6
    ROOT = 7
    NEXT = 8
    """What stands behind the last element?"""
    DIMENSION = 9
    GROUP = 10
    """The dimension is there: how many entries of which length?"""
    ENTRY = 11
    OUTER_GROUP = 12
    """An entry of a group with groups or var data in its entries has ended."""
    OUTER_FOUND = 13
    OUTER_ENTRY = 14
    DATA_LENGTH = 15
    DATA_FOUND = 16
    DATA = 17
    REST = 18
    """Of the message, nothing more is to be decoded."""
    SKIP_MESSAGE = 19
    SKIP_PACKET = 20
    JUMP = 21
    """To the message's end that was found."""
    CHECK_LENGTH = 22
    MESSAGE_END = 23
    PACKET_END = 24


LENGTH_BITS = 18
"""Of how much is left of a message, less a block or data of 16 bits. What is too long is seen by that; how far the packet has
come is counted modulo the places, and right again when the walk has jumped to the message's end."""

SEEKING = (State.PACKET_HEADER, State.PREFIX, State.ROOT, State.ENTRY, State.DATA)
"""States behind which something may stand that the walk depends on."""

COUNT_BITS = 10
"""Of entries still to come: more than ENTRY_LIMIT of them are as many as ENTRY_LIMIT."""

CONTROL_BYTES = 8
"""Of one port that reads what the walk depends on."""


def step_layout(levels: int, needs: int) -> data.StructLayout:
    """What was found in one cycle: a frame to be made by block plan number ``block``, the end of a message or packet, or
    both.

    ``failed``: the frame is that of a message that can't be decoded (``unknown``: only because the schema does not know
    its template). ``offsets`` are those of the blocks on each level, where they begin in the message. ``reaches`` says of
    each frame field whether its block is long enough to have it.
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
            "offsets": data.ArrayLayout(16, levels),
            "reaches": needs,
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


def look_up(m: Module, index: Signal, values: Sequence[int | None], width: int, name: str) -> Signal:
    """``values[index]``; where that is None, or ``index`` beyond them, whatever is most frequent."""
    found = Signal(width, name=name)
    known = [value % (1 << width) for value in values if value is not None]
    default = Counter(known).most_common(1)[0][0] if known else 0
    m.d.comb += found.eq(default)
    by_value: dict[int, list[int]] = {}
    for number, value in enumerate(values):
        if value is not None and value % (1 << width) != default:
            by_value.setdefault(value % (1 << width), []).append(number)
    with m.Switch(index):
        for value, numbers in by_value.items():
            with m.Case(*numbers):
                m.d.comb += found.eq(value)
    return found


class SbeWalker(wiring.Component):
    """Finds the frames of a packet and reads what they are made of.

    It goes from element to element, not from byte to byte: blocks, data and padding are jumped over, whatever their length.
    Once its bytes are there, a message takes 5 cycles up to its root, a group's dimension 2 (3 without entries), an entry 1 (4
    where something may stand in entries), var data 3, a group or var data that is absent 1, and the message's end at most 1
    where a length says it, else 3. From a packet's last message to the next one's first it is 4 more, where it ends as a length
    says. Bytes are taken meanwhile, those of the next packet too; they wait only where the walk is as far behind as ``rows`` beats
    reach. Latency 2 cycles from an entry's last byte.

    Everything moves where ``advance`` is high. ``plans`` lists all block plans; ``block``, and ``step.block`` a cycle later, is an
    index of it. ``operands`` are what was read for ``step``, each in its ``bytes{n}``. Raises SchemaError as
    :func:`check_card` does.
    """

    def __init__(self, venue: Venue):
        check_card(venue)
        self._venue = venue
        self._nodes = nodes_of(venue)
        self.plans: list[BlockPlan] = [block for plan in venue.plans for block in plan.blocks]
        self.operands = operands_of(self.plans)
        self.needs = sorted(
            {(name, part) for plan in self.plans for name, source in plan.sources.items() for part in on_wire(source)}
        )
        framing, header = venue.profile.framing, venue.schema.header
        slots = (header.block_length, header.template_id, header.schema_id, header.version)
        self._header_begin = min(slot.offset for slot in slots)
        control = max(
            max(slot.offset + slot.size for slot in slots) - self._header_begin,
            framing.needed,
            framing.packet_sequence.size if framing.packet_sequence else 0,
            *(slot.offset + slot.size for node in self._nodes.nodes for slot in node.slots),
        )
        self._control_ports = -(-control // CONTROL_BYTES)
        longest = (header.size, framing.packet_size, *(node.size for node in self._nodes.nodes), span_of(self.operands))
        self.rows = rows_for(max(longest) + LANES)
        super().__init__(
            {
                "i": In(stream.Signature(PayloadBeat)),
                "advance": In(1),
                "block": Out(range(max(len(self.plans), 2))),
                "valid": Out(1),
                "step": Out(step_layout(self._nodes.depth, len(self.needs))),
                **{f"bytes{n}": Out(data.ArrayLayout(8, each.size)) for n, each in enumerate(self.operands)},
            }
        )

    def elaborate(self, platform):
        m = Module()
        schema, framing = self._venue.schema, self._venue.profile.framing
        nodes, levels = self._nodes.nodes, self._nodes.depth
        header, templates, plans = schema.header, self._venue.plans, self.plans
        by_length, by_structure = framing.end is End.LENGTH, framing.end is End.STRUCTURE
        waited = max(framing.needed, 1)  # of a message, before its framing is read
        sizes = [CONTROL_BYTES] * self._control_ports + [each.size for each in self.operands]
        m.submodules.history = history = PacketHistory(self.rows, sizes)
        wiring.connect(m, wiring.flipped(self.i), history.i)

        state, next_state = Signal(len(State), init=1 << State.PACKET_BEGIN), Signal(len(State))
        bits = len(history.needed)  # of a place
        begin, end = Signal(bits), Signal(bits, init=framing.packet_size)  # of the element
        lacking = Signal(
            signed(bits + 1), init=framing.packet_size - 1
        )  # bytes up to ``end`` that did not come, less one
        after = Signal(signed(LENGTH_BITS))  # how much of the message, or of what it may have, is behind the element
        start = Signal(bits)
        word = Signal(data.ArrayLayout(8, CONTROL_BYTES * self._control_ports))
        template = Signal(range(max(len(templates), 2)))
        block = self.block
        group, coming = (Signal(range(max(len(nodes), 2)), name=name) for name in ("group", "coming"))
        node_there, entry_ends = Signal(), Signal()  # what comes: a node, or an entry's end; else the message's
        begins_node = Signal()  # a node comes, which is not too new for the message
        coming_is_group, coming_is_flat, coming_size = Signal(), Signal(), Signal(8)
        entries = [Signal(COUNT_BITS, name=f"entries{level}") for level in range(levels)]  # with the one at hand
        last_entry = [Signal(name=f"last_entry{level}") for level in range(levels)]
        block_length = [Signal(16, name=f"block_length{level}") for level in range(levels)]
        block_offset = [Signal(16, name=f"block_offset{level}") for level in range(levels)]
        frames, no_frames, at_limit = Signal(range(ENTRY_LIMIT + 1)), Signal(init=1), Signal()
        failed, unknown, flags = Signal(), Signal(), Signal(16)
        packet_sequence, sequence, message_type = Signal(32), Signal(32), Signal(16)

        lengths_ahead = {
            State.PACKET_HEADER: waited,
            State.PREFIX: framing.message_size + header.size - waited,
            State.HEADER: header.size + (0 if framing.length is None else framing.length_excess),
            State.MESSAGE_END: waited,
            State.TEMPLATE: 0,
            State.JUMP: 0,
            State.PACKET_BEGIN: 0,
            State.CATCH_UP: 0,
        }

        step = Signal(self.step.shape())
        advance = self.advance
        with m.If(advance):
            m.d.sync += state.eq(next_state)

        def is_in(*states: State):
            return Cat(state[each] for each in states).any()

        def comes_in(*states: State, name: str):
            """The same, as a register by itself, near to where it is needed."""
            its_states = Signal(name=name, init=State.PACKET_BEGIN in states)
            with m.If(advance):
                m.d.sync += its_states.eq(Cat(next_state[each] for each in states).any())
            return its_states

        # How long the next element is: what comes in a body, or, where nothing in the body says it, ``fixed``.
        fixed, takes_coming = Signal(range(max(lengths_ahead.values()) + 1)), Signal()

        def go(to: State):
            m.d.comb += next_state[to].eq(1)
            if to in lengths_ahead:
                m.d.sync += fixed.eq(lengths_ahead[to])
            if to is State.MESSAGE_END:
                m.d.sync += takes_coming.eq(0)

        # One move a cycle: the next element begins where this one ends, and is ``grow`` bytes long. How far the packet has come
        # is known as the sign of ``lacking``, so that nothing has to be compared.
        moves, reached, cut = Signal(), Signal(), Signal()
        moves_on = comes_in(State.CATCH_UP, name="moves_on")  # only what is lacking
        moves_place = comes_in(State.PACKET_BEGIN, name="moves_place")  # all but what is lacking
        grow = Signal(signed(LENGTH_BITS))
        settled, settled_twice = Signal(), Signal()  # there was no move in the last cycle, in the last two
        total, carries, without = (Signal(bits + 1, name=name) for name in ("total", "carries", "without"))
        came = Signal(bits + 1)
        m.d.comb += [
            reached.eq(lacking < 0),
            cut.eq(history.ended & ~reached),
            came.eq(~Cat(history.coming, Const(0, bits + 1 - len(history.coming)))),
            carries.eq(Cat(1, (lacking & grow) | (lacking & came) | (grow & came))),
            total.eq((lacking ^ grow ^ came) + carries),
            without.eq(lacking - history.coming),
        ]
        m.d.sync += [lacking.eq(without), settled.eq(1), settled_twice.eq(settled)]
        with m.If(advance & (moves | moves_on)):
            m.d.sync += [lacking.eq(total), settled.eq(0), settled_twice.eq(0)]
        with m.If(advance & (moves | moves_place)):
            m.d.sync += [end.eq(end + grow), settled.eq(0), settled_twice.eq(0)]
            with m.If(~state[State.JUMP] & ~moves_place & (after >= 0)):
                m.d.sync += begin.eq(end)
        counted = Signal()  # in this cycle, ``after`` is counted from a message's length
        length_there = Signal.like(after)
        with m.If(advance & (moves | counted)):
            m.d.sync += after.eq(Mux(counted, length_there, after) - grow)

        # What takes a while to compare is compared in the cycle before, and holds where the element is ``settled``.
        nothing_behind, at_end, at_begin, was_ended = Signal(), Signal(), Signal(), Signal()
        # At JUMP: of the message, or what came beyond the element (negative: did not come). At PACKET_BEGIN: the packet's place;
        # at CATCH_UP: less what came already.
        rest = Signal.like(after)
        m.d.sync += [
            nothing_behind.eq(after == 0),
            at_end.eq(lacking == -1),
            at_begin.eq(lacking == waited - 1),
            was_ended.eq(history.ended),
        ]
        with m.If(state[State.PACKET_END]):
            m.d.sync += rest.eq(history.next_origin)
        with m.Elif(advance & state[State.PACKET_BEGIN]):
            m.d.sync += rest.eq(-history.already)
        with m.Elif(~is_in(State.JUMP, State.PACKET_BEGIN, State.CATCH_UP)):
            m.d.sync += rest.eq(Mux(state[State.REST], after, ~lacking))

        # Control words: what the walk itself depends on.
        seeks = Signal()
        place = Signal(history.port_bits)
        found = Cat(getattr(history, f"bytes{n}") for n in range(self._control_ports))
        found_bytes = data.View(data.ArrayLayout(8, CONTROL_BYTES * self._control_ports), found)
        to_header = framing.message_size + self._header_begin - waited
        m.d.comb += [
            place.eq(end + Mux(state[State.PREFIX], to_header, 0)),
            seeks.eq(advance & ((reached & is_in(*SEEKING)) | is_in(State.NEXT, State.MESSAGE_END))),
        ]
        beyond = Signal.like(place)
        m.d.comb += beyond.eq(end + Mux(state[State.PREFIX], to_header + LANES, LANES))
        if framing.packet_sequence is not None:
            with m.If(state[State.PACKET_BEGIN]):
                m.d.comb += [
                    seeks.eq(1),
                    place.eq(history.origin + framing.packet_sequence.offset),
                    beyond.eq(history.origin + (framing.packet_sequence.offset + LANES)),
                ]
        for n in range(self._control_ports):
            m.d.comb += [
                getattr(history, f"place{n}").eq(place + CONTROL_BYTES * n),
                getattr(history, f"beyond{n}").eq(beyond + CONTROL_BYTES * n),
                getattr(history, f"seek{n}").eq(seeks),
            ]
        reading = is_in(State.PREFIX, State.HEADER, State.DIMENSION, State.DATA_LENGTH)
        with m.If(advance & reached & reading):
            m.d.sync += word.eq(found)

        def number(slot: Slot, byte_order, its_bytes=word, begin=0):
            its_bytes = [its_bytes[n] for n in range(slot.offset - begin, slot.offset - begin + slot.size)]
            return Cat(reversed(its_bytes) if byte_order == "big" else its_bytes)

        def in_header(slot: Slot):
            return number(slot, schema.byte_order, word, self._header_begin)

        # What is known of the node that comes, and of the group whose entries are at hand.
        def of_node(what: Callable[[Any], int | None], width: int, name: str, index=coming):
            return look_up(m, index, [what(node) for node in nodes], width, name)

        def of_group(what: Callable[[Any], int], width: int, name: str, index=group):
            return of_node(lambda node: what(node) if node.is_group else None, width, name, index)

        older = {
            since: Signal(name=f"older_than_{since}") for since in sorted({node.since_version for node in nodes} - {0})
        }
        level_of_group = of_group(lambda node: node.depth + 1, range_bits(levels), "level_of_group")
        level_of_coming = of_group(lambda node: node.depth + 1, range_bits(levels), "level_of_coming", coming)
        block_of_coming = of_group(lambda node: node.block, len(block), "block_of_coming", coming)
        last, length = Signal(), Signal(16)  # of the group at hand
        repeats = Signal()  # another entry of that length comes next

        def each_level(index):
            """A case for each level of entries; yields it."""
            if levels == 2:
                yield 1
                return
            with m.Switch(index):
                for level in range(1, levels):
                    with m.Case(level):
                        yield level

        if levels > 1:
            for level in each_level(level_of_group):
                m.d.comb += [last.eq(last_entry[level]), length.eq(block_length[level])]

        def is_flat(where: Place) -> bool:
            """Whether no group's entry goes on there."""
            return not where.entry_ends and (where.node is None or nodes[where.node].depth == 0)

        def expect(places: Sequence[Place], index):
            """Go on where ``places[index]`` says."""

            def part(what: Callable[[Place], int], width: int, name: str):
                return look_up(m, index, [what(each) for each in places], width, name)

            since: dict[int | None, int] = {
                each.node: nodes[each.node].since_version for each in places if each.node is not None
            }
            too_old = Const(0)
            for version, is_older in older.items():
                is_since = [since.get(each.node) == version for each in places]
                too_old |= look_up(m, index, is_since, 1, f"place_since_{version}") & is_older
            is_node = part(lambda each: each.node is not None and not each.entry_ends, 1, "place_is_node")
            m.d.sync += [
                begins_node.eq(is_node & ~too_old),
                coming.eq(part(lambda each: each.node or 0, len(coming), "place_node")),
                node_there.eq(part(lambda each: each.node is not None, 1, "place_there")),
                entry_ends.eq(part(lambda each: each.entry_ends, 1, "place_entry_ends")),
                coming_is_group.eq(
                    part(lambda each: each.node is None or nodes[each.node].is_group, 1, "place_is_group")
                ),
                coming_is_flat.eq(part(is_flat, 1, "place_is_flat")),
                coming_size.eq(part(lambda each: 0 if each.node is None else nodes[each.node].size, 8, "place_size")),
            ]

        following = [node.following for node in nodes]
        nested = any(node.is_group and node.inside for node in nodes)
        skip = State.SKIP_PACKET if by_structure else State.REST

        def fail(cause, to=skip):
            m.d.sync += [flags.eq(flags | cause), failed.eq(1)]
            go(to)

        def fail_cut(always_truncated=False):
            if always_truncated or framing.end is not End.PACKET:
                fail(Flag.TRUNCATED, State.SKIP_PACKET)
            else:
                fail(Flag.LENGTH)

        def await_element(its_state: State, whole: Callable[[], None], overruns=True, **how):
            """Wait until the element is there; it may be longer than what is left of the message, or be cut."""
            with m.If((after < 0) if overruns else Const(0)):
                fail(Flag.TRUNCATED if by_structure else Flag.LENGTH)
            with m.Elif(reached):
                whole()
            with m.Elif(cut):
                fail_cut(**how)
            with m.Else():
                go(its_state)

        def go_on():
            """Begin what comes behind an element that is whole."""
            if not nodes:
                go(State.MESSAGE_END if by_structure else State.REST)
                return
            with m.If(~node_there):
                go(State.MESSAGE_END if by_structure else State.REST)
            with m.Elif(entry_ends if nested else Const(0)):
                m.d.sync += group.eq(coming)
                go(State.OUTER_GROUP)
            with m.Else():
                with m.If(~begins_node | nothing_behind | (Const(0) if by_length else at_end & was_ended)):
                    expect(following, coming)
                    go(State.NEXT)
                # Where only the packet's end ends a message, one has to wait and see whether something follows.
                with m.Elif(Const(1) if by_length else ~at_end):
                    with m.If(coming_is_group):
                        go(State.DIMENSION)
                    with m.Else():
                        go(State.DATA_LENGTH)
                with m.Else():
                    go(State.NEXT)

        def go_on_soon():
            """The same, as early as what is behind is known."""
            if by_length:
                with m.If(settled):
                    go_on()
                with m.Else():
                    go(State.NEXT)
            else:
                go(State.NEXT)

        # Operands are sought when their block begins, and read as long as it comes in; or until no more bytes can be kept.
        early = Signal()
        in_block = is_in(State.ROOT, State.ENTRY)
        seeks_operands = advance & (
            is_in(State.ROOT_FOUND, State.GROUP, State.OUTER_ENTRY) | (state[State.ENTRY] & reached)
        )
        with m.If(advance):
            with m.If(~in_block | reached):
                m.d.sync += early.eq(0)
            with m.Elif(history.half & settled_twice & (after >= 0)):
                m.d.sync += early.eq(1)
        for n, operand in enumerate(self.operands, self._control_ports):
            offsets = [
                operand.begin(operand.reads[index], schema.byte_order) if index in operand.reads else None
                for index in range(len(plans))
            ]
            by_node = [offsets[node.block] if node.is_group else None for node in nodes]
            by_template = [offsets[index] for index in self._nodes.root_block]
            for name, further in (("place", 0), ("beyond", LANES)):
                width = history.port_bits
                of_entry, of_root = Signal(width, name=f"of_entry{n}"), Signal(width, name=f"of_root{n}")
                with m.If(is_in(State.DIMENSION, State.OUTER_FOUND)):
                    values = [None if offset is None else offset + further for offset in by_node]
                    m.d.sync += of_entry.eq(look_up(m, coming, values, width, f"by_node{n}"))
                values = [None if offset is None else offset + further for offset in by_template]
                m.d.comb += of_root.eq(look_up(m, template, values, width, f"by_template{n}"))
                if all(offset is None for offset in by_template):
                    its_place = end + of_entry
                elif all(offset is None for offset in by_node):
                    its_place = begin + of_root
                else:
                    at_root = state[State.ROOT_FOUND]
                    its_place = Mux(at_root, begin, end)[:width] + Mux(at_root, of_root, of_entry)
                m.d.comb += getattr(history, f"{name}{n}").eq(its_place)
            m.d.comb += getattr(history, f"seek{n}").eq(seeks_operands)
            self._capture(m, history, n, operand, advance & in_block & ~early, block)

        # What is jumped over need not be kept; what comes behind it must be.
        jumping = early | (state[State.DATA] & (after >= 0)) | (state[State.SKIP_MESSAGE] & by_length)
        m.d.comb += [
            history.needed.eq(Mux(jumping, end, begin)),
            history.unneeded.eq(state[State.SKIP_PACKET] | (is_in(State.SKIP_MESSAGE, State.REST) & (not by_length))),
        ]

        finishing, skips_message = Signal(), Signal()

        landing = Signal.like(state)

        def jump(to: State):
            """Move the element's end by ``rest``, and go on."""
            m.d.sync += [landing.eq(1 << to), takes_coming.eq(0)]
            go(State.JUMP)

        def skip_to_packet_end(its_state: State):
            with m.If(was_ended & settled):
                m.d.sync += skips_message.eq(its_state is State.SKIP_MESSAGE)
                jump(State.MESSAGE_END if by_length else State.CHECK_LENGTH)
            with m.Else():
                go(its_state)

        def read_packet_header():
            if framing.packet_sequence is not None:
                value = number(framing.packet_sequence, framing.byte_order, found_bytes, framing.packet_sequence.offset)
                m.d.sync += [packet_sequence.eq(value), sequence.eq(value)]
            m.d.sync += start.eq(end)
            go(State.PREFIX)

        def read_prefix():
            if framing.message_sequence is not None:
                m.d.sync += sequence.eq(number(framing.message_sequence, framing.byte_order, found_bytes))
            message_begin = end + (framing.message_size - waited)
            go(State.HEADER)
            m.d.sync += start.eq(message_begin)
            if framing.message_size != waited:
                m.d.sync += begin.eq(message_begin)

        declared = Const(MESSAGE_LIMIT) if framing.length is None else number(framing.length, framing.byte_order)
        excess = 0 if framing.length is None else framing.length_excess
        m.d.comb += [counted.eq(state[State.HEADER]), length_there.eq(declared)]

        # Why the message's length can't be one; holds in the cycle behind one in which ``word`` is the prefix.
        prefix_flags, prefix_bad = Signal(16), Signal()
        wrong = []
        if by_length:
            wrong += [
                (declared < header.size + excess, Flag.LENGTH),
                (declared > MESSAGE_LIMIT + excess, Flag.TOO_LONG),
            ]
        if framing.magic is not None:
            wrong.append((number(framing.magic, framing.byte_order) != framing.magic_value, Flag.GARBAGE))
        with m.If(state[State.HEADER]):
            m.d.sync += prefix_bad.eq(reduce(or_, (condition for condition, _ in wrong), Const(0)))
            for condition, cause in wrong:
                with m.If(condition):
                    m.d.sync += prefix_flags.eq(cause)

        def fail_prefix():
            m.d.sync += [flags.eq(prefix_flags), failed.eq(1)]
            go(State.SKIP_PACKET)

        known, ours = Signal(), Signal()

        def read_header():
            template_id = in_header(header.template_id)
            its_known, its_template = Signal(), Signal.like(template)
            with m.Switch(template_id):
                for index, plan in enumerate(templates):
                    if plan.message.id < 1 << len(template_id):
                        with m.Case(plan.message.id):
                            m.d.comb += [its_known.eq(1), its_template.eq(index)]
            its_ours = in_header(header.schema_id) == schema.id
            m.d.sync += [
                message_type.eq(template_id),
                *(is_older.eq(in_header(header.version) < since) for since, is_older in older.items()),
                block_length[0].eq(in_header(header.block_length)),
                template.eq(its_template),
                known.eq(its_known & its_ours),
                ours.eq(its_ours),
                takes_coming.eq(1),
            ]
            go(State.ROOT_FOUND)

        def find_root():
            m.d.sync += block.eq(look_up(m, template, self._nodes.root_block, len(block), "root_block"))
            expect(self._nodes.first, template)
            go(State.ROOT)

        def take_root():
            with m.If(finishing):
                m.d.comb += step.has_frame.eq(1)
            with m.Else():
                go_on_soon()

        def layouts_of(is_group: bool) -> dict[tuple[Slot, ...], int]:
            """The layouts of dimensions, or of lengths of var data, numbered."""
            slots = dict.fromkeys(node.slots for node in nodes if node.is_group == is_group)
            return {each: n for n, each in enumerate(slots)}

        def each_layout(layouts: dict[tuple[Slot, ...], int], name: str):
            """A case for each layout that the node may have that comes, in the cycle behind; yields it."""
            layout = Signal(range_bits(len(layouts)), name=name)
            numbers = [layouts.get(node.slots) for node in nodes]
            m.d.sync += layout.eq(look_up(m, coming, numbers, len(layout), f"{name}_of_coming"))
            with m.Switch(layout):
                for slots, n in layouts.items():
                    with m.Default() if n == len(layouts) - 1 else m.Case(n):
                        yield slots

        dimensions = layouts_of(is_group=True)
        entry_length, entry_count = Signal(16), Signal(32)
        for slots in each_layout(dimensions, "dimension_layout"):
            of_length, of_count = (number(slot, schema.byte_order) for slot in slots)
            m.d.comb += [entry_length.eq(of_length), entry_count.eq(of_count)]

        def read_dimension():
            inside = of_group(lambda node: node.inside, 1, "coming_has_inside", coming)
            there = entry_count != 0
            expect([node.first if node.inside else node.following for node in nodes], coming)
            repeated = (entry_count[1:] != 0) & ~inside
            m.d.sync += [group.eq(coming), repeats.eq(repeated), takes_coming.eq(~repeated)]
            for level in each_level(level_of_coming):
                m.d.sync += [
                    block_length[level].eq(entry_length),
                    entries[level].eq(Mux(entry_count[COUNT_BITS:].any(), (1 << COUNT_BITS) - 1, entry_count)),
                    last_entry[level].eq(entry_count == 1),
                ]
            with m.If(~there):
                expect(following, coming)
                m.d.sync += repeats.eq(0)
                go(State.NEXT)
            with m.Elif((entry_length == 0) & ~inside):
                fail(Flag.LENGTH)
            with m.Else():
                m.d.sync += block.eq(block_of_coming)
                go(State.ENTRY)

        flat = of_group(lambda node: node.depth == 0, 1, "group_is_flat")
        inside = of_group(lambda node: node.inside, 1, "group_has_inside")

        def next_entry():
            """Begin the group's next entry."""
            for level in each_level(level_of_group):
                m.d.sync += [entries[level].eq(entries[level] - 1), last_entry[level].eq(entries[level] == 2)]
                m.d.sync += [repeats.eq(entries[level] != 2), takes_coming.eq(entries[level] == 2)]
            go(State.ENTRY)

        def take_entry():
            for level in each_level(level_of_group):
                m.d.sync += block_offset[level].eq(step.entry_offset)
            with m.If(at_limit):
                fail(Flag.TOO_LONG)
            with m.Else():
                m.d.comb += step.has_frame.eq(1)
                m.d.sync += [frames.eq(frames + 1), no_frames.eq(0), at_limit.eq(frames == ENTRY_LIMIT - 2)]
                with m.If(~(last | inside)):
                    next_entry()
                with m.Elif(~finishing):
                    go_on_soon()

        def outer_entry():
            with m.If(last):
                expect(following, group)
                go(State.NEXT)
            with m.Else():
                expect([node.first for node in nodes], group)
                next_entry()
            m.d.sync += [repeats.eq(0), takes_coming.eq(1)]

        lengths = layouts_of(is_group=False)
        data_length = Signal(16)
        for (slot,) in each_layout(lengths, "data_layout"):
            size = number(slot, schema.byte_order)
            m.d.comb += data_length.eq(Mux(size[16:].any(), 0xFFFF, size))

        def read_data_length():
            expect(following, coming)
            m.d.sync += takes_coming.eq(1)
            with m.If(data_length == 0):
                go(State.NEXT)
            with m.Else():
                go(State.DATA)

        held = Signal(bits)
        too_long = Signal()
        m.d.comb += [held.eq(end - start), too_long.eq(held > MESSAGE_LIMIT)]

        with m.If(is_in(State.REST, State.SKIP_PACKET)):
            m.d.sync += repeats.eq(0)
        # What each state decides.
        with m.If(advance):
            with m.If(state[State.PACKET_HEADER]):
                await_element(State.PACKET_HEADER, read_packet_header, overruns=False, always_truncated=True)
            with m.If(state[State.PREFIX]):
                with m.If(reached):
                    read_prefix()
                with m.Elif(settled & was_ended):
                    with m.If(at_begin):
                        go(State.PACKET_END)
                    with m.Else():
                        fail(Flag.TRUNCATED, State.SKIP_PACKET)
                with m.Else():
                    go(State.PREFIX)
            with m.If(state[State.HEADER]):
                with m.If(settled & prefix_bad):
                    fail_prefix()
                with m.Elif(reached):
                    go(State.TEMPLATE)
                with m.Elif(settled & cut):
                    fail_cut(always_truncated=True)
                with m.Else():
                    go(State.HEADER)
            with m.If(state[State.TEMPLATE]):
                with m.If(prefix_bad):
                    fail_prefix()
                with m.Else():
                    read_header()
            with m.If(state[State.ROOT_FOUND]):
                with m.If(known):
                    find_root()
                with m.Else():
                    fail(Flag.TEMPLATE)
                    if not by_structure:
                        m.d.sync += unknown.eq(ours)
            with m.If(state[State.ROOT]):
                await_element(State.ROOT, take_root)
            with m.If(state[State.NEXT]):
                with m.If(finishing):
                    m.d.comb += step.has_frame.eq(no_frames)
                with m.Else():
                    go_on()
            if dimensions:
                with m.If(state[State.DIMENSION]):
                    m.d.sync += takes_coming.eq(0)
                    await_element(State.DIMENSION, lambda: go(State.GROUP))
                with m.If(state[State.GROUP]):
                    read_dimension()
                with m.If(state[State.ENTRY]):
                    await_element(State.ENTRY, take_entry)
            if nested:
                with m.If(state[State.OUTER_GROUP]):
                    # Where the operands stand is looked up by the node that comes.
                    m.d.sync += coming.eq(group)
                    go(State.OUTER_FOUND)
                with m.If(state[State.OUTER_FOUND]):
                    m.d.sync += [block.eq(block_of_coming), repeats.eq(~last), takes_coming.eq(0)]
                    go(State.OUTER_ENTRY)
                with m.If(state[State.OUTER_ENTRY]):
                    outer_entry()
            if lengths:
                with m.If(state[State.DATA_LENGTH]):
                    m.d.sync += takes_coming.eq(0)
                    await_element(State.DATA_LENGTH, lambda: go(State.DATA_FOUND))
                with m.If(state[State.DATA_FOUND]):
                    read_data_length()
                with m.If(state[State.DATA]):
                    await_element(State.DATA, go_on_soon)
            with m.If(state[State.REST]):
                if by_length:
                    jump(State.SKIP_MESSAGE)
                else:
                    go(State.SKIP_MESSAGE)
            with m.If(state[State.JUMP]):
                m.d.comb += next_state.eq(landing)
                m.d.sync += fixed.eq(waited)
            with m.If(state[State.SKIP_MESSAGE]):
                if by_length:
                    with m.If(reached):
                        go(State.MESSAGE_END)
                    with m.Elif(was_ended & settled):
                        # Whatever was wrong before, the message's only cause is now that it was cut.
                        m.d.sync += [failed.eq(1), flags.eq(Flag.TRUNCATED), unknown.eq(0)]
                        jump(State.MESSAGE_END)
                    with m.Else():
                        go(State.SKIP_MESSAGE)
                else:
                    skip_to_packet_end(State.SKIP_MESSAGE)
            with m.If(state[State.SKIP_PACKET]):
                skip_to_packet_end(State.SKIP_PACKET)
            with m.If(state[State.CHECK_LENGTH]):
                if by_structure:
                    with m.If(too_long & (flags == Flag.TRUNCATED)):
                        m.d.sync += flags.eq(Flag.TOO_LONG)
                elif not by_length:
                    with m.If(too_long & skips_message):
                        m.d.sync += [failed.eq(1), flags.eq(Flag.TOO_LONG), unknown.eq(0)]
                go(State.MESSAGE_END)
            with m.If(state[State.MESSAGE_END]):
                m.d.comb += step.has_frame.eq(failed | no_frames)
            with m.If(finishing):
                m.d.sync += [failed.eq(0), unknown.eq(0), flags.eq(0), message_type.eq(0), takes_coming.eq(0)]
                m.d.sync += [frames.eq(0), no_frames.eq(1), at_limit.eq(0), start.eq(end), sequence.eq(packet_sequence)]
                with m.If(settled & at_end & was_ended):
                    go(State.PACKET_END)
                with m.Else():
                    go(State.PREFIX)
            with m.If(state[State.PACKET_END]):
                m.d.sync += [begin.eq(history.next_origin), start.eq(history.next_origin)]
                go(State.PACKET_BEGIN)
            with m.If(state[State.PACKET_BEGIN]):
                go(State.CATCH_UP)
            with m.If(state[State.CATCH_UP]):
                go(State.PACKET_HEADER)
        # Like a reset, so that it costs nothing in front of the registers.
        with m.If(advance & state[State.PACKET_END]):
            m.d.comb += history.next_packet.eq(1)
            m.d.sync += [end.eq(framing.packet_size), lacking.eq(framing.packet_size - 1), after.eq(0)]
            m.d.sync += [packet_sequence.eq(0), sequence.eq(0), settled.eq(0)]

        from_word: dict[tuple[Slot, ...], tuple[list[State], Any]] = {}
        from_header = header.block_length._replace(offset=header.block_length.offset - self._header_begin)
        for its_state, places_of_length, read in (
            (State.TEMPLATE, [from_header], in_header(header.block_length)),
            (State.GROUP, [each[0] for each in dimensions], entry_length),
            (State.DATA_FOUND, [each[0] for each in lengths], data_length),
        ):
            if places_of_length:
                from_word.setdefault(tuple(dict.fromkeys(places_of_length)), ([], read))[0].append(its_state)
        begins = begins_node & ~nothing_behind if by_length else begins_node & ~nothing_behind & ~at_end
        is_last = nothing_behind & by_length
        soon = settled & by_length
        # Nothing can be behind an element that is too long; so these do not depend on whether it is.
        ends_group = state[State.ENTRY] & soon & is_last & last & flat
        ends_walk = state[State.NEXT] & is_last & coming_is_flat
        m.d.comb += finishing.eq(
            state[State.MESSAGE_END]
            | ends_walk
            | (reached & ((state[State.ROOT] & is_last) | (ends_group & ~at_limit)))
        )
        m.d.comb += moves.eq(
            comes_in(State.TEMPLATE, State.JUMP, State.MESSAGE_END, name="moves_anyhow")
            | (state[State.GROUP] & (entry_count != 0))
            | (state[State.OUTER_ENTRY] & ~last)
            | (state[State.DATA_FOUND] & (data_length != 0))
            | ends_walk
            | (state[State.NEXT] & begins)
            | (reached & is_in(State.PACKET_HEADER, State.PREFIX))
            | (reached & state[State.ROOT] & (soon & begins | is_last))
            | (reached & ((state[State.ENTRY] & (repeats | (soon & begins))) | ends_group))
            | (reached & state[State.DATA] & soon & begins)
        )
        coming_length = Mux(is_last, waited, coming_size)  # of the next message's prefix, or of what comes
        read_lengths = []
        for n, (states, read) in enumerate(from_word.values()):
            read_lengths.append(Mux(comes_in(*states, name=f"takes_word{n}"), read, 0))
        m.d.comb += grow.eq(
            reduce(or_, read_lengths)
            | Mux(repeats, length, 0)
            | Mux(comes_in(State.JUMP, State.PACKET_BEGIN, State.CATCH_UP, name="takes_rest"), rest, 0)
            | Mux(takes_coming, coming_length, fixed)
        )

        # What ``reaches``: a block of what length has each field.
        for bit, need in enumerate(self.needs):
            name, part = need
            needed = [on_wire(plan.sources[name]).get(part) if name in plan.sources else None for plan in plans]
            for level in sorted({value.level for value in needed if value is not None}):
                ends = [value.end if value is not None and value.level == level else None for value in needed]
                least = look_up(m, block, ends, 16, f"least{bit}_{level}")
                with m.Switch(block):
                    with m.Case(*(index for index, end in enumerate(ends) if end is not None)):
                        m.d.comb += step.reaches[bit].eq(block_length[level] >= least)

        # The block at hand, or the message's end. A packet ends where its next message would begin.
        position = Signal(POSITION_BITS)
        m.d.comb += [
            position.eq(history.base + start),
            step.block.eq(block),
            step.failed.eq(failed),
            step.unknown.eq(unknown),
            step.flags.eq(Mux(at_limit, Flag.TOO_LONG, flags) | Mux(history.fragment, Flag.FRAGMENT, 0)),
            step.message_type.eq(message_type),
            step.sequence.eq(sequence),
            step.timestamp.eq(history.timestamp),
            step.entry_offset.eq(Mux(state[State.ENTRY], begin - start, 0)),
            step.message.flow.eq(history.flow),
            step.message.start.eq(position),
            step.message.length.eq(Mux(state[State.PACKET_END], 0, held)),
            step.message.frames.eq(Mux(step.has_frame, frames + 1, frames)),
            step.message.packet_end.eq(state[State.PACKET_END]),
            step.message.release.eq(position),
            step.has_message.eq(finishing | state[State.PACKET_END]),
            step.offsets[0].eq(header.size),
            *(
                step.offsets[each].eq(
                    Mux(state[State.ENTRY] & (level_of_group == each), step.entry_offset, block_offset[each])
                )
                for each in range(1, levels)
            ),
        ]
        with m.If(advance):
            m.d.sync += [self.valid.eq(step.has_frame | step.has_message), self.step.eq(step)]
        return m

    def _capture(self, m, history: PacketHistory, port: int, operand: Operand, reads, block):
        """The operand's bytes for the step: those of the block at hand, or those that an outer one had."""
        number = port - self._control_ports
        found, captured = getattr(history, f"bytes{port}"), getattr(self, f"bytes{number}")
        with m.If(reads):
            m.d.sync += captured.eq(found)
            for level in operand.outer_levels(self.plans):
                kept = Signal.like(found, name=f"kept{number}_{level}")
                with m.Switch(block):
                    with m.Case(*(index for index in operand.reads if self.plans[index].level == level)):
                        m.d.sync += kept.eq(found)
                    with m.Case(
                        *(
                            index
                            for index, value in operand.uses.items()
                            if value.level == level and self.plans[index].level > level
                        )
                    ):
                        m.d.sync += captured.eq(kept)


def range_bits(count: int) -> int:
    """Bits of a number below ``count``, at least one."""
    return max((count - 1).bit_length(), 1)
