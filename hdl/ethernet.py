"""Packets to payload bytes of a flow (docs/ethernet.md)."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import PacketBeat, RoutedBeat
from hdl.flow import Parser, Protocol
from hdl.headers import (
    ETHERTYPE_BYTES,
    ETHERTYPE_OFFSET,
    IPV4,
    IPV4_HEADER_BYTES,
    MOST_VLAN_TAGS,
    TCP_HEADER_BYTES,
    UDP_HEADER_BYTES,
    VLAN_TAG_BYTES,
    VLAN_TAGS,
)
from hdl.limits import FLOWS, PACKET_LIMIT
from hdl.strip import KEEP_ALL, Strip

FlowRow = data.StructLayout(
    {
        "protocol": unsigned(8),
        "parser": unsigned(8),
        "destination": unsigned(32),
        "destination_port": unsigned(16),
        "source": unsigned(32),
        "source_port": unsigned(16),
    }
)
"""A row of the flow table. Protocol 0: not in use; source address or port 0: any."""

IpMeta = data.StructLayout(
    {"protocol": unsigned(8), "source": 32, "destination": 32, "length": 16, "fragment": 1},
)
FlowMeta = data.StructLayout({"flow": range(FLOWS), "parser": Parser, "fragment": 1})

PACKETS_AT_ONCE = 5
"""Most packets that one counter counts in one cycle."""

PACKET_COUNTERS = ("packets", "other", "damaged", "oversize", "fragments", "unmatched", "empty", "parsed")


class Ethernet(wiring.Component):
    """Finds each packet's flow and passes on its payload, first byte in lane 0.

    Eight bytes a cycle without stalling its input. The payload's first beat is valid 11 or 12 cycles (as its alignment
    has it) after the beat with its first byte was taken, so 16 after the first beat of a UDP packet, 17 of a TCP packet.
    ``counts`` has one bit a counter of ``PACKET_COUNTERS``, high for a cycle for each packet counted; since
    packets overlap, ``damaged`` and ``other`` have several bits.
    """

    i: In(stream.Signature(PacketBeat))
    o: Out(stream.Signature(RoutedBeat))
    flows: In(data.ArrayLayout(FlowRow, FLOWS))
    counts: Out(data.StructLayout(dict.fromkeys(PACKET_COUNTERS, PACKETS_AT_ONCE)))

    def elaborate(self, platform):
        m = Module()
        m.submodules.link = link = Strip(data.StructLayout({}), data.StructLayout({}))
        m.submodules.network = network = Strip(data.StructLayout({}), IpMeta)
        m.submodules.transport = transport = Strip(IpMeta, FlowMeta)
        m.d.comb += [
            link.i.valid.eq(self.i.valid),
            link.i.payload.beat.eq(self.i.payload),
            self.i.ready.eq(link.i.ready),
        ]
        wiring.connect(m, link.o, network.i)
        wiring.connect(m, network.o, transport.i)

        link_damaged, link_other = self._read_link(m, link)
        network_damaged, network_other, oversize, fragments = self._read_network(m, network)
        transport_damaged, unmatched = self._read_transport(m, transport)

        beat, meta = transport.o.payload.beat, transport.o.payload.meta
        m.d.comb += [
            self.o.valid.eq(transport.o.valid),
            transport.o.ready.eq(self.o.ready),
            *(self.o.payload[name].eq(beat[name]) for name in ("data", "count", "last", "timestamp")),
            *(self.o.payload[name].eq(meta[name]) for name in ("flow", "fragment", "parser")),
        ]
        m.d.comb += [
            self.counts.packets.eq(link.takes),
            self.counts.other.eq(Cat(link_other, network_other)),
            # Each in its own bit: a packet may vanish in the cycle in which the next one is dropped.
            self.counts.damaged.eq(
                Cat(link_damaged, link.vanished, network_damaged, network.vanished, transport_damaged)
            ),
            self.counts.oversize.eq(oversize),
            self.counts.fragments.eq(fragments),
            self.counts.unmatched.eq(unmatched),
            self.counts.empty.eq(transport.vanished),
            self.counts.parsed.eq(self.o.valid & self.o.ready & self.o.payload.last),
        ]
        return m

    @staticmethod
    def _read_link(m, strip):
        """EtherType behind at most two VLAN tags."""
        ethertype = Signal(16)
        skip = Signal(7)
        types = []
        for tags in range(MOST_VLAN_TAGS + 1):
            offset = ETHERTYPE_OFFSET + VLAN_TAG_BYTES * tags
            types.append((offset, Cat(strip.window[offset + 1], strip.window[offset])))
        is_tag = [Cat(value == tag for tag in VLAN_TAGS).any() for _, value in types]
        with m.If(~is_tag[0]):
            m.d.comb += [ethertype.eq(types[0][1]), skip.eq(types[0][0] + ETHERTYPE_BYTES)]
        with m.Elif(~is_tag[1]):
            m.d.comb += [ethertype.eq(types[1][1]), skip.eq(types[1][0] + ETHERTYPE_BYTES)]
        with m.Else():
            m.d.comb += [ethertype.eq(types[2][1]), skip.eq(types[2][0] + ETHERTYPE_BYTES)]
        damaged = Signal()
        other = Signal()
        # What lies behind the packet's end is not looked at: a short packet is damaged whatever its type seems.
        whole = Signal()
        m.d.comb += [
            whole.eq(
                (strip.available >= types[0][0] + ETHERTYPE_BYTES)
                & (~is_tag[0] | (strip.available >= types[1][0] + ETHERTYPE_BYTES))
                & (~is_tag[0] | ~is_tag[1] | (strip.available >= types[2][0] + ETHERTYPE_BYTES))
            ),
            damaged.eq(~whole),
            other.eq(whole & (ethertype != IPV4)),
            strip.skip.eq(skip),
            strip.keep.eq(KEEP_ALL),
            strip.drop.eq(damaged | other),
        ]
        return damaged & strip.takes, other & strip.takes

    @staticmethod
    def _read_network(m, strip):
        """IPv4 (RFC 791, section 3.1)."""
        byte = strip.window
        header = Signal(6)
        total = Signal(16)
        m.d.comb += [header.eq(byte[0][:4] << 2), total.eq(Cat(byte[3], byte[2]))]
        damaged, oversize, later, other = Signal(), Signal(), Signal(), Signal()
        short = (strip.available < IPV4_HEADER_BYTES) | (byte[0][4:] != 4)
        m.d.comb += [
            damaged.eq(short | (header < IPV4_HEADER_BYTES) | (header > total)),
            oversize.eq(~damaged & (total > PACKET_LIMIT)),
            later.eq(~damaged & ~oversize & (Cat(byte[7], byte[6][:5]) != 0)),
            other.eq(~damaged & ~oversize & ~later & (byte[9] != Protocol.TCP) & (byte[9] != Protocol.UDP)),
            strip.skip.eq(header),
            strip.keep.eq(total - header),
            strip.drop.eq(damaged | oversize | later | other),
            strip.learned.protocol.eq(byte[9]),
            strip.learned.source.eq(Cat(byte[15], byte[14], byte[13], byte[12])),
            strip.learned.destination.eq(Cat(byte[19], byte[18], byte[17], byte[16])),
            strip.learned.length.eq(total - header),
            strip.learned.fragment.eq(byte[6][5]),
        ]
        return tuple(cause & strip.takes for cause in (damaged, other, oversize, later))

    def _read_transport(self, m, strip):
        """UDP (RFC 768) and TCP (RFC 9293, section 3.1), and the flow table."""
        byte, known = strip.window, strip.known
        is_tcp = known.protocol == Protocol.TCP
        tcp_header = Signal(6)
        damaged = Signal()
        m.d.comb += [
            tcp_header.eq(byte[12][4:] << 2),
            damaged.eq(
                Mux(
                    is_tcp,
                    (strip.available < TCP_HEADER_BYTES)
                    | (tcp_header < TCP_HEADER_BYTES)
                    | (tcp_header > known.length),
                    strip.available < UDP_HEADER_BYTES,
                )
            ),
        ]
        source_port, destination_port = Cat(byte[1], byte[0]), Cat(byte[3], byte[2])
        fits = Signal(FLOWS)
        row = Signal(range(FLOWS))
        parser = Signal(8)
        for n in reversed(range(FLOWS)):
            entry = self.flows[n]
            m.d.comb += fits[n].eq(
                (entry.protocol == known.protocol)
                & (entry.destination == known.destination)
                & (entry.destination_port == destination_port)
                & ((entry.source == 0) | (entry.source == known.source))
                & ((entry.source_port == 0) | (entry.source_port == source_port))
            )
            with m.If(fits[n]):
                m.d.comb += [row.eq(n), parser.eq(entry.parser)]
        unmatched = Signal()
        m.d.comb += [
            unmatched.eq(~damaged & ~fits.any()),
            strip.skip.eq(Mux(is_tcp, tcp_header, UDP_HEADER_BYTES)),
            strip.keep.eq(KEEP_ALL),
            strip.drop.eq(damaged | unmatched),
            strip.learned.flow.eq(row),
            strip.learned.parser.eq(parser[:2]),
            strip.learned.fragment.eq(known.fragment),
        ]
        return damaged & strip.takes, unmatched & strip.takes
