"""Bench of hdl/feed_arbiter.py, against the rule of docs/feeds.md in plain Python."""

import random
from dataclasses import dataclass, field
from typing import Any

import cocotb
from amaranth.lib import data, wiring

from hdl.beat import LANES, RoutedBeat
from hdl.feed_arbiter import ARBITER_COUNTERS, FeedArbiter, FeedRow
from hdl.flow import Parser
from hdl.limits import FLOWS
from hdl.sbe_framing import Framing
from hdl.sbe_schema import Slot
from sim.benches.packing import packing
from sim.benches.parsers import beats
from sim.benches.streams import Clocked

LATENCY = 1
WINDOW = 8
CHANNELS = 5
"""Not a power of two; flow 2n is feed A of channel n, flow 2n + 1 its feed B, and later flows are not arbitrated."""
PLACE, BYTES = 3, 4
HIGHEST = (1 << 8 * BYTES) - 1
AFTERWARDS = 60
"""Cycles in which what is inside comes out, also where the output is seldom ready."""


def component() -> wiring.Component:
    framing = Framing(byte_order="big", packet_size=16, packet_sequence=Slot(PLACE, BYTES))
    return FeedArbiter(framing, channels=CHANNELS, window=WINDOW)


@dataclass
class Channel:
    """What is known of a channel: the last number passed on, and of each feed the last number and whether it is an old one."""

    passed: int | None = None
    last: list[int | None] = field(default_factory=lambda: [None, None])
    old: list[bool] = field(default_factory=lambda: [False, False])

    def take(self, side: int, number: int) -> tuple[bool, tuple[int, int] | None]:
        """Whether a packet passes, and what its gap beat says: how many are missing, and the first number."""
        last = self.last[side]
        verdict = self._verdict(side, number)
        if verdict == "old":
            return False, None
        gap = None
        if verdict == "reset":
            gap = 0, number
            self.old[1 - side] = self.last[1 - side] is not None
        elif verdict == "gap":
            gap = number - self.passed - 1, self.passed + 1
        if last is None or self.old[side] or number > last or last - number >= WINDOW:
            self.last[side] = number
        self.old[side] = False
        if verdict in ("repeated", "early"):
            return False, None
        self.passed = number
        return True, gap

    def _verdict(self, side: int, number: int) -> str:
        if self.passed is None or number == self.passed + 1:
            return "in order"
        last, others = self.last[side], self.last[1 - side]
        back = 0 if last is None else last - number
        if number <= self.passed:
            far = back >= WINDOW and self.passed - number >= WINDOW
            return "reset" if far and not self.old[side] else "repeated"
        if self.old[side] and -WINDOW <= back < WINDOW:
            return "old"
        is_behind = others is not None and not self.old[1 - side] and others <= self.passed
        return "early" if is_behind and number - others <= WINDOW else "gap"


class ArbiterBench:
    """The block, the packets that it was given and what should become of them."""

    def __init__(self, dut: Any, *, gaps: float = 1.0, ready: float = 1.0) -> None:
        self.dut = dut
        self.clocked = Clocked(dut)
        self.source = self.clocked.source("i", RoutedBeat, gaps)
        self.sink = self.clocked.sink("o", RoutedBeat, ready)
        self.clocked.watch(self._count)
        self.channels = [Channel() for _ in range(CHANNELS)]
        self.counts = dict.fromkeys(ARBITER_COUNTERS, 0)
        self.expected_counts = dict.fromkeys(ARBITER_COUNTERS, 0)
        self.expected: list[dict[str, Any]] = []
        self.sent = 0
        self._counts_of = packing(data.StructLayout(dict.fromkeys(ARBITER_COUNTERS, 1)))
        rows = [
            {"channel": flow // 2 % CHANNELS, "side": flow % 2, "arbitrated": flow < 2 * CHANNELS}
            for flow in range(FLOWS)
        ]
        row = packing(FeedRow)
        dut.feeds.value = sum(row.pack(each) << flow * FeedRow.size for flow, each in enumerate(rows))

    def _count(self, _cycle: int) -> None:
        if bits := int(self.dut.counts.value):
            for name, more in self._counts_of.unpack(bits).items():
                self.counts[name] += more

    def send(self, flow: int, number: int, length: int = 24, *, missing: int | None = None) -> bool:
        """Have a packet taken; whether it should pass. ``missing`` puts a gap beat of the flow's own in front."""
        payload = bytearray(random.randbytes(length))
        numbered = length >= PLACE + BYTES
        if numbered:
            payload[PLACE : PLACE + BYTES] = number.to_bytes(BYTES, "big")
        same = {"timestamp": self.sent, "flow": flow, "fragment": random.random() < 0.1}
        same |= {"parser": random.choice(list(Parser)), "gap": 0}
        whole = beats(bytes(payload), **same)
        if missing is not None:
            whole.insert(0, same | {"data": missing.to_bytes(LANES, "little"), "count": 0, "last": 0, "gap": 1})
        self.source.send(whole)
        self.sent += 1
        passes, gap = True, None
        if numbered and flow < 2 * CHANNELS:
            passes, gap = self.channels[flow // 2].take(flow % 2, number)
        self.expected_counts["parsed" if passes else "repeated"] += 1
        if gap is not None:
            self.expected_counts["gaps"] += 1
            says = gap[0].to_bytes(4, "little") + gap[1].to_bytes(4, "little")
            self.expected.append(same | {"data": says, "count": 0, "last": 0, "gap": 1})
        if passes:
            self.expected += whole
        return passes

    async def check(self) -> None:
        """Let everything through and compare."""
        await self.clocked.until(lambda: self.source.idle)
        await self.clocked.cycles(AFTERWARDS)
        found = [
            beat | {"data": beat["data"] if beat["gap"] else beat["data"][: beat["count"]]}
            for beat in self.sink.values()
        ]
        for number, (ours, theirs) in enumerate(zip(found, self.expected, strict=False)):
            assert ours == theirs, f"beat {number}"
        assert len(found) == len(self.expected)
        assert self.counts == self.expected_counts


@cocotb.test()
async def latency(dut):
    """What passes comes LATENCY cycles later, a beat a cycle, whatever is dropped in between; behind a hole one cycle more."""
    bench = ArbiterBench(dut)
    await bench.clocked.reset()
    for number in range(200):
        for flow in (0, 1, 2, 20):
            bench.send(flow, number, random.randint(7, 40))
    await bench.check()
    assert bench.source.stalls == 0
    assert bench.counts == {"parsed": 600, "repeated": 200, "gaps": 0}
    taken = set(bench.source.taken)
    assert all(transfer.cycle - LATENCY in taken for transfer in bench.sink.received)
    before = len(bench.source.taken), len(bench.sink.received)
    bench.send(2, 300)
    await bench.check()
    assert [beat["gap"] for beat in bench.sink.values()[before[1] :]] == [1, 0, 0, 0]
    cycles = [transfer.cycle - bench.source.taken[before[0]] for transfer in bench.sink.received[before[1] :]]
    assert cycles[:2] == [LATENCY, LATENCY + 1]


@cocotb.test()
async def one_feed_loses(dut):
    """What one feed loses the other brings, as far behind as a window; what both lose is told."""
    bench = ArbiterBench(dut)
    await bench.clocked.reset()
    for behind in range(1, WINDOW):
        base = 100 * behind
        for flow in (0, 1):
            bench.send(flow, base)
        assert not any(bench.send(0, base + 2 + n) for n in range(behind))
        assert all(bench.send(1, base + 1 + n) for n in range(behind + 1))
        assert not any(bench.send(1, base + 1 + n) for n in range(behind))
    # The channel's own jumps from base to base, where the other feed is far behind.
    await bench.check()
    assert bench.counts["gaps"] == WINDOW - 2
    bench.send(2, 7), bench.send(3, 7)
    assert not bench.send(2, 9)
    assert bench.send(3, 9)
    await bench.check()
    assert bench.counts["gaps"] == WINDOW - 1
    assert bench.sink.values()[-4]["data"] == (1).to_bytes(4, "little") + (8).to_bytes(4, "little")


@cocotb.test()
async def begins_anew(dut):
    """A channel that begins anew: the first one of either feed passes, old ones of the other do not, and numbers wrap so too."""
    bench = ArbiterBench(dut)
    await bench.clocked.reset()
    for start, again in ((1000, 1), (HIGHEST - 3, 0), (1 << 31, 5)):
        for flow in (4, 5):
            bench.send(flow, start)
        assert all(bench.send(4, start + n) for n in (1, 2, 3))
        assert bench.send(4, again)
        assert not any(bench.send(5, start + n) for n in (1, 2, 3))
        assert bench.send(4, again + 1)
        assert not bench.send(5, again)
        assert not bench.send(5, again + 1)
        assert bench.send(5, again + 2)
    await bench.check()


async def _any_packets(dut: Any, gaps: float, ready: float, packets: int) -> None:
    bench = ArbiterBench(dut, gaps=gaps, ready=ready)
    await bench.clocked.reset()
    starts = [random.choice((0, 3, HIGHEST - 60, random.getrandbits(8 * BYTES))) for _ in range(CHANNELS)]
    numbers = [starts[flow // 2] for flow in range(2 * CHANNELS)]
    steps = (1,) * 12 + (2, 2, 3, 0, 0, -1, -2, WINDOW, -WINDOW, WINDOW + 1, -WINDOW - 1, 40, -40)
    for _ in range(packets):
        flow = random.randrange(2 * CHANNELS + 4)
        length = random.choice((random.randint(1, 8), random.randint(8, 50)))
        if flow < 2 * CHANNELS:
            other = numbers[flow ^ 1]
            number = other if random.random() < 0.03 else numbers[flow] + random.choice(steps)
            numbers[flow] = number % (HIGHEST + 1)
            bench.send(flow, numbers[flow], length)
        else:
            bench.send(flow, random.getrandbits(8 * BYTES), length, missing=random.choice((None, 0, 5)))
    await bench.check()
    assert all(bench.counts.values()), bench.counts


@cocotb.test()
async def any_packets(dut):
    """Any packets of all channels and of flows that are in none, back to back."""
    await _any_packets(dut, 1.0, 1.0, 3000)


@cocotb.test()
async def any_packets_stalled(dut):
    """The same with pauses on both sides."""
    await _any_packets(dut, 0.7, 0.5, 1500)
