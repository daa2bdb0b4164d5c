"""Clocks of other rates on a 7-series chip of AMD."""

from collections.abc import Sequence

from amaranth.hdl import Const, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

VCO_HZ = (800_000_000, 1_600_000_000)
"""Of a PLL of the slowest grade (DS181, PLL switching characteristics)."""

MOST_OUTPUTS = 6


def multiplier(clock: int, rates: Sequence[int]) -> int:
    """What makes an oscillator of a ``clock`` (Hz) that all ``rates`` divide. Raises ValueError where there is none."""
    for times in range(2, 65):
        vco = clock * times
        if VCO_HZ[0] <= vco <= VCO_HZ[1] and not any(vco % rate or vco // rate > 128 for rate in rates):
            return times
    raise ValueError(f"no PLL makes {', '.join(f'{rate:,}' for rate in rates)} Hz of {clock:,} Hz")


class XilinxPll(wiring.Component):
    """``o`` are clocks of ``rates`` (Hz, at most six) from ``i``, of ``clock`` Hz, on global buffers. ``locked`` is high once they are good. Raises ValueError for
    rates that cannot be had exactly."""

    def __init__(self, clock: int, rates: Sequence[int]):
        if len(rates) > MOST_OUTPUTS:
            raise ValueError(f"a PLL has {MOST_OUTPUTS} outputs, not {len(rates)}")
        self._clock, self._rates = clock, rates
        self._multiplier = multiplier(clock, rates)
        super().__init__({"i": In(1), "o": Out(len(rates)), "locked": Out(1)})

    def elaborate(self, platform):
        m = Module()
        feedback, made = Signal(), Signal(len(self._rates))
        settings: dict[str, object] = {}
        for n, rate in enumerate(self._rates):
            settings |= {f"p_CLKOUT{n}_DIVIDE": self._clock * self._multiplier // rate, f"o_CLKOUT{n}": made[n]}
            m.submodules[f"buffer{n}"] = Instance("BUFG", i_I=made[n], o_O=self.o[n])
        m.submodules.pll = Instance(
            "PLLE2_BASE",
            p_CLKIN1_PERIOD=1e9 / self._clock,
            p_DIVCLK_DIVIDE=1,
            p_CLKFBOUT_MULT=self._multiplier,
            **settings,
            i_CLKIN1=self.i,
            i_CLKFBIN=feedback,
            i_RST=Const(0),
            i_PWRDWN=Const(0),
            o_CLKFBOUT=feedback,
            o_LOCKED=self.locked,
        )
        return m
