"""Bench of hdl/tcp_sequence.py, against the rule of docs/ethernet.md, section "TCP", in plain Python."""

import random
from dataclasses import dataclass
from typing import Any

import cocotb
from amaranth.lib import wiring

from hdl.beat import RoutedBeat
from hdl.ethernet import Segment
from hdl.flow import Parser
from hdl.limits import FLOWS
from hdl.tcp_sequence import SEGMENT_COUNTERS, TcpSequence
from hdl.trim import tagged
from sim.benches.packing import packing
from sim.benches.parsers import beats
from sim.benches.streams import Clocked

LATENCY = 3
WAIT = 3
"""Most cycles that a followed packet behind another one waits for what that leaves behind."""
AFTERWARDS = 200
"""Cycles in which what is inside comes out, also where the output is seldom ready."""
SEQUENCES = 1 << 32
LONGEST = 9176
"""Payload bytes of the largest TCP segment."""


def component() -> wiring.Component:
    return TcpSequence()


@dataclass
class Followed:
    """What is known of a flow."""

    known: bool = False
    next: int = 0
    renewed: bool = False

    def take(self, sequence: int, length: int, syn: bool) -> tuple[str, int, int | None]:
        """What becomes of a segment: its counter, how many bytes are skipped, how many are missing (None: no hole)."""
        if syn:
            self.renewed |= self.known and self.next != sequence
            self.known, self.next = True, sequence
        if not length:
            return "empty", 0, None
        if not self.known:
            self.known, self.next = True, sequence
        ahead = (sequence - self.next) % SEQUENCES
        if ahead >= SEQUENCES // 2:
            ahead -= SEQUENCES
        if -ahead >= length:
            return "repeated", length, None
        missing = ahead if ahead > 0 else 0 if self.renewed else None
        self.next, self.renewed = (sequence + length) % SEQUENCES, False
        return "parsed", max(-ahead, 0), missing


class SequenceBench:
    """The block, the segments that it was given and what should become of them."""

    def __init__(self, dut: Any, *, gaps: float = 1.0, ready: float = 1.0) -> None:
        self.dut = dut
        self.clocked = Clocked(dut)
        self.source = self.clocked.source("i", tagged(Segment), gaps)
        self.sink = self.clocked.sink("o", RoutedBeat, ready)
        self.clocked.watch(self._count)
        self.flows = [Followed() for _ in range(FLOWS)]
        self.counts = dict.fromkeys(SEGMENT_COUNTERS, 0)
        self.expected_counts = dict.fromkeys(SEGMENT_COUNTERS, 0)
        self.expected: list[dict[str, Any]] = []
        self.sent = 0
        self._counts_of = packing(TcpSequence().counts.shape())

    def _count(self, _cycle: int) -> None:
        if bits := int(self.dut.counts.value):
            for name, more in self._counts_of.unpack(bits).items():
                self.counts[name] += more

    def send(self, flow: int, sequence: int, length: int, *, syn: bool = False, followed: bool = True) -> str:
        """Have a segment taken; returns its counter."""
        sequence %= SEQUENCES
        payload = random.randbytes(length)
        parser = Parser.FIX if followed else random.choice(list(Parser))
        fragment = random.random() < 0.1
        known = {"flow": flow, "parser": parser, "fragment": fragment}
        segment = known | {"followed": followed, "syn": syn, "sequence": sequence}
        empty = {"data": b"", "count": 0, "last": True, "timestamp": self.sent}
        self.source.send({"beat": beat, "meta": segment} for beat in beats(payload, timestamp=self.sent) or [empty])
        if followed:
            counter, skipped, missing = self.flows[flow].take(sequence, length, syn)
        else:
            counter, skipped, missing = "parsed" if length else "empty", 0, None
        self.expected_counts[counter] += 1
        same = known | {"timestamp": self.sent, "gap": 0}
        if missing is not None:
            self.expected_counts["gaps"] += 1
            self.expected.append(same | {"data": missing.to_bytes(8, "little"), "count": 0, "last": 0, "gap": 1})
        self.expected += beats(payload[skipped:], **same)
        self.sent += 1
        return counter

    async def check(self) -> None:
        """Let everything through and compare."""
        await self.clocked.until(lambda: self.source.idle)
        await self.clocked.cycles(AFTERWARDS)
        found = []
        for beat in self.sink.values():
            data = beat["data"] if beat["gap"] else beat["data"][: beat["count"]]
            found.append(beat | {"data": data})
        for number, (ours, theirs) in enumerate(zip(found, self.expected, strict=False)):
            assert ours == theirs, f"beat {number}"
        assert len(found) == len(self.expected)
        assert self.counts == self.expected_counts

    def near(self, flow: int) -> int:
        """A sequence number about where the flow is expected to go on."""
        return self.flows[flow].next + random.choice((0, 0, 0, 1, -1, 8, -8, random.randint(-70, 70)))


@cocotb.test()
async def latency(dut):
    """A beat comes LATENCY cycles later, and so does the first one behind skipped bytes that needs no other; a gap beat
    comes first and costs one cycle."""
    bench = SequenceBench(dut)
    await bench.clocked.reset()
    found = {}
    for name, sequence, length, first in (
        ("first", 100, 64, 0),
        ("in order", 164, 64, 0),
        ("16 bytes again", 212, 64, 2),
        ("3 bytes again", 273, 64, 0),
        ("3 bytes again, one beat", 334, 8, 0),
        ("gap", 400, 64, 0),
    ):
        taken, received = len(bench.source.taken), len(bench.sink.received)
        bench.send(0, sequence, length)
        await bench.clocked.until(lambda: bench.source.idle)
        await bench.clocked.cycles(20)
        found[name] = bench.sink.received[received].cycle - bench.source.taken[taken + first]
    await bench.check()
    assert bench.sink.values()[-9]["gap"]
    assert set(found.values()) == {LATENCY}, found


@cocotb.test()
async def full_rate(dut):
    """A beat a cycle within a packet and between packets that are not followed; followed packets wait WAIT cycles."""
    bench = SequenceBench(dut)
    await bench.clocked.reset()
    for length in range(90):
        bench.send(1, 0, length, followed=False)
    bench.send(1, 0, LONGEST)
    await bench.check()
    assert bench.source.stalls == 0
    for number in range(50):
        bench.send(1, LONGEST + 64 * number, 64)
    await bench.check()
    assert bench.source.stalls <= 50 * WAIT
    cocotb.log.info("cycles of waiting: %s of 50 packets", bench.source.stalls)


@cocotb.test()
async def every_overlap(dut):
    """Segments that begin before what is expected, by every number of bytes, or behind it."""
    bench = SequenceBench(dut, gaps=0.9, ready=0.9)
    await bench.clocked.reset()
    for length in (1, 7, 8, 9, 16, 17, 40):
        for ahead in range(-length - 9, 18):
            bench.send(2, bench.flows[2].next + ahead, length)
    await bench.check()
    assert bench.counts["repeated"] > 60
    assert bench.counts["gaps"] > 60


@cocotb.test()
async def far_away(dut):
    """Differences are signed: half of all numbers lie before, half behind, and numbers wrap."""
    bench = SequenceBench(dut)
    await bench.clocked.reset()
    aheads = [0, 1, -1, 1 << 14, 1 << 18, (1 << 31) - 1, 1 << 31, (1 << 31) + 1]
    aheads += [-ahead for ahead in aheads] + [-(1 << bit) for bit in range(32)] + [-(1 << bit) - 3 for bit in range(32)]
    for start in (0, SEQUENCES - 20, 1 << 31, random.getrandbits(32)):
        bench.send(3, start, 4, syn=True)
        for ahead in aheads:
            bench.send(3, bench.flows[3].next + ahead, random.randint(0, 30))
            bench.send(3, bench.flows[3].next, random.randint(0, 30))
    bench.send(3, bench.flows[3].next - LONGEST + 1, LONGEST)
    bench.send(3, bench.flows[3].next - LONGEST, LONGEST)
    await bench.check()


@cocotb.test()
async def connections(dut):
    """A SYN with or without payload begins anew, with one hole of 0 bytes before the next byte if the number changes."""
    bench = SequenceBench(dut, gaps=0.9, ready=0.9)
    await bench.clocked.reset()
    for syns in range(4):
        for same in (False, True):
            for ahead in (-8, 0, 8):
                for length in (0, 1, 20):
                    for _ in range(syns):
                        begin = bench.flows[4].next + (0 if same else random.getrandbits(32))
                        bench.send(4, begin, random.choice((0, 0, length)), syn=True)
                        bench.send(4, begin - 100, random.choice((0, 3)))
                    bench.send(4, bench.flows[4].next + ahead, length)
                    bench.send(5, random.getrandbits(32), 9)
    await bench.check()


async def _any_segments(dut: Any, gaps: float, ready: float, flows: int, segments: int) -> None:
    bench = SequenceBench(dut, gaps=gaps, ready=ready)
    await bench.clocked.reset()
    for flow in range(flows):
        bench.flows[flow].next = random.choice((0, SEQUENCES - 100, random.getrandbits(32)))
    for _ in range(segments):
        flow = random.randrange(flows)
        length = random.choice((0, random.randint(1, 8), random.randint(1, 60)))
        chance = random.random()
        if chance < 0.1:
            bench.send(flow, random.getrandbits(32), length, followed=False, syn=random.random() < 0.2)
        else:
            bench.send(flow, bench.near(flow), length, syn=chance < 0.15)
    await bench.check()
    assert all(bench.counts.values()), bench.counts


@cocotb.test()
async def one_flow(dut):
    """Any segments of one flow, back to back: each is judged by what all before it left behind."""
    await _any_segments(dut, 1.0, 1.0, 1, 700)


@cocotb.test()
async def one_flow_stalled(dut):
    """The same with pauses on both sides."""
    await _any_segments(dut, 0.6, 0.5, 1, 700)


@cocotb.test()
async def many_flows(dut):
    """Any segments of all flows, with pauses on both sides."""
    await _any_segments(dut, 0.9, 0.8, FLOWS, 1500)


@cocotb.test()
async def full_output(dut):
    """Any segments of a few flows as fast as they come, while the output is seldom ready."""
    await _any_segments(dut, 1.0, 0.3, 3, 500)
