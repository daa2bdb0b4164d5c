"""A board's top at its pins."""

from amaranth.hdl import ClockDomain, Elaboratable, Module
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer

from hdl.boards.ecp5_pll import Ecp5Pll
from hdl.boards.top import LIGHTS, SerialTop


class OnPlatform(Elaboratable):
    """``top`` with its clock, its UART and its LEDs, as the platform of amaranth-boards has them."""

    def __init__(self, top: SerialTop):
        self._top = top

    def elaborate(self, platform):
        m = Module()
        m.submodules.top = top = self._top
        if top.board.clock_hz != platform.default_clk_frequency:
            self._make_clock(m, platform)

        def pin(name, direction, port):
            m.submodules[f"{name}_buffer"] = buffer = io.Buffer(direction, port)
            return buffer.i if direction == "i" else buffer.o

        uart = platform.request("uart", 0, dir="-")
        m.d.comb += [top.rx.eq(pin("rx", "i", uart.rx)), pin("tx", "o", uart.tx).eq(top.tx)]
        for name, resource in zip(LIGHTS, top.board.lights, strict=False):
            led, number, *colour = resource.split()
            port = platform.request(led, int(number), dir="-")
            m.d.comb += pin(name, "o", getattr(port, *colour) if colour else port).eq(getattr(top, name))
        return m

    def _make_clock(self, m, platform):
        """The domain ``sync``, where the board's own clock has another rate: an ECP5, then."""
        board = self._top.board
        rate = int(platform.default_clk_frequency)
        m.submodules.clock_buffer = clock = io.Buffer("i", platform.request(platform.default_clk, dir="-"))
        m.submodules.pll = pll = Ecp5Pll(rate, [board.clock_hz])
        m.domains.sync = sync = ClockDomain()
        resets = ~pll.locked
        if platform.default_rst is not None:
            m.submodules.reset_buffer = reset = io.Buffer("i", platform.request(platform.default_rst, dir="-"))
            resets |= reset.i
        m.submodules.reset = ResetSynchronizer(resets, domain="sync")
        m.d.comb += [pll.i.eq(clock.i), sync.clk.eq(pll.o[0])]
        platform.add_clock_constraint(sync.clk, board.clock_hz)
