"""The board's end of the serial link: frames in and out, and what it keeps of both ways (docs/serial.md)."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import crc, data, memory, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out

from hdl.beat import LANES, PacketBeat
from hdl.cobs import PacketByte
from hdl.link_frame import Up, size
from hdl.ring_layout import LINE_BYTES
from hdl.ring_writer import MemoryWrite
from hdl.serial_frame import (
    CRC_BYTES,
    DOWN_HEADER,
    LINE_BODY,
    LINE_WINDOW,
    PACKET_BUFFER_BYTES,
    PACKET_HEADER,
    REGISTER_BODY,
    STATUS_BODY,
    UP_HEADER,
)

DownFrame = data.StructLayout({**DOWN_HEADER, **REGISTER_BODY})
UpFrame = data.StructLayout({**UP_HEADER, **STATUS_BODY})

COUNT_BITS = 16
"""Bytes of packets are counted modulo 2^16, as ``taken`` is."""

SLOT_BYTES = 128
"""A slot of the line window: a power of two."""


TOLD_BITS = 8
"""The host is told of packet bytes that were taken by the 256, or there would be a frame for each."""


class FrameReceiver(wiring.Component):
    """Takes a frame's bytes and says at its end whether it is good: ``good`` or ``bad`` is high for a cycle, 2 cycles after the
    last byte, and ``frame`` stays until the next frame's first byte. ``body`` hands on each byte behind the header, the CRC's too.

    A byte a cycle within a frame; between frames a cycle passes.
    """

    i: In(stream.Signature(PacketByte))
    frame: Out(DownFrame)
    good: Out(1)
    bad: Out(1)
    body: Out(8)
    has_body: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = check = crc.Parameters(CRC32_ISO_HDLC, data_width=8).create()
        header = size(DOWN_HEADER)
        # Counted as far as it matters: behind all that is kept of a frame.
        most = max(size(DOWN_HEADER | REGISTER_BODY), header + CRC_BYTES)
        place = Signal(range(most + 1))
        byte = self.i.payload
        m.d.comb += [check.data.eq(byte.data), self.body.eq(byte.data)]
        m.d.sync += [self.good.eq(0), self.bad.eq(0)]

        with m.FSM():
            with m.State("BYTES"):
                taken = self.i.valid
                m.d.comb += [self.i.ready.eq(1), check.valid.eq(taken), self.has_body.eq(taken & (place >= header))]
                with m.If(taken):
                    with m.If(place != most):
                        m.d.sync += place.eq(place + 1)
                    m.d.sync += Value.cast(self.frame).word_select(place, 8).eq(byte.data)
                    with m.If(byte.last):
                        m.next = "CHECK"
            with m.State("CHECK"):
                right = Signal()
                m.d.comb += [right.eq(check.match_detected & (place >= header + CRC_BYTES)), check.start.eq(1)]
                m.d.sync += [self.good.eq(right), self.bad.eq(~right), place.eq(0)]
                m.next = "BYTES"
        return m


class PacketBuffer(wiring.Component):
    """Keeps the bytes of packets until the card takes them.

    A frame's body is written as it comes, behind what is kept; with ``commit`` its bytes without its CRC are kept, with ``drop`` none.
    ``fits`` says that all of it had room. ``taken`` counts the bytes that have left. A byte every two cycles.
    """

    body: In(8)
    has_body: In(1)
    commit: In(1)
    drop: In(1)
    fits: Out(1, init=1)
    o: Out(stream.Signature(8))
    taken: Out(COUNT_BITS)

    def elaborate(self, platform):
        m = Module()
        m.submodules.bytes = rows = memory.Memory(shape=8, depth=PACKET_BUFFER_BYTES, init=[])
        write, read = rows.write_port(), rows.read_port()
        kept, end = Signal(COUNT_BITS), Signal(COUNT_BITS)  # behind the last byte that is kept, that was written
        has_room = Signal()
        m.d.comb += [
            has_room.eq((end - self.taken)[:COUNT_BITS] < PACKET_BUFFER_BYTES),
            write.addr.eq(end),
            write.data.eq(self.body),
            write.en.eq(self.has_body & has_room),
            read.addr.eq(self.taken),
        ]
        with m.If(self.has_body):
            m.d.sync += end.eq(end + 1)
            with m.If(~has_room):
                m.d.sync += [end.eq(end), self.fits.eq(0)]
        with m.If(self.commit):
            m.d.sync += [kept.eq(end - CRC_BYTES), end.eq(end - CRC_BYTES), self.fits.eq(1)]
        with m.Elif(self.drop):
            m.d.sync += [end.eq(kept), self.fits.eq(1)]

        fetched = Signal()
        m.d.comb += [self.o.valid.eq(fetched), self.o.payload.eq(read.data)]
        m.d.sync += fetched.eq(self.taken != kept)
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [self.taken.eq(self.taken + 1), fetched.eq(0)]
        return m


class PacketReader(wiring.Component):
    """Makes packets of the bytes that stand behind one another in the stream, each behind its PACKET_HEADER.

    A packet of 0 bytes is a beat of 0 bytes. A byte a cycle, and a cycle for each beat.
    """

    i: In(stream.Signature(8))
    o: Out(stream.Signature(PacketBeat))

    def elaborate(self, platform):
        m = Module()
        header = Signal(data.StructLayout(PACKET_HEADER))
        place = Signal(range(size(PACKET_HEADER)))
        left, count = Signal(32), Signal(range(LANES + 1))
        bytes_of_beat = Signal(data.ArrayLayout(8, LANES))
        m.d.comb += [
            self.o.payload.data.eq(bytes_of_beat),
            self.o.payload.count.eq(count),
            self.o.payload.last.eq(left == 0),
            self.o.payload.timestamp.eq(header.timestamp),
        ]
        with m.FSM():
            with m.State("HEADER"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += [Value.cast(header).word_select(place, 8).eq(self.i.payload), place.eq(place + 1)]
                    with m.If(place == size(PACKET_HEADER) - 1):
                        m.d.sync += [place.eq(0), left.eq(header.length)]
                        m.next = "BYTES"
                        with m.If(header.length == 0):
                            m.next = "BEAT"
            with m.State("BYTES"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += [bytes_of_beat[count].eq(self.i.payload), count.eq(count + 1), left.eq(left - 1)]
                    with m.If((count == LANES - 1) | (left == 1)):
                        m.next = "BEAT"
            with m.State("BEAT"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.d.sync += [count.eq(0), Value.cast(bytes_of_beat).eq(0)]
                    m.next = "BYTES"
                    with m.If(left == 0):
                        m.next = "HEADER"
        return m


class LineWindow(wiring.Component):
    """Keeps the card's lines, at most LINE_WINDOW, until the host has them. A line is taken within LINE_BYTES + 4 cycles.

    Lines are numbered modulo 256. With ``acknowledge`` those before ``acknowledged`` go; with ``go_back`` the oldest that is kept
    is sent next. ``line`` (where ``has_line``) is that number, and ``sent`` says that it is on its way. ``following`` is the number
    behind all lines that the card has written, the one that it is offering too. ``byte`` is that of ``slot`` and ``place`` a
    cycle before; of a line that is acknowledged while it is sent once more it may be another's, but who has the line drops it.
    """

    i: In(stream.Signature(MemoryWrite))
    acknowledge: In(1)
    acknowledged: In(8)
    go_back: In(1)
    line: Out(8)
    has_line: Out(1)
    sent: In(1)
    following: Out(8)
    slot: In(range(LINE_WINDOW))
    place: In(range(SLOT_BYTES))
    byte: Out(8)

    def elaborate(self, platform):
        m = Module()
        m.submodules.lines = lines = memory.Memory(shape=8, depth=LINE_WINDOW * SLOT_BYTES, init=[])
        write, read = lines.write_port(), lines.read_port()
        m.d.comb += [read.addr.eq(Cat(self.place, self.slot)), self.byte.eq(read.data)]

        oldest, end = Signal(8), Signal(8)
        first_bit = LINE_BYTES.bit_length() - 1  # of the address, below which it is 0
        content = Cat(self.i.payload.address[first_bit:][: LINE_BODY["line"]], self.i.payload.data.as_value())
        place = Signal(range(SLOT_BYTES))
        is_last = place == size(LINE_BODY) - 1
        m.d.comb += [
            write.addr.eq(Cat(place, end[: LINE_WINDOW.bit_length() - 1])),
            write.data.eq(content.word_select(place, 8)),
            write.en.eq(self.i.valid & ((end - oldest)[:8] != LINE_WINDOW)),
            self.i.ready.eq(write.en & is_last),
            self.has_line.eq(self.line != end),
            self.following.eq(end + self.i.valid),
        ]
        with m.If(write.en):
            m.d.sync += place.eq(Mux(is_last, 0, place + 1))
        with m.If(self.i.ready):
            m.d.sync += end.eq(end + 1)

        fewer = Signal(8)
        m.d.comb += fewer.eq(self.acknowledged - oldest)
        with m.If(self.sent):
            m.d.sync += self.line.eq(self.line + 1)
        with m.If(self.acknowledge & (fewer <= (end - oldest)[:8])):
            m.d.sync += oldest.eq(self.acknowledged)
            # Lines that were to be sent once more, and have come meanwhile.
            with m.If(self.go_back | (fewer > (self.line - oldest)[:8])):
                m.d.sync += self.line.eq(self.acknowledged)
        return m


class FrameSender(wiring.Component):
    """Sends ``status`` as it is when the frame begins, or the next line, with their CRC: lines first.

    ``asked`` asks for a status; one is sent too when what the host may wait for is another than in the last one. ``sent`` says that
    ``line`` is on its way. A byte every two cycles, and a cycle between frames.
    """

    status: In(UpFrame)
    asked: In(1)
    has_line: In(1)
    line: In(8)
    sent: Out(1)
    slot: Out(range(LINE_WINDOW))
    place: Out(range(SLOT_BYTES))
    byte: In(8)
    o: Out(stream.Signature(PacketByte))

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = check = crc.Parameters(CRC32_ISO_HDLC, data_width=8).create()
        frame, due = Signal(UpFrame), Signal()
        changes = Cat(self.status.finished, self.status.stalled, self.status.taken[TOLD_BITS:])
        told = Signal.like(changes)
        header, status_bytes, line_bytes = (
            size(UP_HEADER),
            size(UP_HEADER | STATUS_BODY),
            size(UP_HEADER) + size(LINE_BODY),
        )
        index = Signal(range(line_bytes + CRC_BYTES))
        is_line = frame.kind == Up.LINE
        end = Mux(is_line, line_bytes, status_bytes)
        from_line = is_line & (index >= header)
        m.d.comb += [self.slot.eq(frame.sequence), self.place.eq(index - header)]
        with m.If(self.asked):
            m.d.sync += due.eq(1)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.sent.eq(self.has_line), check.start.eq(1)]
                m.d.sync += [frame.eq(self.status), index.eq(0)]
                with m.If(self.has_line):
                    m.d.sync += [frame.kind.eq(Up.LINE), frame.sequence.eq(self.line)]
                    m.next = "FETCH"
                with m.Elif(due | (changes != told)):
                    m.d.sync += [told.eq(changes), due.eq(self.asked)]
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.next = "BYTE"
            with m.State("BYTE"):
                of_crc = index >= end
                last = index == end + CRC_BYTES - 1
                byte = Signal(8)
                with m.If(of_crc):
                    m.d.comb += byte.eq(check.crc.word_select((index - end)[:2], 8))
                with m.Elif(from_line):
                    m.d.comb += byte.eq(self.byte)
                with m.Else():
                    m.d.comb += byte.eq(Value.cast(frame).word_select(index, 8))
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.payload.data.eq(byte),
                    self.o.payload.last.eq(last),
                    check.data.eq(byte),
                    check.valid.eq(self.o.ready & ~of_crc),
                ]
                with m.If(self.o.ready):
                    m.d.sync += index.eq(index + 1)
                    m.next = "FETCH"
                    with m.If(last):
                        m.next = "IDLE"
        return m
