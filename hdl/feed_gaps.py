"""Puts GAP frames in front of the frames of packets that a feed arbiter found numbers missing before (docs/feeds.md)."""

from amaranth.hdl import Cat, Module, Signal, unsigned
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import MISSING_BITS, POSITION_BITS, Parsed, PayloadBeat
from hdl.frame import Flag, Kind
from hdl.limits import FLOWS

PACKETS = 16
"""Packets that a decoder may be at: more than it has room for, and the depth of the smallest memory made of look-up tables."""

Hole = data.StructLayout(
    {
        "there": 1,
        "missing": unsigned(MISSING_BITS),
        "first": unsigned(MISSING_BITS),
        "timestamp": 64,
        "flow": range(FLOWS),
        "position": POSITION_BITS,
        "fragment": 1,
    }
)
"""What lies before a packet: a hole, if it is ``there``, of so many ``missing`` packets from number ``first`` on."""


class FeedGaps(wiring.Component):
    """Stands around a decoder: takes gap beats out of the ``packets`` that it is given, and puts a GAP frame without a message in front
    of what it has ``parsed`` of the packet behind. All else goes through in the same cycle.

    A decoder that is at PACKETS packets gets no other one before it has ended one.
    """

    i: In(stream.Signature(PayloadBeat))
    packets: Out(stream.Signature(PayloadBeat))
    parsed: In(stream.Signature(Parsed))
    o: Out(stream.Signature(Parsed))

    def elaborate(self, platform):
        m = Module()
        m.submodules.holes = holes = fifo.SyncFIFO(width=Hole.size, depth=PACKETS)

        # In: of each packet, what lies before it.
        beat, within = self.i.payload, Signal()
        there, says = Signal(), Signal(2 * MISSING_BITS)
        coming = Signal(Hole)
        m.d.comb += [
            self.packets.payload.eq(beat),
            self.packets.valid.eq(self.i.valid & ~beat.gap & (within | holes.w_rdy)),
            self.i.ready.eq(beat.gap | (self.packets.ready & (within | holes.w_rdy))),
            coming.there.eq(there),
            Cat(coming.missing, coming.first).eq(says),
            *(coming[name].eq(beat[name]) for name in ("timestamp", "flow", "position", "fragment")),
            holes.w_data.eq(coming),
            holes.w_en.eq(self.packets.valid & self.packets.ready & ~within),
        ]
        with m.If(self.i.valid & beat.gap):
            m.d.sync += [there.eq(1), says.eq(Cat(beat.data))]
        with m.If(self.packets.valid & self.packets.ready):
            m.d.sync += [there.eq(0), within.eq(~beat.last)]

        # Out: its frame, then what the decoder says.
        hole, told = Signal(Hole), Signal()
        m.d.comb += hole.eq(holes.r_data)
        with m.If(holes.r_rdy & hole.there & ~told):
            out = self.o.payload
            m.d.comb += [
                self.o.valid.eq(1),
                out.has_frame.eq(1),
                out.has_message.eq(1),
                out.frame.kind.eq(Kind.GAP),
                out.frame.timestamp.eq(hole.timestamp),
                out.frame.flow.eq(hole.flow),
                out.frame.sequence.eq(hole.missing),
                out.frame.instrument_sequence.eq(hole.first),
                out.message.flow.eq(hole.flow),
                out.message.start.eq(hole.position),
                out.message.frames.eq(1),
            ]
            with m.If(hole.fragment):
                m.d.comb += out.frame.flags.eq(Flag.FRAGMENT)
            with m.If(self.o.ready):
                m.d.sync += told.eq(1)
        with m.Else():
            ends = (
                self.o.valid & self.o.ready & self.parsed.payload.has_message & self.parsed.payload.message.packet_end
            )
            m.d.comb += [
                self.o.payload.eq(self.parsed.payload),
                self.o.valid.eq(self.parsed.valid & holes.r_rdy),
                self.parsed.ready.eq(self.o.ready & holes.r_rdy),
                holes.r_en.eq(ends),
            ]
            with m.If(ends):
                m.d.sync += told.eq(0)
        return m
