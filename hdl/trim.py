"""Takes bytes off both ends of each packet and puts what is left into lane 0."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import LANES, PacketBeat

KEEP_ALL = 0xFFFF


def tagged(meta):
    """A packet's beat with what is known of the packet, the same in all its beats."""
    return data.StructLayout({"beat": PacketBeat, "meta": meta})


def cut(skip_bits: int, meta):
    """What is to become of a packet: its first ``skip`` bytes go, at most ``keep`` of the rest stay; with ``drop``
    nothing does. ``meta`` goes on with the rest."""
    return data.StructLayout({"skip": unsigned(skip_bits), "keep": unsigned(16), "drop": 1, "meta": meta})


class Trim(wiring.Component):
    """Passes on what a packet's cut leaves of it, first byte in lane 0, all beats but the last one full.

    ``cuts`` has one item a packet, taken with the packet's first beat, which waits for it. A packet of which no byte
    is left, and which was not dropped, goes on as one beat without bytes (``count`` 0, ``last``), so that
    whoever comes next knows of it; a packet may also come as such a beat. ``bare`` is high where it is what ``o`` offers.

    Eight bytes a cycle. A beat of the output can be seen in the cycle after the input beat with its first byte was
    taken where ``skip`` is a multiple of 8, and otherwise as soon as the beat behind that is offered.
    """

    def __init__(self, skip_bits, meta):
        self._skip_bits = skip_bits
        self._meta = meta
        super().__init__(
            {
                "i": In(stream.Signature(PacketBeat)),
                "cuts": In(stream.Signature(cut(skip_bits, meta))),
                "o": Out(stream.Signature(tagged(meta))),
                "bare": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        head, chosen = self.i.payload, self.cuts.payload
        first = Signal(init=1)
        head_valid, advance = Signal(), Signal()
        m.d.comb += [
            head_valid.eq(self.i.valid & (~first | self.cuts.valid)),
            self.i.ready.eq(advance & (~first | self.cuts.valid)),
            self.cuts.ready.eq(advance & first & self.i.valid),
        ]

        # Held: a beat, and what is still to be done with its packet.
        held, held_valid = Signal(PacketBeat), Signal()
        meta = Signal(self._meta)
        skipped = Signal(self._skip_bits - 3)  # beats
        skips = Signal()  # skipped != 0
        rotate = Signal(3)
        left = Signal(16)
        ends_soon = Signal()  # left <= 8
        silent = Signal()  # nothing more of this packet is passed on
        spoke = Signal()  # something was, or the packet was dropped

        # Behind a last beat comes another packet, which must not show while that beat waits.
        pair = Cat(held.data, Mux(held.last, 0, head.data.as_value()))
        turned = Array([pair[8 * n : 8 * (n + LANES)] for n in range(LANES)])[rotate]
        from_next = Signal(4)
        whole, limit = Signal(4), Signal(4)
        ends_here, has_bytes, speaks = Signal(), Signal(), Signal()
        beyond = Signal()  # the held beat has bytes that are not skipped
        m.d.comb += [
            beyond.eq(held.count > rotate),
            from_next.eq(Mux(head.count < rotate, head.count, rotate)),
            limit.eq(Mux(left[:3] == 0, LANES, left[:3])),
        ]
        with m.If(held.last):
            m.d.comb += [
                whole.eq(held.count - rotate),
                ends_here.eq(1),
                has_bytes.eq(~silent & ~skips & beyond),
                speaks.eq(held_valid & (has_bytes | ~spoke)),
                advance.eq(~speaks | self.o.ready),
            ]
        with m.Elif(rotate == 0):
            m.d.comb += [
                whole.eq(LANES),
                has_bytes.eq(~silent & ~skips),
                speaks.eq(held_valid & has_bytes),
                advance.eq(~speaks | self.o.ready),
            ]
        with m.Else():
            m.d.comb += [
                whole.eq(LANES - rotate + from_next),
                ends_here.eq(head.last & (head.count <= rotate)),
                has_bytes.eq(~silent & ~skips),
                speaks.eq(held_valid & has_bytes & self.i.valid),
                advance.eq(~held_valid | (self.i.valid & (~has_bytes | self.o.ready))),
            ]
        beat = self.o.payload.beat
        m.d.comb += [
            self.o.valid.eq(speaks),
            self.bare.eq(~has_bytes),
            self.o.payload.meta.eq(meta),
            beat.data.eq(turned),
            beat.count.eq(Mux(has_bytes, Mux(ends_soon & (limit < whole), limit, whole), 0)),
            beat.last.eq(ends_here | ends_soon),
            beat.timestamp.eq(held.timestamp),
        ]

        with m.If(advance):
            m.d.sync += held_valid.eq(head_valid)
            with m.If(held_valid):
                m.d.sync += [skipped.eq(skipped - skips), skips.eq(skipped[1:].any())]
            with m.If(speaks):
                # Only the last beat has fewer than eight bytes, and behind it nothing is left to count.
                m.d.sync += [
                    left.eq(left - LANES),
                    ends_soon.eq(left <= 2 * LANES),
                    silent.eq(beat.last),
                    spoke.eq(1),
                ]
        with m.If(advance & head_valid):
            m.d.sync += [held.eq(head), first.eq(head.last)]
        with m.If(advance & first):
            # Whether there is a beat or not: without one, nothing of this is looked at.
            m.d.sync += [
                meta.eq(chosen.meta),
                skipped.eq(chosen.skip >> 3),
                skips.eq(chosen.skip[3:].any()),
                rotate.eq(chosen.skip[:3]),
                left.eq(chosen.keep),
                ends_soon.eq(chosen.keep <= LANES),
                # A packet of which nothing is kept still speaks at its end.
                silent.eq(chosen.drop | (chosen.keep == 0)),
                spoke.eq(chosen.drop),
            ]
        return m
