"""The card on a board that has nothing but two wires to its host (docs/serial.md)."""

from amaranth.hdl import Module, ResetInserter
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.card import Card
from hdl.link_frame import BoardKind
from hdl.serial_frame import DEFAULT_BAUD
from hdl.serial_link import PacketReader
from hdl.serial_session import SerialSession
from hdl.uart import SAMPLES


class SerialCard(wiring.Component):
    """A card and its link. ``clock`` is in Hz and at least ``samples`` times ``baud``. A new session resets the card. ``is_open`` says that
    a host has begun one, ``packet`` that the card is done with a packet, ``stalled`` that it waits for credit."""

    rx: In(1, init=1)
    tx: Out(1, init=1)
    is_open: Out(1)
    packet: Out(1)
    stalled: Out(1)

    def __init__(self, card: Card, clock: int, baud: int = DEFAULT_BAUD, samples: int = SAMPLES):
        self._session = SerialSession(BoardKind.CARD, clock, baud, samples)
        self._card = card
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.session = session = self._session
        restarted = ResetInserter(session.restarts)
        m.submodules.card = card = restarted(self._card)
        m.submodules.reader = reader = restarted(PacketReader())
        wiring.connect(m, session.packets, reader.i)
        wiring.connect(m, reader.o, card.packets)
        wiring.connect(m, card.memory, session.lines)
        wiring.connect(m, session.bus, card.bus)
        m.d.comb += [
            session.rx.eq(self.rx),
            self.tx.eq(session.tx),
            session.finished.eq(card.finished),
            session.stalled.eq(card.stalled),
            self.is_open.eq(session.is_open),
            self.packet.eq(session.packet),
            self.stalled.eq(card.stalled),
        ]
        return m
