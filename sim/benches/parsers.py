"""Runs payloads through a parser's RTL and through the soft card, and compares frames and raw messages."""

from typing import Any

import numpy as np

from hdl.beat import LANES, POSITION_BITS, Parsed, PayloadBeat
from hdl.flow import Endpoint, Flow, Parser, Protocol
from hdl.frame import FRAME_DTYPE
from hdl.limits import FLOWS
from host.capture.packets import Packets
from host.capture.write import tcp_packet, udp_packet
from host.card import Card, open_card
from sim.benches.schema import SCHEMA
from sim.benches.streams import Clocked

CLIENT = Endpoint.parse("10.0.0.2:40000")
GATEWAYS = tuple(Endpoint.parse(f"10.0.0.1:{5000 + number}") for number in range(FLOWS))
"""Flow n goes to gateway n."""

MORE_FRAGMENTS_BYTE, MORE_FRAGMENTS = 20, 0x20
"""Where the flag stands in a packet without VLAN tags."""

POSITIONS = 1 << POSITION_BITS
OF_THE_RING = ("payload_offset", "payload_length", "generation")
"""Frame fields that the ring writer fills in."""


def beats(payload: bytes, **same: Any) -> list[dict[str, Any]]:
    """A packet's beats, eight bytes each; ``same`` is what stands in all of them."""
    return [
        {"data": payload[at : at + LANES], "count": len(payload[at : at + LANES]), "last": at + LANES >= len(payload)}
        | same
        for at in range(0, len(payload), LANES)
    ]


def packet(payload: bytes, parser: Parser, flow: int, fragment: bool = False) -> bytes:
    """The packet in which a payload comes."""
    if parser is Parser.FIX:
        whole = tcp_packet(payload, CLIENT, GATEWAYS[flow], sequence=0)
    else:
        whole = udp_packet(payload, CLIENT, GATEWAYS[flow])
    if fragment:
        changed = bytearray(whole)
        changed[MORE_FRAGMENTS_BYTE] |= MORE_FRAGMENTS
        whole = bytes(changed)
    return whole


def flow_table(parser: Parser) -> tuple[Flow, ...]:
    """One flow to each gateway."""
    protocol = Protocol.TCP if parser is Parser.FIX else Protocol.UDP
    return tuple(Flow(protocol, gateway, parser) for gateway in GATEWAYS)


def drain(card: Card, packets: Packets) -> list[tuple[np.void, bytes]]:
    """All frames that a card gives for packets, each with its raw message."""
    ring, parsed, first = card.ring, [], 0
    while first < len(packets):
        first = card.feed(packets, first)
        while len(frames := ring.poll()):
            parsed += [(frame.copy(), bytes(ring.message(frame))) for frame in frames]
            ring.release(len(frames))
    return parsed


def described(frame: np.void, message: bytes) -> dict[str, Any]:
    """A frame with its message, to be compared: an assertion then shows the fields that differ."""
    fields = {name: frame[name].item() for name in FRAME_DTYPE.fields or () if name not in OF_THE_RING}
    return fields | {"message": message}


class ParserBench:
    """A parser with streams ``i`` and ``o``, and the packets that it was given."""

    def __init__(self, dut: Any, parser: Parser, *, gaps: float = 1.0, ready: float = 1.0) -> None:
        self.clocked = Clocked(dut)
        self.source = self.clocked.source("i", PayloadBeat, gaps)
        self.sink = self.clocked.sink("o", Parsed, ready)
        self._parser = parser
        self._positions = [0] * FLOWS  # where each flow's stream goes on
        self._packets: list[bytes] = []
        self._streams: dict[int, dict[int, int]] = {}
        self._ends: list[tuple[int, int]] = []

    def send(self, payload: bytes, flow: int = 0, fragment: bool = False) -> None:
        """Have a packet's payload taken, behind those before it."""
        timestamp = 1_000_000_000_000_000_000 + len(self._packets)
        position = self._positions[flow]
        stream = self._streams.setdefault(flow, {})
        for beat in beats(payload, timestamp=timestamp, flow=flow, fragment=fragment):
            self.source.send([beat | {"position": position % POSITIONS}])
            stream.update(((position + n) % POSITIONS, byte) for n, byte in enumerate(beat["data"]))
            position += beat["count"]
        self._positions[flow] = position
        self._packets.append(packet(payload, self._parser, flow, fragment))
        self._ends.append((flow, position % POSITIONS))

    async def check(self) -> list[dict[str, Any]]:
        """Let the parser go through all of it; frames, messages and packet ends must be the soft card's. Returns them."""
        await self.clocked.until(self._finished)
        await self.clocked.cycles(20)
        found, ends = self._parsed()
        assert [flow for flow, _ in ends] == [flow for flow, _ in self._ends], "the packets' ends"
        for (_, released), (_, end) in zip(ends, self._ends, strict=True):
            assert (end - released) % POSITIONS < POSITIONS // 2, "bytes were released that did not come yet"
        times = 1_000_000_000_000_000_000 + np.arange(len(self._packets), dtype=np.uint64)
        schema = None if self._parser is Parser.FIX else SCHEMA
        with open_card("soft:", flow_table(self._parser), schema, frame_slots=1 << 12, payload_bytes=1 << 20) as card:
            expected = [described(*pair) for pair in drain(card, Packets.of(self._packets, times))]
        for number, (ours, theirs) in enumerate(zip(found, expected, strict=False)):
            assert ours == theirs, f"frame {number}: {_difference(ours, theirs)}"
        assert len(found) == len(expected)
        return found

    def _finished(self) -> bool:
        return self.source.idle and self._packet_ends() == len(self._ends)

    def _packet_ends(self) -> int:
        return sum(value["has_message"] and value["message"]["packet_end"] for value in self.sink.values())

    def _parsed(self) -> tuple[list[dict[str, Any]], list[tuple[int, int]]]:
        """Frames with their messages, and each packet's end as flow and released position."""
        found: list[dict[str, Any]] = []
        frames: list[dict[str, int]] = []
        ends: list[tuple[int, int]] = []
        for value in self.sink.values():
            message = value["message"]
            if value["has_frame"]:
                frames.append(value["frame"])
            if not value["has_message"]:
                continue
            assert message["frames"] == len(frames), "the message's number of frames"
            if frames:
                stream = self._streams[message["flow"]]
                places = range(message["start"], message["start"] + message["length"])
                raw = bytes(stream[place % POSITIONS] for place in places)
                for frame in frames:
                    kept = {name: number for name, number in frame.items() if name not in OF_THE_RING}
                    found.append(kept | {"message": raw})
                frames = []
            if message["packet_end"]:
                ends.append((message["flow"], message["release"]))
        assert not frames, "frames of a message without an end"
        return found, ends


def _difference(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    return ", ".join(f"{name} {ours[name]!r}, not {theirs[name]!r}" for name in ours if ours[name] != theirs[name])
