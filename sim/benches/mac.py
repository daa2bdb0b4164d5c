"""Bench of hdl/mac_port.py: the gigabit port between RGMII and the card's clock, by IEEE 802.3 and the bench's own FCS.

The wires have a clock of 8 ns and the card one of 10 ns, so that they meet in all phases.
"""

import random
import zlib
from collections import deque
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import cocotb
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotb.utils import get_sim_time

from hdl.ethernet_frame import ETHERTYPE
from hdl.link_frame import Down
from hdl.mac import MacWord
from hdl.mac_port import PortCounts, ReceivePath, TransmitPath
from hdl.packet_store import MARGIN_WORDS, PacketHead, StoredWord
from hdl.rgmii import RgmiiEdges
from sim.benches.packing import packing
from sim.benches.streams import Clocked

WIRE_NS = 8
STORE_WORDS, LINK_WORDS = 512, 32
GAP = 12
SHORTEST, LONGEST = 60, 1522
PREAMBLE = b"\x55" * 7 + b"\xd5"


class Port(wiring.Component):
    """Both directions of a port, each on wires of its own."""

    edges: In(RgmiiEdges)
    packets: Out(stream.Signature(StoredWord))
    link: Out(stream.Signature(StoredWord))
    counts: Out(PortCounts)
    i: In(stream.Signature(MacWord))
    sent: Out(RgmiiEdges)

    def elaborate(self, platform):
        m = Module()
        m.submodules.receive = receive = ReceivePath(ETHERTYPE, Down.MARK, STORE_WORDS, LINK_WORDS)
        m.submodules.transmit = transmit = TransmitPath()
        wiring.connect(m, receive.packets, wiring.flipped(self.packets))
        wiring.connect(m, receive.link, wiring.flipped(self.link))
        wiring.connect(m, wiring.flipped(self.i), transmit.i)
        m.d.comb += [
            receive.edges.eq(self.edges),
            receive.time.eq(transmit.time),
            self.counts.eq(receive.counts),
            self.sent.eq(transmit.edges),
        ]
        return m


def component() -> wiring.Component:
    return Port()


class Cycle(NamedTuple):
    """What is on the wires for 8 ns."""

    byte: int = 0
    valid: bool = False
    error: bool = False

    def edges(self) -> int:
        low, high = self.byte & 15, self.byte >> 4
        return low | self.valid << 4 | high << 5 | (self.valid ^ self.error) << 9


def with_fcs(packet: bytes) -> bytes:
    return packet + zlib.crc32(packet).to_bytes(4, "little")


class Packet(NamedTuple):
    """A packet that was taken from the port, and when it began, by the port's clock."""

    content: bytes
    cycle: int
    is_link: bool


class PortBench:
    """The port, with idle wires that are driven and watched cycle by cycle."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.clocked = Clocked(dut)
        self.packets = self.clocked.sink("packets", StoredWord)
        self.link = self.clocked.sink("link", StoredWord)
        self.words = self.clocked.source("i", MacWord)
        self.sent: list[Cycle] = []
        self._wire: deque[Cycle] = deque()
        dut.edges.value = 0
        for name in ("rx_clk", "tx_clk"):
            Clock(getattr(dut, name), WIRE_NS, unit="ns").start()
        cocotb.start_soon(self._drive())
        cocotb.start_soon(self._watch())

    async def reset(self) -> None:
        for name in ("rx_rst", "tx_rst"):
            getattr(self.dut, name).value = 1
        await self.clocked.reset()
        for name in ("rx_rst", "tx_rst"):
            getattr(self.dut, name).value = 0
        await self.clocked.cycles(10)

    async def _drive(self) -> None:
        edge = RisingEdge(self.dut.rx_clk)
        idle = True
        while True:
            await edge
            if self._wire:
                self.dut.edges.value = self._wire.popleft().edges()
                idle = False
            elif not idle:
                self.dut.edges.value = 0
                idle = True

    async def _watch(self) -> None:
        edge = RisingEdge(self.dut.tx_clk)
        while True:
            await edge
            bits = int(self.dut.sent.value)
            valid = bool(bits >> 4 & 1)
            self.sent.append(Cycle(bits & 15 | (bits >> 5 & 15) << 4, valid, valid != bool(bits >> 9 & 1)))

    def drive(self, frame: bytes, *, gap: int = GAP, preamble: bytes = PREAMBLE, errors: Iterable[int] = ()) -> None:
        """A frame with its FCS behind all before; RX_ER with the bytes whose numbers are in ``errors``."""
        content = preamble + frame
        self._wire.extend(Cycle(byte, True, n - len(preamble) in errors) for n, byte in enumerate(content))
        self._wire.extend(Cycle() for _ in range(gap))

    async def settle(self) -> None:
        """Until all is driven, and all that follows from it done."""
        await self.clocked.until(lambda: not self._wire and self.words.idle)
        await self.clocked.cycles(2500)

    def counts(self) -> dict[str, int]:
        """The counters that are not 0."""
        counts = packing(PortCounts).unpack(int(self.dut.counts.value))
        return {name: count for name, count in counts.items() if count}

    def taken(self, sink: Any) -> list[Packet]:
        """Whole packets since the last call."""
        found: list[Packet] = []
        head: dict[str, int] = {}
        content = b""
        for word in sink.values():
            if word["first"]:
                assert not content
                head = packing(PacketHead).unpack(int.from_bytes(word["data"], "little"))
                continue
            assert word["last"] or word["top"] == 7
            content += word["data"][: word["top"] + 1]
            if word["last"]:
                found.append(Packet(content, number_of(head["time"]), bool(head["is_link"])))
                content = b""
        assert not content
        sink.received.clear()
        return found


def number_of(code: int) -> int:
    """A Gray code's number."""
    number = 0
    while code:
        number ^= code
        code >>= 1
    return number


def a_packet(length: int) -> bytes:
    """Random bytes that are no packet of the link's."""
    return random.randbytes(12) + b"\x08\x00" + random.randbytes(length - 14)


@cocotb.test()
async def minimum_packets_at_line_rate(dut):
    """64 bytes with FCS, back to back with the shortest gap, and with the shorter one that another clock may leave: none is lost."""
    bench = PortBench(dut)
    await bench.reset()
    for gap, preamble in ((GAP, PREAMBLE), (5, PREAMBLE[2:])):
        packets = [a_packet(SHORTEST) for _ in range(300)]
        for packet in packets:
            bench.drive(with_fcs(packet), gap=gap, preamble=preamble)
        await bench.settle()
        taken = bench.taken(bench.packets)
        assert [each.content for each in taken] == packets
        spacing = len(preamble) + SHORTEST + 4 + gap
        assert all(abs(b.cycle - a.cycle - spacing) <= 1 for a, b in pairwise(taken))
    assert bench.counts() == {"received": 600}
    assert bench.taken(bench.link) == []


@cocotb.test()
async def latency(dut):
    """From a packet's last byte to its first word for the card, and from a packet's first word to its preamble, as the docstrings say."""
    bench = PortBench(dut)
    await bench.reset()
    for _ in range(20):
        await bench.clocked.cycles(random.randint(1, 50))
        bench.drive(with_fcs(a_packet(random.randint(SHORTEST, 70))))
        await bench.clocked.until(lambda: not bench._wire)
        over = get_sim_time("ns") - GAP * WIRE_NS
        await bench.clocked.until(lambda: bool(bench.packets.received))
        assert get_sim_time("ns") - over <= ReceivePath.LATENCY * WIRE_NS
        await bench.clocked.cycles(30)
        bench.taken(bench.packets)

        bench.sent.clear()
        bench.words.send(words_of(random.randbytes(60)))
        await bench.clocked.until(lambda: len(bench.words.taken) > 0)
        begun = get_sim_time("ns")
        await bench.clocked.until(lambda: bench.sent[-1].valid)
        assert get_sim_time("ns") - begun <= TransmitPath.LATENCY * WIRE_NS
        await bench.clocked.cycles(200)
        bench.words.taken.clear()


@cocotb.test()
async def all_lengths(dut):
    """Packets of every length's kind, to the longest."""
    bench = PortBench(dut)
    await bench.reset()
    lengths = [*range(SHORTEST, SHORTEST + 18), 511, 512, 1000, 1514, LONGEST - 1, LONGEST, SHORTEST]
    packets = [a_packet(length) for length in lengths]
    for packet in packets:
        bench.drive(with_fcs(packet))
    await bench.settle()
    assert [each.content for each in bench.taken(bench.packets)] == packets
    assert bench.counts() == {"received": len(packets)}


@cocotb.test()
async def faults(dut):
    """A wrong bit anywhere, too short, too long, marked by the PHY: each is counted by its cause and leaves nothing; the next packet is whole."""
    bench = PortBench(dut)
    await bench.reset()
    good: list[bytes] = []
    expected = dict.fromkeys(("received", "fcs", "short", "long", "error"), 0)

    def drive_bad(cause: str, frame: bytes, **how: Any) -> None:
        bench.drive(frame, **how)
        expected[cause] += 1
        good.append(a_packet(random.randint(SHORTEST, 90)))
        bench.drive(with_fcs(good[-1]))
        expected["received"] += 1

    for _ in range(80):
        frame = bytearray(with_fcs(a_packet(random.randint(SHORTEST, 120))))
        bit = random.randrange(8 * len(frame))
        frame[bit // 8] ^= 1 << bit % 8
        drive_bad("fcs", bytes(frame))
    for length in (*range(16, SHORTEST), SHORTEST - 1):
        drive_bad("short", with_fcs(a_packet(length)))
    for length in range(1, 20):
        drive_bad("short", random.randbytes(length))
    for length in (LONGEST + 1, LONGEST + 2, 3000, 9000):
        drive_bad("long", with_fcs(a_packet(length)))
    for _ in range(40):
        frame = with_fcs(a_packet(random.randint(SHORTEST, 120)))
        drive_bad("error", frame, errors={random.randrange(len(frame))})
    await bench.settle()
    assert [each.content for each in bench.taken(bench.packets)] == good
    assert bench.counts() == expected


@cocotb.test()
async def no_packet(dut):
    """What has no start delimiter is no packet; nor is a carrier that is marked in its preamble."""
    bench = PortBench(dut)
    await bench.reset()
    frame = with_fcs(a_packet(SHORTEST))
    for preamble in (b"\x55" * 8, b"\x54" + PREAMBLE, b"\x55\x55\x5d"):
        bench.drive(frame.replace(b"\xd5", b"\x00"), preamble=preamble)
    bench.drive(frame, errors={-4})
    bench.drive(frame, preamble=b"\x55\xd5")
    await bench.settle()
    assert [each.content for each in bench.taken(bench.packets)] == [frame[:-4]]
    assert bench.counts() == {"received": 1}


@cocotb.test()
async def overflow(dut):
    """While nobody takes them packets are kept as long as there is room, and dropped whole behind that; then all goes on."""
    bench = PortBench(dut)
    await bench.reset()
    for length in (SHORTEST, 61, 700, LONGEST):
        bench.packets.activity = 0
        await bench.clocked.cycles(2)
        words = -(-length // 8) + 1
        fits = (STORE_WORDS - MARGIN_WORDS) // words
        packets = [a_packet(length) for _ in range(fits + 20)]
        for packet in packets:
            bench.drive(with_fcs(packet))
        before = bench.counts().get("overflow", 0)
        await bench.settle()
        dropped = bench.counts()["overflow"] - before
        # Two words have left the store, towards who does not take them.
        assert fits <= len(packets) - dropped <= fits + 1
        bench.packets.activity = 0.5
        await bench.clocked.cycles(3 * STORE_WORDS)
        later = a_packet(80)
        bench.drive(with_fcs(later))
        await bench.settle()
        assert [each.content for each in bench.taken(bench.packets)] == [*packets[: len(packets) - dropped], later]


@cocotb.test()
async def packets_of_the_link(dut):
    """Those of the link's EtherType go to the link, even while packets wait; a MARK keeps its place among the packets too."""
    bench = PortBench(dut)
    await bench.reset()
    bench.packets.activity = 0
    expected: list[tuple[bytes, bool]] = []
    link: list[bytes] = []
    for n in range(30):
        kind = Down.MARK if n % 3 == 0 else Down.WRITE
        frame = random.randbytes(12) + ETHERTYPE.to_bytes(2, "big") + bytes([kind]) + random.randbytes(SHORTEST - 15)
        link.append(frame)
        if kind == Down.MARK:
            expected.append((frame, True))
        packet = random.randbytes(12) + random.choice((b"\x88\xb6", b"\x87\xb5", b"\x08\x00")) + bytes([kind]) * 60
        expected.append((packet, False))
        for each in (frame, packet):
            bench.drive(with_fcs(each))
    await bench.settle()
    assert [each.content for each in bench.taken(bench.link)] == link
    bench.packets.activity = 1
    await bench.settle()
    assert [(each.content, each.is_link) for each in bench.taken(bench.packets)] == expected


def frames_of(cycles: list[Cycle]) -> tuple[list[bytes], list[int]]:
    """Frames on the wires, from the preamble on, and the gaps between them."""
    frames: list[bytes] = []
    gaps: list[int] = []
    current, gap = b"", -1
    for cycle in cycles:
        if cycle.valid:
            if not current and gap >= 0:
                gaps.append(gap)
            current += bytes([cycle.byte])
        elif current:
            frames.append(current)
            current, gap = b"", 1
        elif gap >= 0:
            gap += 1
    return frames, gaps


def words_of(packet: bytes) -> list[dict[str, Any]]:
    return [{"data": packet[at : at + 4], "last": at + 4 == len(packet)} for at in range(0, len(packet), 4)]


@cocotb.test()
async def transmitted(dut):
    """With preamble, padding and FCS; back to back with the shortest gap."""
    bench = PortBench(dut)
    await bench.reset()
    packets = [random.randbytes(length) for length in (4, 8, 52, 56, 60, 64, 100, 1480, 4, 60)]
    for packet in packets:
        bench.words.send(words_of(packet))
    await bench.settle()
    frames, gaps = frames_of(bench.sent)
    assert frames == [PREAMBLE + with_fcs(packet.ljust(SHORTEST, b"\0")) for packet in packets]
    assert gaps == [GAP] * (len(packets) - 1)
    assert not any(cycle.error for cycle in bench.sent)


@cocotb.test()
async def a_late_word_is_an_error(dut):
    """A packet whose words do not come in time is marked, so that nobody takes it for a whole one."""
    bench = PortBench(dut)
    await bench.reset()
    words = words_of(random.randbytes(200))
    bench.words.send(words[:5])
    await bench.clocked.cycles(100)
    bench.words.send(words[5:])
    await bench.settle()
    assert any(cycle.error for cycle in bench.sent)
    bench.sent.clear()
    bench.words.send(words)
    await bench.settle()
    frames, _ = frames_of(bench.sent)
    assert frames == [PREAMBLE + with_fcs(b"".join(word["data"] for word in words))]
    assert not any(cycle.error for cycle in bench.sent)
