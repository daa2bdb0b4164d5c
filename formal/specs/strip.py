"""Strip: what is left of a packet is its bytes behind the header, each once, in their order."""

from amaranth.hdl import Module, Mux, Signal

from formal.specification import Method, Proof, Specification, taken, waits_unchanged
from hdl.beat import LANES
from hdl.strip import Strip

LONGEST = 64
"""Bytes of the watched packet, at most: a header of up to seven beats, and what a bounded proof sees behind it."""


class Packets(Specification):
    """A Strip whose packets are marked or not; the mark goes with each as what is known of it, and is all that is learned."""

    def state(self, m: Module) -> None:
        strip = self.add(m, "strip", Strip(known=1, learned=1, delay=1))
        beat, mark = strip.i.payload.beat, strip.i.payload.meta
        within, marked, answer = Signal(), Signal(), Signal()
        m.d.sync += answer.eq(strip.known)
        with m.If(taken(strip.i)):
            m.d.sync += [within.eq(~beat.last), marked.eq(mark)]
        whole, empty = beat.count == LANES, beat.last & ~within & (beat.count == 0)
        m.d.comb += [
            # A packet's beats are full but for the last one; it is one beat without bytes, or every beat has some.
            self.assume(whole | empty | (beat.last & (beat.count >= 1) & (beat.count < LANES))),
            self.assume(~within | (mark == marked)),
            self.assume(strip.skip >= LANES),
            self.assume(strip.learned == answer),
        ]
        self.claim(m, strip, ~within)

    def claim(self, m: Module, strip: Strip, first) -> None:
        """Assert a property of ``strip``; ``first`` says that a packet's first beat is offered to it."""
        raise NotImplementedError


class Waits(Packets):
    """What is offered at the output stays as it is until it is taken, also where the input takes its own offer back."""

    def claim(self, m, strip, first):
        m.d.comb += self.prove(waits_unchanged(m, strip.o, "o"))


class OnePacket(Packets):
    """One packet, any one, is marked. Of its bytes those behind ``skip``, at most ``keep``, come out once, in order."""

    def claim(self, m, strip, first):
        beat, mark = strip.i.payload.beat, strip.i.payload.meta
        place = self.constant(m, range(LONGEST), "place")
        begun, complete = Signal(), Signal()
        length, byte = Signal(8), Signal(8)
        arrives = taken(strip.i) & mark
        m.d.comb += [self.assume(~(mark & first & begun)), self.assume(~arrives | (length + beat.count <= LONGEST))]
        with m.If(arrives):
            m.d.sync += [begun.eq(1), length.eq(length + beat.count), complete.eq(beat.last)]
            for lane in range(LANES):
                with m.If(place == length + lane):
                    m.d.sync += byte.eq(beat.data[lane])

        answered, skip, keep, drop = Signal(), Signal(7), Signal(16), Signal()
        with m.If(strip.answers & strip.learned):
            m.d.sync += [answered.eq(1), skip.eq(strip.skip), keep.eq(strip.keep), drop.eq(strip.drop)]
            m.d.comb += self.prove(~answered)

        # What has come in may be more by what waits; what comes out is never more than there was.
        out = strip.o.payload.beat
        passed, ended = Signal(8), Signal()
        behind, wanted = Signal(8), Signal(8)
        m.d.comb += [behind.eq(Mux(length > skip, length - skip, 0)), wanted.eq(Mux(behind < keep, behind, keep))]
        with m.If(strip.o.valid & strip.o.payload.meta):
            m.d.comb += [
                self.prove(answered & ~drop & ~ended),
                self.prove(passed + out.count <= wanted),
                self.prove((out.count == LANES) | out.last),
                self.prove(~out.last | (passed + out.count == keep) | (complete & (passed + out.count == behind))),
            ]
            for lane in range(LANES):
                with m.If((place == skip + passed + lane) & (lane < out.count)):
                    m.d.comb += self.prove(out.data[lane] == byte)
            with m.If(strip.o.ready):
                m.d.sync += [passed.eq(passed + out.count), ended.eq(out.last)]


PROOFS = (
    Proof("strip_waits", "Strip", "a beat that waits does not change", Waits, Method.BOUNDED, 12),
    Proof("strip_bytes", "Strip", "each byte behind the header comes out once, in order", OnePacket, Method.BOUNDED, 9),
)
