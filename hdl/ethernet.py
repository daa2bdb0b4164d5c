"""Packets to payload bytes of a flow (docs/ethernet.md)."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import PacketBeat
from hdl.flow import Parser, Protocol
from hdl.flow_match import DELAY, FlowMatch, FlowRow
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
from hdl.strip import Strip
from hdl.trim import KEEP_ALL, tagged

IpMeta = data.StructLayout(
    {"protocol": unsigned(8), "source": 32, "destination": 32, "length": 16, "fragment": 1},
)

TransportRead = data.StructLayout(
    {"skip": unsigned(6), "damaged": 1, "fragment": 1, "syn": 1, "sequence": unsigned(32)},
)
"""What the reader of a UDP or TCP header says of it."""

Segment = data.StructLayout(
    {"flow": range(FLOWS), "parser": Parser, "fragment": 1, "followed": 1, "syn": 1, "sequence": unsigned(32)}
)
"""What is known of a packet of a flow. ``followed``: its bytes are followed by TCP sequence number;
``sequence`` is that of its first payload byte."""

PACKETS_AT_ONCE = 3
"""Most packets that one counter counts in one cycle: one in each of the three headers."""

PACKET_COUNTERS = ("packets", "other", "damaged", "oversize", "fragments", "unmatched")


class Ethernet(wiring.Component):
    """Finds each packet's flow and passes on its payload, first byte in lane 0.

    A packet of a flow without a payload byte goes on as one beat without bytes. ``flows`` is meant to
    stand still while packets come. ``counts`` has bits for each counter of ``PACKET_COUNTERS``, one high for a cycle for each
    packet counted; since packets overlap, ``damaged`` and ``other`` have several.

    Eight bytes a cycle without stalling its input. The payload's first beat is valid 13 or 14 cycles (as its alignment
    has it) after the beat with its first byte was taken.
    """

    def __init__(self, flows: int = FLOWS):
        self._flows = flows
        super().__init__(
            {
                "i": In(stream.Signature(PacketBeat)),
                "o": Out(stream.Signature(tagged(Segment))),
                "flows": In(data.ArrayLayout(FlowRow, flows)),
                "counts": Out(data.StructLayout(dict.fromkeys(PACKET_COUNTERS, PACKETS_AT_ONCE))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.link = link = Strip(data.StructLayout({}), data.StructLayout({}))
        m.submodules.network = network = Strip(data.StructLayout({}), IpMeta)
        m.submodules.transport = transport = Strip(IpMeta, Segment, delay=DELAY)
        m.submodules.match = match = FlowMatch(self._flows)
        m.d.comb += [
            link.i.valid.eq(self.i.valid),
            link.i.payload.beat.eq(self.i.payload),
            self.i.ready.eq(link.i.ready),
            match.table.eq(self.flows),
        ]
        wiring.connect(m, link.o, network.i)
        wiring.connect(m, network.o, transport.i)
        wiring.connect(m, transport.o, wiring.flipped(self.o))

        link_damaged, link_other = self._read_link(m, link)
        network_damaged, network_other, oversize, fragments = self._read_network(m, network)
        transport_damaged, unmatched = self._read_transport(m, transport, match)
        m.d.comb += [
            self.counts.packets.eq(link.answers),
            self.counts.other.eq(Cat(link_other, network_other)),
            self.counts.damaged.eq(Cat(link_damaged, network_damaged, transport_damaged)),
            self.counts.oversize.eq(oversize),
            self.counts.fragments.eq(fragments),
            self.counts.unmatched.eq(unmatched),
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
        return damaged & strip.answers, other & strip.answers

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
        return tuple(cause & strip.answers for cause in (damaged, other, oversize, later))

    @staticmethod
    def _read_transport(m, strip, match):
        """UDP (RFC 768) and TCP (RFC 9293, section 3.1); what they say waits until the flow's row is found."""
        byte, known = strip.window, strip.known
        header = Signal(6)
        is_tcp, damaged = Signal(), Signal()
        m.d.comb += [
            is_tcp.eq(known.protocol == Protocol.TCP),
            header.eq(Mux(is_tcp, byte[12][4:] << 2, UDP_HEADER_BYTES)),
            damaged.eq(
                Mux(
                    is_tcp,
                    (strip.available < TCP_HEADER_BYTES) | (header < TCP_HEADER_BYTES) | (header > known.length),
                    strip.available < UDP_HEADER_BYTES,
                )
            ),
            match.key.protocol.eq(known.protocol),
            match.key.source.eq(known.source),
            match.key.source_port.eq(Cat(byte[1], byte[0])),
            match.key.destination.eq(known.destination),
            match.key.destination_port.eq(Cat(byte[3], byte[2])),
        ]
        read = Signal(TransportRead)
        m.d.comb += [
            read.skip.eq(header),
            read.damaged.eq(damaged),
            read.fragment.eq(known.fragment),
            read.syn.eq(byte[13][1]),
            # A SYN counts as one byte before the first one.
            read.sequence.eq(Cat(byte[7], byte[6], byte[5], byte[4]) + read.syn),
        ]
        for n in range(DELAY):
            later = Signal(TransportRead, name=f"read{n}")
            m.d.sync += later.eq(read)
            read = later
        unmatched = Signal()
        m.d.comb += [
            unmatched.eq(~read.damaged & ~match.found),
            strip.skip.eq(read.skip),
            strip.keep.eq(KEEP_ALL),
            strip.drop.eq(read.damaged | unmatched),
            strip.learned.flow.eq(match.row),
            strip.learned.parser.eq(match.parser),
            strip.learned.followed.eq(match.followed),
            strip.learned.fragment.eq(read.fragment),
            strip.learned.syn.eq(read.syn),
            strip.learned.sequence.eq(read.sequence),
        ]
        return read.damaged & strip.answers, unmatched & strip.answers
