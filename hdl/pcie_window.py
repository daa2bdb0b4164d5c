"""The packet window: what the host writes into the BAR becomes packets (docs/pcie.md)."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import LANES, PacketBeat
from hdl.pcie_map import WINDOW_BYTES

ROWS = WINDOW_BYTES // LANES


class PacketWindow(wiring.Component):
    """A ring of ``WINDOW_BYTES`` that is written at any place and read in order, a beat every 2 cycles.

    ``enable`` says which bytes of ``data`` go to word ``row``. ``written`` is how many bytes the host has ever put there, ``taken`` how many
    have left; both are multiples of 8. A packet of length 0 is passed over.
    """

    row: In(range(ROWS))
    data: In(64)
    enable: In(LANES)
    written: In(64)
    taken: Out(64)
    o: Out(stream.Signature(PacketBeat))

    def elaborate(self, platform):
        m = Module()
        m.submodules.rows = rows = memory.Memory(shape=64, depth=ROWS, init=[])
        write, read = rows.write_port(granularity=8), rows.read_port()
        place = Signal(64)  # in bytes
        m.d.comb += [
            write.addr.eq(self.row),
            write.data.eq(self.data),
            write.en.eq(self.enable),
            read.addr.eq(place[3:]),
            self.taken.eq(place),
        ]
        left, beat = Signal(32), self.o.payload
        m.d.comb += [
            beat.data.eq(read.data),
            beat.count.eq(Mux(left < LANES, left, LANES)),
            beat.last.eq(left <= LANES),
        ]
        # A word is there in the cycle after its place was known.
        known = Signal()
        m.d.sync += known.eq(place != self.written)

        def take():
            m.d.sync += [place.eq(place + LANES), known.eq(0)]

        with m.FSM():
            with m.State("LENGTH"):
                with m.If(known):
                    take()
                    m.d.sync += left.eq(read.data)
                    m.next = "TIMESTAMP"
            with m.State("TIMESTAMP"):
                with m.If(known):
                    take()
                    m.d.sync += beat.timestamp.eq(read.data)
                    m.next = "LENGTH"
                    with m.If(left != 0):
                        m.next = "BYTES"
            with m.State("BYTES"):
                m.d.comb += self.o.valid.eq(known)
                with m.If(known & self.o.ready):
                    take()
                    m.d.sync += left.eq(left - LANES)
                    with m.If(beat.last):
                        m.next = "LENGTH"
        return m
