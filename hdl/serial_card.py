"""The card on a board that has nothing but two wires to its host (docs/serial.md)."""

from amaranth.hdl import Module, ResetInserter
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.cobs import CobsDecoder, CobsEncoder
from hdl.limits import FLOWS
from hdl.link_frame import Down, Up, board_word
from hdl.link_session import LinkSession, SessionFrame, SessionStatus
from hdl.sbe_venue import Venue
from hdl.serial_frame import DEFAULT_BAUD, LINK_VERSION
from hdl.serial_link import FrameReceiver, FrameSender, LineWindow, PacketBuffer, PacketReader
from hdl.uart import SAMPLES, UartReceiver, UartTransmitter


class SerialCard(wiring.Component):
    """A card and its link. ``card`` has the ports of :class:`hdl.card.Card`; ``flows`` and ``venue`` are those that it was made with. ``clock`` is in
    Hz and at least ``samples`` times ``baud``.

    The board only answers: it has no timer, and what it says unasked is that something has changed. A new session resets the card.
    """

    rx: In(1, init=1)
    tx: Out(1, init=1)

    def __init__(
        self,
        card: wiring.Component,
        clock: int,
        baud: int = DEFAULT_BAUD,
        samples: int = SAMPLES,
        *,
        flows: int = FLOWS,
        venue: Venue | None = None,
    ):
        self._card = card
        self._receiver = UartReceiver(clock, baud, samples)
        self._transmitter = UartTransmitter(clock, baud)
        self._board = board_word(LINK_VERSION, flows, venue)
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.uart_receiver = uart_receiver = self._receiver
        m.submodules.decoder = decoder = CobsDecoder()
        m.submodules.receiver = receiver = FrameReceiver()
        m.submodules.session = session = LinkSession()
        m.submodules.sender = sender = FrameSender()
        m.submodules.encoder = encoder = CobsEncoder()
        m.submodules.uart_transmitter = uart_transmitter = self._transmitter
        m.d.comb += [uart_receiver.rx.eq(self.rx), self.tx.eq(uart_transmitter.tx)]
        wiring.connect(m, uart_receiver.o, decoder.i)
        wiring.connect(m, decoder.o, receiver.i)
        wiring.connect(m, sender.o, encoder.i)
        wiring.connect(m, encoder.o, uart_transmitter.i)

        # What a session has, its card too, is reset by the next one.
        restarted = ResetInserter(session.opens)
        m.submodules.card = card = restarted(self._card)
        m.submodules.buffer = buffer = restarted(PacketBuffer())
        m.submodules.reader = reader = restarted(PacketReader())
        m.submodules.window = window = restarted(LineWindow())
        wiring.connect(m, buffer.o, reader.i)
        wiring.connect(m, reader.o, card.packets)
        wiring.connect(m, card.memory, window.i)
        wiring.connect(m, session.bus, card.bus)

        frame = receiver.frame
        m.d.comb += [
            *(session.frame[name].eq(frame[name]) for name in SessionFrame.members),
            session.good.eq(receiver.good),
            session.bad.eq(receiver.bad),
            session.fits.eq(buffer.fits | (frame.kind != Down.PACKETS)),
            session.outside.eq(self._board),
            session.card_stalled.eq(card.stalled),
            buffer.body.eq(receiver.body),
            buffer.has_body.eq(receiver.has_body),
            buffer.commit.eq(session.takes & (frame.kind == Down.PACKETS)),
            buffer.drop.eq(receiver.good | receiver.bad),
            window.acknowledge.eq(session.of_session),
            window.acknowledged.eq(frame.acknowledged),
            window.go_back.eq(frame.kind == Down.POLL),
        ]
        status = sender.status
        m.d.comb += [
            *(status[name].eq(session.status[name]) for name in SessionStatus.members),
            status.kind.eq(Up.STATUS),
            status.sequence.eq(window.following),
            status.taken.eq(buffer.taken),
            status.finished.eq(card.finished),
            sender.asked.eq(session.asked),
            sender.has_line.eq(window.has_line),
            sender.line.eq(window.line),
            window.sent.eq(sender.sent),
            window.slot.eq(sender.slot),
            window.place.eq(sender.place),
            sender.byte.eq(window.byte),
        ]
        return m
