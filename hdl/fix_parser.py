"""FIX tag=value messages to frames (docs/fix.md)."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import LANES, Parsed, payload_beat
from hdl.digit_serial import DigitSerial
from hdl.fix_characters import Classifier, ends_a_beat
from hdl.fix_facts import Facts
from hdl.fix_framer import Framer
from hdl.fix_frames import FrameBuilder
from hdl.fix_messages import Messages
from hdl.fix_one_flow import OneFlowBuilder
from hdl.fix_tokenizer import Tokenizer
from hdl.fixed_point import MOST_CHARACTERS, FixedPoint, Tables
from hdl.limits import FLOWS

DATA_WIDTHS = (8, 32, 64)


def tables_beside(data_width: int) -> Tables:
    """Where powers of ten are, in a parser of this width and around it: small FPGAs, for which the narrow one is, have little block RAM."""
    return Tables.LOGIC if data_width == min(DATA_WIDTHS) else Tables.BLOCK_RAM


class FixParser(wiring.Component):
    """FIX bytes of many flows to frames.

    ``data_width`` bits a cycle (64, 32 or 8), without stalling its input, whatever the alignment and however short the
    fields and messages, for all well-formed input but for this: a beat takes a cycle more for each ``ends_a_beat`` SOHs
    that it has above so many, which only data have, and a beat of 8 bytes takes one more where the second field that
    ends in it holds BEGIN and does not begin with it: ``8=FIX`` in data, or a value FIX of a tag like 58. The state of
    ``flows`` flows is kept, so packets may cut messages anywhere and come in any order of flows, without a cycle
    between them. A frame is valid ``LATENCY`` cycles after its message's last byte was taken.
    """

    LATENCY = Tokenizer.LATENCY + Facts.LATENCY + Framer.LATENCY + FrameBuilder.LATENCY

    def __init__(self, data_width: int = 8 * LANES, flows: int = FLOWS):
        if data_width not in DATA_WIDTHS:
            raise ValueError(f"data_width is {data_width}; it can be {', '.join(map(str, DATA_WIDTHS))}")
        if not 2 <= flows <= FLOWS:
            raise ValueError(f"flows is {flows}; it can be 2 to {FLOWS}")
        self.lanes = data_width // 8
        self.flows = flows
        super().__init__({"i": In(stream.Signature(payload_beat(self.lanes))), "o": Out(stream.Signature(Parsed))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.tokenizer = tokenizer = Tokenizer(self.lanes, self.flows)
        m.submodules.facts = facts = Facts(self.lanes)
        m.submodules.framer = framer = Framer(self.lanes, self.flows)
        m.submodules.messages = messages = Messages(self.lanes, self.flows)
        m.submodules.builder = builder = FrameBuilder(self.flows)

        # The last stages move as the output does, the first ones when the framer is done with a beat.
        m.d.comb += [
            tokenizer.advance.eq(framer.ready),
            tokenizer.valid.eq(self.i.valid),
            tokenizer.beat.eq(self.i.payload),
            self.i.ready.eq(tokenizer.ready),
            facts.advance.eq(framer.ready),
            facts.valid.eq(tokenizer.o_valid),
            facts.beat.eq(tokenizer.o),
            framer.advance.eq(builder.advance),
            framer.coming.eq(tokenizer.next_valid),
            framer.coming_flow.eq(tokenizer.next_flow),
            framer.coming_new.eq(tokenizer.next_new),
            framer.next_has_steps.eq(facts.next_has_steps),
            framer.valid.eq(facts.o_valid),
            framer.known.eq(facts.o),
            messages.advance.eq(builder.advance),
            messages.waits.eq(framer.waits),
            messages.coming.eq(tokenizer.o_valid),
            messages.coming_flow.eq(tokenizer.o.flow),
            messages.coming_new.eq(tokenizer.o.new),
            messages.valid.eq(framer.o_valid),
            messages.framed.eq(framer.o),
            builder.valid.eq(framer.o_valid),
            builder.step.eq(messages.step),
        ]
        # Each field of a beat has a converter. The second one's value stands between `|34=` and `|` (SOH), so that is a small one.
        tables = tables_beside(8 * self.lanes)
        for k in range(ends_a_beat(self.lanes)):
            field = tokenizer.o.fields[k]
            m.submodules[f"converter{k}"] = converter = FixedPoint(
                self.lanes - len("|34=|") if k else MOST_CHARACTERS, tables
            )
            m.d.comb += [
                converter.enable.eq(builder.advance),
                converter.number.eq(field.number),
                converter.form.eq(field.form),
                Cat(builder.numbers[k].value, builder.numbers[k].bad, builder.numbers[k].range).eq(
                    Cat(converter.value, converter.bad, converter.range)
                ),
            ]
        wiring.connect(m, builder.o, wiring.flipped(self.o))
        return m


class SmallFixParser(wiring.Component):
    """FIX bytes of one flow to frames, by the same stages as FixParser(8), for FPGAs with few cells and a slow clock (12 MHz).

    Between the stages are no registers, one row of state needs no memory, and numbers are converted a digit a cycle, while
    the input waits: at the end of a field that is one for :data:`hdl.digit_serial.DIGITS` cycles, and for ``TELLING_CYCLES`` behind
    each frame and each packet's end. Else it takes a byte a cycle. A frame is valid ``LATENCY`` cycles after its message's last
    byte was taken.
    """

    TELLING_CYCLES = OneFlowBuilder.LATENCY - 1
    LATENCY = Classifier.LATENCY + OneFlowBuilder.LATENCY

    i: In(stream.Signature(payload_beat(1)))
    o: Out(stream.Signature(Parsed))

    def elaborate(self, platform):
        m = Module()
        m.submodules.tokenizer = tokenizer = Tokenizer(1, flows=1, pipelined=False)
        m.submodules.facts = facts = Facts(1, pipelined=False)
        m.submodules.framer = framer = Framer(1, flows=1, pipelined=False)
        m.submodules.messages = messages = Messages(1, flows=1)
        m.submodules.builder = builder = OneFlowBuilder()
        m.submodules.converter = converter = DigitSerial()
        field = tokenizer.o.fields[0]
        advance = Signal()
        m.d.comb += [
            advance.eq(builder.ready & converter.settled),
            tokenizer.advance.eq(framer.ready),
            tokenizer.valid.eq(self.i.valid),
            tokenizer.beat.eq(self.i.payload),
            self.i.ready.eq(tokenizer.ready),
            converter.wanted.eq(tokenizer.o_valid & tokenizer.o.ends[0] & field.is_number),
            converter.advance.eq(framer.ready),
            converter.number.eq(field.number),
            converter.form.eq(field.form),
            facts.advance.eq(framer.ready),
            facts.valid.eq(tokenizer.o_valid),
            facts.beat.eq(tokenizer.o),
            framer.advance.eq(advance),
            framer.next_has_steps.eq(facts.next_has_steps),
            framer.valid.eq(facts.o_valid),
            framer.known.eq(facts.o),
            messages.advance.eq(advance),
            messages.waits.eq(framer.waits),
            messages.valid.eq(framer.o_valid),
            messages.framed.eq(framer.o),
            builder.advance.eq(advance),
            builder.valid.eq(framer.o_valid),
            builder.step.eq(messages.step),
            Cat(builder.number.value, builder.number.bad, builder.number.range).eq(
                Cat(converter.value, converter.bad, converter.range)
            ),
        ]
        wiring.connect(m, builder.o, wiring.flipped(self.o))
        return m
