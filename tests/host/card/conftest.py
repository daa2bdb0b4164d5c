"""Payloads in, frames and raw messages out, through the soft card."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest

from hdl.flow import Endpoint, Flow, Parser, Protocol
from hdl.sbe_venue import load_venue
from host.capture.packets import Packets
from host.capture.write import tcp_packet, udp_packet
from host.card import Card
from host.card.ring import Ring
from host.card.soft import SoftCard

CLIENT = Endpoint.parse("10.0.0.2:40000")
GATEWAY = Endpoint.parse("10.0.0.1:5001")
FEED = Endpoint.parse("224.0.31.64:14340")
FLOWS = (Flow(Protocol.TCP, GATEWAY, Parser.FIX), Flow(Protocol.UDP, FEED, Parser.SBE))

Parsed = list[tuple[np.void, bytes]]
"""Frames, each with its raw message."""


def drain(card: Card, packets: Packets) -> Parsed:
    """All frames of packets, releasing them as they come; fails where the card stops for good."""
    ring, parsed, first = card.ring, [], 0
    while True:
        following = card.feed(packets, first)
        progress = following > first
        first = following
        while len(frames := ring.poll()):
            progress = True
            parsed += [(frame.copy(), bytes(ring.message(frame))) for frame in frames]
            ring.release(len(frames))
        if first == len(packets):
            return parsed
        assert progress, f"the card does not go on with packet {first}"


@pytest.fixture
def parse_packets() -> Callable[..., Parsed]:
    """Parse packets with a new card."""

    def parse(
        packets: Packets,
        flows: Sequence[Flow] = FLOWS,
        schema: Path | None = None,
        frame_slots: int = 1 << 10,
        payload_bytes: int = 1 << 18,
    ) -> Parsed:
        ring = Ring.create(None, frame_slots, payload_bytes)
        with SoftCard(flows, None if schema is None else load_venue(schema), ring) as card:
            parsed = drain(card, packets)
            assert card.counters()["frames"] == len(parsed)
            return parsed

    return parse


@pytest.fixture
def parse_fix(parse_packets) -> Callable[..., Parsed]:
    """Parse the payloads of one TCP flow's packets."""

    def parse(*payloads: bytes, **options: object) -> Parsed:
        return parse_packets(
            Packets.of([tcp_packet(payload, CLIENT, GATEWAY, sequence=0) for payload in payloads]), **options
        )

    return parse


@pytest.fixture
def parse_sbe(parse_packets) -> Callable[..., Parsed]:
    """Decode the payloads of one multicast flow's packets."""

    def parse(*payloads: bytes, **options: object) -> Parsed:
        return parse_packets(Packets.of([udp_packet(payload, CLIENT, FEED) for payload in payloads]), **options)

    return parse


@pytest.fixture
def fix_message() -> Callable[..., bytes]:
    """A FIX message from its body with ``|`` for SOH; BodyLength and CheckSum may be given wrong."""

    def build(body: str | bytes, begin: bytes = b"FIX.4.4", length: int | None = None, check: bytes = b"") -> bytes:
        encoded = (body.encode("latin-1") if isinstance(body, str) else body).replace(b"|", b"\x01")
        head = b"8=%s\x019=%d\x01" % (begin, len(encoded) if length is None else length) + encoded
        return head + b"10=%s\x01" % (check or b"%03d" % (sum(head) % 256))

    return build


def without_time_and_place(parsed: Iterable[tuple[np.void, bytes]]) -> list[tuple[object, ...]]:
    """Frames that may be compared between cards whose packets or rings were cut differently."""
    ignored = ("timestamp", "payload_offset", "generation")
    return [
        (*(frame[name].item() for name in frame.dtype.names if name not in ignored), message)
        for frame, message in parsed
    ]


@pytest.fixture(name="without_time_and_place")
def without_time_and_place_fixture() -> Callable[[Parsed], list[tuple[object, ...]]]:
    return without_time_and_place
