"""Where a message goes in the payload ring, and its bytes out of the payload store (docs/ring.md)."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import LANES, Message
from hdl.flow import Parser
from hdl.payload_store import ROWS, RowAddress
from hdl.ring_layout import LINE_BYTES

PlacedMessage = data.StructLayout({"message": Message, "parser": Parser, "offset": 32})
"""A message, or a packet's end alone; its bytes have credit, and go to the payload ring at ``offset``."""

MessageWord = data.StructLayout({"data": data.ArrayLayout(8, LANES), "count": unsigned(4), "last": 1})
"""Bytes of one message, 8 a word from its first byte on, fewer (``count``) only in its ``last`` word; behind them zeros."""


class Placer(wiring.Component):
    """Gives each message its place, once the host has room for it. A message takes 3 cycles, a packet's end alone 1.

    ``stalled`` is high in a cycle that waits for credit, ``places`` for each message with frames.
    """

    i: In(stream.Signature(Message))
    parser: In(Parser)
    payload_bytes_log2: In(6)
    payload_read: In(64)
    o: Out(stream.Signature(PlacedMessage))
    stalled: Out(1)
    places: Out(1)

    def elaborate(self, platform):
        m = Module()
        head = self.i.payload
        written = Signal(64)
        ring_bytes = 1 << self.payload_bytes_log2
        padded, lap_left = Signal(17), Signal(64)
        skipped, begin, end = Signal(17), Signal(64), Signal(64)
        free = ~self.o.valid | self.o.ready
        m.d.comb += [
            padded.eq((head.length + LINE_BYTES - 1) & ~(LINE_BYTES - 1)),
            lap_left.eq(ring_bytes - (written & (ring_bytes - 1))),
        ]
        with m.If(free):
            m.d.sync += self.o.valid.eq(self.i.ready)
            m.d.sync += [
                self.o.payload.message.eq(head),
                self.o.payload.parser.eq(self.parser),
                self.o.payload.offset.eq(begin & (ring_bytes - 1)),
            ]
        with m.FSM():
            with m.State("LAP"):
                m.d.sync += skipped.eq(Mux(padded > lap_left, lap_left, 0))
                with m.If(self.i.valid):
                    with m.If(head.frames == 0):
                        m.d.comb += self.i.ready.eq(free)
                    with m.Else():
                        m.next = "END"
            with m.State("END"):
                m.d.sync += [begin.eq(written + skipped), end.eq(written + skipped + padded)]
                m.next = "CREDIT"
            with m.State("CREDIT"):
                with m.If((end - self.payload_read)[:64] > ring_bytes):
                    m.d.comb += self.stalled.eq(1)
                with m.Elif(free):
                    m.d.comb += [self.i.ready.eq(1), self.places.eq(1)]
                    m.d.sync += written.eq(end)
                    m.next = "LAP"
        return m


class MessageReader(wiring.Component):
    """Reads messages from the payload store, 8 bytes a cycle and one cycle more for each message.

    A message without bytes gives one word of which none counts. ``message`` is the one whose words come. Where its last one is taken
    with ``again``, the same message is read once more.
    """

    i: In(stream.Signature(PlacedMessage))
    message: Out(PlacedMessage)
    o: Out(stream.Signature(MessageWord))
    again: In(1)
    read_address: Out(RowAddress)
    read_data: In(data.ArrayLayout(8, LANES))

    def elaborate(self, platform):
        m = Module()
        message = self.message.message
        row_before = Signal(data.ArrayLayout(8, LANES))
        row = Signal(range(ROWS))  # the one that is here
        left = Signal(16)
        word = self.o.payload
        taken = self.o.valid & self.o.ready

        pair = Cat(row_before, self.read_data)
        turned = Signal(8 * LANES)
        m.d.comb += [
            turned.eq(Array(pair[8 * n : 8 * (n + LANES)] for n in range(LANES))[message.start[:3]]),
            *(word.data[n].eq(Mux(left > n, turned.word_select(n, 8), 0)) for n in range(LANES)),
            word.count.eq(Mux(left > LANES, LANES, left)),
            word.last.eq(left <= LANES),
            self.read_address.flow.eq(message.flow),
            self.read_address.row.eq(row),
        ]

        def fetch(what):
            """Ask for the first row of a message."""
            m.d.comb += [self.read_address.flow.eq(what.flow), self.read_address.row.eq(what.start >> 3)]
            m.d.sync += [row.eq(what.start >> 3), left.eq(what.length)]
            m.next = "FETCH"

        def next_message():
            m.d.comb += self.i.ready.eq(1)
            m.next = "IDLE"
            with m.If(self.i.valid):
                m.d.sync += self.message.eq(self.i.payload)
                fetch(self.i.payload.message)

        def next_row():
            m.d.comb += self.read_address.row.eq(row + 1)
            m.d.sync += [row.eq(row + 1), row_before.eq(self.read_data)]

        with m.FSM():
            with m.State("IDLE"):
                next_message()
            with m.State("FETCH"):
                # The first row is here; a word needs the next one, too.
                with m.If(message.length != 0):
                    next_row()
                    m.next = "READ"
                with m.Else():
                    m.d.comb += self.o.valid.eq(1)
                    with m.If(taken):
                        next_message()
            with m.State("READ"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(taken):
                    next_row()
                    m.d.sync += left.eq(left - LANES)
                    with m.If(word.last & self.again):
                        fetch(message)
                    with m.Elif(word.last):
                        next_message()
        return m
