"""What a board's chip holds, up to its pins: a card, its way to the host, and the lights."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.boards.board import Board
from hdl.boards.lights import Lights
from hdl.card import Card
from hdl.sbe_venue import Venue
from hdl.serial_card import SerialCard
from hdl.uart import LEAST_SAMPLES, SAMPLES

LIGHTS = ("alive", "traffic", "waits")
"""In the order in which a board's LEDs take them."""


def make_card(board: Board, venue: Venue | None, source: int = 0) -> Card:
    """The card of a board; see :meth:`hdl.boards.board.Board.fix_width_beside`."""
    return Card(venue, board.flows, board.fix_width_beside(venue is not None), source)


class SerialTop(wiring.Component):
    """A board whose way to the host is its UART. All in one clock domain."""

    rx: In(1, init=1)
    tx: Out(1, init=1)
    alive: Out(1)
    traffic: Out(1)
    waits: Out(1)

    def __init__(self, board: Board, card: Card):
        self.board = board
        self._card = card
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        board = self.board
        samples = min(SAMPLES, max(LEAST_SAMPLES, board.clock_hz // board.baud))
        m.submodules.link = link = SerialCard(self._card, board.clock_hz, board.baud, samples)
        m.submodules.lights = lights = Lights(board.clock_hz)
        m.d.comb += [
            link.rx.eq(self.rx),
            self.tx.eq(link.tx),
            lights.is_open.eq(link.is_open),
            lights.packet.eq(link.packet),
            lights.stalled.eq(link.stalled),
            *(getattr(self, name).eq(getattr(lights, name)) for name in LIGHTS),
        ]
        return m


def make_top(board: Board, interface: str, card: Card) -> SerialTop:
    """What is on a board whose way to the host is ``interface``. Raises ValueError where it has none of that name."""
    if interface not in board.interfaces:
        raise ValueError(f"{board.name} has no {interface}: (there is {', '.join(board.interfaces)})")
    return SerialTop(board, card)
