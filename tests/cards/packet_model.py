"""docs/ethernet.md in plain Python, and behind it docs/fix.md (sim/benches/fix_model.py): what any card is to make of
packets for FIX flows."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hdl.flow import Flow, Parser, Protocol
from hdl.limits import PACKET_LIMIT
from host.capture.packets import Packets
from sim.benches.fix_model import FixFlow, Span

SYN = 0x02

OF_THE_RING = ("payload_offset", "generation")
"""Frame fields that the ring writer fills in."""


class Segment(NamedTuple):
    """A packet that rules 1 to 4 gave to a flow; ``sequence`` is that of the payload's first byte (0 over UDP)."""

    row: int
    payload: bytes
    sequence: int
    syn: bool
    fragment: bool


def number(packet: bytes, at: int, size: int = 2) -> int:
    """A big-endian number."""
    return int.from_bytes(packet[at : at + size], "big")


def segment_of(packet: bytes, flows: Sequence[Flow]) -> Segment | str:
    """What rules 1 to 4 make of a packet; a counter's name where they stop."""
    at = 12
    for _ in range(2):
        if number(packet, at) in (0x8100, 0x88A8) and at + 2 <= len(packet):
            at += 4
    if at + 2 > len(packet):
        return "damaged"
    if number(packet, at) != 0x0800:
        return "other"
    ip = packet[at + 2 :]
    if len(ip) < 20:
        return "damaged"
    header, total, fragment, protocol = ip[0] % 16 * 4, number(ip, 2), number(ip, 6), ip[9]
    if ip[0] >> 4 != 4 or header < 20 or header > total:
        return "damaged"
    if total > PACKET_LIMIT:
        return "oversize"
    if fragment & 0x1FFF:
        return "fragments"
    if protocol not in (6, 17):
        return "other"
    if len(ip) < header:
        return "damaged"
    there = ip[header:total]
    behind = 8
    if len(there) < (8 if protocol == 17 else 20):
        return "damaged"
    if protocol == 6:
        behind = there[12] >> 4 << 2
        if behind < 20 or behind > total - header:
            return "damaged"
    row = row_of(flows, protocol, (number(ip, 16, 4), number(there, 2)), (number(ip, 12, 4), number(there, 0)))
    if row is None:
        return "unmatched"
    syn = protocol == 6 and bool(there[13] & SYN)
    sequence = number(there, 4, 4) + syn if protocol == 6 else 0
    return Segment(row, there[behind:], sequence % 2**32, syn, bool(fragment & 0x2000))


def row_of(flows: Sequence[Flow], protocol: int, destination: tuple[int, int], source: tuple[int, int]) -> int | None:
    """The lowest row that fits."""
    for row, flow in enumerate(flows):
        if (
            flow.protocol == protocol
            and flow.destination == destination
            and all(own in (0, other) for own, other in zip(flow.source, source, strict=True))
        ):
            return row
    return None


class Connection:
    """The page's "TCP": which of a flow's bytes come first, and where some are missing."""

    def __init__(self) -> None:
        self.next: int | None = None
        self._hole: int | None = None

    def follow(self, segment: Segment) -> tuple[str, bytes, int | None]:
        """The packet's counter, the bytes that go to the parser, and how many are missing before them."""
        if segment.syn:
            if self.next is not None and self.next != segment.sequence:
                self._hole = 0
            self.next = segment.sequence
        if not segment.payload:
            return "empty", b"", None
        if self.next is None:
            self.next = segment.sequence
        ahead = (segment.sequence - self.next + 2**31) % 2**32 - 2**31
        if -ahead >= len(segment.payload):
            return "repeated", b"", None
        if ahead > 0:
            self._hole = ahead
        missing, self._hole = self._hole, None
        self.next = (segment.sequence + len(segment.payload)) % 2**32
        return "parsed", segment.payload[max(-ahead, 0) :], missing


class Expected(NamedTuple):
    """What packets give: the messages of all FIX rows in their order, and the counters that do not depend on SBE."""

    spans: list[Span]
    counters: Counter[str]


def expected(packets: Packets, flows: Sequence[Flow]) -> Expected:
    """Read packets as the pages say."""
    counters: Counter[str] = Counter()
    parsers = {row: FixFlow(row) for row, flow in enumerate(flows) if flow.parser is Parser.FIX}
    connections = {
        row: Connection() for row in parsers if flows[row].protocol is Protocol.TCP and all(flows[row].source)
    }
    spans: list[Span] = []
    for index in range(len(packets)):
        counters["packets"] += 1
        segment = segment_of(packets.packet(index), flows)
        if isinstance(segment, str):
            counters[segment] += 1
            continue
        row, payload, missing = segment.row, segment.payload, None
        counter = "parsed" if payload else "empty"
        if row in connections:
            counter, payload, missing = connections[row].follow(segment)
        counters[counter] += 1
        counters["gaps"] += missing is not None
        if counter == "parsed" and row in parsers:
            counters["fix_bytes"] += len(payload)
            spans += parsers[row].take(payload, int(packets.timestamp[index]), segment.fragment, missing)
    return Expected(spans, counters)


def frame_bytes(frame: np.void) -> bytes:
    """A frame's bytes without what the ring writer fills in."""
    kept = frame.copy()
    for name in OF_THE_RING:
        kept[name] = 0
    return kept.tobytes()
