"""Bench of hdl/sbe_decoder.py with the demo's schema, against the soft card (docs/sbe.md)."""

import random
import struct
from collections.abc import Callable
from typing import Any

import cocotb
from amaranth.lib import wiring

from hdl.beat import LANES
from hdl.frame import Flag, Kind
from hdl.sbe_decoder import SbeDecoder
from host.generate.market_data import MarketData
from sim.benches.parsers import SbeBench
from sim.benches.venue import VENUE

SOURCES = ("host/generate/demo_market_data.xml",)
NOW = 1_750_167_000_000_000_000
HEADER = struct.Struct("<HHHHH")
"""Size, blockLength, templateId, schemaId, version."""

PACKET_HEADER_BYTES = VENUE.profile.framing.packet_size
SIZE_BYTES = VENUE.profile.framing.message_size

WALK = 8
"""Cycles of a message without its entries: its framing, header, template and root 5, a group's dimension 2, its end 1."""
PACKET = 4
"""Cycles from a packet's last message to the next one's first, where that is already there."""
MESSAGES = 32
"""Enough for the walk to fall behind, where it does."""


def component() -> wiring.Component:
    return SbeDecoder(VENUE)


def packets(count: int) -> list[bytes]:
    """Payloads of well-formed market data."""
    market = MarketData(random.Random(random.random()))
    return [market.packet(NOW) for _ in range(count)]


def message(template: int, body: bytes, block_length: int, schema: int = 77) -> bytes:
    """A message behind its size."""
    return HEADER.pack(HEADER.size + len(body), block_length, template, schema, 1) + body


def of(*messages: bytes) -> bytes:
    """A packet's payload."""
    return struct.pack("<IQ", 7, NOW) + b"".join(messages)


def book(entries: int, block: int = 32, root: int = 11, filling: bytes = b"\x00") -> bytes:
    """A book message with so many entries."""
    return message(3, filling * root + struct.pack("<HB", block, entries) + filling * block * entries, root)


def trade(entries: int, orders: int) -> bytes:
    """A trade message: two groups."""
    dimensions = struct.pack("<HB", 32, entries), struct.pack("<H5xB", 16, orders)
    return message(4, bytes(11) + dimensions[0] + bytes(32 * entries) + dimensions[1] + bytes(16 * orders), 11)


@cocotb.test()
async def market_data(dut):
    """Packets back to back."""
    bench = SbeBench(dut)
    await bench.clocked.reset()
    for number, payload in enumerate(packets(120)):
        bench.send(payload, flow=number % 3)
    frames = await bench.check()
    assert not any(frame["kind"] == Kind.MALFORMED for frame in frames)


@cocotb.test()
async def every_alignment(dut):
    """Root blocks of every length in front put all that follows into every lane; back-pressure."""
    bench = SbeBench(dut, gaps=0.8, ready=0.7)
    await bench.clocked.reset()
    for longer in range(17):
        filling = random.randbytes(1)
        bench.send(of(book(2, root=11 + longer, filling=filling), trade(1, 2), book(1), message(1, b"", 0)))
        bench.send(of(book(2, block=32 + longer), book(1, block=32 - longer, filling=filling), trade(2, 1)))
    await bench.check()


@cocotb.test()
async def cut_at_every_byte(dut):
    """A packet that ends anywhere: what was whole is decoded, the rest is TRUNCATED."""
    bench = SbeBench(dut, gaps=0.9, ready=0.8)
    await bench.clocked.reset()
    whole = of(book(2), trade(1, 2), message(9, b"unknown", 7), message(1, b"", 0))
    for length in range(1, len(whole) + 1):
        bench.send(whole[:length], fragment=length % 11 == 0)
    frames = await bench.check()
    assert sum(bool(frame["flags"] & Flag.TRUNCATED) for frame in frames) > len(whole) - 10


@cocotb.test()
async def malformed(dut):
    """Sizes, lengths, counts and templates that are wrong, and single bytes replaced at random."""
    bench = SbeBench(dut, gaps=0.95, ready=0.9)
    await bench.clocked.reset()
    for size in (0, 1, 9, 10, 11, 4098, 4099, 0xFFFF):
        bench.send(of(book(1), struct.pack("<H", size) + book(1)[2:], book(1)))
    for wrong in (
        message(3, bytes(20), 11, schema=1),
        message(77, b"?", 1),
        message(3, bytes(20), 200),
        book(3, block=0),
    ):
        bench.send(of(wrong, book(1)))
    for payload in packets(250):
        at = random.randrange(PACKET_HEADER_BYTES, len(payload))
        bench.send(payload[:at] + random.randbytes(1) + payload[at + 1 :])
    await bench.check()


@cocotb.test()
async def most_entries(dut):
    """As many short entries as the schema's two counts of 8 bits allow, and more than are there."""
    bench = SbeBench(dut)
    await bench.clocked.reset()
    for entries, orders in ((255, 255), (255, 0), (0, 255)):
        body = bytes(11) + struct.pack("<HB", 4, entries) + bytes(4 * entries)
        body += struct.pack("<H5xB", 4, orders) + bytes(4 * orders)
        for missing in (0, 1, 5):
            bench.send(of(message(4, body[: len(body) - missing], 11), book(1)))
    frames = await bench.check()
    assert len(frames) > 3 * 510


@cocotb.test()
async def latency(dut):
    """A frame is valid ``SbeDecoder.LATENCY`` cycles after the last byte of its entry was taken, where the decoder has kept up."""
    bench = SbeBench(dut, gaps=0.05)
    await bench.clocked.reset()
    found = set()
    for longer in range(64):
        first = len(bench.sink.received)
        bench.send(of(book(1, root=11 + longer // 8, block=32 + longer % 8)))
        await bench.clocked.until(lambda: bench.source.idle)
        await bench.clocked.cycles(20)
        shown = next(transfer.cycle for transfer in bench.sink.received[first:] if transfer.value["has_frame"])
        found.add(shown - bench.source.taken[-1])
    assert found == {SbeDecoder.LATENCY}
    await bench.check()


async def cycles_between_ends(bench: SbeBench, payloads: list[bytes], ends_of: Callable[[Any], bool]) -> float:
    """Let the payloads come in one behind the other; how many cycles lie between two ends, in the second half of them."""
    first = len(bench.sink.received)
    for payload in payloads:
        bench.send(payload)
    await bench.clocked.until(lambda: bench.source.idle)
    await bench.clocked.cycles(20 * MESSAGES)
    ends = [each.cycle for each in bench.sink.received[first:] if each.value["has_message"] and ends_of(each.value)]
    assert len(ends) == MESSAGES
    return (ends[-1] - ends[MESSAGES // 2 - 1]) / (MESSAGES // 2)


@cocotb.test()
async def cycles_of_a_message(dut):
    """Of messages that come one behind the other, one is decoded as fast as it comes, or in WALK cycles and one for each entry."""
    bench = SbeBench(dut)
    await bench.clocked.reset()
    for entries in range(7):
        payloads = [of(*[book(entries)] * MESSAGES)]
        cycles = await cycles_between_ends(bench, payloads, lambda value: value["message"]["frames"])
        assert cycles == max(len(book(entries)) / LANES, WALK + entries), f"{entries} entries"
    await bench.check()


@cocotb.test()
async def cycles_of_a_packet(dut):
    """Of packets that come one behind the other with a message each, one takes PACKET cycles more, or as long as it comes."""
    bench = SbeBench(dut)
    await bench.clocked.reset()
    for entries in range(7):
        payload = of(book(entries))
        cycles = await cycles_between_ends(bench, [payload] * MESSAGES, lambda value: value["message"]["packet_end"])
        assert cycles == max(-(-len(payload) // LANES), PACKET + WALK + entries), f"{entries} entries"
    await bench.check()
