"""The board's end of the Ethernet link: its frames in and out, and packets from the port to the card (docs/eth.md)."""

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import PacketBeat
from hdl.crossing import from_gray
from hdl.ethernet_frame import (
    BROADCAST,
    DOWN_HEADER,
    HEADER_WORDS,
    LINE_BODY,
    LINE_STORE_WORDS,
    LINE_WORDS,
    MAC_BYTES,
    MOST_LINES,
    REGISTER_BODY,
    UP_HEADER,
)
from hdl.headers import ETHERTYPE_BYTES
from hdl.link_frame import Down, Up
from hdl.mac import WORD_BYTES, MacWord
from hdl.packet_store import PacketHead, StoredWord
from hdl.ring_layout import LINE_BYTES
from hdl.ring_writer import MemoryWrite

ADDRESSES = {"destination": 8 * MAC_BYTES, "source": 8 * MAC_BYTES, "ethertype": 8 * ETHERTYPE_BYTES}
"""The first byte in the lowest bits, so these three are read the other way round than all that follows."""

DownPacket = data.StructLayout({**ADDRESSES, **DOWN_HEADER, **REGISTER_BODY})
UpPacket = data.StructLayout({**ADDRESSES, **UP_HEADER})

CYCLE_NS_LOG2 = 3
"""The clock's code counts cycles of 8 ns."""

MARKS = 8
"""MARKs that wait until the packets before them are done; then packets wait."""


def on_wire(number: int, length: int) -> int:
    """A number whose highest byte comes first, as a field of ADDRESSES."""
    return int.from_bytes(number.to_bytes(length, "big"), "little")


class LinkReceiver(wiring.Component):
    """Reads packets of the link. ``good`` is high for a cycle when ``packet`` is one for ``address`` or for all; it stands until the next one
    begins. A word a cycle."""

    i: In(stream.Signature(StoredWord))
    packet: Out(DownPacket)
    good: Out(1)

    def __init__(self, address: int):
        self._address = address
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        words = -(-DownPacket.size // StoredWord["data"].width)
        place = Signal(range(words + 1))
        bits = Signal(words * StoredWord["data"].width)
        ours, complete = Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(1),
            self.packet.eq(bits),
            ours.eq(
                (self.packet.destination == on_wire(self._address, MAC_BYTES)) | (self.packet.destination == BROADCAST)
            ),
        ]
        m.d.sync += [complete.eq(0), self.good.eq(complete & ours)]
        with m.If(self.i.valid):
            with m.If(self.i.payload.first):
                m.d.sync += place.eq(0)
            with m.Else():
                with m.If(place != words):
                    m.d.sync += [
                        bits.word_select(place, StoredWord["data"].width).eq(self.i.payload.data.as_value()),
                        place.eq(place + 1),
                    ]
                m.d.sync += complete.eq(self.i.payload.last & (place == words))
        return m


class PacketFeed(wiring.Component):
    """Gives stored packets to the card, with their time in ns: the port's clock and ``base``.

    A packet is passed over unless ``runs`` was high when it began; ``abandons`` passes over the rest of one. Packets of the link's own EtherType go
    no further, but of a MARK of ``session``, ``finished`` takes its value when ``done`` packets are all that were handed over before it. ``done`` counts modulo
    2^32, and ``abandons`` sets both counts to 0.

    A beat a cycle, and 4 cycles between packets.
    """

    i: In(stream.Signature(StoredWord))
    o: Out(stream.Signature(PacketBeat))
    base: In(64)
    session: In(32)
    runs: In(1)
    abandons: In(1)
    done: In(32)
    finished: Out(32)

    def elaborate(self, platform):
        m = Module()
        m.submodules.marks = marks = ResetInserter(self.abandons)(fifo.SyncFIFOBuffered(width=64, depth=MARKS))
        word = self.i.payload
        head = PacketHead(word.data.as_value())
        code, ns, timestamp = Signal.like(head.time), Signal(64), Signal(64)
        goes, is_link = Signal(), Signal()
        handed = Signal(32)

        # The first bytes of a packet of the link.
        packet = Signal(DownPacket)
        width = StoredWord["data"].width
        words = -(-DownPacket.size // width)
        place = Signal(range(words + 1))
        is_mark = is_link & (packet.kind == Down.MARK) & (packet.session == self.session) & (self.session != 0)

        m.d.comb += [
            self.o.payload.data.eq(word.data),
            self.o.payload.count.eq(word.top + 1),
            self.o.payload.last.eq(word.last),
            self.o.payload.timestamp.eq(timestamp),
            marks.w_data.eq(Cat(handed, packet.value[:32])),
        ]
        m.d.sync += handed.eq(handed + (self.o.valid & self.o.ready & word.last))
        with m.FSM():
            with m.State("HEAD"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [place.eq(0), code.eq(head.time), is_link.eq(head.is_link)]
                with m.If(self.i.valid & word.first):
                    m.next = "TIME"
            with m.State("TIME"):
                m.d.sync += ns.eq(from_gray(code) << CYCLE_NS_LOG2)
                m.next = "BASE"
            with m.State("BASE"):
                m.d.sync += [timestamp.eq(ns + self.base), goes.eq(self.runs & ~is_link)]
                m.next = "WORDS"
            with m.State("WORDS"):
                m.d.comb += [self.o.valid.eq(self.i.valid & goes), self.i.ready.eq(self.o.ready | ~goes)]
                with m.If(self.i.valid & self.i.ready):
                    with m.If(place != words):
                        m.d.sync += [
                            Value.cast(packet).word_select(place, width).eq(word.data.as_value()),
                            place.eq(place + 1),
                        ]
                    with m.If(word.last):
                        m.next = "HEAD"
                        with m.If(is_link):
                            m.next = "MARK"
            with m.State("MARK"):
                m.d.comb += marks.w_en.eq(is_mark)
                with m.If(marks.w_rdy | ~is_mark):
                    m.next = "HEAD"

        is_due = ~(self.done - marks.r_data[:32])[31]
        m.d.comb += marks.r_en.eq(marks.r_rdy & is_due)
        with m.If(marks.r_en):
            m.d.sync += self.finished.eq(marks.r_data[32:])
        with m.If(self.abandons):
            m.d.sync += [goes.eq(0), is_link.eq(0), handed.eq(0), self.finished.eq(0)]
        return m


class LineStore(wiring.Component):
    """Keeps lines as words of four bytes until they are sent: ``stored`` of them, which come out in order. ``following`` is the number
    behind all lines that the card has written, the one that it is offering too.

    A line is taken within LINE_WORDS cycles; a word a cycle leaves.
    """

    i: In(stream.Signature(MemoryWrite))
    o: Out(stream.Signature(32))
    following: Out(32)
    stored: Out(range(LINE_STORE_WORDS // LINE_WORDS + 1))
    takes: In(range(MOST_LINES + 1))

    def elaborate(self, platform):
        m = Module()
        m.submodules.words = words = memory.Memory(shape=32, depth=LINE_STORE_WORDS, init=[])
        write, read = words.write_port(), words.read_port()
        first_bit = LINE_BYTES.bit_length() - 1  # of the address, below which it is 0
        content = Cat(self.i.payload.address[first_bit:][: LINE_BODY["line"]], self.i.payload.data.as_value())
        count = range(2 * LINE_STORE_WORDS)
        end, kept, taken = Signal(count), Signal(count), Signal(count)
        place, lines = Signal(range(LINE_WORDS)), Signal(32)
        has_room = (end - taken)[: len(end)] < LINE_STORE_WORDS - LINE_WORDS
        is_last = place == LINE_WORDS - 1
        m.d.comb += [
            write.addr.eq(end),
            write.data.eq(content.word_select(place, 32)),
            write.en.eq(self.i.valid & (has_room | (place != 0))),
            self.i.ready.eq(write.en & is_last),
            self.following.eq(lines + self.i.valid),
        ]
        with m.If(write.en):
            m.d.sync += [end.eq(end + 1), place.eq(Mux(is_last, 0, place + 1))]
        with m.If(self.i.ready):
            m.d.sync += [lines.eq(lines + 1), kept.eq(end + 1)]
        m.d.sync += self.stored.eq(self.stored + self.i.ready - self.takes)

        fetched, reads, moves = Signal(), Signal(), Signal()
        m.d.comb += [
            moves.eq(~self.o.valid | self.o.ready),
            read.addr.eq(taken),
            read.en.eq(~fetched | moves),
            reads.eq(read.en & (taken != kept)),
        ]
        with m.If(read.en):
            m.d.sync += [fetched.eq(reads), taken.eq(taken + reads)]
        with m.If(moves):
            m.d.sync += [self.o.valid.eq(fetched), self.o.payload.eq(read.data)]
        return m


class LineSender(wiring.Component):
    """Sends ``packet`` as it is when a frame begins, with the lines that are stored then, at most MOST_LINES.

    A frame begins when that many are stored; when some were, or ``finished`` or ``stalled`` has been another than was told, for ``hold`` cycles; or
    when ``asked``. ``packet``'s kind, count, sequence and frames are filled in here: ``frames`` counts lines below ``payload_line``. A frame
    is sent at once, a word a cycle; ``restarts`` forgets all but a frame that is being sent.
    """

    packet: In(UpPacket)
    payload_line: In(32)
    asked: In(1)
    restarts: In(1)
    stored: In(range(LINE_STORE_WORDS // LINE_WORDS + 1))
    takes: Out(range(MOST_LINES + 1))
    i: In(stream.Signature(32))
    o: Out(stream.Signature(MacWord))

    def __init__(self, hold: int):
        self._hold = hold
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        sent, is_due, held = Signal(UpPacket), Signal(), Signal(range(self._hold + 1))
        sequence, frames = Signal(32), Signal(32)
        changes = Cat(self.packet.finished, self.packet.stalled)
        told = Signal.like(changes)
        place, words_left, line_place = (
            Signal(range(HEADER_WORDS)),
            Signal(range(MOST_LINES * LINE_WORDS + 1)),
            Signal(range(LINE_WORDS)),
        )
        # A frame whose lines were forgotten is sent to its end, for nobody.
        is_hollow = Signal()
        count = Signal(range(MOST_LINES + 1))
        m.d.comb += count.eq(Mux(self.stored < MOST_LINES, self.stored, MOST_LINES))
        waits = (self.stored != 0) | (changes != told)
        with m.If(self.asked):
            m.d.sync += is_due.eq(1)
        with m.If(~waits):
            m.d.sync += held.eq(0)
        with m.Elif(held != self._hold):
            m.d.sync += held.eq(held + 1)

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [
                    sent.eq(self.packet),
                    sent.kind.eq(Up.LINES),
                    sent.count.eq(count),
                    sent.sequence.eq(sequence),
                    sent.frames.eq(frames),
                    words_left.eq(count * LINE_WORDS),
                    place.eq(0),
                    line_place.eq(0),
                    is_hollow.eq(0),
                ]
                with m.If(~self.restarts & (is_due | (held == self._hold) | (self.stored >= MOST_LINES))):
                    m.d.comb += self.takes.eq(count)
                    m.d.sync += [told.eq(changes), held.eq(0), is_due.eq(self.asked), sequence.eq(sequence + count)]
                    m.next = "HEADER"
            with m.State("HEADER"):
                is_last = place == HEADER_WORDS - 1
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.payload.data.eq(Value.cast(sent).word_select(place, 8 * WORD_BYTES)),
                    self.o.payload.last.eq(is_last & (words_left == 0)),
                ]
                with m.If(self.o.ready):
                    m.d.sync += place.eq(place + 1)
                    with m.If(is_last):
                        m.next = "LINES"
                        with m.If(words_left == 0):
                            m.next = "IDLE"
            with m.State("LINES"):
                m.d.comb += [
                    self.o.valid.eq(self.i.valid | is_hollow),
                    self.o.payload.data.eq(self.i.payload),
                    self.o.payload.last.eq(words_left == 1),
                    self.i.ready.eq(self.o.ready & ~is_hollow),
                ]
                with m.If(self.o.valid & self.o.ready):
                    m.d.sync += [words_left.eq(words_left - 1), line_place.eq(line_place + 1)]
                    with m.If(line_place == LINE_WORDS - 1):
                        m.d.sync += line_place.eq(0)
                    with m.If((line_place == 0) & (self.i.payload < self.payload_line)):
                        m.d.sync += frames.eq(frames + 1)
                    with m.If(words_left == 1):
                        m.next = "IDLE"
        with m.If(self.restarts):
            m.d.sync += [each.eq(0) for each in (sequence, frames, told, held, is_due)]
            m.d.sync += is_hollow.eq(1)
        return m
