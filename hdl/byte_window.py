"""A packet's next bytes, to be taken in any portions."""

from amaranth.hdl import Array, Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import LANES, POSITION_BITS, PayloadBeat
from hdl.limits import FLOWS


class ByteWindow(wiring.Component):
    """The next bytes of a packet, as many as its reader likes to ``take``: 0 to 8 a cycle.

    ``fill`` bytes are there, the first in lane 0; ``ended`` says that no more will come of this packet. Then
    ``next_packet`` lets the next one come (nothing of the old one may be left). ``position`` is the first
    byte's; timestamp, flow and fragment are the packet's. Latency 1 cycle.
    """

    i: In(stream.Signature(PayloadBeat))
    take: In(range(LANES + 1))
    next_packet: In(1)
    bytes: Out(data.ArrayLayout(8, LANES))
    fill: Out(range(2 * LANES + 1))
    ended: Out(1)
    position: Out(POSITION_BITS)
    timestamp: Out(64)
    flow: Out(range(FLOWS))
    fragment: Out(1)

    def elaborate(self, platform):
        m = Module()
        beat = self.i.payload
        held = Signal(8 * 2 * LANES)
        kept = Signal(range(2 * LANES + 1))
        shifted = Signal(8 * 2 * LANES)
        taken = Signal()
        m.d.comb += [
            self.bytes.eq(held[: 8 * LANES]),
            kept.eq(self.fill - self.take),
            shifted.eq(Array([held >> (8 * n) for n in range(LANES + 1)])[self.take]),
            self.i.ready.eq(~self.ended & (kept <= LANES)),
            taken.eq(self.i.valid & self.i.ready),
        ]
        arriving = Cat(beat.data[n] & (beat.count > n).replicate(8) for n in range(LANES))
        fresh = Signal(init=1)
        m.d.sync += [held.eq(shifted), self.fill.eq(kept), self.position.eq(self.position + self.take)]
        with m.If(taken):
            m.d.sync += [
                held.eq(shifted | Array([arriving << (8 * n) for n in range(LANES + 1)])[kept]),
                self.fill.eq(kept + beat.count),
                self.ended.eq(beat.last),
                fresh.eq(0),
            ]
            with m.If(fresh):
                m.d.sync += [
                    self.position.eq(beat.position),
                    self.timestamp.eq(beat.timestamp),
                    self.flow.eq(beat.flow),
                    self.fragment.eq(beat.fragment),
                ]
        with m.If(self.next_packet):
            m.d.sync += [self.ended.eq(0), fresh.eq(1)]
        return m
