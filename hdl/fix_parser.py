"""FIX tag=value messages to frames, eight bytes a cycle (docs/fix.md)."""

import enum

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import POSITION_BITS, Parsed, PayloadBeat
from hdl.fix_tags import (
    ACCOUNT_TAG,
    BODY_LENGTH_TAG,
    CHECK_SUM_FIELD_BYTES,
    CHECK_SUM_TAG,
    CL_ORD_ID_TAG,
    KIND_OF_MSG_TYPE,
    MOST_LENGTH_DIGITS,
    MOST_TAG_DIGITS,
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
from hdl.fix_tokenizer import NUMBER_CHARACTERS, FieldBeat, Tokenizer
from hdl.flow_state import FlowState
from hdl.frame import MALFORMED_FLAGS, PRICE_DECIMALS, QUANTITY_DECIMALS, Flag, Kind
from hdl.limits import FIELD_LIMIT, FLOWS, MESSAGE_LIMIT
from hdl.old_fixed_point import FixedPoint, Text

OFFSETS = {
    CL_ORD_ID_TAG: "client_order_id",
    ORIG_CL_ORD_ID_TAG: "original_order_id",
    SYMBOL_TAG: "symbol",
    ACCOUNT_TAG: "account",
}
CHARACTERS = {SIDE_TAG: "side", ORD_TYPE_TAG: "order_type", TIME_IN_FORCE_TAG: "time_in_force"}
NUMBERS = {MSG_SEQ_NUM_TAG: "sequence", PRICE_TAG: "price", ORDER_QTY_TAG: "quantity"}
TAKEN_TAGS = (MSG_TYPE_TAG, *OFFSETS, *CHARACTERS, *NUMBERS)
"""The tags that the frame carries."""

SEQUENCE_CHARACTERS = 10


class Phase(enum.IntEnum):
    """Which field the framing expects next."""

    SEEK = 0
    LENGTH = 1
    BODY = 2
    TRAILER = 3


Taken = data.StructLayout(
    {
        "first_seen": 1,
        "seen": len(TAKEN_TAGS),
        "message_type": 16,
        "instrument": 64,
        **dict.fromkeys(OFFSETS.values(), 16),
        **dict.fromkeys(CHARACTERS.values(), 8),
        **dict.fromkeys(NUMBERS.values(), Text),
    }
)
"""What was taken from the fields of a message's body; numbers are still text."""

Framing = data.StructLayout(
    {
        "phase": Phase,
        "start": POSITION_BITS,
        "body_end": POSITION_BITS,
        "timestamp": 64,
        "flags": 16,
        "sum": 8,
        "taken": Taken,
    }
)
"""A flow's message so far."""

Span = data.StructLayout(
    {
        "written": 1,
        "garbled": 1,
        "start": POSITION_BITS,
        "length": 16,
        "timestamp": 64,
        "flags": 16,
        "taken": Taken,
        "flow": range(FLOWS),
        "packet_end": 1,
        "release": POSITION_BITS,
    }
)
"""A message that is complete (``written``) and the end of a packet (``packet_end``), one of them or both.
``garbled`` spans are malformed whatever their flags."""


def _tag_is(token, number: int):
    """Whether a good tag has this number."""
    digits = [int(digit) for digit in reversed(str(number))]
    return (token.tag_digits == len(digits)) & Cat(token.tag[n] == d for n, d in enumerate(digits)).all()


def _value_number(token, digits: int):
    """The last ``digits`` digits of the value as a number (right only where they are digits)."""
    return sum((token.characters[n] * 10**n for n in range(digits)), Const(0))


def _are_digits(token, digits: int):
    return Cat(token.characters[n] <= 9 for n in range(digits)).all()


class Framer(wiring.Component):
    """Fields to messages: BodyLength leads. Two fields a cycle, latency 1 cycle.

    Where both fields of a beat complete a message (only after garbage) the beat takes two cycles.
    """

    i: In(stream.Signature(FieldBeat))
    o: Out(stream.Signature(Span))

    def elaborate(self, platform):
        m = Module()
        beat = self.i.payload
        m.submodules.carry = carry = FlowState(Framing)
        m.d.comb += carry.flow.eq(beat.flow)

        # The second field waits a cycle where both would write; then `halfway` is set.
        halfway = Signal()
        states = [carry.state]
        spans = []
        for k in range(2):
            state, span = self._step(m, k, states[-1], beat.fields[k], beat.fragment)
            skipped = ~beat.fields[k].valid | (halfway if k == 0 else 0)
            chosen = Signal(Framing, name=f"state{k}")
            m.d.comb += chosen.eq(Mux(skipped, states[-1].as_value(), state.as_value()))
            m.d.comb += span.written.eq(span.written_if_valid & ~skipped)
            states.append(chosen)
            spans.append(span)
        both = Signal()
        m.d.comb += both.eq(spans[0].written & spans[1].written)

        out = Signal(Span)
        chosen_span = Mux(spans[0].written, spans[0].content.as_value(), spans[1].content.as_value())
        m.d.comb += [
            out.eq(chosen_span),
            out.written.eq(spans[0].written | spans[1].written),
            out.flow.eq(beat.flow),
            out.packet_end.eq(beat.last & ~both),
            out.release.eq(states[2].start),
        ]

        advance = Signal()
        m.d.comb += [
            advance.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(advance & ~both),
            carry.next.eq(Mux(both, states[1].as_value(), states[2].as_value())),
            carry.commit.eq(advance & self.i.valid),
        ]
        with m.If(advance):
            m.d.sync += [
                self.o.valid.eq(self.i.valid & (out.written | out.packet_end)),
                self.o.payload.eq(out),
            ]
            with m.If(self.i.valid):
                m.d.sync += halfway.eq(both)
        return m

    def _step(self, m, k, state, field, fragment):
        """The framing after ``field``, and the span that the field completes."""
        token = field.token
        after = Signal(Framing, name=f"after{k}")
        span = _SpanSignals(k)
        tag_bad = token.tag_bad | ~token.in_value | (token.tag_digits == 0) | (token.tag_digits > MOST_TAG_DIGITS)

        timestamp = Mux(state.start == token.first, token.timestamp, state.timestamp)
        held = Signal(16, name=f"held{k}")
        behind = Signal(16, name=f"behind{k}")
        m.d.comb += [
            held.eq(field.end - state.start),
            behind.eq(field.end - state.body_end),
            after.eq(state),
            after.timestamp.eq(timestamp),
            after.sum.eq(state.sum + token.sum),
            span.content.start.eq(state.start),
            span.content.length.eq(held),
            span.content.timestamp.eq(timestamp),
            span.content.taken.eq(state.taken),
        ]
        fail = Signal(name=f"fail{k}")
        cause = Signal(16, name=f"cause{k}")
        take = Signal(name=f"take{k}")
        lost_length = Mux(field.unterminated, Flag.TOO_LONG, Flag.LENGTH)
        flags = Signal(16, name=f"flags{k}")
        m.d.comb += flags.eq(state.flags | cause)

        with m.Switch(state.phase):
            with m.Case(Phase.SEEK):
                m.d.comb += [fail.eq(1), cause.eq(Mux(state.flags == 0, Flag.GARBAGE, 0))]
            with m.Case(Phase.LENGTH):
                length = Signal(14, name=f"body_length{k}")
                m.d.comb += length.eq(_value_number(token, 4))
                good = (
                    ~tag_bad
                    & _tag_is(token, BODY_LENGTH_TAG)
                    & (token.value_length >= 1)
                    & (token.value_length <= MOST_LENGTH_DIGITS)
                    & _are_digits(token, MOST_LENGTH_DIGITS)
                )
                large = Cat(token.characters[n] != 0 for n in range(4, MOST_LENGTH_DIGITS)).any()
                with m.If(field.unterminated | ~good):
                    m.d.comb += [fail.eq(1), cause.eq(lost_length)]
                with m.Elif(large | (held + length + CHECK_SUM_FIELD_BYTES > MESSAGE_LIMIT)):
                    m.d.comb += [fail.eq(1), cause.eq(Flag.TOO_LONG)]
                with m.Else():
                    m.d.comb += [
                        after.body_end.eq(field.end + length),
                        after.phase.eq(Mux(length == 0, Phase.TRAILER, Phase.BODY)),
                        after.flags.eq(state.flags | Mux(length == 0, Flag.STRUCTURE, 0)),
                    ]
            with m.Case(Phase.BODY):
                with m.If(field.unterminated):
                    m.d.comb += [fail.eq(1), cause.eq(Flag.TOO_LONG)]
                with m.Elif((behind != 0) & ~behind[-1]):
                    m.d.comb += [fail.eq(1), cause.eq(Flag.LENGTH)]
                with m.Else():
                    m.d.comb += take.eq(1)
                    with m.If(behind == 0):
                        m.d.comb += after.phase.eq(Phase.TRAILER)
            with m.Case(Phase.TRAILER):
                with m.If(~tag_bad & _tag_is(token, CHECK_SUM_TAG) & ~field.unterminated):
                    matches = (token.value_length == 3) & _are_digits(token, 3)
                    matches &= _value_number(token, 3) == state.sum
                    m.d.comb += [
                        cause.eq(Mux(matches, 0, Flag.CHECKSUM)),
                        span.written_if_valid.eq(1),
                        after.phase.eq(Phase.SEEK),
                        after.start.eq(field.end),
                        after.flags.eq(0),
                        after.taken.eq(0),
                    ]
                with m.Else():
                    m.d.comb += [fail.eq(1), cause.eq(lost_length)]

        with m.If(take):
            self._take(m, k, after, state, token, tag_bad)

        with m.If(fail):
            m.d.comb += after.phase.eq(Phase.SEEK)
            with m.If(token.begin):
                m.d.comb += [
                    span.written_if_valid.eq(token.begin_position != state.start),
                    span.content.length.eq(token.begin_position - state.start),
                    after.start.eq(token.begin_position),
                    after.timestamp.eq(token.timestamp),
                    after.sum.eq(token.sum - token.sum_before_begin),
                    after.phase.eq(Mux(field.unterminated, Phase.SEEK, Phase.LENGTH)),
                    after.flags.eq(Mux(field.unterminated, Flag.TOO_LONG, 0)),
                    after.taken.eq(0),
                ]
            with m.Elif(held >= FIELD_LIMIT):
                m.d.comb += [
                    span.written_if_valid.eq(1),
                    after.start.eq(field.end),
                    after.flags.eq(0),
                    after.taken.eq(0),
                ]
            with m.Else():
                m.d.comb += after.flags.eq(flags)
        m.d.comb += [
            span.content.garbled.eq(fail),
            span.content.flags.eq(flags | Mux(fragment, Flag.FRAGMENT, 0)),
        ]
        return after, span

    @staticmethod
    def _take(m, k, after, state, token, tag_bad):
        """Takes one field of the body into ``after``."""
        taken, before = after.taken, state.taken
        usable = ~tag_bad & (token.value_length != 0)
        causes = Signal(16, name=f"take_causes{k}")
        first_wrong = ~before.first_seen & ~(usable & _tag_is(token, MSG_TYPE_TAG))
        m.d.comb += [
            taken.first_seen.eq(1),
            after.flags.eq(state.flags | causes | Mux(first_wrong, Flag.STRUCTURE, 0)),
        ]
        with m.If(tag_bad):
            m.d.comb += causes.eq(Flag.TAG)
        with m.Elif(~usable):
            m.d.comb += causes.eq(Flag.VALUE)
        for index, tag in enumerate(TAKEN_TAGS):
            with m.If(usable & _tag_is(token, tag)):
                m.d.comb += taken.seen[index].eq(1)
                with m.If(before.seen[index]):
                    m.d.comb += causes.eq(Flag.DUPLICATE_TAG)
                with m.Else():
                    if tag in OFFSETS:
                        m.d.comb += taken[OFFSETS[tag]].eq(token.value - state.start)
                        if OFFSETS[tag] == "symbol":
                            m.d.comb += taken.instrument.eq(token.crc)
                    elif tag in NUMBERS:
                        too_long = token.value_length > NUMBER_CHARACTERS
                        m.d.comb += [
                            taken[NUMBERS[tag]].characters.eq(token.characters),
                            taken[NUMBERS[tag]].length.eq(Mux(too_long, NUMBER_CHARACTERS + 1, token.value_length)),
                        ]
                    else:
                        # The CRC of one or two characters is their text, the first one on top.
                        two = token.value_length == 2
                        longest = 2 if tag == MSG_TYPE_TAG else 1
                        text = Cat(token.crc[8:16], token.crc[:8]) if tag == MSG_TYPE_TAG else token.crc[:8]
                        with m.If(token.value_length > longest):
                            m.d.comb += causes.eq(Flag.VALUE)
                        with m.Else():
                            name = "message_type" if tag == MSG_TYPE_TAG else CHARACTERS[tag]
                            m.d.comb += taken[name].eq(Mux(two, text, token.crc[:8]))


class _SpanSignals:
    """What one field says about a span: its content, and whether it is written."""

    def __init__(self, k):
        self.content = Signal(Span, name=f"span{k}")
        self.written_if_valid = Signal(name=f"written_if_valid{k}")
        self.written = Signal(name=f"written{k}")


class FrameBuilder(wiring.Component):
    """Spans to frames: numbers are converted, kind and flags settled. Latency 6 cycles."""

    i: In(stream.Signature(Span))
    o: Out(stream.Signature(Parsed))

    def elaborate(self, platform):
        m = Module()
        span = self.i.payload
        taken = span.taken

        advance = Signal()
        m.d.comb += [advance.eq(~self.o.valid | self.o.ready), self.i.ready.eq(advance)]

        m.submodules.price = price = FixedPoint(PRICE_DECIMALS, sign=True)
        m.submodules.quantity = quantity = FixedPoint(QUANTITY_DECIMALS, sign=False)
        m.submodules.sequence = sequence = FixedPoint(0, sign=False)
        # An integer is a decimal without a point, of few characters.
        integer = taken.sequence
        m.d.comb += [
            price.text.eq(taken.price),
            quantity.text.eq(taken.quantity),
            sequence.text.length.eq(Mux(integer.length > SEQUENCE_CHARACTERS, NUMBER_CHARACTERS + 1, integer.length)),
            *(
                sequence.text.characters[n].eq(Mux(integer.characters[n] > 9, 15, integer.characters[n]))
                for n in range(SEQUENCE_CHARACTERS)
            ),
            *(converter.enable.eq(advance) for converter in (price, quantity, sequence)),
        ]

        # The rest of the span keeps pace with the converters.
        carried = data.StructLayout({"valid": 1, "span": Span})
        stage = Signal(carried, name="stage0")
        m.d.comb += [stage.valid.eq(self.i.valid), stage.span.eq(span)]
        for n in range(FixedPoint.LATENCY):
            following = Signal(carried, name=f"stage{n + 1}")
            with m.If(advance):
                m.d.sync += following.eq(stage)
            stage = following
        done, kept = stage.span, stage.span.taken

        sequence_range = sequence.range | (sequence.value > 0xFFFFFFFF)
        seen = {tag: kept.seen[index] for index, tag in enumerate(TAKEN_TAGS)}
        flags = Signal(16)
        m.d.comb += flags.eq(
            done.flags
            | Mux(price.bad | quantity.bad | sequence.bad, Flag.VALUE, 0)
            | Mux(price.range | quantity.range | sequence_range, Flag.RANGE, 0)
            | Mux(seen[PRICE_TAG], 0, Flag.PRICE_ABSENT)
            | Mux(seen[ORDER_QTY_TAG], 0, Flag.QUANTITY_ABSENT)
        )
        kind = Signal(8)
        with m.Switch(kept.message_type):
            for msg_type, kind_of_it in KIND_OF_MSG_TYPE.items():
                with m.Case(ord(msg_type)):
                    m.d.comb += kind.eq(kind_of_it)
            with m.Default():
                m.d.comb += kind.eq(Kind.OTHER)
        with m.If(done.garbled | (flags & MALFORMED_FLAGS).any()):
            m.d.comb += kind.eq(Kind.MALFORMED)

        out = Signal(Parsed)
        frame, message = out.frame, out.message
        m.d.comb += [
            out.has_frame.eq(done.written),
            out.has_message.eq(1),
            frame.timestamp.eq(done.timestamp),
            frame.price.eq(price.value),
            frame.quantity.eq(quantity.value),
            frame.instrument.eq(kept.instrument),
            frame.flow.eq(done.flow),
            frame.sequence.eq(Mux(sequence_range, 0, sequence.value)),
            frame.kind.eq(kind),
            frame.flags.eq(flags),
            frame.message_type.eq(kept.message_type),
            *(frame[name].eq(kept[name]) for name in (*OFFSETS.values(), *CHARACTERS.values())),
            message.frames.eq(done.written),
            *(message[name].eq(done[name]) for name in ("flow", "start", "length", "packet_end", "release")),
        ]
        with m.If(advance):
            m.d.sync += [self.o.valid.eq(stage.valid), self.o.payload.eq(out)]
        return m


class FixParser(wiring.Component):
    """FIX bytes of many flows to frames.

    Eight bytes a cycle without stalling its input, whatever the alignment, for all input whose fields are
    at least 4 bytes long; state is kept a flow, so packets may cut messages anywhere and come in any
    order of flows. A frame is valid 9 cycles after its message's last byte was taken.
    """

    i: In(stream.Signature(PayloadBeat))
    o: Out(stream.Signature(Parsed))

    def elaborate(self, platform):
        m = Module()
        m.submodules.tokenizer = tokenizer = Tokenizer()
        m.submodules.framer = framer = Framer()
        m.submodules.builder = builder = FrameBuilder()
        wiring.connect(m, wiring.flipped(self.i), tokenizer.i)
        wiring.connect(m, tokenizer.o, framer.i)
        wiring.connect(m, framer.o, builder.i)
        wiring.connect(m, builder.o, wiring.flipped(self.o))
        return m
