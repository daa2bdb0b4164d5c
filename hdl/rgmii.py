"""RGMII: a byte a cycle over four wires that change with both edges of a 125 MHz clock (RGMII 1.3, section 3).

A cycle's two halves are values of their own here, :data:`RgmiiEdges`; only :class:`Ecp5RgmiiPins` knows how a chip takes them
from wires, and a simulation has no need of it.
"""

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, ResetSignal, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

Nibble = data.StructLayout({"data": 4, "control": 1})
"""The wires of one direction in one half of a cycle."""

RgmiiEdges = data.StructLayout({"rising": Nibble, "falling": Nibble})
"""The wires at the cycle's rising edge, and at the falling edge behind it."""

GmiiByte = data.StructLayout({"data": 8, "valid": 1, "error": 1})
"""What a cycle means: a byte where it is ``valid``, and whether the PHY found an ``error`` (RX_ER) or is to make one (TX_ER)."""

DELAY_STEP_PS = 25
"""A step of an ECP5's DELAYG."""

MOST_DELAY_STEPS = 127


class RgmiiReceiver(wiring.Component):
    """The low four bits come with the rising edge, and so does ``valid``; ``error`` is coded into the falling edge's control.

    Latency: a cycle.
    """

    i: In(RgmiiEdges)
    o: Out(GmiiByte)

    def elaborate(self, platform):
        m = Module()
        m.d.sync += [
            self.o.data.eq(Cat(self.i.rising.data, self.i.falling.data)),
            self.o.valid.eq(self.i.rising.control),
            self.o.error.eq(self.i.rising.control ^ self.i.falling.control),
        ]
        return m


class RgmiiTransmitter(wiring.Component):
    """The other way round. Latency: a cycle."""

    i: In(GmiiByte)
    o: Out(RgmiiEdges)

    def elaborate(self, platform):
        m = Module()
        m.d.sync += [
            self.o.rising.data.eq(self.i.data[:4]),
            self.o.falling.data.eq(self.i.data[4:]),
            self.o.rising.control.eq(self.i.valid),
            self.o.falling.control.eq(self.i.valid ^ self.i.error),
        ]
        return m


class Ecp5RgmiiPins(wiring.Component):
    """The wires of an ECP5 board. ``received`` is in the domain ``rx``, whose clock is the wire rx_clk; ``sent`` in ``tx``, 125 MHz.

    A wire's clock must change in the middle of its data: some 2 ns behind, by the PHY, by the board's wires, or by
    ``rx_delay_ps`` (of the data, since the clock goes by its own net) and ``tx_delay_ps`` (of the clock). Raises ValueError for
    more than the chip can do.
    """

    rx_data: In(4)
    rx_control: In(1)
    tx_clock: Out(1)
    tx_data: Out(4)
    tx_control: Out(1)
    received: Out(RgmiiEdges)
    sent: In(RgmiiEdges)

    def __init__(self, rx_delay_ps: int = 0, tx_delay_ps: int = 0):
        self._steps = {"rx": rx_delay_ps // DELAY_STEP_PS, "tx": tx_delay_ps // DELAY_STEP_PS}
        if any(not 0 <= steps <= MOST_DELAY_STEPS for steps in self._steps.values()):
            raise ValueError(f"a delay is 0 to {MOST_DELAY_STEPS * DELAY_STEP_PS} ps")
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        received, sent = self.received, self.sent
        for wire, rising, falling in (
            *((self.rx_data[n], received.rising.data[n], received.falling.data[n]) for n in range(4)),
            (self.rx_control, received.rising.control, received.falling.control),
        ):
            m.submodules += Instance(
                "IDDRX1F",
                i_D=self._delayed(m, wire, self._steps["rx"]),
                i_SCLK=ClockSignal("rx"),
                i_RST=Const(0),
                o_Q0=rising,
                o_Q1=falling,
            )
        for wire, rising, falling, steps in (
            *((self.tx_data[n], sent.rising.data[n], sent.falling.data[n], 0) for n in range(4)),
            (self.tx_control, sent.rising.control, sent.falling.control, 0),
            (self.tx_clock, Const(1, 1), Const(0, 1), self._steps["tx"]),
        ):
            before = Signal()
            m.submodules += Instance(
                "ODDRX1F",
                i_D0=rising,
                i_D1=falling,
                i_SCLK=ClockSignal("tx"),
                i_RST=ResetSignal("tx", allow_reset_less=True),
                o_Q=before,
            )
            m.d.comb += wire.eq(self._delayed(m, before, steps))
        return m

    @staticmethod
    def _delayed(m, wire, steps):
        if not steps:
            return wire
        behind = Signal()
        m.submodules += Instance("DELAYG", p_DEL_MODE="USER_DEFINED", p_DEL_VALUE=steps, i_A=wire, o_Z=behind)
        return behind
