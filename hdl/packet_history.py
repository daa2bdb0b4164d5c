"""The last bytes of a packet, to be read at any position while more of it come in."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import LANES, POSITION_BITS, PayloadBeat
from hdl.limits import FLOWS, PACKET_LIMIT
from hdl.select import select

PLACE_BITS = PACKET_LIMIT.bit_length()
"""Of a place in a packet: how many bytes stand before it."""

LANE_BITS = 3
LEAST_ROWS = 16
"""A LUT RAM has as many anyway. A quarter of the rows, 4 at least, is not filled: that many may come before the input stops."""


def rows_for(span: int) -> int:
    """Rows of a history that has at least ``span`` bytes when it is half full."""
    rows = LEAST_ROWS
    while rows // 2 * LANES < span:
        rows *= 2
    return rows


class PacketHistory(wiring.Component):
    """Keeps ``rows`` beats of a packet in LUT RAM and reads them at several places at once.

    ``available`` bytes of the packet came, ``coming`` come in this cycle; ``ended`` says that these are all, then ``next_packet``
    lets the next one in. Bytes from ``needed`` on are kept, unless ``unneeded`` says that none of them is: where more would
    overwrite them, nothing is taken until ``needed`` moves on. ``half``: half of the rows are kept (seen two cycles later).
    ``base`` is the stream position of the packet's first byte. A byte can be read in the cycle after its beat was taken.

    Port n has ``sizes[n]`` bytes, 1 to 8: with ``seek{n}`` it goes to ``place{n}`` (and ``beyond{n}``, 8 bytes further),
    and ``bytes{n}`` has what stands there from the next cycle on, until the next ``seek{n}``.
    """

    def __init__(self, rows: int, sizes: Sequence[int]):
        self._rows = rows
        self._sizes = sizes
        self.place_bits = LANE_BITS + (rows - 1).bit_length()
        ports: dict[str, Any] = {}
        for n, size in enumerate(sizes):
            ports |= {
                f"place{n}": In(self.place_bits),
                f"beyond{n}": In(self.place_bits),
                f"seek{n}": In(1),
                f"bytes{n}": Out(data.ArrayLayout(8, size)),
            }
        super().__init__(
            {
                "i": In(stream.Signature(PayloadBeat)),
                "needed": In(PLACE_BITS),
                "unneeded": In(1),
                "next_packet": In(1),
                "available": Out(PLACE_BITS),
                "coming": Out(range(LANES + 1)),
                "ended": Out(1),
                "half": Out(1),
                "base": Out(POSITION_BITS),
                "timestamp": Out(64),
                "flow": Out(range(FLOWS)),
                "fragment": Out(1),
                **ports,
            }
        )

    def elaborate(self, platform):
        m = Module()
        beat = self.i.payload
        row_bits = self.place_bits - LANE_BITS
        taken, open_ = Signal(), Signal(init=1)
        needed = Signal(PLACE_BITS - LANE_BITS)
        m.d.sync += needed.eq(self.needed >> LANE_BITS)
        kept = Signal(signed(PLACE_BITS - LANE_BITS + 1))
        m.d.comb += [
            self.i.ready.eq(open_),
            taken.eq(self.i.valid & self.i.ready),
            kept.eq((self.available >> LANE_BITS) - needed),
        ]
        full = Signal()
        shut = Signal()  # for ``coming`` alone: ``open_`` leads to many places
        # As bits, not as comparisons, which would take another carry chain.
        opens = (~full | self.unneeded) & (~(self.ended | (taken & beat.last)) | self.next_packet)
        many = kept[row_bits:-1].any()
        m.d.sync += [
            self.half.eq(~kept[-1] & (many | kept[row_bits - 1])),
            full.eq(~kept[-1] & (many | kept[row_bits - 2 : row_bits].all())),
            open_.eq(opens),
            shut.eq(~opens),
        ]
        m.d.comb += self.coming.eq(Mux(self.i.valid & ~shut, beat.count, 0))
        fresh = Signal(init=1)
        with m.If(taken):
            m.d.sync += [self.available.eq(self.available + beat.count), self.ended.eq(beat.last), fresh.eq(0)]
        with m.If(fresh):
            m.d.sync += [
                self.base.eq(beat.position),
                self.timestamp.eq(beat.timestamp),
                self.flow.eq(beat.flow),
                self.fragment.eq(beat.fragment),
            ]
        with m.If(self.next_packet):
            m.d.sync += [self.available.eq(0), self.ended.eq(0), fresh.eq(1)]

        banks = [memory.Memory(shape=8, depth=self._rows, init=[]) for _ in range(LANES)]
        for lane, bank in enumerate(banks):
            m.submodules[f"bank{lane}"] = bank
            write = bank.write_port()
            m.d.comb += [
                write.addr.eq(self.available[LANE_BITS:][:row_bits]),
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
