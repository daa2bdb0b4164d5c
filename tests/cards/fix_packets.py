"""How FIX streams become packets: cut anywhere, interleaved, and with all that happens to TCP segments on their way."""

import enum
from typing import NamedTuple

from hypothesis import strategies as st

from hdl.flow import Endpoint, Parser, Protocol
from hdl.limits import FLOWS as MOST_FLOWS
from host.capture.packets import Packets
from host.capture.write import ACKNOWLEDGE, FIN, PUSH, SYN, tcp_packet, udp_packet
from tests.cards.comparison import CLIENTS, FLOWS


def source_of(row: int) -> Endpoint:
    """An endpoint that fits a row and none above it."""
    flow = FLOWS[row]
    anyone = CLIENTS[3] if row in (3, 15) else CLIENTS[row % 3]
    return Endpoint(flow.source.address or anyone.address, flow.source.port or anyone.port)


FIX_ENDS = {row: (source_of(row), flow.destination) for row, flow in enumerate(FLOWS) if flow.parser is Parser.FIX}
"""Source and destination of the flow table's FIX rows; row 3 is FIX over UDP."""

FOLLOWED = [row for row in FIX_ENDS if FLOWS[row].protocol is Protocol.TCP and all(FLOWS[row].source)]
"""Rows whose bytes are followed by sequence number."""

assert len(FLOWS) == MOST_FLOWS

LONGEST_PAYLOAD = 9000
FIRST_TIME = 1_700_000_000_000_000_000


class Cut(NamedTuple):
    """How streams become packets: in turns, ``size`` bytes of a stream each; a size of 0 sends a packet without payload."""

    flow: int
    size: int


rows = st.one_of(st.sampled_from(sorted(FIX_ENDS)[:6]), st.sampled_from(sorted(FIX_ENDS)))
sizes = st.one_of(
    st.just(LONGEST_PAYLOAD), st.integers(1, 12), st.integers(1, 200), st.integers(1, LONGEST_PAYLOAD), st.just(0)
)
"""The first one is what hypothesis ends with when it shrinks a case: one packet."""
cuts = st.lists(st.builds(Cut, rows, sizes), min_size=1, max_size=12)


def fix_packet(flow: int, payload: bytes, sequence: int = 0, flags: int = PUSH | ACKNOWLEDGE) -> bytes:
    """A packet of one of the flow table's FIX rows."""
    source, destination = FIX_ENDS[flow]
    if FLOWS[flow].protocol is Protocol.UDP:
        return udp_packet(payload, source, destination)
    return tcp_packet(payload, source, destination, sequence=sequence, flags=flags)


def timed(packets: list[bytes]) -> Packets:
    """Packets a microsecond apart."""
    return Packets.of(packets, [FIRST_TIME + 1000 * number for number in range(len(packets))])


def cut_into_packets(streams: dict[int, bytes], turns: list[Cut], most_packets: int = 1500) -> Packets:
    """Packets of interleaved streams: ``turns`` again and again, and what is left once there are ``most_packets``."""
    sent = dict.fromkeys(streams, 0)
    packets: list[bytes] = []

    def send(flow: int, size: int) -> None:
        payload = streams[flow][sent[flow] : sent[flow] + size]
        packets.append(fix_packet(flow, payload, sent[flow]))
        sent[flow] += len(payload)

    useful = [turn for turn in turns if turn.flow in streams]
    while len(packets) < most_packets and any(
        sent[turn.flow] < len(streams[turn.flow]) and turn.size for turn in useful
    ):
        for turn in useful:
            if sent[turn.flow] < len(streams[turn.flow]):
                send(*turn)
    for flow, stream in streams.items():
        while sent[flow] < len(stream):
            send(flow, LONGEST_PAYLOAD)
    return timed(packets)


class Way(enum.Enum):
    """What happens to a segment."""

    NEXT = "comes as it should"
    LOST = "does not come"
    AGAIN = "the bytes before it come once more instead"
    OVERLAP = "comes with bytes that came before"
    LATE = "comes behind the one that follows it"
    CUT = "was cut off by the capture"
    EMPTY = "comes without payload, its sequence number ahead"
    FIN = "ends the connection, and more comes"
    SYN = "is a SYN that fits"
    SYN_WITH_DATA = "is a SYN with payload"
    OTHER_SYN = "is the SYN of another connection"
    JUMP = "has another sequence number altogether"
    FRAGMENT = "is a first fragment"


class Step(NamedTuple):
    """A segment of ``size`` bytes and what happens to it; ``other`` is a number for whatever needs one, ``flow`` one that
    chooses among the flows that have bytes left."""

    flow: int
    size: int
    way: Way
    other: int


MORE_FRAGMENTS_BYTE, MORE_FRAGMENTS = 20, 0x20


class Sender:
    """One connection's segments."""

    def __init__(self, flow: int, stream: bytes, first: int) -> None:
        self.left = bool(stream)
        self._flow, self._stream, self._base, self._sent = flow, stream, first, 0

    def _segment(self, start: int, end: int, flags: int = PUSH | ACKNOWLEDGE, ahead: int = 0) -> bytes:
        payload = self._stream[max(start, 0) : max(end, 0)]
        return fix_packet(self._flow, payload, self._base + max(start, 0) + ahead, flags)

    def packets(self, size: int, way: Way, other: int) -> list[bytes]:
        """What a step puts on the wire."""
        at, end = self._sent, self._sent + size
        self._sent = min(end, len(self._stream))
        self.left = self._sent < len(self._stream)
        segment = self._segment
        if way is Way.LOST:
            return []
        if way is Way.AGAIN:
            self._sent, self.left = at, True
            return [segment(at - size, at)]
        if way is Way.OVERLAP:
            return [segment(at - 1 - other % size if size else at, end)]
        if way is Way.LATE:
            middle = at + size // 2
            return [segment(middle, end), segment(at, middle)]
        if way is Way.CUT:
            whole = segment(at, end)
            return [whole[: -(other % (size + 1)) or None]]
        if way is Way.EMPTY:
            return [segment(0, 0, ahead=at + other), segment(at, end)]
        if way is Way.FIN:
            return [segment(at, end, FIN | ACKNOWLEDGE)]
        if way is Way.SYN:
            return [segment(0, 0, SYN, ahead=at - 1), segment(at, end)]
        if way is Way.SYN_WITH_DATA:
            return [segment(at, end, SYN, ahead=-1)]
        if way is Way.OTHER_SYN:
            self._base += other
            return [segment(0, 0, SYN, ahead=at - 1 - other % 3), segment(at, end)]
        if way is Way.JUMP:
            self._base += other
        whole = bytearray(segment(at, end))
        if way is Way.FRAGMENT:
            whole[MORE_FRAGMENTS_BYTE] |= MORE_FRAGMENTS
        return [bytes(whole)]


ways = st.one_of(st.just(Way.NEXT), st.just(Way.NEXT), st.sampled_from(list(Way)))
others = st.one_of(
    st.integers(0, 40),
    st.integers(0, 2**32 - 1),
    st.sampled_from([2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1]),
)
steps = st.lists(
    st.builds(Step, st.integers(0, 7), st.one_of(st.just(300), st.integers(1, 12), st.integers(1, 300)), ways, others),
    min_size=1,
    max_size=16,
)
firsts = st.one_of(st.integers(0, 100), st.integers(2**32 - 400, 2**32 - 1), st.integers(0, 2**32 - 1))
"""Sequence numbers of a stream's first byte, often just before they begin anew."""


def segments(streams: dict[int, bytes], turns: list[Step], first: int, most_packets: int = 300) -> Packets:
    """Packets of interleaved streams, by ``turns`` again and again until all streams were sent."""
    senders = {flow: Sender(flow, stream, first + 77 * flow) for flow, stream in streams.items()}
    flows = list(senders)
    packets: list[bytes] = []
    for number in range(most_packets):
        waiting = [flow for flow in flows if senders[flow].left]
        if not waiting:
            break
        turn = turns[number % len(turns)]
        flow = waiting[turn.flow % len(waiting)]
        packets += senders[flow].packets(turn.size, turn.way, turn.other)
    return timed(packets)
