"""What a board's chip holds, up to its pins: a card, its way to the host, and the lights."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.boards.board import Board, Way
from hdl.boards.lights import Lights
from hdl.card import Card
from hdl.dma_pcie import BLOCK_PORTS
from hdl.ethernet_card import EthernetCard
from hdl.pcie_card import PcieCard
from hdl.rgmii import RgmiiEdges
from hdl.sbe_venue import Venue
from hdl.serial_card import SerialCard
from hdl.serial_fix_card import SerialFixCard
from hdl.uart import LEAST_SAMPLES, SAMPLES

LIGHTS = ("alive", "traffic", "waits")
"""In the order in which a board's LEDs take them."""

WIRES = {
    "serial": {"rx": In(1, init=1), "tx": Out(1, init=1)},
    "eth": {"rx": In(RgmiiEdges), "tx": Out(RgmiiEdges), "traffic_rx": In(RgmiiEdges)},
    "pcie": BLOCK_PORTS,
}
"""Ports of each interface, those of the card; ``traffic_rx`` is there where a port is for traffic alone."""


class Top(wiring.Component):
    """A card at its interface, and the lights, in the domain ``sync``; with eth there are the domains of ``EthernetCard`` too."""

    def __init__(self, board: Board, way: Way, card: SerialCard | SerialFixCard | EthernetCard | PcieCard):
        self.board, self.way = board, way
        self._card = card
        wires = {name: member for name, member in WIRES[way.interface].items() if hasattr(card, name)}
        super().__init__({**wires, **dict.fromkeys(LIGHTS, Out(1))})
        self._wires = wires

    def elaborate(self, platform):
        m = Module()
        m.submodules.card = card = self._card
        m.submodules.lights = lights = Lights(self.way.clock_hz)
        for name, member in self._wires.items():
            ours, its = getattr(self, name), getattr(card, name)
            if member.is_signature:
                wiring.connect(m, wiring.flipped(ours), its)
            else:
                m.d.comb += its.eq(ours) if member.flow is In else ours.eq(its)
        m.d.comb += [
            lights.is_open.eq(card.is_open),
            lights.packet.eq(card.packet),
            lights.stalled.eq(card.stalled),
            *(getattr(self, name).eq(getattr(lights, name)) for name in LIGHTS),
        ]
        return m


def make_top(board: Board, way: Way, venue: Venue | None = None, source: int = 0) -> Top:
    """What is on a board: a card with FIX, and where there is a ``venue`` with SBE beside it, or instead of it where both do not fit.
    ``source`` is what the card's register says.

    Raises ValueError where that does not fit.
    """
    fix_width = board.fix_width(way, venue is not None)
    samples = min(SAMPLES, max(LEAST_SAMPLES, way.clock_hz // board.baud))
    if way.is_small:
        return Top(board, way, SerialFixCard(way.clock_hz, board.baud, samples, source))
    card = Card(venue, way.flows, fix_width, source)
    if way.interface == "eth":
        return Top(board, way, EthernetCard(card, way.clock_hz, ports=len(way.ports)))
    if way.interface == "pcie":
        return Top(board, way, PcieCard(card))
    return Top(board, way, SerialCard(card, way.clock_hz, board.baud, samples))
