"""What was taken from the FIX messages of one flow, kept in registers, and made into frames."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import MISSING_BITS, POSITION_BITS, Parsed
from hdl.block_ram import BlockRam
from hdl.fix_facts import KIND_BITS, TAKEN_TAGS
from hdl.fix_frames import CHARACTERS, NUMBERS, OFFSETS, Number
from hdl.fix_messages import FLAG_BITS, OFFSET_BITS, SLOTS, SPAN_BITS, Step
from hdl.fix_tags import MSG_TYPE_TAG, ORDER_QTY_TAG, PRICE_TAG, SYMBOL_TAG
from hdl.frame import MALFORMED_FLAGS, Flag, Kind

Span = data.StructLayout(
    {
        "written": 1, "gap": 1, "malformed": 1, "entries": 1, "flags": FLAG_BITS, "start": POSITION_BITS,
        "release": POSITION_BITS, "length": SPAN_BITS, "slot": range(SLOTS), "missing": MISSING_BITS, "packet_end": 1,
    }
)  # fmt: skip
"""A step that is to be told. ``missing`` is 0 where there is no ``gap``."""

Taken = data.StructLayout(
    {
        **dict.fromkeys(CHARACTERS.values(), 8),
        **dict.fromkeys(OFFSETS.values(), OFFSET_BITS),
        "symbol": OFFSET_BITS,
        "instrument": 64,
        "message_type": 16,
        "kind": unsigned(KIND_BITS),
        "price": 64,
        "quantity": 64,
        "sequence": 32,
        "bad": 1,
        "range": 1,
    }
)
"""What a message has given so far. ``bad`` and ``range``: one of its numbers is that."""


class OneFlowBuilder(wiring.Component):
    """Steps of one flow, a byte each, to frames: :class:`hdl.fix_frames.FrameBuilder` for FPGAs with few cells.

    A step is taken where ``advance`` is high, which is to wait for ``ready``; a frame or a packet's end is valid ``LATENCY`` cycles
    behind its step. ``number`` is that of the step's field.

    A field that is taken stands behind two others of its message at least, so what was taken can be cleared with the frame that it
    is in: registers that hold one message are enough.
    """

    LATENCY = 2

    advance: In(1)
    valid: In(1)
    step: In(Step)
    number: In(Number)
    ready: Out(1)
    o: Out(stream.Signature(Parsed))

    def elaborate(self, platform):
        m = Module()
        step, one = self.step, self.step.one
        takes = dict(zip(TAKEN_TAGS, one.takes, strict=True))
        seen = dict(zip(TAKEN_TAGS, step.seen, strict=True))
        span, read = Signal(Span), Signal()
        leaves = Signal()
        moves = Signal()
        m.d.comb += [
            moves.eq(self.advance & self.valid),
            leaves.eq(self.o.valid & self.o.ready),
            self.ready.eq(~read & (~self.o.valid | self.o.ready)),
        ]

        # What is taken; a number that is none leaves 0.
        taken = Signal(data.StructLayout(Taken.members), init={"kind": Kind.OTHER})
        good_number = ~self.number.bad & ~self.number.range

        def take(tag, condition=1, **values):
            with m.If(moves & takes[tag] & condition):
                m.d.sync += [taken[name].eq(value) for name, value in values.items()]

        for tag, name in CHARACTERS.items():
            take(tag, **{name: one.characters})
        for tag, name in OFFSETS.items():
            take(tag, **{name: one.offset})
        take(SYMBOL_TAG, symbol=one.offset, instrument=one.crc)
        take(MSG_TYPE_TAG, message_type=one.characters, kind=one.kind)
        for tag, name in NUMBERS.items():
            take(tag, good_number, **{name: self.number.value})
            take(tag, bad=taken.bad | self.number.bad, range=taken.range | self.number.range)
        with m.If(leaves & span.written):
            m.d.sync += taken.eq(taken.shape().const({"kind": Kind.OTHER}))

        # The packet's time is written a cycle before that of the span is read.
        m.submodules.times = times = BlockRam(64, SLOTS)
        m.d.comb += [
            times.advance.eq(1),
            times.row.eq(step.slot),
            times.writes.eq(moves),
            times.value.eq(step.timestamp),
            times.read_row.eq(span.slot),
        ]
        tells = moves & (step.written | step.packet_end)
        m.d.sync += read.eq(tells)
        with m.If(leaves):
            m.d.sync += self.o.valid.eq(0)
        with m.If(read):
            m.d.sync += self.o.valid.eq(1)
        malformed = Signal()
        m.d.comb += malformed.eq(~step.complete | (step.flags & MALFORMED_FLAGS).any())
        with m.If(tells):
            m.d.sync += [
                span.malformed.eq(malformed),
                span.entries.eq(step.entries & ~malformed),
                span.flags.eq(
                    step.flags
                    | Mux(seen[PRICE_TAG], 0, Flag.PRICE_ABSENT)
                    | Mux(seen[ORDER_QTY_TAG], 0, Flag.QUANTITY_ABSENT)
                ),
                span.length.eq(Mux(step.written, step.release - step.start, 0)),
                span.slot.eq(step.span_slot),
                span.missing.eq(Mux(step.gap, step.missing, 0)),
                *(span[name].eq(step[name]) for name in ("written", "gap", "start", "release", "packet_end")),
            ]

        out = self.o.payload
        frame, message = out.frame, out.message
        m.d.comb += [
            out.has_frame.eq(span.written),
            out.has_message.eq(1),
            frame.timestamp.eq(times.read),
            frame.kind.eq(
                Mux(span.gap, Kind.GAP, Mux(span.malformed | taken.bad | taken.range, Kind.MALFORMED, taken.kind))
            ),
            frame.flags.eq(span.flags | Mux(taken.bad, Flag.VALUE, 0) | Mux(taken.range, Flag.RANGE, 0)),
            frame.sequence.eq(Mux(span.gap, span.missing, taken.sequence)),
            *(
                frame[name].eq(taken[name])
                for name in (
                    *CHARACTERS.values(), *OFFSETS.values(), "symbol", "instrument", "message_type", "price", "quantity",
                )
            ),
            message.frames.eq(span.written),
            message.entries.eq(span.entries & ~taken.bad & ~taken.range),
            *(message[name].eq(span[name]) for name in ("start", "length", "packet_end", "release")),
        ]  # fmt: skip
        return m
