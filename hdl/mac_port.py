"""A port's both directions between RGMII and the card's clock domain ``sync``."""

from amaranth.hdl import Cat, DomainRenamer, Module
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.crossing import GrayCounter, from_gray, synchronized
from hdl.mac import LONGEST_PACKET, MacReceiver, MacTransmitter, MacWord
from hdl.packet_store import TIME_BITS, Classifier, PacketStore, StoredWord
from hdl.rgmii import RgmiiEdges, RgmiiReceiver, RgmiiTransmitter

COUNT_BITS = 16
"""The counters of a port go round."""

CROSSING_WORDS = 16
"""Words between the clocks on the way out."""

PORT_COUNTERS = {
    "received": "good packets, the link's too",
    "fcs": "packets whose FCS is wrong",
    "short": "packets below 64 bytes, with their FCS",
    "long": "packets longer than the port takes",
    "error": "packets with a byte that the PHY marked (RX_ER)",
    "overflow": "good packets for which there was no room",
}
"""Counters of a port, modulo 2^16, and their meanings."""

PortCounts = data.StructLayout(dict.fromkeys(PORT_COUNTERS, COUNT_BITS))


class ReceivePath(wiring.Component):
    """From RGMII in the domain ``rx`` to whole, good packets in ``sync``.

    ``packets`` are those of other EtherTypes than ``ethertype``, and of that one those in which ``marked`` stands behind it, kept in
    ``store_words`` words (0: none are kept); ``link`` are all of ``ethertype``, kept in ``link_words``. A packet's first word has its time, by the clock
    whose Gray code is ``time``, of any domain. ``counts`` count as PORT_COUNTERS says.

    Minimum-size packets at the minimum gap at 1 Gb/s, for a ``sync`` of at least 25 MHz that takes a word a cycle.
    """

    LATENCY = 20

    edges: In(RgmiiEdges)
    time: In(TIME_BITS)
    packets: Out(stream.Signature(StoredWord))
    link: Out(stream.Signature(StoredWord))
    counts: Out(PortCounts)

    def __init__(
        self,
        ethertype: int,
        marked: int,
        store_words: int,
        link_words: int,
        longest: int = LONGEST_PACKET,
        rx: str = "rx",
    ):
        self._ethertype = ethertype
        self._marked = marked
        self._store_words = store_words
        self._link_words = link_words
        self._longest = longest
        self._rx = rx
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        in_rx = DomainRenamer(self._rx)
        m.submodules.rgmii = rgmii = in_rx(RgmiiReceiver())
        m.submodules.mac = mac = in_rx(MacReceiver(self._longest))
        m.submodules.classifier = classifier = in_rx(Classifier(self._ethertype))
        m.d.comb += [rgmii.i.eq(self.edges), mac.i.eq(rgmii.o), classifier.i.eq(mac.o)]
        time = synchronized(m, self.time, self._rx)

        matches = classifier.matches
        wanted = {
            "packets": (self._store_words, self.packets, ~matches | (classifier.following == self._marked)),
            "link": (self._link_words, self.link, matches),
        }
        overflows = []
        for name, (words, output, takes) in wanted.items():
            if not words:
                continue
            m.submodules[f"{name}_store"] = store = PacketStore(words, self._rx)
            wiring.connect(m, store.o, wiring.flipped(output))
            m.d.comb += [
                store.i.eq(mac.o),
                store.began.eq(mac.began),
                store.time.eq(time),
                store.is_link.eq(matches),
                store.takes.eq(takes),
            ]
            overflows.append(store.overflow)

        counted = {
            "received": mac.o.valid & mac.o.last & mac.o.good,
            **{name: mac.faults[name] for name in ("fcs", "short", "long", "error")},
            "overflow": Cat(overflows).any(),
        }
        for name in PORT_COUNTERS:
            m.submodules[f"count_{name}"] = counter = in_rx(GrayCounter(COUNT_BITS))
            m.d.comb += counter.counts.eq(counted[name])
            m.d.sync += self.counts[name].eq(from_gray(synchronized(m, counter.code, "sync")))
        return m


class TransmitPath(wiring.Component):
    """From words in ``sync`` to RGMII in the domain ``tx``, which has 125 MHz and also drives the clock ``time``.

    A packet's words must come at once once it has begun, four bytes a cycle, so ``sync`` has at least 40 MHz.
    """

    LATENCY = 10

    i: In(stream.Signature(MacWord))
    edges: Out(RgmiiEdges)
    time: Out(TIME_BITS)

    def elaborate(self, platform):
        m = Module()
        in_tx = DomainRenamer("tx")
        m.submodules.clock = clock = in_tx(GrayCounter(TIME_BITS))
        m.submodules.crossing = crossing = fifo.AsyncFIFOBuffered(
            width=MacWord.size, depth=CROSSING_WORDS + 1, r_domain="tx", w_domain="sync"
        )
        m.submodules.mac = mac = in_tx(MacTransmitter())
        m.submodules.rgmii = rgmii = in_tx(RgmiiTransmitter())
        m.d.comb += [
            clock.counts.eq(1),
            self.time.eq(clock.code),
            crossing.w_data.eq(self.i.payload),
            crossing.w_en.eq(self.i.valid),
            self.i.ready.eq(crossing.w_rdy),
            mac.i.payload.eq(crossing.r_data),
            mac.i.valid.eq(crossing.r_rdy),
            crossing.r_en.eq(mac.i.ready),
            rgmii.i.eq(mac.o),
            self.edges.eq(rgmii.o),
        ]
        return m
