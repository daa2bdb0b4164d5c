"""Makes a lap of orders (host/generate/load.py): generated, parsed by the soft card, and canceled at the end."""

from collections.abc import Sequence

import numpy as np

from hdl.flow import Flow
from hdl.frame import Kind
from host.capture.packets import Packets
from host.capture.write import ACKNOWLEDGE, PUSH, tcp_packet
from host.card import open_card
from host.cluster.matching_node import MatchingNode
from host.cluster.order_index import NONE
from host.demo import DEMO_LIMITS
from host.generate.faults import SOH, encode
from host.generate.load import LAP_DIGITS, Lap
from host.generate.traffic import GATEWAY, generate
from host.journal.batch import DECISION_DTYPE, Batch

LAP_ORDERS = 20_000
PACKET_ORDERS = 8
"""Messages a TCP segment: whole ones."""

_FIRST_KIND, _LAST_KIND = int(Kind.NEW_ORDER), int(Kind.REPLACE)


def make_lap(orders: int = LAP_ORDERS, seed: int = 1, sessions: int = 8) -> Lap:
    """Generated orders, a hundredth of which risk refuses, with cancels at the end of what would rest."""
    made = generate(orders, seed, sessions=sessions, feeds=0, malformed=0)
    frames, payload = _parsed(made.packets, made.flows)
    kept = (frames["kind"] >= _FIRST_KIND) & (frames["kind"] <= _LAST_KIND)
    messages: list[tuple[int, list[bytes]]] = []
    for frame in frames[kept]:
        begin = int(frame["payload_offset"])
        fields = payload[begin : begin + int(frame["payload_length"])].tobytes().split(SOH)[2:-2]
        messages.append((int(frame["flow"]), [_widened(field) for field in fields]))
    first = _messages_parsed(messages, made.flows)
    messages += _cancels(first)
    return _messages_parsed(messages, made.flows)


def _widened(field: bytes) -> bytes:
    tag, _, value = field.partition(b"=")
    return tag + b"=" + b"0" * LAP_DIGITS + value if tag in (b"11", b"41") else field


def _parsed(packets: Packets, flows: Sequence[Flow]) -> tuple[np.ndarray, np.ndarray]:
    slots = 1 << max(16, int(4 * len(packets)).bit_length())
    with open_card("soft:", flows, frame_slots=slots, payload_bytes=slots * 512) as card:
        if card.feed(packets) < len(packets):
            raise ValueError(f"{len(packets)} packets do not fit a ring of {slots} frames")
        return card.ring.poll(slots).copy(), card.ring.payload.copy()


def _messages_parsed(messages: list[tuple[int, list[bytes]]], flows: Sequence[Flow]) -> Lap:
    """Messages (flow and body fields) through the soft card, in this order."""
    sent = [1] * len(flows)
    packets: list[bytes] = []
    pending, previous = b"", -1
    count = 0

    def flush() -> None:
        nonlocal pending, count
        if pending:
            source = flows[previous].source
            packets.append(tcp_packet(pending, source, GATEWAY, sequence=sent[previous], acknowledgement=1, flags=PUSH | ACKNOWLEDGE))  # fmt: skip
            sent[previous] += len(pending)
            pending, count = b"", 0

    for flow, fields in messages:
        if flow != previous or count == PACKET_ORDERS:
            flush()
            previous = flow
        pending += encode(fields)
        count += 1
    flush()
    frames, payload = _parsed(Packets.of(packets, list(range(1, len(packets) + 1))), flows)
    if len(frames) != len(messages):
        raise ValueError(f"{len(messages)} orders gave {len(frames)} frames")
    used = int(frames["payload_offset"][-1]) + int(frames["payload_length"][-1]) + 64
    return Lap(frames, payload[:used].copy())


def _cancels(lap: Lap) -> list[tuple[int, list[bytes]]]:
    """A cancel for whatever rests after a lap: found by letting the gateway's own parts play it once."""
    risk = DEMO_LIMITS.risk()
    risk.route(DEMO_LIMITS.router())
    decisions = np.zeros(len(lap), DECISION_DTYPE)
    risk.decide(lap.frames, lap.payload, decisions)
    batch = Batch(0, 1, lap.frames, decisions, lap.payload)
    cancels: list[tuple[int, list[bytes]]] = []
    for number in DEMO_LIMITS.nodes:
        node = MatchingNode(number)
        node.apply(batch)
        for sequence in _open_sequences(node):
            frame = lap.frames[sequence - 1]
            fields = dict(field.split(b"=", 1) for field in lap.message(sequence - 1).split(SOH)[:-1])
            body = [
                b"35=F",
                b"49=" + fields[b"49"],
                b"56=" + fields[b"56"],
                b"34=" + fields[b"34"],
                b"52=" + fields[b"52"],
            ]
            body += [
                b"41=" + fields[b"11"],
                b"11=" + fields[b"11"] + b"X",
                b"1=" + fields[b"1"],
                b"55=" + fields[b"55"],
            ]
            body += [b"54=" + fields[b"54"], b"60=" + fields[b"60"], b"38=" + fields[b"38"]]
            cancels.append((int(frame["flow"]), body))
    return sorted(cancels, key=lambda each: each[0])


def _open_sequences(node: MatchingNode) -> list[int]:
    """The sequences of a node's open orders."""
    orders = node.state.orders
    return sorted(orders["sequence"][orders["level"] != NONE].tolist())
