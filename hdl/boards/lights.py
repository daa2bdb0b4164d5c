"""What the LEDs of a board say."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

SLOW_HZ = 1
FAST_HZ = 4
SEEN_S = 1 / 16
"""So long a light must be on to be seen."""


class Lights(wiring.Component):
    """``alive`` blinks once a second, four times where a host has opened the card; ``traffic`` is on for a moment with each packet
    that is done; ``waits`` while the card has no credit. ``clock`` is in Hz."""

    is_open: In(1)
    packet: In(1)
    stalled: In(1)
    alive: Out(1)
    traffic: Out(1)
    waits: Out(1)

    def __init__(self, clock: int):
        self._clock = clock
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        phase = Signal(range(self._clock // (2 * FAST_HZ)))
        beats = Signal(range(FAST_HZ // SLOW_HZ * 2))
        with m.If(phase == 0):
            m.d.sync += [phase.eq(self._clock // (2 * FAST_HZ) - 1), beats.eq(beats + 1)]
        with m.Else():
            m.d.sync += phase.eq(phase - 1)
        with m.If(self.is_open):
            m.d.comb += self.alive.eq(beats[0])
        with m.Else():
            m.d.comb += self.alive.eq(beats[-1])

        most = int(self._clock * SEEN_S)
        for event, light in ((self.packet, self.traffic), (self.stalled, self.waits)):
            left = Signal(range(most + 1))
            m.d.comb += light.eq(left != 0)
            with m.If(event):
                m.d.sync += left.eq(most)
            with m.Elif(left != 0):
                m.d.sync += left.eq(left - 1)
        return m
