"""Beats of a flow's payload, cut for a narrow parser."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import LANES, PayloadBeat, payload_beat


class BeatSplitter(wiring.Component):
    """Makes each beat of 8 bytes several of ``lanes`` bytes (4 or 1), in order, one a cycle; a gap beat stays one.

    A beat comes out in the cycle after it was taken. Raises ValueError for another number of lanes.
    """

    def __init__(self, lanes: int):
        if lanes >= LANES or LANES % lanes:
            raise ValueError(f"beats of {LANES} bytes are not cut into {lanes}")
        self._lanes = lanes
        super().__init__({"i": In(stream.Signature(PayloadBeat)), "o": Out(stream.Signature(payload_beat(lanes)))})

    def elaborate(self, platform):
        m = Module()
        lanes = self._lanes
        rest = Signal(PayloadBeat)  # what has not been offered yet of a beat, moved to the front
        ends = Signal()
        m.d.comb += [
            ends.eq(rest.count <= lanes),
            self.i.ready.eq(~self.o.valid | (self.o.ready & ends)),
            *(self.o.payload[name].eq(rest[name]) for name in ("timestamp", "flow", "position", "fragment", "gap")),
            Cat(self.o.payload.data).eq(Cat(rest.data)),
            self.o.payload.count.eq(Mux(ends, rest.count, lanes)),
            self.o.payload.last.eq(rest.last & ends),
        ]
        with m.If(self.i.ready):
            m.d.sync += [self.o.valid.eq(self.i.valid), rest.eq(self.i.payload)]
        with m.Elif(self.o.ready):
            m.d.sync += [
                Cat(rest.data).eq(Cat(rest.data) >> 8 * lanes),
                rest.count.eq(rest.count - lanes),
                rest.position.eq(rest.position + lanes),
            ]
        return m
