"""The demo's traffic: FIX sessions cut into TCP segments, interleaved, and market data between them."""

import os
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from hdl.flow import ANYWHERE, Endpoint, Flow, Parser, Protocol
from hdl.limits import FLOWS
from host.capture.packets import Packets
from host.capture.write import ACKNOWLEDGE, FIN, PUSH, SYN, tcp_packet, udp_packet, write_pcap
from host.generate.clients import Client, Clock, Tally
from host.generate.market_data import MarketData

GATEWAY = Endpoint.parse("10.1.1.10:9880")
FEEDS = (Endpoint.parse("239.77.1.1:14310"), Endpoint.parse("239.77.2.1:15310"))
"""Multicast groups of feeds A and B."""

FEED_SOURCES = (Endpoint.parse("10.2.0.1:14310"), Endpoint.parse("10.2.0.2:15310"))
FEED_VLAN = 77
"""The feeds come with a VLAN tag, the sessions without."""

FEED_B_DELAY = 700
"""How much later feed B's packet comes, in ns."""

SESSION_DELAY = 2100
"""How much later than the market data a client sends, in ns."""

START = 1_750_167_000_000_000_000
"""When the capture begins: 17 June 2025, 13:30 UTC, in ns."""

MEAN_GAP = 250_000
"""Mean time between two order messages, in ns."""

LEAST_GAP = 10_000
"""Least time between two of them, in ns: packets of one step are less far apart, so times never step back."""

SEGMENT_MOST = 1448
"""Most payload bytes of a TCP segment (a 1500-byte MTU with TCP's timestamps)."""

HEARTBEAT_SHARE = 0.005
MARKET_DATA_SHARE = 0.5
"""Chances of a heartbeat and of a market data packet at each order message."""

SEND_WHOLE, SEND_PART = 0.35, 0.65
"""Chances that a session sends all that waits, and (up to the second number) a random part of it."""


REPEATED_SHARE = 0.01
"""Share of TCP segments that come twice, as they do where a mirror port sees both ends of a link."""


@dataclass(frozen=True)
class Sent:
    """What the traffic consists of, for whoever reconciles it.

    Attributes:
        fix: well-formed FIX messages by MsgType.
        malformed: malformed things by what is wrong with them; each makes exactly one malformed frame.
        excessive: those of ``fix`` that risk must reject, by reason.
        sbe: SBE messages by template id, those of both feeds.
        entries: SBE group entries by template id, those of both feeds.
        packets: packets by ``tcp``, ``udp``, ``repeated`` and ``empty`` (TCP packets of which all has come before, or
            without payload, not counted by ``tcp``).
    """

    fix: Counter[str] = field(default_factory=Counter)
    malformed: Counter[str] = field(default_factory=Counter)
    excessive: Counter[str] = field(default_factory=Counter)
    sbe: Counter[int] = field(default_factory=Counter)
    entries: Counter[int] = field(default_factory=Counter)
    packets: Counter[str] = field(default_factory=Counter)

    @property
    def orders(self) -> int:
        """Well-formed new orders, cancels and replaces."""
        return self.fix["D"] + self.fix["F"] + self.fix["G"]

    @property
    def session_messages(self) -> int:
        """Well-formed logons, heartbeats and logouts."""
        return self.fix.total() - self.orders

    @property
    def messages(self) -> int:
        """All messages: well-formed FIX, malformed, SBE."""
        return self.fix.total() + self.malformed.total() + self.sbe.total()

    @property
    def fix_frames(self) -> int:
        """Frames of the FIX flows: one a message."""
        return self.fix.total() + self.malformed.total()

    @property
    def sbe_frames(self) -> int:
        """Frames of the SBE flows: one a group entry, one for a message without any."""
        without = sum(count for template, count in self.sbe.items() if not self.entries[template])
        return self.entries.total() + without


@dataclass(frozen=True)
class Generated:
    """A capture that was made up, the flow table that fits it, and what it consists of."""

    packets: Packets
    flows: tuple[Flow, ...]
    sent: Sent

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the packets as a nanosecond pcap file."""
        write_pcap(path, self.packets)


def generate(
    orders: int = 20_000,
    seed: int = 1,
    *,
    sessions: int = 8,
    feeds: int = 1,
    malformed: float = 0.01,
) -> Generated:
    """Make up traffic; the same arguments give the same bytes.

    Args:
        orders: well-formed order messages (new, cancel, replace) of all sessions.
        seed: of everything that is drawn.
        sessions: FIX sessions, at least 1.
        feeds: market data feeds: none, A, or A and B with the same packets.
        malformed: share of malformed messages, in addition to ``orders``; 0 to 1.

    Raises:
        ValueError: an argument out of range; sessions and feeds must fit the card's flow table.
    """
    if orders < 0 or sessions < 1 or not 0 <= feeds <= len(FEEDS) or not 0 <= malformed <= 1:
        raise ValueError("orders must be 0 or more, sessions 1 or more, feeds 0 to 2, malformed 0 to 1")
    if sessions + feeds > FLOWS:
        raise ValueError(f"{sessions} sessions and {feeds} feeds are more than the card's {FLOWS} flows")
    traffic = _Traffic(seed, sessions, feeds)
    traffic.begin()
    for _ in range(orders):
        traffic.step(malformed)
    traffic.end()
    return traffic.generated()


class _Traffic:
    """Packets so far, and who sends the next one."""

    def __init__(self, seed: int, sessions: int, feeds: int) -> None:
        self.random = Random(seed)
        # Of its own, so that what is sent twice changes nothing of what is sent.
        self.repeats = Random(seed)
        self.now = START
        self.market = MarketData(self.random)
        self.tally = Tally(Counter(), Counter(), Counter())
        clock = Clock()
        self.clients = [
            Client(number, self.random, self.market.quotes, clock, self.tally) for number in range(1, sessions + 1)
        ]
        self.feeds = feeds
        self.packets: list[bytes] = []
        self.times: list[int] = []
        self.kinds: Counter[str] = Counter()

    def begin(self) -> None:
        """Every session connects and logs on."""
        for client in self.clients:
            self._tick()
            self._add("empty", self._segment(client, b"", SYN), SESSION_DELAY)
            client.logon(self.now)
            self._send(client, len(client.pending))

    def step(self, malformed: float) -> None:
        """One order message of some session, what may come before it, and what is sent thereupon."""
        self._tick()
        client = self.clients[int(self.random.random() * len(self.clients))]
        if self.feeds and self.random.random() < MARKET_DATA_SHARE:
            self._publish()
        if self.random.random() < HEARTBEAT_SHARE:
            client.heartbeat(self.now)
        if self.random.random() < malformed:
            client.malformed(self.now)
        client.order_message(self.now)
        while len(client.pending) > SEGMENT_MOST:
            self._send(client, SEGMENT_MOST)
        draw = self.random.random()
        if draw < SEND_WHOLE:
            self._send(client, len(client.pending))
        elif draw < SEND_PART:
            self._send(client, 1 + int(self.random.random() * len(client.pending)))

    def end(self) -> None:
        """Every session logs out, and all that waits is sent."""
        for client in self.clients:
            self._tick()
            client.logout(self.now)
            while client.pending:
                self._send(client, SEGMENT_MOST)
            self._add("empty", self._segment(client, b"", FIN | ACKNOWLEDGE), SESSION_DELAY)

    def generated(self) -> Generated:
        """All of it."""
        flows = [Flow(Protocol.TCP, GATEWAY, Parser.FIX, client.address) for client in self.clients]
        flows += [Flow(Protocol.UDP, feed, Parser.SBE, ANYWHERE) for feed in FEEDS[: self.feeds]]
        sent = Sent(
            fix=self.tally.messages,
            malformed=self.tally.malformed,
            excessive=self.tally.excessive,
            sbe=Counter({template: count * self.feeds for template, count in self.market.messages.items()}),
            entries=Counter({template: count * self.feeds for template, count in self.market.entries.items()}),
            packets=self.kinds,
        )
        return Generated(Packets.of(self.packets, self.times), tuple(flows), sent)

    def _tick(self) -> None:
        self.now += LEAST_GAP + int(self.random.random() * 2 * (MEAN_GAP - LEAST_GAP))

    def _add(self, kind: str, packet: bytes, later: int = 0) -> None:
        self.packets.append(packet)
        self.times.append(self.now + later)
        self.kinds[kind] += 1

    def _publish(self) -> None:
        payload = self.market.packet(self.now)
        for number in range(self.feeds):
            packet = udp_packet(
                payload,
                FEED_SOURCES[number],
                FEEDS[number],
                vlans=(FEED_VLAN,),
                identification=self.market.packet_sequence & 0xFFFF,
            )
            self._add("udp", packet, number * FEED_B_DELAY)

    def _send(self, client: Client, size: int) -> None:
        if client.pending:
            segment = self._segment(client, client.take(size), PUSH | ACKNOWLEDGE)
            self._add("tcp", segment, SESSION_DELAY)
            if self.repeats.random() < REPEATED_SHARE:
                self._add("repeated", segment, SESSION_DELAY)

    def _segment(self, client: Client, payload: bytes, flags: int) -> bytes:
        # A SYN takes one sequence number, before the first byte.
        sent_before = client.sent_bytes - len(payload)
        sequence = client.number * 1_000_003 + (0 if flags & SYN else 1 + sent_before)
        return tcp_packet(payload, client.address, GATEWAY, sequence=sequence, acknowledgement=1, flags=flags)
