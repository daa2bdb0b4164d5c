"""Proposes the flow table of a capture: which of its conversations carry FIX, and which may carry SBE."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numba import njit

from hdl.fix_tags import BEGIN as BEGIN_TEXT
from hdl.flow import ANYWHERE, Endpoint, Flow, Parser, Protocol
from hdl.limits import FLOWS, PACKET_LIMIT
from host.capture.headers import TCP_PROTOCOL, number, transport_header
from host.capture.packets import Packets

INSPECTED_BYTES = 65536
"""Bytes of a TCP direction in which a FIX message must begin: a stream that carries FIX does so long before,
and captures of other traffic are not read through."""

CONVERSATIONS = 4096
"""Conversations told apart; the packets of further ones are only counted."""

SLOTS = 4 * CONVERSATIONS
"""Slots of the hash table: a power of two, sparse enough for short probes."""

BEGIN = np.frombuffer(BEGIN_TEXT, np.uint8)

PROTOCOL, SOURCE, SOURCE_PORT, DESTINATION, DESTINATION_PORT, PACKETS, BYTES, MATCHED, FIRST, NEXT = range(10)
"""Columns of the conversation table. MATCHED counts the bytes of ``8=FIX`` just seen (5: FIX was found), NEXT
is not used by UDP: the TCP sequence number that is due."""
COLUMNS = 10


@dataclass(frozen=True)
class Conversation:
    """Packets with payload from one TCP source to one destination, or to one UDP destination.

    Attributes:
        protocol: TCP or UDP.
        source: where they come from; ANYWHERE for UDP.
        destination: where they go to.
        packets: how many there are.
        payload_bytes: bytes of payload as far as they were captured.
        fix: whether ``8=FIX`` stands in the stream.
        first: index of the first packet.
    """

    protocol: Protocol
    source: Endpoint
    destination: Endpoint
    packets: int
    payload_bytes: int
    fix: bool
    first: int

    def __str__(self) -> str:
        way = f"{self.source}→{self.destination}" if self.protocol == Protocol.TCP else f"to {self.destination}"
        return f"{self.protocol.name} {way} ({self.packets} packet{'s' if self.packets != 1 else ''})"


@dataclass(frozen=True)
class FoundFlow:
    """A proposed row of the flow table and the conversation that it was made for."""

    flow: Flow
    conversation: Conversation


@dataclass(frozen=True)
class FoundFlows:
    """What a capture has; iterates over the proposed rows.

    Attributes:
        flows: proposed rows, by first appearance; the busiest where there are more than the table takes.
        left_out: rows that found no place in the table.
        conversations: all that was told apart, by first appearance, whether it gave a row or not.
        unlisted_packets: packets of conversations beyond the first CONVERSATIONS.
        other_packets: packets without TCP or UDP payload (other protocols, damaged ones, bare acknowledgements).
    """

    flows: tuple[FoundFlow, ...]
    left_out: int
    conversations: tuple[Conversation, ...]
    unlisted_packets: int
    other_packets: int

    def __len__(self) -> int:
        return len(self.flows)

    def __iter__(self) -> Iterator[FoundFlow]:
        return iter(self.flows)

    def table(self) -> list[Flow]:
        """The rows alone, as a card takes them."""
        return [found.flow for found in self.flows]

    def describe(self, most: int = 4) -> str:
        """What the capture has, in one line, the busiest ``most`` conversations by name."""
        busiest = sorted(self.conversations, key=lambda talk: -talk.packets)
        parts = [str(talk) for talk in busiest[:most]]
        if len(busiest) > most:
            parts.append(f"{len(busiest) - most} more conversations")
        if self.unlisted_packets:
            parts.append(f"{self.unlisted_packets} packets of further conversations")
        if self.other_packets:
            parts.append(f"{self.other_packets} packets without TCP or UDP payload")
        return ", ".join(parts) if parts else "no packets"


class Survey:
    """Looks through a capture, batch after batch, for its conversations. Headers are read by the rules of docs/ethernet.md."""

    def __init__(self) -> None:
        self._table = np.zeros((CONVERSATIONS, COLUMNS), np.int64)
        self._slots = np.full(SLOTS, -1, np.int32)
        self._counts = np.zeros(4, np.int64)

    def add(self, packets: Packets) -> None:
        """Look at the next packets."""
        _survey(packets.data, packets.offset, packets.length, self._table, self._slots, self._counts)

    def found(self, sbe: bool, sbe_streams: bool = False) -> FoundFlows:
        """Propose flow-table rows for what was seen so far.

        A TCP direction whose first INSPECTED_BYTES have ``8=FIX``, also cut across segments, gives a FIX row with its
        source. Each UDP destination gives an SBE row where ``sbe`` is set, that is, where there is a schema; each other
        TCP direction where ``sbe_streams`` is.
        """
        _, known, unlisted, other = self._counts.tolist()
        talks = tuple(_conversation(row) for row in self._table[:known].tolist())
        candidates = [FoundFlow(flow, talk) for talk in talks if (flow := _row(talk, sbe, sbe_streams)) is not None]
        busiest = sorted(candidates, key=lambda found: -found.conversation.packets)[:FLOWS]
        flows = tuple(sorted(busiest, key=lambda found: found.conversation.first))
        return FoundFlows(flows, len(candidates) - len(flows), talks, unlisted, other)


def find_flows(packets: Packets, sbe: bool, sbe_streams: bool = False) -> FoundFlows:
    """What :class:`Survey` finds in packets that are all in memory."""
    survey = Survey()
    survey.add(packets)
    return survey.found(sbe, sbe_streams)


def _conversation(row: list[int]) -> Conversation:
    return Conversation(
        Protocol(row[PROTOCOL]),
        Endpoint(row[SOURCE], row[SOURCE_PORT]),
        Endpoint(row[DESTINATION], row[DESTINATION_PORT]),
        packets=row[PACKETS],
        payload_bytes=row[BYTES],
        fix=row[MATCHED] == len(BEGIN),
        first=row[FIRST],
    )


def _row(talk: Conversation, sbe: bool, sbe_streams: bool) -> Flow | None:
    if talk.protocol == Protocol.TCP:
        parser = Parser.FIX if talk.fix else Parser.SBE
        return Flow(Protocol.TCP, talk.destination, parser, talk.source) if talk.fix or sbe_streams else None
    return Flow(Protocol.UDP, talk.destination, Parser.SBE, ANYWHERE) if sbe else None


@njit(cache=True)
def _survey(
    data: np.ndarray, offset: np.ndarray, length: np.ndarray, table: np.ndarray, slots: np.ndarray, counts: np.ndarray
) -> None:
    """Fill ``table`` with a row a conversation; ``slots`` hashes to its rows.

    ``counts`` are: packets before these, rows, packets of conversations that found no row, packets without payload.
    """
    before, known, unlisted, other = counts[0], counts[1], counts[2], counts[3]
    mask = len(slots) - 1
    for index in range(len(offset)):
        packet = data[offset[index] : offset[index] + np.uint64(length[index])]
        protocol, ip, transport, begin, end = transport_header(packet, PACKET_LIMIT)
        if begin >= end:
            other += 1
            continue
        source, source_port = np.int64(0), np.int64(0)
        if protocol == TCP_PROTOCOL:
            source = number(packet, ip + 12, 4)
            source_port = number(packet, transport, 2)
        destination = number(packet, ip + 16, 4)
        port = number(packet, transport + 2, 2)

        key = (source * 31 + destination) ^ (source_port << 17) ^ (port << 33) ^ protocol
        # Fibonacci hashing: the golden ratio spreads neighbouring addresses; the highest bits are the best.
        slot = (np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
        at = np.int64(slot) & mask
        while slots[at] >= 0:
            row = table[slots[at]]
            if (
                row[PROTOCOL] == protocol
                and row[SOURCE] == source
                and row[SOURCE_PORT] == source_port
                and row[DESTINATION] == destination
                and row[DESTINATION_PORT] == port
            ):
                break
            at = (at + 1) & mask
        if slots[at] < 0:
            if known == len(table):
                unlisted += 1
                continue
            slots[at] = known
            table[known, PROTOCOL], table[known, FIRST] = protocol, before + index
            table[known, SOURCE], table[known, SOURCE_PORT] = source, source_port
            table[known, DESTINATION], table[known, DESTINATION_PORT] = destination, port
            known += 1

        row = table[slots[at]]
        if protocol == TCP_PROTOCOL and row[BYTES] < INSPECTED_BYTES:
            # SYN counts as one byte before the payload (RFC 9293, section 3.4).
            sequence = (number(packet, transport + 4, 4) + (packet[transport + 13] >> 1 & 1)) & 0xFFFFFFFF
            matched = row[MATCHED]
            if row[NEXT] != sequence and matched < len(BEGIN):
                matched = 0  # bytes are missing or come again: nothing joins up across them
            row[NEXT] = (sequence + end - begin) & 0xFFFFFFFF
            for place in range(begin, end):
                if matched == len(BEGIN):
                    break
                if packet[place] == BEGIN[matched]:
                    matched += 1
                else:
                    matched = 1 if packet[place] == BEGIN[0] else 0
            row[MATCHED] = matched
        row[PACKETS] += 1
        row[BYTES] += end - begin
    counts[0], counts[1], counts[2], counts[3] = before + len(offset), known, unlisted, other
