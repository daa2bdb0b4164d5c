"""The board's side of a session on the serial link, whatever card it has behind it (docs/serial.md)."""

from amaranth.hdl import Module, Mux, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.cobs import CobsDecoder, CobsEncoder
from hdl.registers import RegisterBus
from hdl.ring_writer import MemoryWrite
from hdl.serial_frame import DEFAULT_BAUD, LINK, LINK_ADDRESS, LINK_VERSION, NUMBERED, BoardKind, Down, Up, pack
from hdl.serial_link import FrameReceiver, FrameSender, LineWindow, PacketBuffer
from hdl.uart import SAMPLES, UartReceiver, UartTransmitter


class SerialSession(wiring.Component):
    """UART, link, and what is kept of both ways, of a board of this ``kind``. ``clock`` is in Hz and at least ``samples`` times ``baud``.

    ``packets`` are the bytes that PACKETS frames carry, ``lines`` go to the host, WRITE and READ frames use the ``bus``.
    ``finished`` and ``stalled`` are those of STATUS. ``restarts`` resets the card: another session begins. The board only answers:
    it has no timer, and what it says unasked is that something has changed. ``is_open`` says that there is a session, ``packet`` that
    ``finished`` has grown.
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
        self._link = int.from_bytes(pack(LINK, version=LINK_VERSION, kind=kind), "little")
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

        # What a session has is reset by the next one. An answer begins after that.
        frame = receiver.frame
        session, opens, asked = Signal(32), self.restarts, Signal()
        of_session = receiver.good & (frame.session == session) & (session != 0)
        m.d.sync += [opens.eq(0), asked.eq(receiver.good | receiver.bad), sender.asked.eq(asked)]
        with m.If(receiver.good & (frame.kind == Down.OPEN) & (frame.session != session)):
            m.d.sync += opens.eq(1)
        restarted = ResetInserter(opens)
        m.submodules.buffer = buffer = restarted(PacketBuffer())
        m.submodules.window = window = restarted(LineWindow())
        wiring.connect(m, buffer.o, wiring.flipped(self.packets))
        wiring.connect(m, wiring.flipped(self.lines), window.i)

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

        finished = Signal.like(self.finished)
        m.d.sync += finished.eq(self.finished)
        m.d.comb += [self.is_open.eq(session != 0), self.packet.eq(self.finished != finished)]

        # Registers: the address stands long enough that what is read is there.
        reads, value = Signal(8), Signal(64)
        m.d.comb += [
            self.bus.address.eq(frame.address),
            self.bus.write_data.eq(frame.value),
            self.bus.write.eq(takes & (frame.kind == Down.WRITE)),
        ]
        with m.If(takes & (frame.kind == Down.READ)):
            m.d.sync += [
                reads.eq(reads + 1),
                value.eq(Mux(frame.address == LINK_ADDRESS, self._link, self.bus.read_data)),
            ]

        with m.If(opens):
            m.d.sync += session.eq(frame.session)
            m.d.sync += [register.eq(0) for register in (expected, dropped, reads, value)]
        status = sender.status
        m.d.comb += [
            status.kind.eq(Up.STATUS),
            status.sequence.eq(window.following),
            status.acknowledged.eq(expected),
            status.taken.eq(buffer.taken),
            status.session.eq(session),
            status.finished.eq(self.finished),
            status.stalled.eq(self.stalled),
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
