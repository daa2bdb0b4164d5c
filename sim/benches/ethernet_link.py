"""Bench of hdl/ethernet_link.py: what stands between the port and the card, by docs/eth.md. Frames of lines are made again in plain Python."""

import random
from typing import Any

import cocotb
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import PacketBeat
from hdl.ethernet_frame import (
    BOARD_MAC,
    BROADCAST,
    DOWN_HEADER,
    ETHERTYPE,
    MOST_BYTES,
    MOST_LINES,
    REGISTER_BODY,
    lines_frame,
)
from hdl.ethernet_link import DownPacket, LineSender, LineStore, LinkReceiver, PacketFeed, UpPacket, on_wire
from hdl.link_frame import Down, pack
from hdl.mac import SHORTEST_PACKET, MacWord
from hdl.packet_store import PacketHead, StoredWord
from hdl.ring_writer import MemoryWrite
from sim.benches.packing import packing
from sim.benches.parsers import beats
from sim.benches.streams import Clocked

HOLD = 200
SESSION = 0xDEAD_BEEF
PAYLOAD_LINE = 1000
AROUND = 24
"""Bytes around a frame: preamble, FCS and gap."""


class Link(wiring.Component):
    """The receiver of the link's packets; the feed of packets to the card; lines and their sender."""

    i: In(stream.Signature(StoredWord))
    packet: Out(DownPacket)
    good: Out(1)

    stored: In(stream.Signature(StoredWord))
    packets: Out(stream.Signature(PacketBeat))
    base: In(64)
    session: In(32)
    runs: In(1)
    abandons: In(1)
    done: In(32)
    finished: Out(32)

    lines: In(stream.Signature(MemoryWrite))
    following: Out(32)
    status: In(UpPacket)
    asked: In(1)
    o: Out(stream.Signature(MacWord))

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = LinkReceiver(BOARD_MAC)
        m.submodules.feed = feed = PacketFeed()
        m.submodules.store = store = LineStore()
        m.submodules.sender = sender = LineSender(HOLD)
        wiring.connect(m, wiring.flipped(self.i), receiver.i)
        wiring.connect(m, wiring.flipped(self.stored), feed.i)
        wiring.connect(m, feed.o, wiring.flipped(self.packets))
        wiring.connect(m, wiring.flipped(self.lines), store.i)
        wiring.connect(m, store.o, sender.i)
        wiring.connect(m, sender.o, wiring.flipped(self.o))
        m.d.comb += [
            self.packet.eq(receiver.packet),
            self.good.eq(receiver.good),
            *(getattr(feed, name).eq(getattr(self, name)) for name in ("base", "session", "runs", "abandons", "done")),
            self.finished.eq(feed.finished),
            self.following.eq(store.following),
            sender.packet.eq(self.status),
            sender.payload_line.eq(PAYLOAD_LINE),
            sender.asked.eq(self.asked),
            sender.stored.eq(store.stored),
            store.takes.eq(sender.takes),
        ]
        return m


def component() -> wiring.Component:
    return Link()


class LinkBench:
    """The component with nothing going on."""

    def __init__(self, dut: Any, *, pauses: float = 1.0) -> None:
        self.dut = dut
        self.clocked = Clocked(dut)
        self.down = self.clocked.source("i", StoredWord, pauses)
        self.stored = self.clocked.source("stored", StoredWord, pauses)
        self.packets = self.clocked.sink("packets", PacketBeat, pauses)
        self.lines = self.clocked.source("lines", MemoryWrite, pauses)
        self.sent = self.clocked.sink("o", MacWord)
        self.good: list[dict[str, int]] = []
        self.clocked.watch(self._edge)
        for name in ("base", "session", "runs", "abandons", "done", "status", "asked"):
            getattr(dut, name).value = 0

    def _edge(self, cycle: int) -> None:
        if int(self.dut.good.value):
            self.good.append(packing(DownPacket).unpack(int(self.dut.packet.value)))

    def frames(self) -> list[bytes]:
        """Frames that were sent since the last call."""
        found, current = [], b""
        for word in self.sent.values():
            current += word["data"]
            if word["last"]:
                found.append(current)
                current = b""
        assert not current
        self.sent.received.clear()
        return found


def gray(number: int) -> int:
    return number ^ number >> 1


def words_of(packet: bytes, cycle: int = 0, *, is_link: bool = False) -> list[dict[str, Any]]:
    """A packet as the store gives it."""
    head = packing(PacketHead).pack({"time": gray(cycle), "is_link": is_link}).to_bytes(8, "little")
    found = [{"data": head, "top": 0, "first": 1, "last": 0}]
    for at in range(0, len(packet), 8):
        part = packet[at : at + 8]
        found.append({"data": part.ljust(8, b"\0"), "top": len(part) - 1, "first": 0, "last": at + 8 >= len(packet)})
    return found


def down_packet(destination: int = BOARD_MAC, **fields: int) -> bytes:
    addresses = destination.to_bytes(6, "big") + random.randbytes(6) + ETHERTYPE.to_bytes(2, "big")
    return (addresses + pack(DOWN_HEADER | REGISTER_BODY, **fields)).ljust(SHORTEST_PACKET, b"\0")


@cocotb.test()
async def packets_for_the_board(dut):
    """Those for its address and for all are good, with all of their fields; those for others are not."""
    bench = LinkBench(dut, pauses=0.7)
    await bench.clocked.reset()
    expected = []
    for n in range(60):
        fields = {name: random.getrandbits(bits) for name, bits in (DOWN_HEADER | REGISTER_BODY).items()}
        destination = (BOARD_MAC, BROADCAST, BOARD_MAC ^ 1 << random.randrange(48))[n % 3]
        bench.down.send(words_of(down_packet(destination, **fields), is_link=True))
        if n % 3 != 2:
            expected.append(fields)
    await bench.clocked.until(lambda: bench.down.idle)
    await bench.clocked.cycles(5)
    names = (DOWN_HEADER | REGISTER_BODY).keys()
    assert [{name: packet[name] for name in names} for packet in bench.good] == expected
    assert all(packet["ethertype"] == on_wire(ETHERTYPE, 2) for packet in bench.good)


@cocotb.test()
async def packets_for_the_card(dut):
    """With their times, once the card runs; MARKs in between become `finished` when the packets before them are done, and no sooner."""
    bench = LinkBench(dut, pauses=0.8)
    await bench.clocked.reset()
    base = 1_700_000_000_000_000_000
    dut.base.value, dut.session.value = base, SESSION
    bench.stored.send(words_of(random.randbytes(100)))
    await bench.clocked.until(lambda: bench.stored.idle)
    await bench.clocked.cycles(10)
    assert bench.packets.values() == []
    dut.runs.value = 1
    expected = []
    for n in range(1, 41):
        packet, cycle = random.randbytes(random.randint(60, 200)), random.getrandbits(50)
        bench.stored.send(words_of(packet, cycle))
        expected += beats(packet, timestamp=base + 8 * cycle)
        # Others of the link's EtherType pass by.
        bench.stored.send(words_of(down_packet(kind=Down.WRITE, session=SESSION, value=n), is_link=True))
        bench.stored.send(words_of(down_packet(kind=Down.MARK, session=SESSION + 1, value=n + 500), is_link=True))
        if n % 10 == 0:
            bench.stored.send(words_of(down_packet(kind=Down.MARK, session=SESSION, value=n + 100), is_link=True))
    await bench.clocked.until(lambda: bench.stored.idle)
    await bench.clocked.cycles(20)
    found = bench.packets.values()
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["data"][: ours["count"]] == theirs["data"][: theirs["count"]]
        assert {**ours, "data": 0} == {**theirs, "data": 0}
    for done in range(41):
        dut.done.value = done
        await bench.clocked.cycles(8)
        assert int(dut.finished.value) == (done // 10 * 10 + 100 if done >= 10 else 0), done
    # A new session: what was under way is passed over, and both counts begin anew.
    bench.packets.received.clear()
    long = words_of(random.randbytes(1000))
    bench.stored.send(long[:50])
    await bench.clocked.until(lambda: bench.stored.idle)
    await bench.clocked.cycles(20)
    dut.abandons.value, dut.done.value = 1, 0
    await bench.clocked.cycles(1)
    dut.abandons.value = 0
    begun = len(bench.packets.received)
    bench.stored.send(long[50:])
    after = random.randbytes(64)
    bench.stored.send(words_of(after, 5))
    bench.stored.send(words_of(down_packet(kind=Down.MARK, session=SESSION, value=7), is_link=True))
    await bench.clocked.until(lambda: bench.stored.idle)
    await bench.clocked.cycles(20)
    assert b"".join(beat["data"] for beat in bench.packets.values()[begun:]) == after
    assert int(dut.finished.value) == 0
    dut.done.value = 1
    await bench.clocked.cycles(8)
    assert int(dut.finished.value) == 7


@cocotb.test()
async def lines_in_frames(dut):
    """All lines go out in order, in frames as full as can be; each frame says how many frames of the ring were before it."""
    bench = LinkBench(dut, pauses=0.9)
    await bench.clocked.reset()
    status = {
        "session": SESSION,
        "source": on_wire(BOARD_MAC, 6),
        "destination": on_wire(BROADCAST, 6),
        "ethertype": on_wire(ETHERTYPE, 2),
    }
    dut.status.value = packing(UpPacket).pack(status)
    lines: list[tuple[int, bytes]] = []
    sent = 0
    for burst in (1, 5, MOST_LINES, 200, 3, 150):
        new = [(random.randrange(2 * PAYLOAD_LINE), random.randbytes(64)) for _ in range(burst)]
        bench.lines.send({"address": 64 * line, "data": content} for line, content in new)
        lines += new
        await bench.clocked.until(lambda: bench.lines.idle)
        await bench.clocked.cycles(HOLD + 2000)
        assert int(dut.following.value) == len(lines)
        for frame in bench.frames():
            count = frame[15]
            part = lines[sent : sent + count]
            frames = sum(line < PAYLOAD_LINE for line, _ in lines[:sent])
            assert frame == lines_frame(part, session=SESSION, sequence=sent, frames=frames)[: len(frame)]
            sent += count
        assert sent == len(lines)


@cocotb.test()
async def statuses(dut):
    """A frame without lines goes when it is asked for, at once, and when what the host waits for has changed, after a while; else none."""
    bench = LinkBench(dut)
    await bench.clocked.reset()

    async def answers(cycles: int, **values: int) -> int:
        dut.status.value = packing(UpPacket).pack(values)
        await bench.clocked.cycles(cycles)
        return len(bench.frames())

    assert await answers(2 * HOLD) == 0
    dut.asked.value = 1
    await bench.clocked.cycles(1)
    dut.asked.value = 0
    assert await answers(30) == 1
    assert await answers(2 * HOLD, acknowledged=3, reads=1, value=9) == 0
    assert await answers(HOLD - 10, finished=1) == 0
    assert await answers(HOLD, finished=1) == 1
    assert await answers(2 * HOLD, finished=1, stalled=1) == 1
    assert await answers(2 * HOLD, finished=1, stalled=1) == 0


@cocotb.test()
async def lines_at_line_rate(dut):
    """Lines are stored and sent as fast as a gigabit takes them, with a clock of 62.5 MHz, so two byte times a cycle."""
    bench = LinkBench(dut)
    await bench.clocked.reset()
    count = 20 * MOST_LINES
    bench.lines.send({"address": 0, "data": random.randbytes(64)} for _ in range(count))
    await bench.clocked.until(lambda: bench.lines.idle)
    await bench.clocked.cycles(HOLD + 500)
    lines = sum(frame[15] for frame in bench.frames())
    cycles = bench.lines.taken[-1] - bench.lines.taken[0]
    assert lines == count
    assert cycles / (count - 1) <= (MOST_BYTES + AROUND) / 2 / MOST_LINES
