"""What a board's chip holds, up to its pins: a card, its way to the host, and the lights."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.boards.board import Board
from hdl.boards.lights import Lights
from hdl.card import Card
from hdl.sbe_venue import Venue
from hdl.serial_card import SerialCard
from hdl.serial_fix_card import SerialFixCard
from hdl.uart import LEAST_SAMPLES, SAMPLES

LIGHTS = ("alive", "traffic", "waits")
"""In the order in which a board's LEDs take them."""


class SerialTop(wiring.Component):
    """A board whose way to the host is its UART. All in one clock domain."""

    rx: In(1, init=1)
    tx: Out(1, init=1)
    alive: Out(1)
    traffic: Out(1)
    waits: Out(1)

    def __init__(self, board: Board, card: SerialCard | SerialFixCard):
        self.board = board
        self._card = card
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.card = card = self._card
        m.submodules.lights = lights = Lights(self.board.clock_hz)
        m.d.comb += [
            card.rx.eq(self.rx),
            self.tx.eq(card.tx),
            lights.is_open.eq(card.is_open),
            lights.packet.eq(card.packet),
            lights.stalled.eq(card.stalled),
            *(getattr(self, name).eq(getattr(lights, name)) for name in LIGHTS),
        ]
        return m


def make_top(board: Board, interface: str, venue: Venue | None = None, source: int = 0) -> SerialTop:
    """What is on a board whose way to the host is ``interface``: a card with FIX, and where there is a ``venue`` with SBE beside it,
    or instead of it where both do not fit. ``source`` is what the card's register says.

    Raises ValueError where the board has no such interface, or no room for SBE.
    """
    if interface not in board.interfaces:
        raise ValueError(f"{board.name} has no interface '{interface}' (there is {', '.join(board.interfaces)})")
    fix_width = board.fix_width_beside(venue is not None)
    samples = min(SAMPLES, max(LEAST_SAMPLES, board.clock_hz // board.baud))
    if board.is_small:
        return SerialTop(board, SerialFixCard(board.clock_hz, board.baud, samples, source))
    card = Card(venue, board.flows, fix_width, source)
    return SerialTop(board, SerialCard(card, board.clock_hz, board.baud, samples))
