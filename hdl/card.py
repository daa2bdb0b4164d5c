"""The card: packets in, frames and raw messages out into host memory."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import LANES, PacketBeat
from hdl.beat_splitter import BeatSplitter
from hdl.ethernet import PACKET_COUNTERS, PACKETS_AT_ONCE, Ethernet
from hdl.feed_arbiter import FeedArbiter
from hdl.feed_gaps import FeedGaps
from hdl.fix_parser import FixParser, tables_beside
from hdl.flow import Parser
from hdl.limits import FLOWS
from hdl.payload_store import PayloadStore
from hdl.register_map import parsers_code
from hdl.registers import RegisterBus, Registers
from hdl.ring_writer import MemoryWrite, RingWriter
from hdl.sbe_decoder import SbeDecoder
from hdl.sbe_venue import Venue, venue_code
from hdl.tcp_sequence import SEGMENT_COUNTERS, TcpSequence

PASSED_OVER = ("other", "damaged", "oversize", "fragments", "unmatched", "empty", "repeated")
"""Counters of packets of which no byte goes to a parser."""


class Card(wiring.Component):
    """Everything wired. ``venue`` says how SBE flows are decoded, ``fix_width`` how many bits a cycle of FIX flows are parsed (64, 32
    or 8); a card without the one or the other must not be given such flows. ``flows`` (at most FLOWS) is how many rows the
    flow table has, with their memories. All three make it smaller, for FPGAs too small for all of it. ``channels`` is of how many
    channels it arbitrates the A and B feeds (docs/feeds.md); without any, that takes no room. ``source`` is what its register of that name says.

    Raises ValueError for a card that parses nothing, and for one that cannot arbitrate its venue's feeds.

    ``finished`` counts the packets that the card is done with, passed over or written out, modulo 2^32; ``stalled``
    is high while the rings wait for credit. Both are for whoever feeds the card from memory.
    """

    packets: In(stream.Signature(PacketBeat))
    memory: Out(stream.Signature(MemoryWrite))
    bus: In(RegisterBus)
    finished: Out(32)
    stalled: Out(1)

    def __init__(
        self,
        venue: Venue | None = None,
        flows: int = FLOWS,
        fix_width: int | None = 8 * LANES,
        source: int = 0,
        channels: int = 0,
    ):
        if venue is None and fix_width is None:
            raise ValueError("a card needs a schema, or a width of its FIX parser")
        if channels and venue is None:
            raise ValueError("a card needs a schema to arbitrate feeds")
        self.venue = venue
        self.flows = flows
        self.fix_width = fix_width
        self.channels = channels
        self._source = source
        super().__init__()

    @property
    def parsers(self) -> tuple[Parser, ...]:
        """Those that it has."""
        has = {Parser.FIX: self.fix_width, Parser.SBE: self.venue}
        return tuple(parser for parser in Parser if has[parser] is not None)

    def elaborate(self, platform):
        m = Module()
        m.submodules.registers = registers = Registers(
            self.flows,
            {
                "flow_rows": self.flows,
                "parsers": parsers_code(self.parsers),
                "venue": venue_code(self.venue),
                "source": self._source,
                **({"channels": self.channels} if self.channels else {}),
            },
            arbitrated=bool(self.channels),
        )
        m.submodules.ethernet = ethernet = Ethernet(self.flows)
        m.submodules.sequence = sequence = TcpSequence(self.flows)
        m.submodules.store = store = PayloadStore(self.flows)
        m.submodules.ring_writer = ring_writer = RingWriter(self.parsers, tables_beside(self.fix_width or 8 * LANES))

        wiring.connect(m, wiring.flipped(self.bus), registers.bus)
        wiring.connect(m, wiring.flipped(self.packets), ethernet.i)
        wiring.connect(m, ethernet.o, sequence.i)
        if self.channels and self.venue is not None:
            m.submodules.arbiter = arbiter = FeedArbiter(self.venue.profile.framing, self.flows, self.channels)
            wiring.connect(m, sequence.o, arbiter.i)
            wiring.connect(m, arbiter.o, store.i)
            m.d.comb += arbiter.feeds.eq(registers.feeds)
        else:
            wiring.connect(m, sequence.o, store.i)
        wiring.connect(m, store.order, ring_writer.order)
        if self.fix_width is not None:
            m.submodules.fix_parser = fix_parser = FixParser(self.fix_width, self.flows)
            fix_beats = store.fix
            if self.fix_width < 8 * LANES:
                m.submodules.beat_splitter = beat_splitter = BeatSplitter(fix_parser.lanes)
                wiring.connect(m, store.fix, beat_splitter.i)
                fix_beats = beat_splitter.o
            wiring.connect(m, fix_beats, fix_parser.i)
            wiring.connect(m, fix_parser.o, ring_writer.fix)
        if self.venue is not None:
            m.submodules.sbe_decoder = sbe_decoder = SbeDecoder(self.venue)
            if self.channels:
                m.submodules.gaps = gaps = FeedGaps()
                wiring.connect(m, store.sbe, gaps.i)
                wiring.connect(m, gaps.packets, sbe_decoder.i)
                wiring.connect(m, sbe_decoder.o, gaps.parsed)
                wiring.connect(m, gaps.o, ring_writer.sbe)
            else:
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
        segments = {name: sequence.counts[name] for name in SEGMENT_COUNTERS}
        if self.channels:
            # What TCP's order passes on is not parsed before it is arbitrated too.
            segments |= {"parsed": arbiter.counts.parsed}
            segments |= {name: segments[name] + arbiter.counts[name] for name in ("repeated", "gaps")}
        m.d.comb += [more[name].eq(count) for name, count in segments.items()]
        with m.If(store.fix.valid & store.fix.ready):
            m.d.comb += more.fix_bytes.eq(store.fix.payload.count)
        with m.If(ring_writer.wrote_payload):
            m.d.comb += more.payload_bytes.eq(ring_writer.payload_length)
        retired = ring_writer.releases & ring_writer.packet_end
        passed_over = sum(more[name] for name in PASSED_OVER)
        m.d.sync += self.finished.eq(self.finished + passed_over + retired)
        m.d.comb += self.stalled.eq(ring_writer.stalled)
        m.d.comb += [more.frames.eq(ring_writer.wrote_frame), more.credit_stalls.eq(ring_writer.stalled)]
        return m
