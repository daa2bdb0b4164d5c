"""Lines of memory become memory writes on PCI Express (docs/pcie.md)."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.block_ram import BlockRam
from hdl.pcie_tlp import (
    BEAT_BYTES,
    BEAT_DWORDS,
    BOUNDARY_BYTES,
    CREDIT_BYTES,
    DATA_CREDIT_BITS,
    HEADER_CREDIT_BITS,
    LARGEST_MAX_PAYLOAD,
    LINE_BEATS,
    LINE_DWORDS,
    SMALLEST_MAX_PAYLOAD,
    Fmt,
    RequestHeader,
    TlpBeat,
    Type,
)
from hdl.ring_layout import LINE_BYTES
from hdl.ring_writer import MemoryWrite

LINES = 128
"""Lines that are kept until the hard block has sent them: 512 beats fill the block RAMs that 128 bits need anyway."""

IN_FLIGHT = 16
"""Most writes that the hard block has and has not acknowledged."""

NUMBER_BITS = 6
"""Writes are numbered modulo 2^6, as the UltraScale+ block does."""

LINE_CREDITS = LINE_BYTES // CREDIT_BYTES
POINTER_BITS = DATA_CREDIT_BITS - (LINE_CREDITS - 1).bit_length()
"""Lines are counted as far as credits for their data are."""

LINE_BITS = 64 - (LINE_BYTES - 1).bit_length()
MOST_LINES = LARGEST_MAX_PAYLOAD // LINE_BYTES

Credit = data.StructLayout(
    {"headers": HEADER_CREDIT_BITS, "data": DATA_CREDIT_BITS, "headers_infinite": 1, "data_infinite": 1}
)
"""CREDIT_LIMIT of posted requests (2.6.1): what the other side has granted since the link came up, modulo the fields' sizes."""

Link = data.StructLayout(
    {"up": 1, "bus_master": 1, "reset": 1, "max_payload": unsigned(3), "function": 16, "credit": Credit}
)
"""What the hard block says. ``up``: the data link is; while it is not, nothing is under way. ``bus_master``: Bus Master Enable.
``reset``: a function level reset is going on. ``max_payload``: the code of Max_Payload_Size. ``function``: bus, device and
function; like max payload it changes while nothing is under way."""


BLOCK_PORTS = {
    "writes": Out(stream.Signature(TlpBeat)),
    "acknowledges": In(1),
    "acknowledged": In(NUMBER_BITS),
    "requests": In(stream.Signature(TlpBeat)),
    "completions": Out(stream.Signature(TlpBeat)),
    "link": In(Link),
}
"""What a card has for the adapter to its hard block (docs/pcie.md, "Hard blocks"), which has the same the other way round. ``writes`` are posted requests,
``completions`` answer ``requests``."""


def report_credit(m: Module, credit: data.View, is_up: Value, headers: Value, units: Value) -> None:
    """Fill in a Credit from the limits that a block shows: for ``headers``, and for data in ``units`` of CREDIT_BYTES."""
    # Credits that are granted without limit are granted as 0, for ever (2.6.1).
    for name, shown in (("headers", headers), ("data", units)):
        has_limit = Signal(name=f"{name}_have_limit")
        m.d.sync += [has_limit.eq(is_up & (has_limit | (shown != 0))), credit[name].eq(shown)]
        m.d.comb += credit[f"{name}_infinite"].eq(~has_limit)


class LineWriter(wiring.Component):
    """Lines in, memory write TLPs out, in the lines' order.

    A line takes 4 cycles to come in, and 3 more until its header is offered; a TLP of n lines takes ``2 + 4 n`` cycles. Lines that follow each
    other, and come while a TLP is on its way out, go into the next one together: up to max payload, and never over a multiple of
    4 KiB. An address below 4 GiB has a header of three dwords. A TLP begins when Bus Master Enable is set and the credits are there.

    The TLP's tag is its number. A line is kept until ``acknowledged`` says, behind the TLP's last beat, that the hard block has sent it; where Bus Master Enable
    was taken away, a block may have dropped what it had: once it is set again, all that was not acknowledged is sent again with
    new numbers, which changes nothing where it had arrived. ``drop`` forgets all lines of which no TLP has begun; ``dropped`` is their number.

    ``entered`` counts lines to the one that is offered now, ``settled`` those that were acknowledged, both modulo 2^POINTER_BITS.
    ``returns`` is high where lines are sent again. For a link that is down the whole component is to be held in reset.
    """

    i: In(stream.Signature(MemoryWrite))
    o: Out(stream.Signature(TlpBeat))
    link: In(Link)
    drop: In(1)
    dropped: Out(range(LINES + 1))
    acknowledges: In(1)
    acknowledged: In(NUMBER_BITS)
    entered: Out(POINTER_BITS)
    settled: Out(POINTER_BITS)
    returns: Out(1)

    def __init__(self, lines: int = LINES, in_flight: int = IN_FLIGHT):
        self._lines = lines
        self._in_flight = in_flight
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        slot_bits = (self._lines - 1).bit_length()
        m.submodules.beats = beats = BlockRam(8 * BEAT_BYTES, self._lines * LINE_BEATS)
        place_layout = data.StructLayout({"line": LINE_BITS, "follows": 1})
        m.submodules.places = places = BlockRam(place_layout, self._lines)
        m.d.comb += [beats.advance.eq(1), places.advance.eq(1)]

        # Lines are counted: written to the queue, planned into a run, sent in a TLP that has begun, acknowledged.
        written, planned, sent, settled = (
            Signal(POINTER_BITS, name=name) for name in ("written", "planned", "sent", "settled_lines")
        )
        readable = Signal(POINTER_BITS)  # written one cycle ago: what a block RAM can show

        # In: a beat a cycle.
        entering, entering_beat, last_line = Signal(), Signal(range(LINE_BEATS)), Signal(LINE_BITS)
        line = self.i.payload.address[-LINE_BITS:]
        written_beats = data.View(data.ArrayLayout(8 * BEAT_BYTES, LINE_BEATS), self.i.payload.data.as_value())
        full = Signal()
        m.d.comb += [
            full.eq((written - settled)[:POINTER_BITS] >= self._lines),
            entering.eq(self.i.valid & ~full & ~self.drop),
            self.i.ready.eq(entering & (entering_beat == LINE_BEATS - 1)),
            beats.row.eq(Cat(entering_beat, written[:slot_bits])),
            beats.value.eq(written_beats[entering_beat]),
            beats.writes.eq(entering),
            places.row.eq(written[:slot_bits]),
            places.value.line.eq(line),
            places.value.follows.eq((line == last_line + 1) & (line % (BOUNDARY_BYTES // LINE_BYTES) != 0)),
            places.writes.eq(self.i.ready),
            self.entered.eq(written + self.i.valid),
            self.settled.eq(settled),
        ]
        m.d.sync += readable.eq(written)
        with m.If(entering):
            m.d.sync += entering_beat.eq(entering_beat + 1)
        with m.If(self.i.ready):
            m.d.sync += [written.eq(written + 1), last_line.eq(line)]

        # Planned: a run grows while the one before it goes out.
        run_waits, run_line, run_lines = Signal(), Signal(LINE_BITS), Signal(range(MOST_LINES + 1))
        most, takes_run = Signal(range(MOST_LINES + 1)), Signal()
        code = self.link.max_payload
        m.d.sync += most.eq(MOST_LINES)
        for step in range((LARGEST_MAX_PAYLOAD // SMALLEST_MAX_PAYLOAD).bit_length() - 1):
            with m.If(code == step):
                m.d.sync += most.eq((SMALLEST_MAX_PAYLOAD << step) // LINE_BYTES)
        starts, grows, here = Signal(), Signal(), places.read
        planned_next = Signal(POINTER_BITS)
        has_line = planned != readable
        m.d.comb += [
            starts.eq(has_line & (~run_waits | takes_run)),
            grows.eq(has_line & run_waits & ~takes_run & here.follows & (run_lines < most)),
            planned_next.eq(planned + (starts | grows)),
            places.read_row.eq(planned_next[:slot_bits]),
        ]
        m.d.sync += planned.eq(planned_next)
        with m.If(starts):
            m.d.sync += [run_waits.eq(1), run_line.eq(here.line), run_lines.eq(1)]
        with m.Elif(takes_run):
            m.d.sync += run_waits.eq(0)
        with m.If(grows):
            m.d.sync += run_lines.eq(run_lines + 1)

        # Numbered: where each TLP ends that is not acknowledged.
        number, oldest = Signal(NUMBER_BITS), Signal(NUMBER_BITS)
        in_flight = Signal(NUMBER_BITS)
        m.submodules.ends = ends = memory.Memory(shape=POINTER_BITS, depth=self._in_flight, init=[])
        end_in, end_out = ends.write_port(), ends.read_port(domain="comb")
        entry_bits = (self._in_flight - 1).bit_length()
        is_known = Signal()
        m.d.comb += [
            in_flight.eq(number - oldest),
            end_in.addr.eq(number[:entry_bits]),
            end_in.data.eq(sent + run_lines),
            end_in.en.eq(takes_run),
            end_out.addr.eq(self.acknowledged[:entry_bits]),
            is_known.eq(self.acknowledges & ((self.acknowledged - oldest)[:NUMBER_BITS] < in_flight)),
        ]
        with m.If(is_known):
            m.d.sync += [settled.eq(end_out.data), oldest.eq(self.acknowledged + 1)]

        # Credits: what is asked for must not go beyond the limit (2.6.1.2). Known a cycle late: from one begin to the next there are more,
        # and meanwhile there can only be more of them.
        headers_sent, lines_sent = Signal(HEADER_CREDIT_BITS), Signal(POINTER_BITS)
        credit = self.link.credit
        headers_left = (credit.headers - headers_sent)[:HEADER_CREDIT_BITS]
        data_left = (credit.data - lines_sent * LINE_CREDITS)[:DATA_CREDIT_BITS]
        lines_left = data_left[:-1] // LINE_CREDITS
        may_begin, granted = Signal(), Signal(range(MOST_LINES + 1))
        has_header = credit.headers_infinite | ((headers_left != 0) & ~headers_left[-1])
        m.d.sync += [
            may_begin.eq(has_header & (in_flight < self._in_flight)),
            granted.eq(Mux(lines_left > MOST_LINES, MOST_LINES, lines_left)),
        ]
        with m.If(data_left[-1]):
            m.d.sync += granted.eq(0)
        with m.If(credit.data_infinite):
            m.d.sync += granted.eq(MOST_LINES)

        # Sent.
        row, beats_left = Signal(slot_bits + (LINE_BEATS - 1).bit_length()), Signal(range(MOST_LINES * LINE_BEATS + 1))
        row_next = Signal.like(row)
        tlp_line, tlp_lines, tlp_number = Signal(LINE_BITS), Signal.like(run_lines), Signal(NUMBER_BITS)
        header, address = Signal(RequestHeader), Signal(64)
        is_far = address[32:] != 0
        m.d.comb += [
            address.eq(tlp_line << 64 - LINE_BITS),
            header.fmt.eq(Mux(is_far, Fmt.FOUR_DWORDS_DATA, Fmt.THREE_DWORDS_DATA)),
            header.type.eq(Type.MEMORY),
            header.length.eq(tlp_lines * LINE_DWORDS),
            header.first_enable.eq(0b1111),
            header.last_enable.eq(0b1111),
            header.tag.eq(tlp_number),
            header.requester.eq(self.link.function),
            header.address_first.eq(Mux(is_far, address[32:], address[:32])),
            header.address_second.eq(Mux(is_far, address[:32], 0)),
            row_next.eq(row),
            beats.read_row.eq(row_next),
        ]
        m.d.sync += row.eq(row_next)
        was_master, has_to_return = Signal(), Signal()
        m.d.sync += was_master.eq(self.link.bus_master)
        with m.If(was_master & ~self.link.bus_master):
            m.d.sync += has_to_return.eq(1)
        # Lines from before a drop are not sent again.
        floor, is_above = Signal(POINTER_BITS), Signal(init=1)
        with m.If(settled == floor):
            m.d.sync += is_above.eq(1)

        with m.FSM():
            with m.State("WAIT"):
                m.d.comb += self.returns.eq(has_to_return & self.link.bus_master & ~self.acknowledges & ~self.drop)
                with m.If(self.returns):
                    back = Mux(is_above, settled, floor)
                    m.d.comb += planned_next.eq(back)
                    m.d.sync += [
                        run_waits.eq(0),
                        sent.eq(back),
                        # What was dropped has used no credit.
                        headers_sent.eq(headers_sent - in_flight),
                        lines_sent.eq(lines_sent - (sent - settled)),
                        oldest.eq(number),
                        settled.eq(back),
                        has_to_return.eq(0),
                    ]
                with m.Elif(run_waits & self.link.bus_master & may_begin & (run_lines <= granted) & ~self.drop):
                    m.d.comb += [takes_run.eq(1), row_next.eq(sent[:slot_bits] * LINE_BEATS)]
                    m.d.sync += [
                        tlp_line.eq(run_line),
                        tlp_lines.eq(run_lines),
                        tlp_number.eq(number),
                        beats_left.eq(run_lines * LINE_BEATS),
                        sent.eq(sent + run_lines),
                        headers_sent.eq(headers_sent + 1),
                        lines_sent.eq(lines_sent + run_lines),
                        number.eq(number + 1),
                    ]
                    m.next = "HEADER"
            with m.State("HEADER"):
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.payload.header.eq(1),
                    self.o.payload.data.eq(header),
                    self.o.payload.count.eq(Mux(is_far, 4, 3)),
                ]
                with m.If(self.o.ready):
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.payload.data.eq(beats.read),
                    self.o.payload.count.eq(BEAT_DWORDS),
                    self.o.payload.last.eq(beats_left == 1),
                ]
                with m.If(self.o.ready):
                    m.d.comb += row_next.eq(row + 1)
                    m.d.sync += beats_left.eq(beats_left - 1)
                    with m.If(self.o.payload.last):
                        m.next = "WAIT"

        with m.If(self.drop):
            m.d.comb += self.dropped.eq(written - sent)
            m.d.sync += [
                entering_beat.eq(0),
                written.eq(sent),
                readable.eq(sent),
                planned.eq(sent),
                run_waits.eq(0),
                floor.eq(sent),
                is_above.eq(settled == sent),
                last_line.eq(0),
            ]
        return m
