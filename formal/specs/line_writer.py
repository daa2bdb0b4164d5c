"""LineWriter: its TLPs keep the rules of PCI Express, and every line comes out once, in order."""

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import data

from formal.specification import Method, Proof, Specification, taken, waits_unchanged
from hdl.dma_pcie import LINE_BITS, MOST_LINES, NUMBER_BITS, Credit, LineWriter
from hdl.pcie_tlp import (
    BOUNDARY_BYTES,
    DATA_CREDIT_BITS,
    HEADER_CREDIT_BITS,
    LINE_BEATS,
    LINE_DWORDS,
    Fmt,
    RequestHeader,
    Type,
)
from hdl.ring_layout import LINE_BYTES

LINES, FEW_LINES, IN_FLIGHT = 8, 4, 2
"""What the writer keeps here: a run of the longest kind (fewer lines where a bounded proof sees no more), and few TLPs that are not
acknowledged."""

PAGE_LINES = BOUNDARY_BYTES // LINE_BYTES


class Writer(Specification):
    """A writer whose input keeps to the contract of streams; max payload and the bus number stay as they are, and the link is up."""

    drops = False
    lines = LINES

    def state(self, m: Module) -> None:
        writer = self.add(m, "writer", LineWriter(self.lines, IN_FLIGHT))
        code, function = self.constant(m, 3, "code"), self.constant(m, 16, "function")
        m.d.comb += [
            self.assume(waits_unchanged(m, writer.i, "i")),
            self.assume(writer.link.max_payload == code),
            self.assume(writer.link.function == function),
        ]
        # A TLP is acknowledged once it is out, not before: then its lines may be overwritten.
        out = Signal(NUMBER_BITS)
        m.d.sync += out.eq(out + (taken(writer.o) & writer.o.payload.last))
        m.d.comb += self.assume(~writer.acknowledges | ((out - 1 - writer.acknowledged)[:NUMBER_BITS] < IN_FLIGHT))
        if not self.drops:
            m.d.comb += self.assume(~writer.drop)
        self.claim(m, writer, code)

    def claim(self, m: Module, writer: LineWriter, code) -> None:
        """Assert a property of ``writer``."""
        raise NotImplementedError


class Waits(Writer):
    """What is offered stays as it is until it is taken, also where lines are dropped and bus mastering comes and goes."""

    drops = True

    def claim(self, m, writer, code):
        m.d.comb += self.prove(waits_unchanged(m, writer.o, "o"))


class Rules(Writer):
    """Any TLP: a header that says what follows, within max payload and a page, begun with Bus Master Enable."""

    drops = True

    def claim(self, m, writer, code):
        beat = writer.o.payload
        header = data.View(RequestHeader, beat.data)
        lines, line = Signal(range(2 * MOST_LINES)), Signal(LINE_BITS)
        is_far = header.fmt == Fmt.FOUR_DWORDS_DATA
        m.d.comb += [
            lines.eq(header.length // LINE_DWORDS),
            line.eq(Cat(header.address_first, 0)[6:]),
        ]
        with m.If(is_far):
            m.d.comb += line.eq(Cat(header.address_second, header.address_first)[6:])
        most = Signal(range(MOST_LINES + 1))
        m.d.comb += most.eq(MOST_LINES)
        with m.If(code == 0):
            m.d.comb += most.eq(2)
        with m.If(code == 1):
            m.d.comb += most.eq(4)
        with m.If(writer.o.valid & beat.header):
            m.d.comb += [
                self.prove(is_far | (header.fmt == Fmt.THREE_DWORDS_DATA)),
                # Above 4 GiB, and only there, the header has four dwords.
                self.prove(is_far == (line[26:] != 0)),
                self.prove(header.type == Type.MEMORY),
                self.prove((lines != 0) & (lines <= most)),
                self.prove(lines * LINE_DWORDS == header.length),
                self.prove((line % PAGE_LINES) + lines <= PAGE_LINES),
                self.prove(~beat.last),
            ]
        # As many beats as the header says.
        left = Signal(range(MOST_LINES * LINE_BEATS + 1))
        m.d.comb += self.prove(~writer.o.valid | (beat.header == (left == 0)))
        with m.If(taken(writer.o)):
            m.d.sync += left.eq(left - 1)
            with m.If(beat.header):
                m.d.sync += left.eq(lines * LINE_BEATS)
            with m.Else():
                m.d.comb += self.prove(beat.last == (left == 1))
        # A header that was not there one cycle ago.
        offers, was_master = Signal(), Signal()
        m.d.sync += [offers.eq(writer.o.valid & beat.header), was_master.eq(writer.link.bus_master)]
        with m.If(writer.o.valid & beat.header & ~offers):
            m.d.comb += self.prove(was_master)


class WithinCredit(Writer):
    """No TLP begins that the other side has not granted: headers and data are counted here from the TLPs alone."""

    lines = FEW_LINES

    def claim(self, m, writer, code):
        beat, credit = writer.o.payload, writer.link.credit
        header = data.View(RequestHeader, beat.data)
        begins, offers = Signal(), Signal()
        m.d.sync += offers.eq(writer.o.valid & beat.header)
        m.d.comb += begins.eq(writer.o.valid & beat.header & ~offers)
        # What was granted when it was decided: two cycles before the header is seen.
        before, granted = Signal(Credit), Signal(Credit)
        m.d.sync += [before.eq(credit), granted.eq(before)]
        headers_used, data_used = Signal(HEADER_CREDIT_BITS), Signal(DATA_CREDIT_BITS)
        headers_after, data_after = headers_used + 1, data_used + header.length // 4
        # Without a drop and with Bus Master Enable nothing is sent twice.
        m.d.comb += self.assume(writer.link.bus_master)
        with m.If(begins):
            m.d.sync += [headers_used.eq(headers_after), data_used.eq(data_after)]
            m.d.comb += [
                self.prove(
                    granted.headers_infinite
                    | ((granted.headers - headers_after)[:HEADER_CREDIT_BITS] <= 1 << HEADER_CREDIT_BITS - 1)
                ),
                self.prove(
                    granted.data_infinite
                    | ((granted.data - data_after)[:DATA_CREDIT_BITS] <= 1 << DATA_CREDIT_BITS - 1)
                ),
            ]


WATCHED_BITS = slice(0, 128, 61)
"""Bits of a beat that are compared: all move alike."""


class EachOnce(Writer):
    """One line, any one, is watched: it comes out when those before it have, at its address, with its bytes, and once."""

    lines = FEW_LINES

    def claim(self, m, writer, code):
        m.d.comb += self.assume(writer.link.bus_master)
        beat, line = writer.o.payload, writer.i.payload
        header = data.View(RequestHeader, beat.data)
        mark, part = self.free(1, "mark"), self.constant(m, range(LINE_BEATS), "part")
        bits = Cat(Value.cast(line.data).word_select(part, 128)[WATCHED_BITS])
        address, content = Signal(64), Signal(len(bits))
        ahead = Signal(8)  # lines that came before it, or all while none is watched, and have not come out
        waiting, done = Signal(), Signal()
        comes = taken(writer.i)

        # The line that comes out, beat by beat.
        out_line, out_beat = Signal(LINE_BITS), Signal(range(LINE_BEATS))
        with m.If(taken(writer.o)):
            with m.If(beat.header):
                m.d.sync += [out_line.eq(Cat(header.address_first, 0)[6:]), out_beat.eq(0)]
                with m.If(header.fmt == Fmt.FOUR_DWORDS_DATA):
                    m.d.sync += out_line.eq(Cat(header.address_second, header.address_first)[6:])
            with m.Else():
                m.d.sync += out_beat.eq(out_beat + 1)
                with m.If(out_beat == LINE_BEATS - 1):
                    m.d.sync += out_line.eq(out_line + 1)
        is_data = taken(writer.o) & ~beat.header
        goes = is_data & (out_beat == LINE_BEATS - 1)
        with m.If(waiting & (ahead == 0) & is_data):
            m.d.comb += self.prove(out_line == address[6:])
            with m.If(out_beat == part):
                m.d.comb += self.prove(Cat(beat.data[WATCHED_BITS]) == content)
        with m.If(waiting):
            with m.If(goes):
                m.d.sync += ahead.eq(ahead - 1)
                with m.If(ahead == 0):
                    m.d.sync += [waiting.eq(0), done.eq(1)]
        with m.Elif(~done):
            m.d.comb += self.prove(~is_data | (ahead != 0))
            m.d.sync += ahead.eq(ahead + comes - goes)
            with m.If(comes & mark):
                m.d.sync += [waiting.eq(1), address.eq(line.address), content.eq(bits), ahead.eq(ahead - goes)]


class TwoTogether(Writer):
    """Never two lines in one TLP: what does happen, so that the assumptions leave room for it."""

    def claim(self, m, writer, code):
        header = data.View(RequestHeader, writer.o.payload.data)
        with m.If(writer.o.valid & writer.o.payload.header):
            m.d.comb += self.prove(header.length == LINE_DWORDS)


PROOFS = (
    Proof("writer_waits", "LineWriter", "a beat that waits does not change", Waits, Method.BOUNDED, 14),
    Proof(
        "writer_rules", "LineWriter", "no TLP crosses 4 KiB or is longer than max payload", Rules, Method.BOUNDED, 16
    ),
    Proof("writer_credit", "LineWriter", "no TLP begins without credit for it", WithinCredit, Method.BOUNDED, 14),
    Proof(
        "writer_once", "LineWriter", "each line comes out once, in order, at its address", EachOnce, Method.BOUNDED, 18
    ),
    Proof("writer_together", "LineWriter", "two lines in one TLP", TwoTogether, Method.REACHED, 26),
)
