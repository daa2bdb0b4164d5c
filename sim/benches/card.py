"""Bench of the whole card, against the soft card: the same packets, the same frames, messages and counters."""

import random
from typing import Any

import cocotb
from amaranth.lib import wiring

from hdl.beat import PacketBeat
from hdl.card import Card
from hdl.flow import Flow
from hdl.register_map import ADDRESS, COUNTERS, IDENTITY, ROW_STRIDE, VERSION
from host.capture.packets import Packets
from host.card import open_card
from host.generate.traffic import generate
from sim.benches.host_memory import HostMemory
from sim.benches.parsers import beats, described, drain
from sim.benches.streams import Clocked
from sim.benches.venue import VENUE

SOURCES = ("host/generate/demo_market_data.xml",)
AFTERWARDS = 100
"""Cycles for the last lines to reach memory and be read."""
HEADERS = 54
"""Bytes of Ethernet, IPv4 and TCP headers."""
NOT_COMPARED = "credit_stalls"
"""The soft card has no clock."""


def component() -> wiring.Component:
    return Card(VENUE)


class CardBench:
    """The card between packets and the host's memory, set up as a driver does it."""

    def __init__(
        self,
        dut: Any,
        generated: tuple[Flow, ...],
        *,
        gaps: float,
        ready: float,
        frame_slots: int = 64,
        payload_bytes: int = 1 << 15,
    ) -> None:
        self.dut = dut
        dut.bus__write.value = 0
        self.clocked = Clocked(dut)
        self.source = self.clocked.source("packets", PacketBeat, gaps)
        self.host = HostMemory(
            self.clocked,
            "memory",
            self._publish,
            ready=ready,
            frame_slots=frame_slots,
            payload_bytes=payload_bytes,
        )
        self._writes: list[tuple[int, int]] = []
        self.clocked.watch(self._write_next)
        self.flows = generated
        self._packets: list[bytes] = []
        self._times: list[int] = []

    async def start(self) -> None:
        """Reset, identify and set up the card."""
        await self.clocked.reset()
        assert (await self.read("identity"), await self.read("version")) == (IDENTITY, VERSION)
        for name, value in self.host.settings().items():
            self._publish(name, value)
        for row, flow in enumerate(self.flows):
            self._publish("flow_destination", flow.destination.address | flow.destination.port << 32, row)
            self._publish("flow_source", flow.source.address | flow.source.port << 32, row)
            self._publish("flow_control", flow.protocol | flow.parser << 8, row)
        await self.clocked.until(lambda: not self._writes)
        await self.clocked.cycles(2)

    def _publish(self, name: str, value: int, row: int = 0) -> None:
        self._writes.append((ADDRESS[name] + ROW_STRIDE * row, value))

    def _write_next(self, _cycle: int) -> None:
        if self._writes:
            self.dut.bus__address.value, self.dut.bus__write_data.value = self._writes.pop(0)
            self.dut.bus__write.value = 1
        else:
            self.dut.bus__write.value = 0

    async def read(self, name: str) -> int:
        """A register's value."""
        await self.clocked.until(lambda: not self._writes)
        await self.clocked.cycles(1)
        self.dut.bus__address.value = ADDRESS[name]
        await self.clocked.cycles(2)
        return int(self.dut.bus__read_data.value)

    def send(self, packet: bytes, timestamp: int) -> None:
        """Have a packet taken."""
        self.source.send(beats(packet, timestamp=timestamp))
        self._packets.append(packet)
        self._times.append(timestamp)

    async def check(self) -> dict[str, int]:
        """Let everything through; frames, raw messages and counters must be the soft card's. Returns the counters."""
        packets = Packets.of(self._packets, self._times)
        with open_card("soft:", self.flows, VENUE) as soft:
            expected = [described(*pair) for pair in drain(soft, packets)]
            counters = soft.counters()
        await self.clocked.until(lambda: int(self.dut.finished.value) == len(packets))
        self.host.eagerness = 1
        await self.clocked.cycles(AFTERWARDS)
        self.host.eagerness = 0
        found = [described(*pair) for pair in self.host.parsed]
        for number, (ours, theirs) in enumerate(zip(found, expected, strict=False)):
            assert ours == theirs, f"frame {number}"
        assert len(found) == len(expected)
        for name in COUNTERS:
            if name != NOT_COMPARED:
                assert await self.read(name) == counters[name], name
        return {name: await self.read(name) for name in COUNTERS}


@cocotb.test()
async def demo_traffic(dut):
    """The demo's traffic: several sessions with malformed messages, cut into segments, and market data."""
    generated = generate(150, seed=random.getrandbits(32), sessions=4, feeds=1, malformed=0.2)
    bench = CardBench(dut, generated.flows, gaps=0.95, ready=0.9)
    await bench.start()
    for index in range(len(generated.packets)):
        bench.send(generated.packets.packet(index), int(generated.packets.timestamp[index]))
    counters = await bench.check()
    assert counters["frames"] > 150


@cocotb.test()
async def slow_host(dut):
    """A host that seldom looks, with the smallest rings: packets wait for credit, nothing is lost."""
    generated = generate(60, seed=random.getrandbits(32), sessions=4, feeds=1, malformed=0.1)
    bench = CardBench(dut, generated.flows, gaps=1.0, ready=0.5, frame_slots=4)
    bench.host.eagerness = 0.01
    await bench.start()
    for index in range(len(generated.packets)):
        bench.send(generated.packets.packet(index), int(generated.packets.timestamp[index]))
    counters = await bench.check()
    assert counters["credit_stalls"] > 1000


@cocotb.test()
async def passed_over(dut):
    """Packets cut at any byte and with wrong bytes among good ones: each is counted, and the good ones come through."""
    generated = generate(40, seed=random.getrandbits(32), sessions=4, feeds=1)
    bench = CardBench(dut, generated.flows, gaps=0.9, ready=0.9)
    await bench.start()
    for index in range(len(generated.packets)):
        packet, timestamp = generated.packets.packet(index), int(generated.packets.timestamp[index])
        bench.send(packet[: random.randint(1, HEADERS)], timestamp)
        at = random.randrange(12, HEADERS)
        bench.send(packet[:at] + random.randbytes(1) + packet[at + 1 : HEADERS + 2], timestamp)
        bench.send(packet, timestamp)
    counters = await bench.check()
    assert counters["damaged"] > 40
    assert counters["other"]
    assert counters["unmatched"]
