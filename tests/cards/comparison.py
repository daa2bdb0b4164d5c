"""Runs the same packets through both cards and says where they differ."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hdl.flow import Endpoint, Flow, Parser, Protocol
from hdl.frame import FRAME_DTYPE
from hdl.ring_layout import LINE_BYTES
from hdl.sbe_venue import Venue, load_venue
from host.capture.packets import Packets
from host.card import Card
from host.card.ring import FRAME_SLOTS, SMALLEST_FRAME_SLOTS, SMALLEST_PAYLOAD_BYTES, Ring
from host.card.soft import SoftCard
from host.generate import SCHEMA as DEMO_SCHEMA
from sim.verilated import VerilatedCard
from tests.cards.packet_model import OF_THE_RING, expected, frame_bytes

GATEWAY = Endpoint.parse("10.0.0.1:5001")
SECOND_GATEWAY = Endpoint.parse("10.0.0.1:5002")
FEED = Endpoint.parse("224.0.31.64:14340")
CLIENTS = tuple(Endpoint.parse(f"10.0.0.{2 + number}:40000") for number in range(4))
FEEDER = Endpoint.parse("10.0.0.250:14340")

FLOWS = (
    Flow(Protocol.TCP, GATEWAY, Parser.FIX, CLIENTS[0]),
    Flow(Protocol.TCP, GATEWAY, Parser.FIX, Endpoint(CLIENTS[1].address, 0)),
    Flow(Protocol.TCP, GATEWAY, Parser.FIX, Endpoint(0, CLIENTS[2].port)),
    Flow(Protocol.UDP, GATEWAY, Parser.FIX),
    Flow(Protocol.UDP, FEED, Parser.SBE, FEEDER),
    Flow(Protocol.UDP, FEED, Parser.SBE),
    Flow(Protocol.TCP, FEED, Parser.SBE),
    *(Flow(Protocol.TCP, Endpoint(GATEWAY.address, 6000 + number), Parser.FIX) for number in range(8)),
    Flow(Protocol.TCP, SECOND_GATEWAY, Parser.FIX),
    *(Flow(Protocol.TCP, Endpoint(GATEWAY.address, 7000 + number), Parser.FIX, CLIENTS[0]) for number in range(40)),
    *(Flow(Protocol.TCP, Endpoint(GATEWAY.address, 8000 + number), Parser.FIX) for number in range(8)),
)
"""A full flow table: rows that hide others, wildcards, either protocol under either parser, TCP connections that are
followed by sequence number (rows 0 and 16 to 55) and those that are not."""

LONGEST_MESSAGE = 8192
"""docs/fix.md, "Framing": no raw message is longer."""

PASSED_OVER = ("other", "damaged", "oversize", "fragments", "unmatched", "empty", "repeated")
"""Counters of the packets that went to no parser."""

SHOWN = 300
"""Bytes shown of a raw message that differs; four times as many of the packets."""


class Geometry(NamedTuple):
    """A ring's sizes, and how many frames its reader releases at a time."""

    frame_slots: int
    payload_bytes: int
    release: int = FRAME_SLOTS


ROOMY = Geometry(1 << 10, 1 << 18)
SMALLEST = Geometry(SMALLEST_FRAME_SLOTS, SMALLEST_PAYLOAD_BYTES)
GEOMETRIES = (
    ROOMY,
    SMALLEST,
    Geometry(4, SMALLEST_PAYLOAD_BYTES, 1),
    Geometry(64, SMALLEST_PAYLOAD_BYTES, 7),
    Geometry(SMALLEST_FRAME_SLOTS, 1 << 16),
    Geometry(1 << 10, SMALLEST_PAYLOAD_BYTES),
    Geometry(1 << 10, SMALLEST_PAYLOAD_BYTES, 1),
)
"""Rings in which frame credit, payload credit, neither or both run out."""


class Case(NamedTuple):
    """What a comparison is made of."""

    packets: Packets
    flows: Sequence[Flow]
    schema: Path | None
    geometry: Geometry


@dataclass
class Tally:
    """What was compared so far, and what last: for ``make fuzz``."""

    messages: int = 0
    packet_bytes: int = 0
    case: Case | None = None


tally = Tally()


class Reading(NamedTuple):
    """All that a host sees of a card: frames, the raw message of each, counters, and the rings' memory at the end."""

    frames: np.ndarray
    messages: list[bytes]
    counters: dict[str, int]
    memory: tuple[np.ndarray, np.ndarray]

    def distinct_messages(self) -> list[tuple[int, bytes]]:
        """Flow and bytes of each raw message once, however many frames share it."""
        found, place = [], None
        for frame, message in zip(self.frames, self.messages, strict=True):
            before, place = place, (int(frame["payload_offset"]), len(message), int(frame["flow"]))
            if place != before or not message:
                found.append((place[2], message))
        return found


compiled = functools.cache(load_venue)


def read_all(card: Card, packets: Packets, release: int) -> Reading:
    """Feed all packets, draining the ring whenever the card stops, at most ``release`` frames at a time.

    Fails where the card does not go on, points outside the payload ring or leaves bytes behind a message.
    """
    ring, first = card.ring, 0
    frames: list[np.ndarray] = []
    messages: list[bytes] = []
    while True:
        following = card.feed(packets, first)
        assert first <= following <= len(packets)
        progress = following > first
        first = following
        while len(polled := ring.poll(release)):
            progress = True
            offset, length = polled["payload_offset"].astype(np.int64), polled["payload_length"].astype(np.int64)
            padded = -(-length // LINE_BYTES) * LINE_BYTES
            assert not (offset % LINE_BYTES).any(), "a message does not begin on a line"
            assert (offset + padded <= len(ring.payload)).all(), "a frame points outside the payload ring"
            for frame, end, behind in zip(polled, offset + length, offset + padded, strict=True):
                messages.append(bytes(ring.message(frame)))
                assert not ring.payload[end:behind].any(), "the line behind a message is not zero"
            frames.append(polled.copy())
            ring.release(len(polled))
            if release < FRAME_SLOTS and first < len(packets):
                break
        if first == len(packets):
            break
        assert progress, f"the card does not go on with packet {first}"
    # Not np.concatenate, which lays fields that overlap out anew, one behind the other.
    joined = np.frombuffer(b"".join(part.tobytes() for part in frames), FRAME_DTYPE)
    return Reading(joined, messages, card.counters(), (ring.frame_bytes.copy(), ring.payload.copy()))


def both_readings(
    packets: Packets, flows: Sequence[Flow] = FLOWS, schema: Path | None = DEMO_SCHEMA, geometry: Geometry = ROOMY
) -> tuple[Reading, Reading]:
    """What the soft card and the RTL make of the same packets, in that order."""
    loaded: Venue | None = None if schema is None else compiled(schema)
    readings = []
    for card_type in (SoftCard, VerilatedCard):
        with card_type(flows, loaded, Ring.create(None, geometry.frame_slots, geometry.payload_bytes)) as card:
            readings.append(read_all(card, packets, geometry.release))
    return readings[0], readings[1]


def first_difference(soft: Reading, rtl: Reading) -> str | None:
    """The first thing in which two readings differ, in words; None where they are the same."""
    for number, (one, other) in enumerate(zip(soft.frames, rtl.frames, strict=False)):
        if one.tobytes() != other.tobytes():
            names = [name for name in FRAME_DTYPE.names if one[name] != other[name]]
            values = ", ".join(f"{name} {one[name]} and {other[name]}" for name in names)
            return f"frame {number} (soft and rtl): {values}; raw message {soft.messages[number][:SHOWN]!r}"
        if soft.messages[number] != rtl.messages[number]:
            return f"raw message {number}: soft {soft.messages[number][:SHOWN]!r}, rtl {rtl.messages[number][:SHOWN]!r}"
    if len(soft.frames) != len(rtl.frames):
        more = max(soft, rtl, key=lambda reading: len(reading.frames))
        number = min(len(soft.frames), len(rtl.frames))
        return (
            f"soft gives {len(soft.frames)} frames, rtl {len(rtl.frames)}; the first that only one has: "
            f"{more.frames[number]} with raw message {more.messages[number][:SHOWN]!r}"
        )
    for name, count in soft.counters.items():
        if name != "credit_stalls" and rtl.counters[name] != count:
            return f"counter {name}: soft {count}, rtl {rtl.counters[name]}"
    for name, one, other in zip(("frame", "payload"), soft.memory, rtl.memory, strict=True):
        if not np.array_equal(one, other):
            return f"the {name} ring's memory differs from byte {np.flatnonzero(one != other)[0]} on"
    return None


def difference_from_the_pages(reading: Reading, packets: Packets, flows: Sequence[Flow]) -> str | None:
    """The first thing in which the frames of FIX flows, or the packets' counters, are not those that the pages' rules
    give; None where there is nothing."""
    spans, counters = expected(packets, flows)
    theirs = [(frame, span.raw) for span in spans for frame in span.frames]
    ours = [
        (frame, message)
        for frame, message in zip(reading.frames, reading.messages, strict=True)
        if flows[frame["flow"]].parser is Parser.FIX
    ]
    for number, ((frame, raw), (wanted, wanted_raw)) in enumerate(zip(ours, theirs, strict=False)):
        if frame_bytes(frame) != frame_bytes(wanted) or raw != wanted_raw:
            names = [name for name in FRAME_DTYPE.names if frame[name] != wanted[name] and name not in OF_THE_RING]
            values = ", ".join(f"{name} {frame[name]}, not {wanted[name]}" for name in names)
            return f"FIX frame {number} (cards, pages): {values}; raw message {raw[:SHOWN]!r}, {wanted_raw[:SHOWN]!r}"
    if len(ours) != len(theirs):
        frame, raw = max(ours, theirs, key=len)[min(len(ours), len(theirs))]
        return f"{len(ours)} FIX frames, not {len(theirs)}; the first that only one has: {frame} {raw[:SHOWN]!r}"
    for name in ("packets", *PASSED_OVER, "parsed", "gaps", "fix_bytes"):
        if reading.counters[name] != counters[name]:
            return f"counter {name}: {reading.counters[name]}, not {counters[name]} as the pages say"
    return None


def reading_of_equal_cards(
    packets: Packets, flows: Sequence[Flow] = FLOWS, schema: Path | None = DEMO_SCHEMA, geometry: Geometry = ROOMY
) -> Reading:
    """The one reading that both cards give; fails where they differ, from each other or from what docs/ethernet.md and
    docs/fix.md say, or where what they count does not add up."""
    tally.case = Case(packets, flows, schema, geometry)
    soft, rtl = both_readings(packets, flows, schema, geometry)
    difference = first_difference(soft, rtl) or difference_from_the_pages(rtl, packets, flows)
    if difference is not None and packets.length.sum() <= 4 * SHOWN:
        difference += "\npackets: " + " ".join(packets.packet(index).hex() for index in range(len(packets)))
    assert difference is None, difference
    counts = rtl.counters
    assert counts["packets"] == len(packets) == counts["parsed"] + sum(counts[name] for name in PASSED_OVER)
    assert counts["frames"] == len(rtl.frames)
    assert counts["payload_bytes"] == sum(len(message) for _, message in rtl.distinct_messages())
    tally.messages += len(rtl.distinct_messages())
    tally.packet_bytes += int(packets.length.sum())
    return rtl


def assert_every_byte_is_in_one_message(reading: Reading, streams: dict[int, bytes]) -> None:
    """Joined, the raw messages of each FIX flow are its stream's beginning, and what is left is one unfinished message."""
    joined: dict[int, bytes] = dict.fromkeys(streams, b"")
    for flow, message in reading.distinct_messages():
        if flow in joined:
            assert 0 < len(message) <= LONGEST_MESSAGE
            joined[flow] += message
    assert reading.counters["fix_bytes"] == sum(map(len, streams.values()))
    for flow, stream in streams.items():
        assert stream.startswith(joined[flow])
        assert len(stream) - len(joined[flow]) < LONGEST_MESSAGE


def frames_of_flow(reading: Reading, flow: int) -> list[tuple[object, ...]]:
    """A flow's frames without what depends on when and where they were written, each with its raw message."""
    names = [name for name in FRAME_DTYPE.names if name not in ("timestamp", *OF_THE_RING)]
    return [
        (*(frame[name].item() for name in names), message)
        for frame, message in zip(reading.frames, reading.messages, strict=True)
        if frame["flow"] == flow
    ]
