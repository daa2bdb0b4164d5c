"""The board's side of the serial link, whatever card it has behind it (docs/serial.md)."""

from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.cobs import CobsDecoder, CobsEncoder
from hdl.link_frame import BoardKind, Down, Up, board_word
from hdl.link_session import LinkSession, SessionFrame, SessionStatus
from hdl.registers import RegisterBus
from hdl.ring_writer import MemoryWrite
from hdl.serial_frame import DEFAULT_BAUD, LINK_VERSION
from hdl.serial_link import FrameReceiver, FrameSender, LineWindow, PacketBuffer
from hdl.uart import SAMPLES, UartReceiver, UartTransmitter


class SerialSession(wiring.Component):
    """UART, link, and what is kept of both ways, of a board of this ``kind``. ``clock`` is in Hz and at least ``samples`` times ``baud``.

    ``packets`` are the bytes that PACKETS frames carry, ``lines`` go to the host, WRITE and READ frames use the ``bus``.
    ``finished`` is that of STATUS, ``stalled`` says that the card waits for credit. ``restarts`` resets the card: another session begins. The board
    only answers: it has no timer, and what it says unasked is that something has changed. ``is_open`` says that there is a session,
    ``packet`` that ``finished`` has grown.
    """

    rx: In(1, init=1)
    tx: Out(1, init=1)
    packets: Out(stream.Signature(8))
    lines: In(stream.Signature(MemoryWrite))
    bus: Out(RegisterBus)
    finished: In(32)
    stalled: In(1)
    restarts: Out(1)
    is_open: Out(1)
    packet: Out(1)

    def __init__(self, kind: BoardKind, clock: int, baud: int = DEFAULT_BAUD, samples: int = SAMPLES):
        self._receiver = UartReceiver(clock, baud, samples)
        self._transmitter = UartTransmitter(clock, baud)
        self._board = board_word(LINK_VERSION, kind)
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

        # What a session has is reset by the next one.
        restarted = ResetInserter(session.opens)
        m.submodules.buffer = buffer = restarted(PacketBuffer())
        m.submodules.window = window = restarted(LineWindow())
        wiring.connect(m, buffer.o, wiring.flipped(self.packets))
        wiring.connect(m, wiring.flipped(self.lines), window.i)
        wiring.connect(m, session.bus, wiring.flipped(self.bus))

        frame = receiver.frame
        m.d.comb += [
            *(session.frame[name].eq(frame[name]) for name in SessionFrame.members),
            session.good.eq(receiver.good),
            session.bad.eq(receiver.bad),
            session.fits.eq(buffer.fits | (frame.kind != Down.PACKETS)),
            session.outside.eq(self._board),
            session.card_stalled.eq(self.stalled),
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
            status.finished.eq(self.finished),
            sender.asked.eq(session.asked),
            sender.has_line.eq(window.has_line),
            sender.line.eq(window.line),
            window.sent.eq(sender.sent),
            window.slot.eq(sender.slot),
            window.place.eq(sender.place),
            sender.byte.eq(window.byte),
        ]
        finished = Signal.like(self.finished)
        m.d.sync += finished.eq(self.finished)
        m.d.comb += [
            self.restarts.eq(session.opens),
            self.is_open.eq(session.status.session != 0),
            self.packet.eq(self.finished != finished),
        ]
        return m
