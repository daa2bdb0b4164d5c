"""The last bytes of a packet, to be read at any position while more of it come in."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import LANES, POSITION_BITS, PayloadBeat
from hdl.limits import FLOWS, PACKET_LIMIT
from hdl.select import select

LANE_BITS = 3
LEAST_ROWS = 16
"""A LUT RAM has as many anyway. A quarter of the rows, 4 at least, is not filled: that many may come before the input stops."""


def rows_for(span: int) -> int:
    """Rows of a history that has at least ``span`` bytes when it is half full."""
    rows = LEAST_ROWS
    while rows // 2 * LANES < span:
        rows *= 2
    return rows


def place_bits(rows: int) -> int:
    """Bits of a place: a packet begins in any row, has up to PACKET_LIMIT bytes, and rows are kept of the one behind it."""
    return (2 * rows * LANES + PACKET_LIMIT).bit_length()


class PacketHistory(wiring.Component):
    """Keeps ``rows`` beats in LUT RAM and reads them at several places at once: those of the packet at hand, and what already
    came of the one behind it.

    A place is where a byte stands, counted from the row 0 that was written last before the packet at hand began, at ``origin``.
    ``available`` is the place up to which the packet came, by what is ``coming`` in this cycle; ``ended`` says that this is all
    of it. Then ``next_packet`` may follow: in the next cycle all is said of that packet. It begins at what ``next_origin`` was,
    and ``already`` says how many of its bytes were not ``coming``, as they came before.

    Bytes from the place ``needed`` on are kept, unless ``unneeded`` says that none of them is: where more would overwrite them,
    or what came of the next packet, nothing is taken. ``half``: half of the rows are kept, and not all of the packet came (seen
    two cycles later). The stream position of a place is ``base`` further. A byte can be read in the cycle after its beat was
    taken.

    Port n has ``sizes[n]`` bytes, 1 to 8: with ``seek{n}`` it goes to ``place{n}`` (and ``beyond{n}``, 8 bytes further),
    and ``bytes{n}`` has what stands there from the next cycle on, until the next ``seek{n}``.
    """

    def __init__(self, rows: int, sizes: Sequence[int]):
        self._rows = rows
        self._sizes = sizes
        self.port_bits = LANE_BITS + (rows - 1).bit_length()
        """Of a place, to be read there."""
        bits = place_bits(rows)
        ports: dict[str, Any] = {}
        for n, size in enumerate(sizes):
            ports |= {
                f"place{n}": In(self.port_bits),
                f"beyond{n}": In(self.port_bits),
                f"seek{n}": In(1),
                f"bytes{n}": Out(data.ArrayLayout(8, size)),
            }
        super().__init__(
            {
                "i": In(stream.Signature(PayloadBeat)),
                "needed": In(bits),
                "unneeded": In(1),
                "next_packet": In(1),
                "available": Out(bits),
                "coming": Out(range(LANES + 1)),
                "already": Out(bits),
                "ended": Out(1),
                "half": Out(1),
                "origin": Out(self.port_bits),
                "next_origin": Out(self.port_bits),
                "base": Out(POSITION_BITS),
                "timestamp": Out(64),
                "flow": Out(range(FLOWS)),
                "fragment": Out(1),
                **ports,
            }
        )
        # What comes in is the packet at hand, or, ``ahead``, the one behind it, which may be ``whole``; up to the place ``filled``.
        self.filled = Signal(bits)
        self.ahead = Signal()
        self.whole = Signal()
        # So many bytes of the one behind it; or nothing of it at all; what its ``base`` is.
        self.bytes_ahead = Signal(bits)
        self.fresh = Signal(init=1)
        self.base_behind = Signal(POSITION_BITS)
        # The rows up to which memory is written, counted as those of the packet at hand; how many are of the one behind it.
        self.rows = Signal(bits - LANE_BITS)
        self.rows_ahead = Signal((rows - 1).bit_length() + 1)

    def elaborate(self, platform):
        m = Module()
        beat = self.i.payload
        row_bits = self.port_bits - LANE_BITS
        taken, open_ = Signal(), Signal(init=1)
        m.d.comb += [self.i.ready.eq(open_), taken.eq(self.i.valid & open_)]

        filled, ahead, whole, fresh = self.filled, self.ahead, self.whole, self.fresh
        bytes_ahead, next_bytes_ahead = self.bytes_ahead, Signal.like(self.bytes_ahead)
        next_filled = Signal.like(filled)
        row_behind = Signal.like(self.rows)
        all_came = Signal()  # of the packet that comes in
        m.d.comb += [
            # Added first: whether it is taken is known late.
            next_filled.eq(Mux(taken, filled + beat.count, filled)),
            next_bytes_ahead.eq(Mux(taken, bytes_ahead + beat.count, bytes_ahead)),
            row_behind.eq((filled >> LANE_BITS) + (taken | filled[:LANE_BITS].any())),
            all_came.eq(whole | (taken & beat.last)),
        ]
        m.d.sync += [filled.eq(next_filled), whole.eq(all_came & ahead & ~self.next_packet)]
        with m.If(taken):
            m.d.sync += fresh.eq(0)
        with m.If(ahead):
            m.d.sync += bytes_ahead.eq(next_bytes_ahead)
        with m.If(self.next_packet):
            m.d.sync += [ahead.eq(0), bytes_ahead.eq(0), self.ended.eq(0)]
        with m.If(all_came & (~ahead | self.next_packet)):
            m.d.sync += [
                ahead.eq(1),
                self.ended.eq(1),
                fresh.eq(1),
                filled.eq(Cat(Const(0, LANE_BITS), row_behind[:row_bits])),
                self.next_origin.eq(Cat(Const(0, LANE_BITS), row_behind[:row_bits])),
            ]
        m.d.sync += self.available.eq(self.available + self.coming)
        with m.If(self.next_packet):
            m.d.sync += [
                self.available.eq(next_filled),
                self.already.eq(next_bytes_ahead),
                self.origin.eq(self.next_origin),
            ]

        rows, rows_ahead = self.rows, self.rows_ahead
        needed, kept = Signal.like(rows), Signal(signed(len(rows) + 1))
        m.d.sync += needed.eq(self.needed >> LANE_BITS)
        m.d.comb += kept.eq(rows - needed)
        with m.If(self.next_packet):
            m.d.sync += [rows.eq(row_behind), rows_ahead.eq(0), needed.eq(self.next_origin >> LANE_BITS)]
        with m.Elif(taken):
            m.d.sync += [rows.eq(rows + 1), rows_ahead.eq(Mux(ahead, rows_ahead + 1, 0))]
        full = Signal()
        shut = Signal()  # for ``coming`` alone: ``open_`` leads to many places
        # As bits, not as comparisons, which would take another carry chain.
        opens = (
            (~full | self.unneeded)
            & ~(rows_ahead[row_bits - 2 : row_bits].all() | rows_ahead[row_bits])
            & ~(ahead & all_came & ~self.next_packet)
        )
        many = kept[row_bits:-1].any()
        m.d.sync += [
            self.half.eq(~kept[-1] & (many | kept[row_bits - 1]) & ~ahead),
            full.eq(~kept[-1] & (many | kept[row_bits - 2 : row_bits].all())),
            open_.eq(opens),
            shut.eq(~opens | (taken & beat.last) | (ahead & ~(self.next_packet & ~whole))),
        ]
        m.d.comb += self.coming.eq(Mux(self.i.valid & ~shut, beat.count, 0))

        facts = ("base", "timestamp", "flow", "fragment")
        base = Signal(POSITION_BITS)
        m.d.comb += base.eq(beat.position - self.next_origin)
        of_beat = dict(zip(facts, (base, beat.timestamp, beat.flow, beat.fragment), strict=True))
        behind = {name: Signal.like(getattr(self, name), name=f"{name}_behind") for name in facts} | {
            "base": self.base_behind
        }
        for name in facts:
            with m.If(fresh):
                m.d.sync += behind[name].eq(of_beat[name])
            with m.If(self.next_packet | (fresh & ~ahead)):
                m.d.sync += getattr(self, name).eq(Mux(fresh, of_beat[name], behind[name]))

        banks = [memory.Memory(shape=8, depth=self._rows, init=[]) for _ in range(LANES)]
        for lane, bank in enumerate(banks):
            m.submodules[f"bank{lane}"] = bank
            write = bank.write_port()
            m.d.comb += [
                write.addr.eq(filled[LANE_BITS:][:row_bits]),
                write.data.eq(beat.data[lane]),
                write.en.eq(taken),
            ]
        for n, size in enumerate(self._sizes):
            self._add_port(m, banks, n, size, row_bits)
        return m

    def _add_port(self, m, banks, n: int, size: int, row_bits: int):
        """Bytes in front of the place's lane are one row further. A single byte's row is its own in all lanes."""
        place, beyond, seek = (getattr(self, f"{name}{n}") for name in ("place", "beyond", "seek"))
        found = getattr(self, f"bytes{n}")
        lane = Signal(LANE_BITS, name=f"lane{n}")
        with m.If(seek):
            m.d.sync += lane.eq(place[:LANE_BITS])
        its_bytes = []
        for bank_lane, bank in enumerate(banks):
            read = bank.read_port(domain="comb")
            address = Signal(row_bits, name=f"address{n}_{bank_lane}")
            is_beyond = place[:LANE_BITS] > bank_lane if size > 1 else 0
            with m.If(seek):
                m.d.sync += address.eq(Mux(is_beyond, beyond[LANE_BITS:], place[LANE_BITS:]))
            m.d.comb += read.addr.eq(address)
            its_bytes.append(read.data)
        for each in range(size):
            m.d.comb += found[each].eq(select([its_bytes[(each + by) % LANES] for by in range(LANES)], lane, 8))
