"""FixParser at its ports: frames for the messages that docs/fix.md finds, each once, whatever the other flow has."""

from amaranth.hdl import Assert, Assume, Module, Mux, Signal, Value

from formal import fix_framing
from formal.specification import Method, Proof, Specification, taken, waits_unchanged
from hdl.beat import POSITION_BITS
from hdl.fix_parser import FixParser
from hdl.frame import Kind

FLOWS = 2
SPANS = 16
"""Spans that are told apart by their number."""


class Packets(Specification):
    """A parser of two flows, to which beats of both come in any order."""

    def __init__(self, data_width: int = 8):
        super().__init__()
        self.lanes = data_width // 8

    def state(self, m: Module) -> None:
        parser = self.add(m, "parser", FixParser(8 * self.lanes, FLOWS))
        beat = parser.i.payload
        positions = [Signal(POSITION_BITS, name=f"position{n}") for n in range(FLOWS)]
        for n, position in enumerate(positions):
            with m.If(beat.flow == n):
                m.d.comb += Assume(beat.position == position)
                with m.If(taken(parser.i)):
                    m.d.sync += position.eq(position + beat.count)
        full = beat.count == self.lanes
        m.d.comb += [
            Assume(waits_unchanged(m, parser.i, "i")),
            Assume(Mux(beat.gap, (beat.count == 0) & ~beat.last, full | (beat.last & (beat.count != 0) & (beat.count < self.lanes)))),
        ]
        self.claim(m, parser)

    def claim(self, m: Module, parser: FixParser) -> None:
        """Assert a property of ``parser``."""
        raise NotImplementedError


class Waits(Packets):
    """What is offered stays as it is until it is taken."""

    def claim(self, m, parser):
        m.d.comb += Assert(waits_unchanged(m, parser.o, "o"))


class EachMessageOnce(Packets):
    """The frames of one flow, either, are those of docs/fix.md: the nth frame, any n, is the nth message or span of it."""

    def claim(self, m, parser):
        watched = self.constant(m, range(FLOWS), "watched")
        number = self.constant(m, range(SPANS), "number")
        beat = parser.i.payload
        flow = Signal(fix_framing.Flow, init=fix_framing.before_all())
        expected = Signal(fix_framing.Span)
        expected_count, seen_count = Signal(range(SPANS + 1)), Signal(range(SPANS + 1))

        here = taken(parser.i) & (beat.flow == watched)
        behind_hole, hole_span = fix_framing.hole(m, "hole", flow, beat.position)
        states, spans = [flow], []
        for lane in range(self.lanes):
            state, span = fix_framing.byte(m, f"byte{lane}", states[-1], beat.data[lane], (beat.position + lane)[:POSITION_BITS])
            used = Signal(fix_framing.Flow, name=f"used{lane}")
            m.d.comb += used.eq(Mux(lane < beat.count, Value.cast(state), Value.cast(states[-1])))
            states.append(used)
            spans.append((span, span.written & (lane < beat.count) & ~beat.gap))
        spans.append((hole_span, beat.gap))
        written = sum(valid for _, valid in spans)
        m.d.comb += Assume(expected_count + written <= SPANS)
        with m.If(here):
            m.d.sync += [
                flow.eq(Mux(beat.gap, Value.cast(behind_hole), Value.cast(states[-1]))),
                expected_count.eq(expected_count + written),
            ]
            before = expected_count
            for span, valid in spans:
                with m.If(valid & (before == number)):
                    m.d.sync += expected.eq(span)
                before = before + valid

        # The parser's own.
        out, message, frame = parser.o.payload, parser.o.payload.message, parser.o.payload.frame
        ours = parser.o.valid & out.has_message & (message.flow == watched)
        offered = ours & out.has_frame & (seen_count == number)
        # Moves of the pipeline since the expected span's last byte was taken: it is offered after `LATENCY` of them.
        age = Signal(range(FixParser.LATENCY))
        came = expected_count > number
        with m.If(came & (~parser.o.valid | parser.o.ready) & (age != FixParser.LATENCY - 1)):
            m.d.sync += age.eq(age + 1)
        m.d.comb += Assert(~came | (age != FixParser.LATENCY - 1) | offered | (seen_count > number))
        with m.If(ours & out.has_frame):
            m.d.comb += [
                Assert(seen_count < expected_count),
                Assert(frame.flow == watched),
                Assert(message.frames == 1),
            ]
            with m.If(parser.o.ready):
                m.d.sync += seen_count.eq(seen_count + 1)
            with m.If(seen_count == number):
                m.d.comb += [
                    Assert(message.start == expected.start),
                    Assert(message.length == expected.length),
                    Assert((frame.flags & int(fix_framing.FLAGS)) == expected.flags),
                ]
        with m.Elif(parser.o.valid):
            m.d.comb += Assert(out.has_message & (out.has_frame | ((message.frames == 0) & message.packet_end)))


PROOFS = (
    Proof("parser_waits", "FixParser", "a frame that waits does not change", Waits, Method.K_INDUCTION, 2),
    Proof("parser_frames", "FixParser", "one frame a message", EachMessageOnce, Method.BOUNDED, 16),
)
