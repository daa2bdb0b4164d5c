"""The card on a board that has nothing but two wires to its host (docs/serial.md)."""

from amaranth.hdl import Module, Mux, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.card import Card
from hdl.cobs import CobsDecoder, CobsEncoder
from hdl.serial_frame import (
    DEFAULT_BAUD,
    LINK_ADDRESS,
    LINK_VERSION,
    NUMBERED,
    Down,
    Up,
)
from hdl.serial_link import FrameReceiver, FrameSender, LineWindow, PacketBuffer, PacketReader
from hdl.uart import SAMPLES, UartReceiver, UartTransmitter

STALLED_CYCLES = 64
"""How long the card must have waited for credit to say so: longer than its pipeline takes to use what was written."""


class SerialCard(wiring.Component):
    """A card and its link. ``clock`` is in Hz and at least ``samples`` times ``baud``. ``is_open`` says that a host has begun a session,
    ``packet`` that the card is done with one, ``stalled`` that it waits for credit.

    The board only answers: it has no timer, and what it says unasked is that something has changed. A new session resets the card.
    """

    rx: In(1, init=1)
    tx: Out(1, init=1)
    is_open: Out(1)
    packet: Out(1)
    stalled: Out(1)

    def __init__(self, card: Card, clock: int, baud: int = DEFAULT_BAUD, samples: int = SAMPLES):
        self._receiver = UartReceiver(clock, baud, samples)
        self._transmitter = UartTransmitter(clock, baud)
        self._card = card
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.uart_receiver = uart_receiver = self._receiver
        m.submodules.decoder = decoder = CobsDecoder()
        m.submodules.receiver = receiver = FrameReceiver()
        m.submodules.sender = sender = FrameSender()
        m.submodules.encoder = encoder = CobsEncoder()
        m.submodules.uart_transmitter = uart_transmitter = self._transmitter
        m.d.comb += [uart_receiver.rx.eq(self.rx), self.tx.eq(uart_transmitter.tx)]
        wiring.connect(m, uart_receiver.o, decoder.i)
        wiring.connect(m, decoder.o, receiver.i)
        wiring.connect(m, sender.o, encoder.i)
        wiring.connect(m, encoder.o, uart_transmitter.i)

        # What a session has, its card too, is reset by the next one. An answer begins after that.
        frame = receiver.frame
        session, opens, asked = Signal(32), Signal(), Signal()
        of_session = receiver.good & (frame.session == session) & (session != 0)
        m.d.sync += [opens.eq(0), asked.eq(receiver.good | receiver.bad), sender.asked.eq(asked)]
        with m.If(receiver.good & (frame.kind == Down.OPEN) & (frame.session != session)):
            m.d.sync += opens.eq(1)
        restarted = ResetInserter(opens)
        m.submodules.card = card = restarted(self._card)
        m.submodules.buffer = buffer = restarted(PacketBuffer())
        m.submodules.reader = reader = restarted(PacketReader())
        m.submodules.window = window = restarted(LineWindow())
        wiring.connect(m, buffer.o, reader.i)
        wiring.connect(m, reader.o, card.packets)
        wiring.connect(m, card.memory, window.i)

        # Numbered frames: the one that is expected is taken, those that came before are known, those behind it come again.
        expected, dropped = Signal(8), Signal(8)
        ahead = Signal(8)
        takes = Signal()
        with m.Switch(frame.kind):
            with m.Case(*NUMBERED):
                m.d.comb += takes.eq(of_session & (ahead == 0) & (buffer.fits | (frame.kind != Down.PACKETS)))
                with m.If(of_session & ~takes & ~ahead[-1]):
                    m.d.sync += dropped.eq(dropped + 1)
        m.d.comb += ahead.eq(frame.sequence - expected)
        with m.If(receiver.bad):
            m.d.sync += dropped.eq(dropped + 1)
        with m.If(takes):
            m.d.sync += expected.eq(expected + 1)
        m.d.comb += [
            buffer.body.eq(receiver.body),
            buffer.has_body.eq(receiver.has_body),
            buffer.commit.eq(takes & (frame.kind == Down.PACKETS)),
            buffer.drop.eq(receiver.good | receiver.bad),
            window.acknowledge.eq(of_session),
            window.acknowledged.eq(frame.acknowledged),
            window.go_back.eq(frame.kind == Down.POLL),
        ]

        # Registers: the address stands long enough that what is read is there.
        reads, value = Signal(8), Signal(64)
        m.d.comb += [
            card.bus.address.eq(frame.address),
            card.bus.write_data.eq(frame.value),
            card.bus.write.eq(takes & (frame.kind == Down.WRITE)),
        ]
        with m.If(takes & (frame.kind == Down.READ)):
            m.d.sync += [
                reads.eq(reads + 1),
                value.eq(Mux(frame.address == LINK_ADDRESS, LINK_VERSION, card.bus.read_data)),
            ]

        finished = Signal.like(card.finished)
        m.d.sync += finished.eq(card.finished)
        m.d.comb += [
            self.is_open.eq(session != 0),
            self.packet.eq(card.finished != finished),
            self.stalled.eq(card.stalled),
        ]

        # For how long the card has waited for credit.
        waited = Signal(range(STALLED_CYCLES + 1))
        stalled = waited == STALLED_CYCLES
        with m.If(~card.stalled | card.bus.write):
            m.d.sync += waited.eq(0)
        with m.Elif(~stalled):
            m.d.sync += waited.eq(waited + 1)

        with m.If(opens):
            m.d.sync += session.eq(frame.session)
            m.d.sync += [register.eq(0) for register in (expected, dropped, reads, value, waited)]
        status = sender.status
        m.d.comb += [
            status.kind.eq(Up.STATUS),
            status.sequence.eq(window.following),
            status.acknowledged.eq(expected),
            status.taken.eq(buffer.taken),
            status.session.eq(session),
            status.finished.eq(card.finished),
            status.stalled.eq(stalled),
            status.dropped.eq(dropped),
            status.reads.eq(reads),
            status.value.eq(value),
            sender.has_line.eq(window.has_line),
            sender.line.eq(window.line),
            window.sent.eq(sender.sent),
            window.slot.eq(sender.slot),
            window.place.eq(sender.place),
            sender.byte.eq(window.byte),
        ]
        return m
