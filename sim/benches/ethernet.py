"""Bench of hdl/ethernet.py, against the soft card's reading of the same packets (docs/ethernet.md)."""

import random
from collections.abc import Sequence
from typing import Any

import cocotb
import numpy as np
from amaranth.lib import wiring

from hdl.beat import PacketBeat
from hdl.ethernet import PACKET_COUNTERS, Ethernet, Segment
from hdl.flow import ANYWHERE, Endpoint, Flow, Parser, Protocol
from hdl.flow_match import FlowRow
from hdl.limits import FLOWS as ROWS
from hdl.limits import PACKET_LIMIT
from hdl.register_map import COUNTERS
from hdl.trim import tagged
from host.capture.write import SYN, tcp_packet, udp_packet
from host.card.soft_ethernet import dissect, flow_table, is_followed
from sim.benches.packing import packing
from sim.benches.parsers import MORE_FRAGMENTS, MORE_FRAGMENTS_BYTE, beats
from sim.benches.streams import Clocked

LATENCY = (13, 14)
"""From the beat with the payload's first byte: what alignment wins on the way differs."""
CLIENT, OTHER_CLIENT = Endpoint.parse("10.0.0.2:40000"), Endpoint.parse("10.0.0.3:40001")
GATEWAY, FEED = Endpoint.parse("10.0.0.1:5001"), Endpoint.parse("224.0.31.64:14340")
FLOWS = (
    Flow(Protocol.UDP, FEED, Parser.SBE),
    Flow(Protocol.TCP, GATEWAY, Parser.FIX, CLIENT),
    Flow(Protocol.TCP, GATEWAY, Parser.FIX, Endpoint(OTHER_CLIENT.address, 0)),
    Flow(Protocol.UDP, GATEWAY, Parser.SBE, Endpoint(0, CLIENT.port)),
    Flow(Protocol.TCP, GATEWAY, Parser.FIX, ANYWHERE),
)
FLAGS_OFFSET, SEQUENCE_OFFSET, SEQUENCE_BYTES = 13, 4, 4
"""In a TCP header."""
SHORTEST = 60
"""Bytes of an Ethernet packet without FCS: shorter ones are padded."""


def component() -> wiring.Component:
    return Ethernet()


def tcp(payload: bytes, source: Endpoint = CLIENT, destination: Endpoint = GATEWAY, **options: Any) -> bytes:
    options.setdefault("sequence", random.getrandbits(32))
    return tcp_packet(payload, source, destination, **options)


def with_ip_options(packet: bytes, count: int) -> bytes:
    """The packet with ``count`` words of IP options."""
    changed = bytearray(packet)
    changed[14] += count
    changed[16:18] = (int.from_bytes(changed[16:18], "big") + 4 * count).to_bytes(2, "big")
    changed[34:34] = b"\x01" * 4 * count
    return bytes(changed)


def with_tcp_options(packet: bytes, count: int) -> bytes:
    """The packet with ``count`` words of TCP options."""
    changed = bytearray(packet)
    changed[46] += count << 4
    changed[16:18] = (int.from_bytes(changed[16:18], "big") + 4 * count).to_bytes(2, "big")
    changed[54:54] = b"\x01" * 4 * count
    return bytes(changed)


def changed(packet: bytes, at: int, value: int) -> bytes:
    """The packet with another byte."""
    return packet[:at] + bytes([value]) + packet[at + 1 :]


class EthernetBench:
    """The block with a flow table, and the packets that it was given."""

    def __init__(self, dut: Any, flows: Sequence[Flow] = FLOWS, *, gaps: float = 1.0, ready: float = 1.0) -> None:
        self.dut = dut
        self.flows = flows
        self.clocked = Clocked(dut)
        self.source = self.clocked.source("i", PacketBeat, gaps)
        self.sink = self.clocked.sink("o", tagged(Segment), ready)
        self.clocked.watch(self._count)
        self.counts = dict.fromkeys(PACKET_COUNTERS, 0)
        self._counts_of = packing(Ethernet().counts.shape())
        self._packets: list[bytes] = []
        rows = packing(FlowRow)
        dut.flows.value = sum(
            rows.pack(
                {
                    "protocol": flow.protocol,
                    "parser": flow.parser,
                    "destination": flow.destination.address,
                    "destination_port": flow.destination.port,
                    "source": flow.source.address,
                    "source_port": flow.source.port,
                }
            )
            << FlowRow.size * number
            for number, flow in enumerate(flows)
        )

    def _count(self, _cycle: int) -> None:
        if bits := int(self.dut.counts.value):
            for name, several in self._counts_of.unpack(bits).items():
                self.counts[name] += several.bit_count()

    def send(self, packet: bytes) -> None:
        """Have a packet taken."""
        self.source.send(beats(packet, timestamp=len(self._packets)))
        self._packets.append(packet)

    async def check(self) -> dict[str, int]:
        """Let everything through and compare; returns the counters."""
        await self.clocked.until(lambda: self.source.idle)
        await self.clocked.cycles(100)
        rows, names = flow_table(self.flows), list(COUNTERS)
        expected, counts = [], dict.fromkeys((*PACKET_COUNTERS, "empty", "parsed"), 0)
        for number, packet in enumerate(self._packets):
            found = dissect(np.frombuffer(packet, np.uint8), 0, len(packet), rows)
            counter, row, header, begin, end, fragment = found
            counts["packets"] += 1
            counts[names[counter]] += 1
            if names[counter] in ("empty", "parsed"):
                empty = {"data": b"", "count": 0, "last": True, "timestamp": number}
                for beat in beats(packet[begin:end], timestamp=number) or [empty]:
                    expected.append(beat | _segment(self.flows[row], row, packet[header:], begin < end and fragment))
        found = []
        for value in self.sink.values():
            beat, meta = value["beat"], value["meta"]
            beat["data"] = beat["data"][: beat["count"]]
            if not meta["followed"]:
                meta["sequence"] = meta["syn"] = 0
            # The soft card does not say whether an empty packet is a fragment.
            found.append(beat | meta | {"fragment": meta["fragment"] if beat["count"] else 0})
        for number, (ours, theirs) in enumerate(zip(found, expected, strict=False)):
            assert ours == theirs, f"beat {number}"
        assert len(found) == len(expected)
        assert self.counts == {name: counts[name] for name in PACKET_COUNTERS}
        return counts


def _segment(flow: Flow, row: int, header: bytes, fragment: bool) -> dict[str, int]:
    """What is known of a packet of a flow. Of sequence numbers, where they are followed."""
    followed = is_followed(flow)
    syn = followed and header[FLAGS_OFFSET] & SYN != 0
    sequence = int.from_bytes(header[SEQUENCE_OFFSET : SEQUENCE_OFFSET + SEQUENCE_BYTES], "big") + syn
    return {
        "flow": row,
        "parser": int(flow.parser),
        "fragment": int(fragment),
        "followed": int(followed),
        "syn": int(syn),
        "sequence": sequence % (1 << 32) if followed else 0,
    }


@cocotb.test()
async def full_rate(dut):
    """Packets back to back, eight bytes every cycle."""
    bench = EthernetBench(dut)
    await bench.clocked.reset()
    for length in range(8, 120):
        bench.send(tcp(random.randbytes(length)))
        bench.send(udp_packet(random.randbytes(length), OTHER_CLIENT, FEED, vlans=(7,) * (length % 3)))
    await bench.check()
    assert bench.source.stalls == 0


@cocotb.test()
async def latency(dut):
    """A payload comes LATENCY cycles after its first byte, whatever headers stood before it."""
    bench = EthernetBench(dut)
    await bench.clocked.reset()
    found = {}
    for tags in range(3):
        for words in range(5):
            plain = tcp(bytes(40), vlans=(1,) * tags), udp_packet(bytes(40), CLIENT, FEED, vlans=(1,) * tags)
            for packet in plain if tags or not words else (with_ip_options(whole, words) for whole in plain):
                bench.send(packet)
                first, taken = len(bench.sink.received), len(bench.source.taken)
                await bench.clocked.until(lambda: bench.source.idle)
                await bench.clocked.cycles(40)
                begin = len(packet) - 40
                cycles = bench.sink.received[first].cycle - bench.source.taken[taken + begin // 8]
                found.setdefault(cycles, set()).add(begin)
    cocotb.log.info("latency in cycles: %s", found)
    assert tuple(sorted(found)) == LATENCY, found
    await bench.check()


@cocotb.test()
async def cut_at_every_byte(dut):
    """Captures that end anywhere in the headers or the payload."""
    bench = EthernetBench(dut, gaps=0.9, ready=0.8)
    await bench.clocked.reset()
    for packet in (
        tcp(b"8=FIX.4.4"),
        udp_packet(b"payload", CLIENT, FEED, vlans=(1, 2)),
        with_ip_options(tcp(b"x"), 3),
    ):
        for length in range(1, len(packet)):
            bench.send(packet[:length])
    counts = await bench.check()
    assert counts["damaged"] > 100


@cocotb.test()
async def headers(dut):
    """Options, tags, padding, fragments, flows that match in part: each is counted once and by its first cause."""
    bench = EthernetBench(dut, gaps=0.7, ready=0.7)
    await bench.clocked.reset()
    for count in range(11):
        bench.send(with_ip_options(tcp(b"options"), count))
        bench.send(with_tcp_options(tcp(b"options"), count))
        bench.send(with_ip_options(with_tcp_options(tcp(b"options"), 10 - count), count))
    for tags in range(4):
        bench.send(tcp(b"tagged", vlans=(100,) * tags))
    for length in range(9):
        bench.send(tcp(bytes(length)).ljust(SHORTEST, b"\xaa"))
        bench.send(udp_packet(bytes(length), CLIENT, FEED).ljust(SHORTEST + 4, b"\xaa"))
    for source in (CLIENT, OTHER_CLIENT, Endpoint(7, CLIENT.port), Endpoint(7, 7)):
        for destination in (GATEWAY, FEED, Endpoint(GATEWAY.address, 1), Endpoint(1, GATEWAY.port)):
            bench.send(tcp(b"who", source, destination))
            bench.send(udp_packet(b"who", source, destination))
    for flags in (SYN, SYN | 0x10, 0x11, 0x04):
        for sequence in (0, 0xFFFFFFFF, 0x12345678):
            bench.send(tcp(b"flags"[: flags & 7], flags=flags, sequence=sequence))
    packet = tcp(b"fragment")
    bench.send(changed(packet, MORE_FRAGMENTS_BYTE, MORE_FRAGMENTS))
    bench.send(changed(packet, MORE_FRAGMENTS_BYTE, MORE_FRAGMENTS | 0x10))
    bench.send(changed(packet, MORE_FRAGMENTS_BYTE + 1, 1))
    for total in (0, 19, 20, 39, 40, 47, 48, 49, PACKET_LIMIT, PACKET_LIMIT + 1, 0xFFFF):
        bench.send(packet[:16] + total.to_bytes(2, "big") + packet[18:])
    counts = await bench.check()
    assert all(counts.values()), counts


@cocotb.test()
async def every_row(dut):
    """Each row alone is found by what it says, and by nothing that differs in one bit; of several the lowest counts."""
    rows = [Flow(Protocol.UDP, Endpoint(0, 0), Parser.SBE)] * ROWS
    for number in range(ROWS):
        rows[number] = Flow(
            random.choice(list(Protocol)),
            Endpoint(0x0A000001 ^ 1 << number % 32, 5000),
            random.choice(list(Parser)),
            Endpoint(random.choice((0, CLIENT.address)), random.choice((0, CLIENT.port))),
        )
    bench = EthernetBench(dut, rows)
    await bench.clocked.reset()
    for row in rows:
        build = tcp if row.protocol is Protocol.TCP else udp_packet
        for source in (CLIENT, OTHER_CLIENT, Endpoint(CLIENT.address, 1), Endpoint(1, CLIENT.port)):
            bench.send(build(b"row", source, row.destination))
        for bit in range(32):
            bench.send(build(b"bit", CLIENT, Endpoint(row.destination.address ^ 1 << bit, row.destination.port)))
        for bit in range(16):
            bench.send(build(b"bit", CLIENT, Endpoint(row.destination.address, row.destination.port ^ 1 << bit)))
    counts = await bench.check()
    assert counts["parsed"] > ROWS
    assert counts["unmatched"]
    assert bench.source.stalls == 0


@cocotb.test()
async def any_headers(dut):
    """Single header bytes replaced at random."""
    bench = EthernetBench(dut, gaps=0.9, ready=0.9)
    await bench.clocked.reset()
    for _ in range(700):
        packet = random.choice((tcp(b"random"), udp_packet(b"random bytes", CLIENT, FEED, vlans=(5,))))
        at = random.randrange(12, len(packet))
        value = random.choice((random.randrange(256), 0, 0x08, 0x81, 0x45, 6, 17))
        bench.send(changed(packet, at, value))
    await bench.check()
