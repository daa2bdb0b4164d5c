"""Bench of hdl/strip.py: what is left of a packet is a slice of its bytes."""

import random
from typing import Any

import cocotb
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.strip import WINDOW_BYTES, Strip
from hdl.trim import tagged
from sim.benches.parsers import beats
from sim.benches.streams import Clocked

DELAY = 2
"""Of the answers."""
LATENCY = 4 + DELAY
"""From the beat with the first byte behind the header, in packets of at least 24 bytes."""

Known = data.StructLayout({"number": 16})
HEADER_BYTES = 4
KEEP_ALL = 0xFFFF


class ReadByItself(wiring.Component):
    """A Strip whose packets begin with what to do: ``skip``, ``keep`` (two bytes), ``drop``."""

    i: In(stream.Signature(tagged(Known)))
    o: Out(stream.Signature(tagged(Known)))
    asks: Out(1)
    available: Out(range(WINDOW_BYTES + 1))

    def elaborate(self, platform):
        m = Module()
        m.submodules.strip = strip = Strip(Known, Known, DELAY)
        wiring.connect(m, wiring.flipped(self.i), strip.i)
        wiring.connect(m, strip.o, wiring.flipped(self.o))
        answer = Cat(strip.window.as_value()[: 8 * HEADER_BYTES], strip.known.number + 1)
        for n in range(DELAY):
            later = Signal(answer.shape(), name=f"answer{n}")
            m.d.sync += later.eq(answer)
            answer = later
        header, number = answer[: 8 * HEADER_BYTES], answer[8 * HEADER_BYTES :]
        m.d.comb += [
            strip.skip.eq(header[:8]),
            strip.keep.eq(header[8:24]),
            strip.drop.eq(header[24]),
            strip.learned.number.eq(number),
            self.asks.eq(strip.asks),
            self.available.eq(strip.available),
        ]
        return m


def component() -> wiring.Component:
    return ReadByItself()


class StripBench:
    """The component with the packets that it was given."""

    def __init__(self, dut: Any, *, gaps: float = 1.0, ready: float = 1.0) -> None:
        self.dut = dut
        self.clocked = Clocked(dut)
        self.source = self.clocked.source("i", tagged(Known), gaps)
        self.sink = self.clocked.sink("o", tagged(Known), ready)
        self.clocked.watch(self._count)
        self.available: list[int] = []
        self._packets: list[bytes] = []

    def _count(self, _cycle: int) -> None:
        if int(self.dut.asks.value):
            self.available.append(int(self.dut.available.value))

    def send(self, length: int, skip: int, keep: int = KEEP_ALL, drop: bool = False) -> None:
        """Have a packet of random bytes taken."""
        packet = bytes([skip]) + keep.to_bytes(2, "little") + bytes([drop]) + random.randbytes(length - HEADER_BYTES)
        number = len(self._packets)
        self.source.send({"beat": beat, "meta": {"number": number}} for beat in beats(packet, timestamp=number))
        self._packets.append(packet)

    async def check(self) -> None:
        """Let everything through and compare."""
        await self.clocked.until(lambda: self.source.idle)
        await self.clocked.cycles(60)
        expected = []
        for number, packet in enumerate(self._packets):
            keep = int.from_bytes(packet[1:3], "little")
            rest = packet[packet[0] :][:keep]
            # A packet of which nothing is left is still heard of.
            left = beats(rest, timestamp=number) or [{"data": b"", "count": 0, "last": True, "timestamp": number}]
            for beat in () if packet[3] else left:
                expected.append((beat["data"], beat["count"], beat["last"], beat["timestamp"], number + 1))
        found = []
        for value in self.sink.values():
            beat = value["beat"]
            here = beat["data"][: beat["count"]]
            found.append((here, beat["count"], bool(beat["last"]), beat["timestamp"], value["meta"]["number"]))
        for number, (ours, theirs) in enumerate(zip(found, expected, strict=False)):
            assert ours == theirs, f"beat {number}"
        assert len(found) == len(expected)
        assert self.available == [min(len(packet), WINDOW_BYTES) for packet in self._packets]


@cocotb.test()
async def full_rate(dut):
    """Packets back to back with every header length: eight bytes every cycle."""
    bench = StripBench(dut)
    await bench.clocked.reset()
    for skip in range(8, 61):
        for length in (60, 61, 64, 67, 100):
            bench.send(length, skip)
    await bench.check()
    assert bench.source.stalls == 0


@cocotb.test()
async def latency(dut):
    """What follows the header is there LATENCY cycles after its first byte, wherever that stood."""
    for skip in range(8, 33):
        bench = StripBench(dut)
        await bench.clocked.reset()
        bench.send(40, skip)
        await bench.check()
        found = bench.sink.received[0].cycle - bench.source.taken[skip // 8]
        assert found == LATENCY, f"{found} cycles behind {skip} bytes"


@cocotb.test()
async def every_length(dut):
    """Every packet length with every header length, up to headers that are longer than the packet."""
    bench = StripBench(dut, gaps=0.85, ready=0.85)
    await bench.clocked.reset()
    for length in range(HEADER_BYTES, 44):
        for skip in range(8, 36, 1 + length % 3):
            bench.send(length, skip)
    await bench.check()


@cocotb.test()
async def kept_and_dropped(dut):
    """Trailers are cut off at every length; dropped packets leave nothing."""
    bench = StripBench(dut, gaps=0.7, ready=0.6)
    await bench.clocked.reset()
    for _ in range(600):
        bench.send(
            random.randint(HEADER_BYTES, 80), random.randint(8, 40), random.randint(0, 60), random.random() < 0.2
        )
    await bench.check()
