"""The card on a board with a gigabit port to its host, and perhaps another one for the traffic (docs/eth.md)."""

from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.card import Card
from hdl.crossing import from_gray, synchronized
from hdl.ethernet_frame import (
    BOARD_MAC,
    ETHERTYPE,
    HOLD_NS,
    LINK_VERSION,
    LINK_WORDS,
    MAC_BYTES,
    PORT_ROWS,
    SLOWEST_CLOCK,
    STORE_UNIT,
    STORE_WORDS,
)
from hdl.ethernet_link import CYCLE_NS_LOG2, LineSender, LineStore, LinkReceiver, PacketFeed, on_wire
from hdl.link_frame import BOARD_ADDRESS, OUTSIDE, BoardKind, Down, board_word
from hdl.link_session import LinkSession, SessionFrame, SessionStatus
from hdl.mac_port import PORT_COUNTERS, ReceivePath, TransmitPath
from hdl.rgmii import RgmiiEdges


class EthernetCard(wiring.Component):
    """A card and its link. ``is_open`` says that a host has begun a session, ``packet`` that the card is done with a packet, ``stalled`` that it
    waits for credit.

    ``clock`` is that of the domain ``sync``, in Hz, at least SLOWEST_CLOCK (else ValueError). ``rx`` and ``tx`` belong to the port with the link, in domains of the same
    names: the PHY's clock, and 125 MHz of the board's own. With two ``ports`` the other one's traffic comes by ``traffic_rx``, in the domain
    ``traffic_rx``; with one, the link's port takes all. All domains are reset together.

    ``address`` is the MAC address that the link answers to; ``store_words`` how many words of 8 bytes of packets are kept while the card is busy.
    """

    def __init__(
        self,
        card: Card,
        clock: int,
        *,
        ports: int = 1,
        address: int = BOARD_MAC,
        store_words: int = STORE_WORDS,
        hold_ns: int = HOLD_NS,
    ):
        if clock < SLOWEST_CLOCK:
            raise ValueError(f"a clock of {clock:,} Hz is too slow for the link: at least {SLOWEST_CLOCK:,} Hz")
        self._card = card
        self._ports = ports
        self._address = address
        self._store_words = store_words
        self._hold = max(1, hold_ns * clock // 10**9)
        self._board = board_word(LINK_VERSION, BoardKind.CARD, store_words * 8 // STORE_UNIT)
        traffic = {"traffic_rx": In(RgmiiEdges)} if ports > 1 else {}
        lights = dict.fromkeys(("is_open", "packet", "stalled"), Out(1))
        super().__init__({"rx": In(RgmiiEdges), "tx": Out(RgmiiEdges), **traffic, **lights})

    def elaborate(self, platform):
        m = Module()
        is_apart = self._ports > 1
        m.submodules.transmit = transmit = TransmitPath()
        m.submodules.port = port = ReceivePath(ETHERTYPE, Down.MARK, 0 if is_apart else self._store_words, LINK_WORDS)
        m.d.comb += [port.edges.eq(self.rx), port.time.eq(transmit.time), self.tx.eq(transmit.edges)]
        traffic = port
        if is_apart:
            m.submodules.traffic = traffic = ReceivePath(ETHERTYPE, Down.MARK, self._store_words, 0, rx="traffic_rx")
            m.d.comb += [traffic.edges.eq(self.traffic_rx), traffic.time.eq(transmit.time)]

        m.submodules.receiver = receiver = LinkReceiver(self._address)
        m.submodules.session = session = LinkSession()
        m.submodules.feed = feed = PacketFeed()
        m.submodules.sender = sender = LineSender(self._hold)
        # What a session has, its card too, is reset by the next one.
        restarted = ResetInserter(session.opens)
        m.submodules.card = card = restarted(self._card)
        m.submodules.lines = lines = restarted(LineStore())
        wiring.connect(m, port.link, receiver.i)
        wiring.connect(m, traffic.packets, feed.i)
        wiring.connect(m, feed.o, card.packets)
        wiring.connect(m, card.memory, lines.i)
        wiring.connect(m, lines.o, sender.i)
        wiring.connect(m, sender.o, transmit.i)
        wiring.connect(m, session.bus, card.bus)

        # A session: from whom it is, where the payload ring begins, what the time is. Packets are taken once it is started.
        # Whoever asks is answered, one of another session too: so a host learns that its board was restarted.
        frame, host = receiver.packet, Signal(8 * MAC_BYTES)
        payload_line, base, runs = Signal(32), Signal(64), Signal()
        now = Signal(64)
        m.d.sync += now.eq(from_gray(synchronized(m, transmit.time, "sync")) << CYCLE_NS_LOG2)
        with m.If(receiver.good):
            m.d.sync += host.eq(frame.source)
        with m.If(session.takes & (frame.kind == Down.START)):
            m.d.sync += runs.eq(1)
        with m.If(session.opens):
            m.d.sync += [payload_line.eq(frame.address), base.eq(frame.value - now), runs.eq(0)]

        finished = Signal.like(card.finished)
        m.d.sync += finished.eq(card.finished)
        m.d.comb += [
            self.is_open.eq(session.status.session != 0),
            self.packet.eq(card.finished != finished),
            self.stalled.eq(card.stalled),
        ]
        m.d.comb += [
            *(session.frame[name].eq(frame[name]) for name in SessionFrame.members),
            session.good.eq(receiver.good),
            session.card_stalled.eq(card.stalled),
            feed.base.eq(base),
            feed.session.eq(session.status.session),
            feed.runs.eq(runs),
            feed.abandons.eq(session.opens),
            feed.done.eq(card.finished),
            sender.payload_line.eq(payload_line),
            sender.asked.eq(session.asked),
            sender.restarts.eq(session.opens),
            sender.stored.eq(lines.stored),
            lines.takes.eq(sender.takes),
        ]
        packet = sender.packet
        lost = sum((traffic.counts[name] for name in ("fcs", "short", "long", "error")), start=0)
        m.d.comb += [
            *(packet[name].eq(session.status[name]) for name in SessionStatus.members),
            packet.destination.eq(host),
            packet.source.eq(on_wire(self._address, MAC_BYTES)),
            packet.ethertype.eq(on_wire(ETHERTYPE, 2)),
            packet.following.eq(lines.following),
            packet.finished.eq(feed.finished),
            packet.lost.eq(lost),
            packet.overflow.eq(traffic.counts.overflow),
        ]

        with m.Switch(frame.address):
            with m.Case(BOARD_ADDRESS):
                m.d.comb += session.outside.eq(self._board)
            for row, counts in enumerate((traffic.counts, port.counts)):
                for n, name in enumerate(PORT_COUNTERS):
                    with m.Case(OUTSIDE + PORT_ROWS * row + n):
                        m.d.comb += session.outside.eq(counts[name])
        return m
