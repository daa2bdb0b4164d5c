"""A board too small for a whole card: it reads FIX, and its host does the rest (docs/serial.md)."""

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import POSITION_BITS, payload_beat
from hdl.fix_parser import SmallFixParser
from hdl.flow import Parser
from hdl.link_frame import BoardKind, size
from hdl.register_map import ADDRESS, IDENTITY, VERSION, parsers_code
from hdl.ring_layout import LINE_BYTES
from hdl.serial_frame import DEFAULT_BAUD, ENTRIES, SEGMENT_HEADER, Segment
from hdl.serial_session import SerialSession
from hdl.uart import SAMPLES


class SegmentReader(wiring.Component):
    """Makes a flow's payload of the bytes of segments that stand behind one another, each behind its SEGMENT_HEADER.

    A byte a cycle, and a cycle for a gap.
    """

    i: In(stream.Signature(8))
    o: Out(stream.Signature(payload_beat(1)))

    def elaborate(self, platform):
        m = Module()
        header = Signal(data.StructLayout(SEGMENT_HEADER))
        place = Signal(range(size(SEGMENT_HEADER)))
        position = Signal(POSITION_BITS)
        flags = header.flags
        beat = self.o.payload
        m.d.comb += [
            beat.position.eq(position),
            beat.timestamp.eq(header.timestamp),
            beat.fragment.eq((flags & Segment.FRAGMENT).any()),
            beat.data[0].eq(self.i.payload),
            beat.count.eq(1),
            beat.last.eq(header.length == 1),
        ]
        with m.FSM():
            with m.State("HEADER"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    # The first byte comes first, and is lowest when all are there.
                    m.d.sync += [header.eq(Cat(header.as_value()[8:], self.i.payload)), place.eq(place + 1)]
                    with m.If(place == size(SEGMENT_HEADER) - 1):
                        m.d.sync += place.eq(0)
                        m.next = "GAP"
            with m.State("GAP"):
                m.d.comb += [
                    self.o.valid.eq((flags & Segment.GAP).any()),
                    beat.gap.eq(1),
                    beat.count.eq(0),
                    beat.last.eq(0),
                    beat.data.eq(header.missing),
                ]
                with m.If(~self.o.valid | self.o.ready):
                    m.next = "BYTES"
            with m.State("BYTES"):
                m.d.comb += [self.o.valid.eq(self.i.valid), self.i.ready.eq(self.o.ready)]
                with m.If(self.o.valid & self.o.ready):
                    m.d.sync += [header.length.eq(header.length - 1), position.eq(position + 1)]
                    with m.If(beat.last):
                        m.next = "HEADER"
        return m


class SerialFixCard(wiring.Component):
    """Parser and link. ``clock`` is in Hz and at least ``samples`` times ``baud``; ``source`` is what the register says. A new session
    resets the parser. ``is_open``, ``packet`` and ``stalled`` are those of ``SerialCard``; it never waits for credit.

    A frame goes up as a line: ``payload_offset`` has where its message starts in the flow's stream, modulo 2^16, ``payload_length``
    how long it is, ``generation`` whether it is ENTRIES; the line's number is that of the segment with the message's last byte.
    ``finished`` counts segments.
    """

    rx: In(1, init=1)
    tx: Out(1, init=1)
    is_open: Out(1)
    packet: Out(1)
    stalled: Out(1)

    def __init__(self, clock: int, baud: int = DEFAULT_BAUD, samples: int = SAMPLES, source: int = 0):
        self._session = SerialSession(BoardKind.FIX, clock, baud, samples)
        self._source = source
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.session = session = self._session
        restarted = ResetInserter(session.restarts)
        m.submodules.reader = reader = restarted(SegmentReader())
        m.submodules.parser = parser = restarted(SmallFixParser())
        wiring.connect(m, session.packets, reader.i)
        wiring.connect(m, reader.o, parser.i)

        parsed, line = parser.o, session.lines
        frame, message = parsed.payload.frame, parsed.payload.message
        m.d.comb += [
            session.rx.eq(self.rx),
            self.tx.eq(session.tx),
            self.is_open.eq(session.is_open),
            self.packet.eq(session.packet),
            line.valid.eq(parsed.valid & parsed.payload.has_frame),
            parsed.ready.eq(line.ready | ~parsed.payload.has_frame),
            line.payload.address.eq(Cat(Const(0, (LINE_BYTES - 1).bit_length()), session.finished)),
            line.payload.data.eq(frame),
        ]
        record = frame.shape()(line.payload.data.as_value())
        finished = Signal(32)
        m.d.comb += [
            record.payload_offset.eq(message.start),
            record.payload_length.eq(message.length),
            record.generation.eq(Mux(message.entries, ENTRIES, 0)),
            session.finished.eq(finished),
        ]
        with m.If(parsed.valid & parsed.ready & message.packet_end):
            m.d.sync += finished.eq(finished + 1)
        with m.If(session.restarts):
            m.d.sync += finished.eq(0)

        with m.Switch(session.bus.address):
            for name, value in {
                "identity": IDENTITY,
                "version": VERSION,
                "flow_rows": 1,
                "parsers": parsers_code([Parser.FIX]),
                "source": self._source,
            }.items():
                with m.Case(ADDRESS[name]):
                    m.d.comb += session.bus.read_data.eq(value)
        return m
