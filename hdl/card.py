"""The card: packets in, frames and raw messages out into host memory."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import PacketBeat
from hdl.ethernet import PACKET_COUNTERS, PACKETS_AT_ONCE, Ethernet
from hdl.fix_parser import FixParser
from hdl.payload_store import PayloadStore
from hdl.registers import RegisterBus, Registers
from hdl.ring_writer import MemoryWrite, RingWriter
from hdl.sbe_decoder import SbeDecoder
from hdl.sbe_schema import Schema


class Card(wiring.Component):
    """Everything wired. ``schema`` is what SBE flows are decoded by; a card without one must not be given such flows.

    ``finished`` counts the packets that the card is done with, passed over or written out, modulo 2^32; ``stalled``
    is high while the rings wait for credit. Both are for whoever feeds the card from memory.
    """

    packets: In(stream.Signature(PacketBeat))
    memory: Out(stream.Signature(MemoryWrite))
    bus: In(RegisterBus)
    finished: Out(32)
    stalled: Out(1)

    def __init__(self, schema: Schema | None = None):
        self._schema = schema
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.registers = registers = Registers()
        m.submodules.ethernet = ethernet = Ethernet()
        m.submodules.store = store = PayloadStore()
        m.submodules.fix_parser = fix_parser = FixParser()
        m.submodules.ring_writer = ring_writer = RingWriter()

        wiring.connect(m, wiring.flipped(self.bus), registers.bus)
        wiring.connect(m, wiring.flipped(self.packets), ethernet.i)
        wiring.connect(m, ethernet.o, store.i)
        wiring.connect(m, store.order, ring_writer.order)
        wiring.connect(m, store.fix, fix_parser.i)
        wiring.connect(m, fix_parser.o, ring_writer.fix)
        if self._schema is not None:
            m.submodules.sbe_decoder = sbe_decoder = SbeDecoder(self._schema)
            wiring.connect(m, store.sbe, sbe_decoder.i)
            wiring.connect(m, sbe_decoder.o, ring_writer.sbe)
        wiring.connect(m, ring_writer.o, wiring.flipped(self.memory))

        m.d.comb += [
            ethernet.flows.eq(registers.flows),
            ring_writer.settings.eq(registers.ring),
            store.read_address.eq(ring_writer.read_address),
            ring_writer.read_data.eq(store.read_data),
            store.release.eq(ring_writer.release),
            store.releases.eq(ring_writer.releases),
        ]
        counts, more = ethernet.counts, registers.increments
        m.d.comb += [more[name].eq(sum(counts[name][n] for n in range(PACKETS_AT_ONCE))) for name in PACKET_COUNTERS]
        with m.If(store.fix.valid & store.fix.ready):
            m.d.comb += more.fix_bytes.eq(store.fix.payload.count)
        with m.If(ring_writer.wrote_payload):
            m.d.comb += more.payload_bytes.eq(ring_writer.payload_length)
        retired = ring_writer.releases & ring_writer.packet_end
        passed_over = sum(more[name] for name in PACKET_COUNTERS if name not in ("packets", "parsed"))
        m.d.sync += self.finished.eq(self.finished + passed_over + retired)
        m.d.comb += self.stalled.eq(ring_writer.stalled)
        m.d.comb += [more.frames.eq(ring_writer.wrote_frame), more.credit_stalls.eq(ring_writer.stalled)]
        return m
