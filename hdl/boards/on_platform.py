"""A board's top at its pins."""

from amaranth.hdl import ClockDomain, Const, DomainRenamer, Elaboratable, Module
from amaranth.lib import io, wiring
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import In

from hdl.boards.ecp5_pll import Ecp5Pll
from hdl.boards.pcie_7x import Pcie7x, slot
from hdl.boards.top import LIGHTS, WIRES, Top
from hdl.boards.xilinx_pll import XilinxPll
from hdl.rgmii import Ecp5RgmiiPins

GIGABIT_HZ = 125_000_000
"""The clock of RGMII, either way."""


class OnPlatform(Elaboratable):
    """``top`` with its clocks, its interface and its LEDs, as the platform of amaranth-boards has them."""

    def __init__(self, top: Top):
        self._top = top

    def elaborate(self, platform):
        m = Module()
        m.submodules.top = top = self._top
        connect = {"serial": self._connect_uart, "eth": self._connect_ports, "pcie": self._connect_slot}
        connect[top.way.interface](m, platform)
        for name, resource in zip(LIGHTS, top.board.lights, strict=False):
            led, number, *colour = resource.split()
            port = platform.request(led, int(number), dir="-")
            m.d.comb += self._buffer(m, name, "o", getattr(port, *colour) if colour else port).eq(getattr(top, name))
        return m

    def _connect_uart(self, m, platform):
        top = self._top
        if top.way.clock_hz != platform.default_clk_frequency:
            self._make_clocks(m, platform, {"sync": top.way.clock_hz})
        uart = platform.request("uart", 0, dir="-")
        m.d.comb += [
            top.rx.eq(self._buffer(m, "rx", "i", uart.rx)),
            self._buffer(m, "tx", "o", uart.tx).eq(top.tx),
        ]

    def _connect_ports(self, m, platform):
        """The link's port has both ways, that of the traffic is silent."""
        top = self._top
        resets = self._make_clocks(m, platform, {"tx": GIGABIT_HZ, "sync": top.way.clock_hz})
        for port, domain in zip(top.way.ports, ("rx", "traffic_rx"), strict=False):
            pins = platform.request("eth_rgmii", port.number, dir="-")

            def pin(name, direction, domain=domain, pins=pins):
                # Boards name the control wires so or so.
                of = getattr(pins, name) if hasattr(pins, name) else getattr(pins, name.replace("ctl", "ctrl"))
                return self._buffer(m, f"{domain}_{name}", direction, of)

            rgmii = Ecp5RgmiiPins(port.rx_delay_ps, port.tx_delay_ps)
            m.submodules[f"{domain}_pins"] = DomainRenamer({"rx": domain})(rgmii)
            self._add_domain(m, platform, domain, pin("rx_clk", "i"), GIGABIT_HZ, resets)
            m.d.comb += [
                rgmii.rx_data.eq(pin("rx_data", "i")),
                rgmii.rx_control.eq(pin("rx_ctl", "i")),
                getattr(top, domain).eq(rgmii.received),
                rgmii.sent.eq(top.tx if domain == "rx" else Const(0)),
                pin("tx_data", "o").eq(rgmii.tx_data),
                pin("tx_ctl", "o").eq(rgmii.tx_control),
                pin("tx_clk", "o").eq(rgmii.tx_clock),
                # A pin that is not driven may hold the PHY in reset.
                pin("rst", "o").eq(0),
            ]

    def _connect_slot(self, m, platform):
        """The card's clock is that of the block, which brings its constraint."""
        top = self._top
        platform.add_resources([slot(platform.lookup("pcie"))])
        m.submodules.slot = pcie = Pcie7x(platform.request("pcie_lane", 0, dir="-"), WIRES["pcie"])
        domain = ClockDomain("sync")
        m.domains += domain
        m.d.comb += [domain.clk.eq(pcie.clock), domain.rst.eq(pcie.reset)]
        for name, member in WIRES["pcie"].items():
            ours, its = getattr(pcie, name), getattr(top, name)
            if member.is_signature:
                wiring.connect(m, ours, its)
            else:
                m.d.comb += its.eq(ours) if member.flow is In else ours.eq(its)

    @staticmethod
    def _buffer(m, name, direction, port):
        m.submodules[f"{name}_buffer"] = buffer = io.Buffer(direction, port)
        return buffer.i if direction == "i" else buffer.o

    def _make_clocks(self, m, platform, rates):
        """Domains of these rates, by their names, from the board's own clock. Returns what resets them."""
        clock = self._buffer(m, "clock", "i", platform.request(platform.default_clk, dir="-"))
        pll_of = {"ecp5": Ecp5Pll, "series7": XilinxPll}[platform.family]
        m.submodules.pll = pll = pll_of(int(platform.default_clk_frequency), list(rates.values()))
        m.d.comb += pll.i.eq(clock)
        resets = ~pll.locked
        if platform.default_rst is not None:
            resets |= self._buffer(m, "reset", "i", platform.request(platform.default_rst, dir="-"))
        for n, (domain, rate) in enumerate(rates.items()):
            self._add_domain(m, platform, domain, pll.o[n], rate, resets)
        return resets

    @staticmethod
    def _add_domain(m, platform, name, clock, rate, resets):
        domain = ClockDomain(name)
        m.domains += domain
        m.d.comb += domain.clk.eq(clock)
        m.submodules[f"{name}_reset"] = ResetSynchronizer(resets, domain=name)
        platform.add_clock_constraint(domain.clk, rate)
