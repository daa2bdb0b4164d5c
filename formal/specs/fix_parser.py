"""FixParser at its ports: frames for the messages that docs/fix.md finds, each once, whatever the other flow has."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import data

from formal import fix_framing
from formal.specification import Method, Proof, Specification, taken, waits_unchanged
from hdl.beat import POSITION_BITS
from hdl.fix_frames import OFFSETS
from hdl.fix_one_flow import OneFlowBuilder
from hdl.fix_parser import FixParser, SmallFixParser
from hdl.frame import Kind

FLOWS = 2
SPANS = 16
"""Spans that are told apart by their number."""


class Packets(Specification):
    """A parser of two flows, to which beats of both come in any order.

    ``behind``: bytes of flow 1 that come first, one full beat a cycle, so that what is proved begins in the middle of a message.
    Then all is free: bytes, packets' ends, holes, the other flow, pauses between beats, back-pressure. With ``steady`` only the bytes
    are: full beats of flow 1 come one a cycle, which a solver follows further. Positions count a flow's bytes; else
    nothing is assumed of what is offered and not taken.
    """

    def __init__(self, data_width: int = 8, behind: bytes = b"", *, steady: bool = False):
        super().__init__()
        self.steady = steady
        self.lanes = data_width // 8
        text = behind.replace(b"|", b"\x01")
        if len(text) % self.lanes:
            raise ValueError(f"{len(text)} bytes are no whole beats of {self.lanes}")
        self.behind = [text[n : n + self.lanes] for n in range(0, len(text), self.lanes)]

    def make_parser(self) -> FixParser | SmallFixParser:
        """What is looked at."""
        return FixParser(8 * self.lanes, FLOWS)

    def state(self, m: Module) -> None:
        m.submodules.parser = parser = self.make_parser()
        self.begun = Signal(range(len(self.behind) + 1))
        valid, beat, ready = self.free(1, "valid"), self.free(parser.i.payload.shape(), "beat"), self.free(1, "ready")
        partial = beat.last & (beat.count != 0) & (beat.count < self.lanes)
        with m.If(~beat.gap):
            m.d.comb += self.assume((beat.count == self.lanes) | partial)
        # Driven, not assumed: so solvers know the first states before they search.
        m.d.comb += [parser.i.valid.eq(valid), parser.i.payload.eq(beat), parser.o.ready.eq(ready)]
        with m.If(beat.gap):
            m.d.comb += [parser.i.payload.count.eq(0), parser.i.payload.last.eq(0)]
        with m.Switch(self.begun):
            for n, text in enumerate(self.behind):
                with m.Case(n):
                    m.d.sync += self.begun.eq(n + 1)
                    self._steady(m, parser)
                    m.d.comb += parser.i.payload.data.eq(int.from_bytes(text, "little"))
            if self.steady:
                with m.Default():
                    self._steady(m, parser)
        taken_beat = parser.i.payload
        for n in range(FLOWS):
            position = Signal(POSITION_BITS, name=f"position{n}")
            with m.If(taken_beat.flow == n):
                m.d.comb += taken_beat.position.eq(position)
                with m.If(taken(parser.i)):
                    m.d.sync += position.eq(position + taken_beat.count)
        self.claim(m, parser)

    def _steady(self, m: Module, parser: FixParser | SmallFixParser) -> None:
        """A full beat of flow 1 comes, and what is offered is taken."""
        beat = parser.i.payload
        m.d.comb += [
            *(signal.eq(1) for signal in (parser.i.valid, parser.o.ready, beat.flow)),
            *(signal.eq(0) for signal in (beat.gap, beat.last)),
            beat.count.eq(self.lanes),
        ]

    def claim(self, m: Module, parser: FixParser | SmallFixParser) -> None:
        """Assert a property of ``parser``."""
        raise NotImplementedError


class Waits(Packets):
    """What is offered stays as it is until it is taken."""

    def claim(self, m, parser):
        m.d.comb += self.prove(waits_unchanged(m, parser.o, "o"))


class SameFrames(Packets):
    """The frames of one flow are those of docs/fix.md, each ``LATENCY`` moves behind its message's last byte, whatever the
    other flow has; their offsets lie within the message.

    Assumed of parsers of several bytes: no beat takes a cycle more than the others (it would for more than two SOHs in it, or
    two spans that end in it). A parser of one byte is proved not to.
    """

    def claim(self, m, parser):
        # Rows of flows are alike; behind a beginning it is that of flow 1.
        watched = Const(1, range(FLOWS)) if self.behind or self.steady else self.constant(m, range(FLOWS), "watched")
        moves = Signal()
        m.d.comb += moves.eq(~parser.o.valid | parser.o.ready)
        if self.lanes == 1:
            m.d.comb += self.prove(parser.i.ready == moves)
        else:
            m.d.comb += self.assume(parser.i.ready == moves)

        expected = self._expected(m, parser, watched)
        for n in range(parser.LATENCY):
            later = Signal(fix_framing.Span, name=f"expected{n + 1}")
            with m.If(moves):
                m.d.sync += later.eq(expected)
            expected = later

        self._same(m, parser, expected, watched)

    def _same(self, m, parser, expected, watched):
        """What ``parser`` offers of the watched flow in this cycle is ``expected``."""
        out, message, frame = parser.o.payload, parser.o.payload.message, parser.o.payload.frame
        ours = Signal()
        m.d.comb += [
            ours.eq(parser.o.valid & (message.flow == watched)),
            self.prove(ours == (expected.written | expected.last)),
        ]
        with m.If(ours):
            m.d.comb += [
                self.prove(out.has_message),
                self.prove(out.has_frame == expected.written),
                self.prove(message.frames == expected.written),
                self.prove(message.packet_end == expected.last),
                self.prove(~expected.last | (message.release == expected.release)),
            ]
        with m.If(ours & expected.written):
            m.d.comb += [
                self.prove(frame.flow == watched),
                self.prove(message.start == expected.start),
                self.prove(message.length == expected.length),
                self.prove((frame.flags & int(fix_framing.FLAGS)) == expected.flags),
                *(
                    self.prove((frame[name] == 0) | (frame[name] < message.length))
                    for name in (*OFFSETS.values(), "symbol")
                ),
            ]

    def _expected(self, m, parser, watched):
        """What the page says of the beat that is taken in this cycle."""
        beat = parser.i.payload
        here = taken(parser.i) & (beat.flow == watched)
        field, flow = Signal(fix_framing.Field, init=fix_framing.NO_FIELD), Signal(fix_framing.Flow)
        no_field = Const(fix_framing.NO_FIELD, fix_framing.Field)
        fields, flows, spans = [field], [flow], []

        def happens(name, event, field_after):
            after, span = fix_framing.follow(m, name, flows[-1], event)
            fields.append(field_after)
            flows.append(after)
            spans.append(span)

        hole = Signal(fix_framing.Event, name="hole")
        m.d.comb += [hole.gap.eq(here & beat.gap), hole.end.eq(beat.position)]
        happens("hole", hole, Mux(hole.gap, no_field, field))
        for lane in range(self.lanes):
            position = (beat.position + lane)[:POSITION_BITS]
            grown, ends, overrun = fix_framing.grow(
                m, f"byte{lane}", data.View(fix_framing.Field, fields[-1]), beat.data[lane], position
            )
            event = Signal(fix_framing.Event, name=f"event{lane}")
            m.d.comb += [
                event.byte.eq(here & (lane < beat.count)),
                event.ends.eq(ends),
                event.overrun.eq(overrun),
                event.last.eq(beat.last & (lane + 1 == beat.count)),
                event.end.eq(position + 1),
                event.field.eq(grown),
            ]
            behind = Mux(ends | overrun, no_field, grown.as_value())
            happens(f"lane{lane}", event, Mux(event.byte, behind, fields[-1]))
        m.d.sync += [field.eq(fields[-1]), flow.eq(flows[-1])]

        expected = Signal(fix_framing.Span)
        m.d.comb += expected.eq(spans[-1])
        for span in spans:
            with m.If(span.written):
                m.d.comb += expected.eq(span)
        m.d.comb += [
            expected.last.eq(here & beat.last),
            expected.release.eq(flows[-1].start),
        ]
        return expected


class SameSmallFrames(SameFrames):
    """SameFrames of a SmallFixParser: frames and packets' ends are those of the page, each told before the next byte is taken."""

    def make_parser(self):
        return SmallFixParser()

    def claim(self, m, parser):
        flow = Const(0, range(FLOWS))
        m.d.comb += parser.i.payload.flow.eq(flow)
        expected = self._expected(m, parser, flow)
        # The beat in the first stage, and the one that left it last with something to tell, until it is told.
        here, left, age = Signal(fix_framing.Span), Signal(fix_framing.Span), Signal(range(OneFlowBuilder.LATENCY + 1))
        tells = here.written | here.last
        with m.If(parser.i.ready):
            m.d.sync += here.eq(Mux(taken(parser.i), expected, 0))
        with m.If(taken(parser.o)):
            m.d.sync += left.eq(0)
        with m.If((age != 0) & (age != OneFlowBuilder.LATENCY)):
            m.d.sync += age.eq(age + 1)
        with m.If(parser.i.ready & tells):
            m.d.sync += [left.eq(here), age.eq(1)]
        now = Signal(fix_framing.Span)
        with m.If(age == OneFlowBuilder.LATENCY):
            m.d.comb += now.eq(left)
        m.d.comb += self.prove(~parser.i.ready | ~(left.written | left.last) | taken(parser.o))
        self._same(m, parser, now, flow)


class NoFrame(Packets):
    """No message ever gives a frame: false. So what is assumed leaves room for one."""

    def claim(self, m, parser):
        m.d.comb += self.prove(~(parser.o.valid & (parser.o.payload.frame.kind == Kind.SESSION)))


HEARTBEAT = b"8=FIX|9=5|35=0|10=223|"


def _same_frames(
    data_width: int, name: str, where: str, behind: bytes, *, steady: int, free: int, small: bool = False
) -> tuple[Proof, Proof]:
    """Frames for whatever comes ``where`` in a message, ``behind`` which bytes: in ``steady`` full beats of one flow, and in
    ``free`` cycles of any traffic. What the last of them does is seen ``LATENCY`` cycles later."""
    lanes = data_width // 8
    specification, parser = (SameSmallFrames, SmallFixParser) if small else (SameFrames, FixParser)
    return tuple(
        Proof(
            name=f"parser_{name}_{'small' if small else data_width}{suffix}",
            block=parser.__name__ if small else f"{parser.__name__}, {data_width} bits",
            claim=f"frames of docs/fix.md, {where}{traffic}",
            build=lambda is_steady=is_steady: specification(data_width, behind, steady=is_steady),
            method=Method.BOUNDED,
            depth=len(behind) // lanes + beats + parser.LATENCY,
        )
        for suffix, traffic, is_steady, beats in (("", "", True, steady), ("_any", ", any traffic", False, free))
    )


PROOFS = (
    Proof("parser_waits", "FixParser", "a frame that waits does not change", Waits, Method.K_INDUCTION, 2),
    Proof(
        "parser_message",
        "FixParser",
        "a whole message gives a frame",
        lambda: NoFrame(8, HEARTBEAT),
        Method.REACHED,
        32,
    ),
    *_same_frames(8, "first", "from its first byte", b"", steady=16, free=6),
    *_same_frames(8, "length", "from BodyLength", b"8=FIX|9=", steady=12, free=5),
    *_same_frames(8, "body", "from its body", b"8=FIX|9=12|35=0|5", steady=12, free=5),
    *_same_frames(8, "data", "from data", b"8=FIX|9=22|35=0|90=4|91=a", steady=12, free=5),
    *_same_frames(8, "data_beyond", "from data longer than the body", b"8=FIX|9=15|35=0|90=9|91=a", steady=12, free=5),
    *_same_frames(8, "trailer", "from its trailer", b"8=FIX|9=5|35=0|10=2", steady=12, free=5),
    *_same_frames(8, "overrun", "from a field that overruns", b"8=FIX|5" + b"8" * 26, steady=12, free=5),
    *_same_frames(64, "first", "from its first byte", b"", steady=2, free=1),
    *_same_frames(64, "body", "from its body", b"8=FIX|9=12|35=0|", steady=2, free=1),
    *_same_frames(8, "first", "from its first byte", b"", steady=16, free=8, small=True),
    *_same_frames(8, "body", "from its body", b"8=FIX|9=12|35=0|5", steady=12, free=8, small=True),
    *_same_frames(8, "trailer", "from its trailer", b"8=FIX|9=5|35=0|10=2", steady=12, free=8, small=True),
)
