"""Bench of Ethernet and TcpSequence, one behind the other as in the card, against the soft card's reading of the same
packets (docs/ethernet.md)."""

import random
from typing import Any

import cocotb
import numpy as np
from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import LANES, PacketBeat, RoutedBeat
from hdl.ethernet import Ethernet
from hdl.flow import Endpoint, Flow, Parser, Protocol
from hdl.flow_match import FlowRow
from hdl.limits import FLOWS as ROWS
from hdl.register_map import COUNTERS
from hdl.tcp_sequence import SEGMENT_COUNTERS, TcpSequence
from host.capture.write import ACKNOWLEDGE, PUSH, SYN, tcp_packet
from host.card.soft_ethernet import FOLLOWED_DTYPE, NO_HOLE, dissect, flow_table, follow, settle
from sim.benches.packing import packing
from sim.benches.parsers import beats
from sim.benches.streams import Clocked

LATENCY = (16, 17)
"""From the beat with the payload's first byte: what alignment wins on the way differs."""
CLIENTS = tuple(Endpoint.parse(f"10.0.0.{2 + number}:40000") for number in range(4))
GATEWAY = Endpoint.parse("10.0.0.1:5001")
FLOWS = tuple(Flow(Protocol.TCP, GATEWAY, Parser.FIX, client) for client in CLIENTS)
SHORTEST = 60
"""Bytes of an Ethernet packet without FCS: shorter ones are padded."""
HEADERS = 54
SEQUENCES = 1 << 32


class Segments(wiring.Component):
    """Packets in, the bytes of flows out."""

    i: In(stream.Signature(PacketBeat))
    o: Out(stream.Signature(RoutedBeat))
    flows: In(data.ArrayLayout(FlowRow, ROWS))
    counts: Out(data.StructLayout(dict.fromkeys(SEGMENT_COUNTERS, 1)))

    def elaborate(self, platform):
        m = Module()
        m.submodules.ethernet = ethernet = Ethernet()
        m.submodules.sequence = sequence = TcpSequence()
        wiring.connect(m, wiring.flipped(self.i), ethernet.i)
        wiring.connect(m, ethernet.o, sequence.i)
        wiring.connect(m, sequence.o, wiring.flipped(self.o))
        m.d.comb += [ethernet.flows.eq(self.flows), self.counts.eq(sequence.counts)]
        return m


def component() -> wiring.Component:
    return Segments()


class SegmentsBench:
    """The two blocks with a flow table, and the packets that they were given."""

    def __init__(self, dut: Any, *, gaps: float = 1.0, ready: float = 1.0) -> None:
        self.dut = dut
        self.clocked = Clocked(dut)
        self.source = self.clocked.source("i", PacketBeat, gaps)
        self.sink = self.clocked.sink("o", RoutedBeat, ready)
        self.clocked.watch(self._count)
        self.counts = dict.fromkeys(SEGMENT_COUNTERS, 0)
        self.next = [random.choice((0, SEQUENCES - 100, random.getrandbits(32))) for _ in FLOWS]
        self._counts_of = packing(TcpSequence().counts.shape())
        self._packets: list[bytes] = []
        row = packing(FlowRow)
        dut.flows.value = sum(
            row.pack(
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
            for number, flow in enumerate(FLOWS)
        )

    def _count(self, _cycle: int) -> None:
        if bits := int(self.dut.counts.value):
            for name, more in self._counts_of.unpack(bits).items():
                self.counts[name] += more

    def send(self, flow: int, length: int, *, ahead: int = 0, syn: bool = False, cut: int = 0) -> None:
        """Have a segment taken that begins ``ahead`` bytes behind where the one before ended; its last ``cut`` bytes
        were not captured."""
        sequence = (self.next[flow] + ahead) % SEQUENCES
        flags = SYN if syn else PUSH | ACKNOWLEDGE
        packet = tcp_packet(random.randbytes(length), CLIENTS[flow], GATEWAY, sequence=sequence, flags=flags)
        packet = packet[: len(packet) - cut] if cut else packet.ljust(SHORTEST, b"\xaa")
        self.next[flow] = (sequence + length + syn) % SEQUENCES
        self.source.send(beats(packet, timestamp=len(self._packets)))
        self._packets.append(packet)

    async def check(self) -> None:
        """Let everything through and compare."""
        await self.clocked.until(lambda: self.source.idle)
        await self.clocked.cycles(300)
        rows, names = flow_table(FLOWS), list(COUNTERS)
        followed = np.zeros(len(FLOWS), FOLLOWED_DTYPE)
        expected, counts = [], dict.fromkeys(SEGMENT_COUNTERS, 0)
        for number, packet in enumerate(self._packets):
            captured = np.frombuffer(packet, np.uint8)
            _, flow, header, begin, end, _ = dissect(captured, 0, len(packet), rows)
            counter, begin, missing = follow(followed[flow], captured, header, begin, end)
            counts[names[counter]] += 1
            same = {"timestamp": number, "flow": flow, "parser": int(Parser.FIX), "fragment": 0, "gap": 0}
            if names[counter] != "parsed":
                continue
            if missing != NO_HOLE:
                counts["gaps"] += 1
                expected.append(same | {"data": missing.to_bytes(LANES, "little"), "count": 0, "last": 0, "gap": 1})
            settle(followed[flow], begin, end, missing)
            expected += beats(packet[begin:end], **same)
        found = [
            beat | {"data": beat["data"] if beat["gap"] else beat["data"][: beat["count"]]}
            for beat in self.sink.values()
        ]
        for number, (ours, theirs) in enumerate(zip(found, expected, strict=False)):
            assert ours == theirs, f"beat {number}"
        assert len(found) == len(expected)
        assert self.counts == counts


@cocotb.test()
async def latency(dut):
    """A payload comes LATENCY cycles after its first byte, whether bytes before it are skipped, missing or neither."""
    bench = SegmentsBench(dut)
    await bench.clocked.reset()
    found = set()
    for ahead in (0, 5, -8):
        taken, received = len(bench.source.taken), len(bench.sink.received)
        bench.send(0, 64, ahead=ahead)
        await bench.clocked.until(lambda: bench.source.idle)
        await bench.clocked.cycles(60)
        first = (HEADERS + max(-ahead, 0)) // LANES
        found.add(bench.sink.received[received].cycle - bench.source.taken[taken + first])
    cocotb.log.info("latency in cycles: %s", found)
    assert found <= set(LATENCY), found
    await bench.check()


@cocotb.test()
async def shortest_packets(dut):
    """The shortest Ethernet packets of one connection back to back, with holes and overlaps: the input never waits."""
    bench = SegmentsBench(dut)
    await bench.clocked.reset()
    for number in range(400):
        bench.send(0, random.randint(0, 6), ahead=random.choice((0, 0, 1, -1, 700)), syn=number % 50 == 0)
    await bench.check()
    assert bench.source.stalls == 0
    assert all(bench.counts.values()), bench.counts


@cocotb.test()
async def full_rate(dut):
    """Packets of every length back to back, each with a hole before it or bytes to skip: the input never waits."""
    bench = SegmentsBench(dut)
    await bench.clocked.reset()
    for length in range(120):
        for ahead in (1, -1, -7, 0, 90, -90):
            bench.send(random.choice((1, 1, 2)), length, ahead=ahead)
    await bench.check()
    assert bench.source.stalls == 0
    assert all(bench.counts.values()), bench.counts


@cocotb.test()
async def cut_short(dut):
    """What a capture cut off is a hole when the next packet comes, in front of a SYN too; all flows, pauses everywhere."""
    bench = SegmentsBench(dut, gaps=0.9, ready=0.7)
    await bench.clocked.reset()
    for _ in range(600):
        length = random.randint(0, 40)
        cut = random.randint(0, length) if random.random() < 0.3 else 0
        ahead = random.choice((0, 0, 0, random.randint(-50, 50)))
        bench.send(random.randrange(len(FLOWS)), length, ahead=ahead, syn=random.random() < 0.1, cut=cut)
    await bench.check()
    assert all(bench.counts.values()), bench.counts
