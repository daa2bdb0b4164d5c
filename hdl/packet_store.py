"""Packets that wait, whole and good, until they are taken into the card's clock domain."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import LANES
from hdl.crossing import NumberCrossing
from hdl.headers import ETHERTYPE_OFFSET
from hdl.mac import ReceivedByte

TIME_BITS = 61
"""Of the clock: cycles of 8 ns, so that ns have 64 bits."""

StoredWord = data.StructLayout({"data": data.ArrayLayout(8, LANES), "top": 3, "first": 1, "last": 1})
"""Eight bytes of a packet, the highest of them in use ``top``. In the ``first`` one a ``PacketHead`` stands instead."""

PacketHead = data.StructLayout({"time": TIME_BITS, "is_link": 1, "unused": 2})
"""What the first word says: the clock's Gray code when the packet began, and whether its EtherType is the link's."""

MARGIN_WORDS = 4
"""Room that a packet's next word needs: what may be written before a cycle old comparison is right again."""


class Classifier(wiring.Component):
    """Whether a packet's EtherType is ``ethertype``, and the byte behind it. Known 2 cycles behind that byte, until the next packet's
    bytes."""

    i: In(ReceivedByte)
    matches: Out(1)
    following: Out(8)

    def __init__(self, ethertype: int):
        self._ethertype = ethertype.to_bytes(2, "big")
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        # Counted as far as it matters.
        behind = ETHERTYPE_OFFSET + len(self._ethertype)
        place = Signal(range(behind + 2))
        with m.If(self.i.valid):
            with m.If(place != behind + 1):
                m.d.sync += place.eq(place + 1)
            with m.If(self.i.last):
                m.d.sync += place.eq(0)
            with m.Switch(place):
                for n, expected in enumerate(self._ethertype):
                    with m.Case(ETHERTYPE_OFFSET + n):
                        m.d.sync += self.matches.eq((self.i.data == expected) & (self.matches if n else 1))
                with m.Case(behind):
                    m.d.sync += self.following.eq(self.i.data)
        return m


class PacketStore(wiring.Component):
    """Keeps good packets of which ``takes`` is high at their last byte, as words: a ``PacketHead``, then their bytes.

    Bytes come in the domain ``rx``, words leave in ``sync``. ``time`` is looked at when ``began`` is high. A packet that does not fit is
    dropped whole, and ``overflow`` high for a cycle. ``words`` is how many there is room for, a power of two. A byte every cycle, with a gap of
    4 cycles between packets; a word every cycle. Latency from the last byte to the first word: 7 cycles of ``rx`` and 5 of ``sync`` at most.
    """

    i: In(ReceivedByte)
    began: In(1)
    time: In(TIME_BITS)
    is_link: In(1)
    takes: In(1)
    overflow: Out(1)
    o: Out(stream.Signature(StoredWord))

    def __init__(self, words: int, rx: str = "rx"):
        self._words = words
        self._rx = rx
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        rx = m.d[self._rx]
        m.submodules.words = words = memory.Memory(shape=StoredWord, depth=self._words, init=[])
        write, read = words.write_port(domain=self._rx), words.read_port()
        # Counted modulo twice the depth, so that full and empty differ. `end` is where the next word of a packet goes.
        count = range(2 * self._words)
        kept, end, taken = Signal(count), Signal(count, init=1), Signal(count)
        m.submodules.kept = kept_crossing = NumberCrossing(len(kept), self._rx, "sync")
        m.submodules.taken = taken_crossing = NumberCrossing(len(taken), "sync", self._rx)
        m.d.comb += [kept_crossing.i.eq(kept), taken_crossing.i.eq(taken)]

        # Collected: a word, and how it ends.
        word, lane = Signal(data.ArrayLayout(8, LANES)), Signal(range(LANES))
        is_whole, top, is_last, is_wanted = Signal(), Signal(3), Signal(), Signal()
        head = Signal(PacketHead)
        rx += [
            is_whole.eq(self.i.valid & ((lane == LANES - 1) | self.i.last)),
            is_last.eq(self.i.last),
            head.is_link.eq(self.is_link),
            is_wanted.eq(self.i.good & self.takes),
            top.eq(lane),
        ]
        with m.If(self.i.valid):
            rx += [word[lane].eq(self.i.data), lane.eq(Mux(self.i.last, 0, lane + 1))]
        with m.If(self.began):
            rx += head.time.eq(self.time)

        # Written: words behind what is kept, and in front of them, at the end, the packet's time.
        has_room, fits = Signal(), Signal(init=1)
        closes, closes_wanted = Signal(), Signal()
        rx += [
            has_room.eq((end - taken_crossing.o)[: len(end)] < self._words - MARGIN_WORDS),
            closes.eq(is_whole & is_last),
            closes_wanted.eq(is_wanted),
            self.overflow.eq(closes & closes_wanted & ~fits),
        ]
        m.d.comb += [
            write.addr.eq(Mux(closes, kept, end)),
            write.data.data.eq(Mux(closes, Value.cast(head), word.as_value())),
            write.data.top.eq(top),
            write.data.first.eq(closes),
            write.data.last.eq(is_last & ~closes),
            write.en.eq(closes | (is_whole & has_room & fits)),
        ]
        with m.If(is_whole):
            rx += end.eq(end + 1)
            with m.If(~has_room | ~fits):
                rx += [end.eq(end), fits.eq(0)]
        with m.If(closes):
            rx += [end.eq(kept + 1), fits.eq(1)]
            with m.If(closes_wanted & fits):
                rx += [kept.eq(end), end.eq(end + 1)]

        # Read: the memory's output is slow, so it has a register behind it.
        fetched, reads, moves = Signal(), Signal(), Signal()
        m.d.comb += [
            moves.eq(~self.o.valid | self.o.ready),
            read.addr.eq(taken),
            read.en.eq(~fetched | moves),
            reads.eq(read.en & (taken != kept_crossing.o)),
        ]
        with m.If(read.en):
            m.d.sync += [fetched.eq(reads), taken.eq(taken + reads)]
        with m.If(moves):
            m.d.sync += [self.o.valid.eq(fetched), self.o.payload.eq(read.data)]
        return m
