"""Keeps each flow's bytes until the message that they belong to is complete."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import LANES, POSITION_BITS, PayloadBeat, RoutedBeat
from hdl.flow import Parser
from hdl.limits import FLOWS, STORE_BYTES

ROWS = STORE_BYTES // LANES

Release = data.StructLayout({"flow": range(FLOWS), "position": POSITION_BITS})
RowAddress = data.StructLayout({"flow": range(FLOWS), "row": range(ROWS)})


class PayloadStore(wiring.Component):
    """Writes each beat behind the last byte of its flow and hands it to its parser, with its position.

    A flow has a circular region of ``STORE_BYTES``. Eight byte-wide banks take a beat at any alignment in
    one cycle. ``read`` gives eight bytes of a row in the next cycle. ``release`` says up to which position a
    flow's bytes are not needed any more; a beat that has no room waits for it. A gap beat goes on as it is: its
    position is where the hole lies.

    ``order`` gives the parser of each packet, so that what the parsers say can be put in order again.
    Eight bytes a cycle, latency 1 cycle.
    """

    i: In(stream.Signature(RoutedBeat))
    fix: Out(stream.Signature(PayloadBeat))
    sbe: Out(stream.Signature(PayloadBeat))
    order: Out(stream.Signature(Parser))

    read_address: In(RowAddress)
    read_data: Out(data.ArrayLayout(8, LANES))
    release: In(Release)
    releases: In(1)

    def __init__(self, flows: int = FLOWS):
        self._flows = flows
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        beat = self.i.payload

        written = Array(Signal(POSITION_BITS, name=f"written{n}") for n in range(self._flows))
        released = Array(Signal(POSITION_BITS, name=f"released{n}") for n in range(self._flows))
        position = Signal(POSITION_BITS)
        used = Signal(POSITION_BITS)
        m.d.comb += [position.eq(written[beat.flow]), used.eq(position - released[beat.flow])]
        with m.If(self.releases):
            m.d.sync += released[self.release.flow].eq(self.release.position)

        to_fix = beat.parser == Parser.FIX
        output_free = Mux(to_fix, ~self.fix.valid | self.fix.ready, ~self.sbe.valid | self.sbe.ready)
        within_packet = Signal()
        order_free = within_packet | self.order.ready
        room = used <= STORE_BYTES - LANES
        taken = Signal()
        m.d.comb += [
            self.i.ready.eq(output_free & order_free & room),
            taken.eq(self.i.valid & self.i.ready),
            self.order.valid.eq(self.i.valid & output_free & room & ~within_packet),
            self.order.payload.eq(beat.parser),
        ]
        with m.If(taken):
            m.d.sync += [within_packet.eq(~beat.last), written[beat.flow].eq(position + beat.count)]

        for output, chosen in ((self.fix, to_fix), (self.sbe, ~to_fix)):
            with m.If(~output.valid | output.ready):
                m.d.sync += output.valid.eq(taken & chosen)
                with m.If(taken & chosen):
                    m.d.sync += [
                        *(
                            output.payload[name].eq(beat[name])
                            for name in ("data", "count", "last", "timestamp", "flow", "fragment", "gap")
                        ),
                        output.payload.position.eq(position),
                    ]

        read_bytes = []
        for bank in range(LANES):
            rows = memory.Memory(shape=8, depth=self._flows * ROWS, init=[])
            m.submodules[f"bank{bank}"] = rows
            write, read = rows.write_port(), rows.read_port()
            lane = Signal(range(LANES), name=f"lane{bank}")
            place = Signal(POSITION_BITS, name=f"place{bank}")
            m.d.comb += [
                lane.eq(bank - position),
                place.eq(position + lane),
                write.addr.eq(Cat((place >> 3)[: (ROWS - 1).bit_length()], beat.flow)),
                write.data.eq(Array(beat.data[n] for n in range(LANES))[lane]),
                write.en.eq(taken & (lane < beat.count)),
                read.addr.eq(Cat(self.read_address.row, self.read_address.flow)),
            ]
            read_bytes.append(read.data)
        m.d.comb += Cat(self.read_data).eq(Cat(read_bytes))
        return m
