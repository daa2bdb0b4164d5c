"""Bench of hdl/uart.py: bits as docs/serial.md has them, made and read by the bench's own clock."""

import random
from typing import Any

import cocotb
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.uart import SAMPLES, UartReceiver, UartTransmitter
from sim.benches.streams import Clocked

CLOCK, BAUD = 25_000_000, 1_000_000
BIT = CLOCK / BAUD
"""Cycles a bit; 16 samples do not divide it."""
LATENCY = 3
"""From the stop bit's last sample, which is half a bit and a sample behind its begin."""
MIDDLE = BIT * (0.5 + 1 / SAMPLES)


class UartPair(wiring.Component):
    """A receiver and a transmitter."""

    rx: In(1, init=1)
    o: Out(stream.Signature(8))
    broken: Out(1)
    i: In(stream.Signature(8))
    tx: Out(1, init=1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(CLOCK, BAUD)
        m.submodules.transmitter = transmitter = UartTransmitter(CLOCK, BAUD)
        wiring.connect(m, receiver.o, wiring.flipped(self.o))
        wiring.connect(m, wiring.flipped(self.i), transmitter.i)
        m.d.comb += [receiver.rx.eq(self.rx), self.broken.eq(receiver.broken), self.tx.eq(transmitter.tx)]
        return m


def component() -> wiring.Component:
    return UartPair()


def levels(byte: int, stop: int = 1) -> list[int]:
    """The bits of a byte."""
    return [0, *(byte >> n & 1 for n in range(8)), stop]


class Pins:
    """Drives rx with given levels, each for a time in cycles; records tx."""

    def __init__(self, dut: Any) -> None:
        self.clocked = Clocked(dut)
        self.dut = dut
        dut.rx.value = 1
        self.source = self.clocked.source("i", 8)
        self.sink = self.clocked.sink("o", 8)
        self.sent: list[int] = []
        self.breaks = 0
        self.begins: list[float] = []
        self._waiting: list[tuple[float, int]] = []
        self._end = 0.0
        self.clocked.watch(self._edge)

    def _edge(self, cycle: int) -> None:
        while self._waiting and self._waiting[0][0] <= cycle:
            self.dut.rx.value = self._waiting.pop(0)[1]
        self.sent.append(int(self.dut.tx.value))
        self.breaks += int(self.dut.broken.value)

    def drive(self, bits: list[int], cycles: float = BIT) -> None:
        """Have the pin go through ``bits`` behind all before."""
        self._end = max(self._end, self.clocked.cycle + 1)
        self.begins.append(self._end)
        for bit in bits:
            self._waiting.append((self._end, bit))
            self._end += cycles

    async def finish(self) -> list[int]:
        """Let all bits through; what the receiver gave."""
        self.drive([1, 1])
        await self.clocked.until(lambda: not self._waiting)
        await self.clocked.cycles(int(2 * BIT))
        return self.sink.values()


@cocotb.test()
async def received_at_any_speed_in_tolerance(dut):
    """Every byte, back to back, from senders up to 3 % fast or slow."""
    pins = Pins(dut)
    await pins.clocked.reset()
    everything = list(range(256))
    for tolerance in (-0.03, -0.01, 0, 0.01, 0.03):
        random.shuffle(everything)
        for byte in everything:
            pins.drive(levels(byte), BIT * (1 + tolerance))
        assert await pins.finish() == everything, f"{tolerance:+}"
        pins.sink.received.clear()
    assert pins.breaks == 0


@cocotb.test()
async def received_in_time(dut):
    """A byte is there as soon as the docstring says."""
    pins = Pins(dut)
    await pins.clocked.reset()
    pins.drive(levels(0x5A))
    await pins.finish()
    behind = pins.sink.received[0].cycle - pins.begins[0] - 9 * BIT - MIDDLE
    assert abs(behind - LATENCY) <= 1 + BIT / SAMPLES, behind


@cocotb.test()
async def noise(dut):
    """A low level shorter than half a bit is no byte; a wrong sample in the middle of a bit is outvoted."""
    pins = Pins(dut)
    await pins.clocked.reset()
    for cycles in range(1, int(BIT / 2)):
        pins.drive([0], cycles)
        pins.drive([1] * 12)
    assert await pins.finish() == []
    for byte in range(256):
        fine = [bit for bit in levels(byte) for _ in range(int(BIT))]
        middle = int(BIT) * random.randrange(10) + int(BIT) // 2
        fine[middle] ^= 1
        pins.drive(fine, 1)
    assert await pins.finish() == list(range(256))


@cocotb.test()
async def broken_bytes_are_dropped(dut):
    """A byte with a low stop bit is dropped, and the line must be high before the next one, which is whole."""
    pins = Pins(dut)
    await pins.clocked.reset()
    for byte in range(50):
        pins.drive(levels(random.randrange(256), stop=0))
        pins.drive([0] * random.randrange(30) + [1])
        pins.drive(levels(byte))
    assert await pins.finish() == list(range(50))
    assert pins.breaks == 50


@cocotb.test()
async def a_byte_that_waits_is_kept(dut):
    """Where nobody takes bytes, the first one stays and those behind it are lost."""
    pins = Pins(dut)
    pins.sink.activity = 0
    await pins.clocked.reset()
    for byte in (1, 2, 3):
        pins.drive(levels(byte))
    await pins.finish()
    pins.sink.activity = 1
    assert await pins.finish() == [1]


@cocotb.test()
async def transmitted(dut):
    """Bytes go out back to back, each level within a cycle of its time."""
    pins = Pins(dut)
    await pins.clocked.reset()
    everything = random.sample(range(256), 256)
    pins.source.send(everything)
    await pins.clocked.until(lambda: pins.source.idle)
    await pins.clocked.cycles(int(12 * BIT))
    expected = [bit for byte in everything for bit in levels(byte)]
    begin = pins.sent.index(0)
    for number, bit in enumerate(expected):
        for at in (number * BIT + 1, (number + 1) * BIT - 2):
            assert pins.sent[begin + round(at)] == bit, f"bit {number}"
    assert all(pins.sent[begin + round(len(expected) * BIT) + 1 :])
