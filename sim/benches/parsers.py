"""Runs payloads through a parser's RTL and compares frames and raw messages with what they should be: those of the soft
card for SBE, those of docs/fix.md in plain Python for FIX."""

from typing import Any, NamedTuple

import numpy as np
from amaranth.hdl import Shape

from hdl.beat import LANES, POSITION_BITS, Parsed, payload_beat
from hdl.flow import Endpoint, Flow, Parser, Protocol
from hdl.frame import FRAME_DTYPE
from hdl.limits import FLOWS
from host.capture.packets import Packets
from host.capture.write import udp_packet
from host.card import Card, open_card
from sim.benches.fix_coverage import FixCoverage
from sim.benches.fix_model import FieldEnd, FixFlow, Span
from sim.benches.streams import Clocked
from sim.benches.venue import VENUE

CLIENT = Endpoint.parse("10.0.0.2:40000")
GATEWAYS = tuple(Endpoint.parse(f"10.0.0.1:{5000 + number}") for number in range(FLOWS))
"""Flow n goes to gateway n."""

MORE_FRAGMENTS_BYTE, MORE_FRAGMENTS = 20, 0x20
"""Where the flag stands in a packet without VLAN tags."""

FIRST_TIME = 1_000_000_000_000_000_000
POSITIONS = 1 << POSITION_BITS
SHOWN = 300
"""Characters shown of a value that differs."""

OF_THE_RING = ("payload_offset", "payload_length", "generation")
"""Frame fields that the ring writer fills in."""


def beats(payload: bytes, lanes: int = LANES, **same: Any) -> list[dict[str, Any]]:
    """A packet's beats, ``lanes`` bytes each; ``same`` is what stands in all of them."""
    return [
        {"data": payload[at : at + lanes], "count": len(payload[at : at + lanes]), "last": at + lanes >= len(payload)}
        | same
        for at in range(0, len(payload), lanes)
    ]


def lanes_of(dut: Any) -> int:
    """How many bytes a beat of the design's stream ``i`` of payload has."""
    widths = {Shape.cast(payload_beat(lanes)).width: lanes for lanes in (LANES, 4, 1)}
    return widths[len(dut.i__payload)]


def packet(payload: bytes, flow: int, fragment: bool = False) -> bytes:
    """The packet in which a payload comes."""
    whole = udp_packet(payload, CLIENT, GATEWAYS[flow])
    if fragment:
        changed = bytearray(whole)
        changed[MORE_FRAGMENTS_BYTE] |= MORE_FRAGMENTS
        whole = bytes(changed)
    return whole


FLOW_TABLE = tuple(Flow(Protocol.UDP, gateway, Parser.SBE) for gateway in GATEWAYS)
"""One flow to each gateway."""


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


class Packet(NamedTuple):
    """A packet that a parser was given; ``missing`` bytes came before it where that is not None."""

    flow: int
    payload: bytes
    timestamp: int
    fragment: bool
    missing: int | None


class ParserBench:
    """A parser with streams ``i`` and ``o``, and the packets that it was given. A class by parser says what to expect.

    Attributes:
        lanes: bytes of a beat.
    """

    def __init__(self, dut: Any, *, gaps: float = 1.0, ready: float = 1.0) -> None:
        self.clocked = Clocked(dut)
        self.lanes = lanes_of(dut)
        self.source = self.clocked.source("i", payload_beat(self.lanes), gaps)
        self.sink = self.clocked.sink("o", Parsed, ready)
        self.packets: list[Packet] = []
        self.beats = 0
        self._streams = [bytearray() for _ in range(FLOWS)]
        self._ends: list[tuple[int, int]] = []

    def send(self, payload: bytes, flow: int = 0, fragment: bool = False, missing: int | None = None) -> None:
        """Have a packet's payload taken, behind those before it; ``missing`` puts a gap beat in front."""
        timestamp = FIRST_TIME + len(self.packets)
        self.packets.append(Packet(flow, payload, timestamp, fragment, missing))
        stream = self._streams[flow]
        same = {"timestamp": timestamp, "flow": flow, "fragment": fragment}
        if missing is not None:
            gap = {"data": missing.to_bytes(4, "little"), "gap": 1, "position": len(stream) % POSITIONS}
            self.source.send([gap | same])
            self.beats += 1
        for beat in beats(payload, self.lanes, **same):
            self.source.send([beat | {"position": len(stream) % POSITIONS}])
            stream += beat["data"]
            self.beats += 1
        self._ends.append((flow, len(stream) % POSITIONS))

    def expected(self) -> list[dict[str, Any]]:
        """The frames of all packets."""
        raise NotImplementedError

    async def check(self) -> list[dict[str, Any]]:
        """Let the parser go through all of it; frames, messages and packet ends must be those expected. Returns them."""
        await self.clocked.until(self._finished, most=10 * self.beats + 100_000)
        await self.clocked.cycles(20)
        found, ends = self._parsed()
        assert [flow for flow, _ in ends] == [flow for flow, _ in self._ends], "the packets' ends"
        for (_, released), (_, end) in zip(ends, self._ends, strict=True):
            assert (end - released) % POSITIONS < POSITIONS // 2, "bytes were released that did not come yet"
        expected = self.expected()
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
        reached = [0] * FLOWS  # up to where each flow's messages went
        for value in self.sink.values():
            message = value["message"]
            if value["has_frame"]:
                frames.append(value["frame"])
            if not value["has_message"]:
                continue
            assert message["frames"] == len(frames), "the message's number of frames"
            assert frames or message["length"] == 0, "a packet's end has bytes, which the ring writer would write"
            if frames:
                flow = message["flow"]
                start = reached[flow] + (message["start"] - reached[flow]) % POSITIONS
                reached[flow] = start + message["length"]
                raw = bytes(self._streams[flow][start : reached[flow]])
                for frame in frames:
                    kept = {name: number for name, number in frame.items() if name not in OF_THE_RING}
                    found.append(kept | {"message": raw, "entries": bool(message["entries"])})
                frames = []
            if message["packet_end"]:
                ends.append((message["flow"], message["release"]))
        assert not frames, "frames of a message without an end"
        return found, ends


class SbeBench(ParserBench):
    """A parser of SBE, against the soft card."""

    def expected(self) -> list[dict[str, Any]]:
        """The frames of all packets."""
        packets = [packet(each.payload, each.flow, each.fragment) for each in self.packets]
        times = [each.timestamp for each in self.packets]
        with open_card("soft:", FLOW_TABLE, VENUE, frame_slots=1 << 12, payload_bytes=1 << 20) as card:
            return [described(*pair) | {"entries": False} for pair in drain(card, Packets.of(packets, times))]


class FixBench(ParserBench):
    """A parser of FIX, against docs/fix.md in plain Python.

    Attributes:
        spans: what all packets gave, in their order.
        last_beats: per span the number of the beat that completed it.
    """

    def __init__(self, dut: Any, coverage: FixCoverage | None = None, **activity: float) -> None:
        super().__init__(dut, **activity)
        self.spans: list[Span] = []
        self.last_beats: list[int] = []
        self._flows: dict[int, FixFlow] = {}
        self._fields: list[FieldEnd] = []
        self._coverage = coverage
        if coverage is not None:
            coverage.forget()

    def send(self, payload: bytes, flow: int = 0, fragment: bool = False, missing: int | None = None) -> None:
        """See :meth:`ParserBench.send`."""
        before = self.beats + (missing is not None)
        super().send(payload, flow, fragment, missing)
        parser = self._flows.setdefault(flow, FixFlow(flow, self._fields.append))
        self._fields.clear()
        spans = parser.take(payload, self.packets[-1].timestamp, fragment, missing)
        if missing is not None:
            self.last_beats.append(before - 1)
        first = parser.position - len(payload)
        self.last_beats += [
            before + (field.end - 1 - first) // self.lanes for field in self._fields if field.span is not None
        ]
        self.spans += spans
        if self._coverage is not None:
            self._coverage.packet(parser, payload, fragment, missing, self._fields, spans)

    def expected(self) -> list[dict[str, Any]]:
        """The parser's frames: where entries are to be read, the one that they have in common."""
        return [
            described(span.frame if span.common is None else span.common, span.raw)
            | {"entries": span.common is not None}
            for span in self.spans
        ]


def _difference(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {ours[name]!r:.{SHOWN}}, not {theirs[name]!r:.{SHOWN}}" for name in ours if ours[name] != theirs[name]
    )
