"""Clocks of other rates on an ECP5."""

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth.hdl import Const, Instance, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

VCO_HZ = (400_000_000, 800_000_000)
"""ECP5 and ECP5-5G family data sheet (FPGA-DS-02012), sysCLOCK PLL timing."""

MOST_OUTPUTS = 4
PHASES = 8
"""Steps of the VCO's period in which an output's phase is set."""


@dataclass(frozen=True)
class Dividers:
    """Of the reference, of the feedback, and of each output."""

    reference: int
    feedback: int
    outputs: tuple[int, ...]


def dividers(clock: int, rates: Sequence[int]) -> Dividers:
    """Dividers that make exactly these ``rates`` of a ``clock`` (Hz); the first output is fed back. Raises ValueError where there are none."""
    for reference in range(1, 129):
        for feedback in range(1, 81):
            if rates[0] * reference != clock * feedback:
                continue
            for first in range(1, 129):
                vco = rates[0] * first
                if VCO_HZ[0] <= vco <= VCO_HZ[1] and not any(vco % rate for rate in rates):
                    outputs = tuple(vco // rate for rate in rates)
                    if max(outputs) <= 128:
                        return Dividers(reference, feedback, outputs)
    raise ValueError(f"no PLL makes {', '.join(f'{rate:,}' for rate in rates)} Hz of {clock:,} Hz")


class Ecp5Pll(wiring.Component):
    """``o`` are clocks of ``rates`` (Hz, at most four) from ``i``, of ``clock`` Hz; ``phases`` in degrees behind the first one.
    ``locked`` is high once they are good. Raises ValueError for rates that cannot be had exactly."""

    def __init__(self, clock: int, rates: Sequence[int], phases: Sequence[int] = ()):
        if len(rates) > MOST_OUTPUTS:
            raise ValueError(f"a PLL has {MOST_OUTPUTS} outputs, not {len(rates)}")
        self._dividers = dividers(clock, rates)
        self._phases = [*phases, *[0] * (len(rates) - len(phases))]
        super().__init__({"i": In(1), "o": Out(len(rates)), "locked": Out(1)})

    def elaborate(self, platform):
        m = Module()
        outputs = self._dividers.outputs
        settings: dict[str, object] = {}
        for name, divider, phase, clock in zip(("OP", "OS", "OS2", "OS3"), outputs, self._phases, self.o, strict=False):
            # The phase counts whole periods of the VCO, and eighths of one.
            steps = divider * PHASES * phase // 360
            settings |= {
                f"p_CLK{name}_ENABLE": "ENABLED",
                f"p_CLK{name}_DIV": divider,
                f"p_CLK{name}_CPHASE": divider - 1 + steps // PHASES,
                f"p_CLK{name}_FPHASE": steps % PHASES,
                f"o_CLK{name}": clock,
            }
        m.submodules.pll = Instance(
            "EHXPLLL",
            p_PLLRST_ENA="DISABLED",
            p_INTFB_WAKE="DISABLED",
            p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA",
            p_OUTDIVIDER_MUXB="DIVB",
            p_OUTDIVIDER_MUXC="DIVC",
            p_OUTDIVIDER_MUXD="DIVD",
            p_FEEDBK_PATH="CLKOP",
            p_CLKI_DIV=self._dividers.reference,
            p_CLKFB_DIV=self._dividers.feedback,
            **settings,
            i_CLKI=self.i,
            i_CLKFB=self.o[0],
            i_RST=Const(0),
            i_STDBY=Const(0),
            i_PHASESEL0=Const(0),
            i_PHASESEL1=Const(0),
            i_PHASEDIR=Const(0),
            i_PHASESTEP=Const(0),
            i_PHASELOADREG=Const(0),
            i_PLLWAKESYNC=Const(0),
            i_ENCLKOP=Const(0),
            i_ENCLKOS=Const(0),
            i_ENCLKOS2=Const(0),
            i_ENCLKOS3=Const(0),
            o_LOCK=self.locked,
            # As ecppll writes them: nextpnr passes them on.
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
        )
        return m
