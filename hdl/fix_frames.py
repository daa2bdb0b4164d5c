"""What was taken from FIX messages, kept a flow, and made into frames."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import MISSING_BITS, POSITION_BITS, Parsed
from hdl.block_ram import BlockRam
from hdl.fix_facts import KIND_BITS, TAKEN_BITS, TAKEN_TAGS
from hdl.fix_messages import FLAG_BITS, OFFSET_BITS, SECOND_TEXT, SLOTS, SPAN_BITS, Step
from hdl.fix_tags import (
    ACCOUNT_TAG,
    CL_ORD_ID_TAG,
    MSG_SEQ_NUM_TAG,
    MSG_TYPE_TAG,
    ORD_TYPE_TAG,
    ORDER_QTY_TAG,
    ORIG_CL_ORD_ID_TAG,
    PRICE_TAG,
    SIDE_TAG,
    SYMBOL_TAG,
    TIME_IN_FORCE_TAG,
)
from hdl.frame import MALFORMED_FLAGS, PRICE_DECIMALS, QUANTITY_DECIMALS, Flag, Kind
from hdl.limits import FLOWS

OFFSETS = {
    CL_ORD_ID_TAG: "client_order_id",
    ORIG_CL_ORD_ID_TAG: "original_order_id",
    ACCOUNT_TAG: "account",
}
"""Tags that the frame only points to."""

CHARACTERS = {SIDE_TAG: "side", ORD_TYPE_TAG: "order_type", TIME_IN_FORCE_TAG: "time_in_force"}
"""Tags of one character."""

NUMBERS = {PRICE_TAG: "price", ORDER_QTY_TAG: "quantity", MSG_SEQ_NUM_TAG: "sequence"}

Symbol = data.StructLayout({"offset": OFFSET_BITS, "crc": 64})
MessageType = data.StructLayout({"characters": 16, "kind": unsigned(KIND_BITS)})
Number = data.StructLayout({"value": 64, "bad": 1, "range": 1})

PAGES = 2
"""Rows a flow."""

SECOND_BITS = {
    PRICE_TAG: (10 ** (SECOND_TEXT + PRICE_DECIMALS)).bit_length(),
    ORDER_QTY_TAG: (10 ** (SECOND_TEXT + QUANTITY_DECIMALS)).bit_length(),
    MSG_SEQ_NUM_TAG: (10**SECOND_TEXT).bit_length(),
}
"""Bits that a second field's number may have, for its text is short; those above are a price's sign."""

Row = data.StructLayout({"page": 1, "flow": range(FLOWS)})

Read = data.StructLayout(
    {
        "row": Row, "same_row": 1, "gave_one": len(NUMBERS), "gave_two": len(NUMBERS), "written": 1, "complete": 1,
        "gap": 1, "entries": 1, "flags": FLAG_BITS, "start": POSITION_BITS, "release": POSITION_BITS,
        "seen": TAKEN_BITS, "span_slot": range(SLOTS), "missing": MISSING_BITS, "packet_end": 1,
    }
)  # fmt: skip
"""A step whose span is being read. ``same_row``: it is of the same row as the step before. ``gave_one`` and ``gave_two``: which of
``NUMBERS`` its fields gave. ``missing`` is 0 where there is no ``gap``."""

Built = data.StructLayout(
    {
        "row": Row, "gave_one": len(NUMBERS), "gave_two": len(NUMBERS), "written": 1, "gap": 1, "entries": 1,
        "flags": FLAG_BITS, "kind": unsigned(KIND_BITS), "start": POSITION_BITS, "release": POSITION_BITS,
        "length": SPAN_BITS, "missing": MISSING_BITS, "packet_end": 1,
    }
)  # fmt: skip
"""A step whose span has been read. ``kind`` has not the one of its MsgType, and neither it nor ``flags`` and ``entries`` have what the
numbers say."""


class FrameBuilder(wiring.Component):
    """Steps to frames. Latency ``LATENCY`` steps, one a step.

    What fields of the body give is written to its place a flow and page as it comes, and read when their message ends. Pages
    differ from message to message, so no row is read in the step in which it is written. The converters of the ``numbers``
    run beside, so that their results come with the last stage; those of a beat of several steps with its first one, and
    no other takes a number. One that came in the step with which its message ended, or in the one before, has not been written
    when the others are read, and goes by.

    What is not a part of the frame is read as 0, and so is a number that goes by. So a value is the OR of where it may be.
    """

    LATENCY = 3

    valid: In(1)
    step: In(Step)
    numbers: In(data.ArrayLayout(Number, 2))
    advance: Out(1)
    o: Out(stream.Signature(Parsed))

    def __init__(self, flows: int = FLOWS):
        self._flows = flows
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        advance, step = self.advance, self.step
        m.d.comb += advance.eq(~self.o.valid | self.o.ready)

        # ---- Stage 1: what the fields gave is written, and the beat's timestamp.
        row = Signal(Row)
        times = self._ram(m, "times", 64, SLOTS)
        m.d.comb += [
            row.page.eq(step.page),
            row.flow.eq(step.flow),
            times.row.eq(Cat(step.slot, step.flow)),
            times.writes.eq(self.valid),
            times.value.eq(step.timestamp),
        ]
        stores = self._store_fields(m, row)
        second, second_valid = Signal(Read, reset_less=True), Signal()
        number_bits = [TAKEN_TAGS.index(tag) for tag in NUMBERS]
        with m.If(advance):
            m.d.sync += [
                second_valid.eq(self.valid),
                second.row.eq(row),
                second.same_row.eq(row == second.row),
                second.gave_one.eq(Cat(self.valid & step.one.takes[bit] for bit in number_bits)),
                second.gave_two.eq(Cat(self.valid & step.two.takes[bit] for bit in number_bits)),
                second.missing.eq(Mux(step.gap, step.missing, 0)),
                *(
                    second[name].eq(step[name])
                    for name in (
                        "written", "complete", "gap", "entries", "flags", "start", "release", "seen", "span_slot",
                        "packet_end",
                    )
                ),
            ]  # fmt: skip

        # ---- Stage 2: the span's row is read, and what is known of the frame is put together.
        third, third_shows = Signal(Built, reset_less=True), Signal()
        seen = dict(zip(TAKEN_TAGS, second.seen, strict=True))
        malformed = Signal()
        m.d.comb += [
            times.read_row.eq(Cat(second.span_slot, second.row.flow)),
            *(store.read_row.eq(second.row) for store in stores.values()),
            *(store.wanted.eq(seen[tag]) for tag, store in stores.items()),
            malformed.eq(~second.complete | (second.flags & MALFORMED_FLAGS).any()),
        ]
        with m.If(advance):
            m.d.sync += [
                third_shows.eq(second_valid & (second.written | second.packet_end)),
                third.entries.eq(second.entries & ~malformed),
                third.flags.eq(
                    second.flags
                    | Mux(seen[PRICE_TAG], 0, Flag.PRICE_ABSENT)
                    | Mux(seen[ORDER_QTY_TAG], 0, Flag.QUANTITY_ABSENT)
                ),
                third.kind.eq(
                    Mux(second.gap, Kind.GAP, Mux(malformed, Kind.MALFORMED, Mux(seen[MSG_TYPE_TAG], 0, Kind.OTHER)))
                ),
                third.length.eq(Mux(second.written, second.release - second.start, 0)),
                *(
                    third[name].eq(second[name])
                    for name in (
                        "row", "gave_one", "gave_two", "written", "gap", "start", "release", "missing", "packet_end",
                    )
                ),
            ]  # fmt: skip

        # ---- Stage 3: the frame. The converters' results are written as they come.
        numbers = {
            name: self._number(m, tag, bit, second, seen[tag], third) for bit, (tag, name) in enumerate(NUMBERS.items())
        }
        bad, beyond = Signal(), Signal()
        out = Signal(Parsed)
        frame, message = out.frame, out.message
        # MALFORMED has all bits, so it wins over a MsgType's kind; GAP has all but one.
        m.d.comb += [
            bad.eq(Cat(number.bad for number in numbers.values()).any()),
            beyond.eq(Cat(number.range for number in numbers.values()).any()),
            out.has_frame.eq(third.written),
            out.has_message.eq(third.written | third.packet_end),
            frame.timestamp.eq(times.read),
            frame.flow.eq(third.row.flow),
            frame.kind.eq(
                (stores[MSG_TYPE_TAG].read.kind | third.kind | (bad | beyond).replicate(KIND_BITS))
                & Mux(third.gap, Kind.GAP, Kind.MALFORMED)
            ),
            frame.flags.eq(third.flags | Mux(bad, Flag.VALUE, 0) | Mux(beyond, Flag.RANGE, 0)),
            frame.message_type.eq(stores[MSG_TYPE_TAG].read.characters),
            frame.instrument.eq(stores[SYMBOL_TAG].read.crc),
            frame.symbol.eq(stores[SYMBOL_TAG].read.offset),
            *(frame[name].eq(stores[tag].read) for tag, name in OFFSETS.items()),
            *(frame[name].eq(stores[tag].read) for tag, name in CHARACTERS.items()),
            *(frame[name].eq(number.value) for name, number in numbers.items()),
            frame.sequence.eq(Mux(third.gap, 0, numbers["sequence"].value) | third.missing),
            message.flow.eq(third.row.flow),
            message.frames.eq(third.written),
            message.entries.eq(third.entries & ~bad & ~beyond),
            *(message[name].eq(third[name]) for name in ("start", "length", "packet_end", "release")),
        ]
        payload = Signal(Parsed, reset_less=True)
        m.d.comb += self.o.payload.eq(payload)
        with m.If(advance):
            m.d.sync += [self.o.valid.eq(third_shows), payload.eq(out)]
        return m

    def _ram(self, m, name, shape, rows_a_flow):
        ram = BlockRam(shape, rows_a_flow * self._flows)
        m.submodules[name] = ram
        m.d.comb += ram.advance.eq(self.advance)
        return ram

    def _store_fields(self, m, row):
        """What two fields give, but for numbers, each in a memory of its own, by tag."""
        step, stores = self.step, dict[int, BlockRam]()
        for tag, name, shape, members in (
            *((tag, name, 8, ("characters",)) for tag, name in CHARACTERS.items()),
            *((tag, name, OFFSET_BITS, ("offset",)) for tag, name in OFFSETS.items()),
            (SYMBOL_TAG, "symbol", Symbol, ("offset", "crc")),
            (MSG_TYPE_TAG, "message_type", MessageType, ("characters", "kind")),
        ):
            index = TAKEN_TAGS.index(tag)
            one, two = step.one.writes[index], step.two.writes[index]
            store = stores[tag] = self._ram(m, name, shape, PAGES)
            m.d.comb += [
                store.row.eq(row),
                store.writes.eq(self.valid & (one | two)),
                store.value.eq(
                    Mux(one, Cat(step.one[each] for each in members), Cat(step.two[each] for each in members))
                ),
            ]
        return stores

    def _number(self, m, tag, bit, second, seen, third):
        """The number that the span of ``third`` has, from memory, from the step before or from its own one."""
        one, two = self.numbers
        gave_one, gave_two = third.gave_one[bit], third.gave_two[bit]
        store = self._ram(m, NUMBERS[tag], Number, PAGES)
        came, before, own, number = (
            Signal(Number, name=f"{NUMBERS[tag]}_{name}", reset_less=True) for name in ("came", "before", "own", "is")
        )
        bits, sign = SECOND_BITS[tag], two.value[-1] if tag == PRICE_TAG else Const(0, 1)
        passes = (gave_one | gave_two) & second.same_row
        m.d.comb += [
            came.eq(one),
            store.row.eq(third.row),
            store.writes.eq(gave_one | gave_two),
            store.value.eq(came),
            store.read_row.eq(second.row),
            store.wanted.eq(seen & ~second.gave_one[bit] & ~passes),
            own.eq(Mux(gave_one, one.as_value(), 0)),
            number.eq(store.read.as_value() | before.as_value() | own.as_value()),
        ]
        with m.If(gave_two):
            m.d.comb += came.eq(Cat(two.value[:bits], sign.replicate(64 - bits), two.bad, two.range))
        with m.If(self.advance):
            m.d.sync += before.eq(Mux(passes, came.as_value(), 0))
        return number
