"""Bench of hdl/serial_link.py: what the blocks between COBS and the card keep, drop and send, by docs/serial.md."""

import random
import zlib
from typing import Any

import cocotb
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import PacketBeat
from hdl.cobs import PacketByte
from hdl.link_frame import Down, Up, pack, size, unpack
from hdl.ring_writer import MemoryWrite
from hdl.serial_frame import (
    CHUNK_BYTES,
    CRC_BYTES,
    DOWN_HEADER,
    LINE_WINDOW,
    PACKET_BUFFER_BYTES,
    PACKET_CREDIT,
    PACKET_HEADER,
    REGISTER_BODY,
    STATUS_BODY,
    UP_HEADER,
)
from hdl.serial_link import (
    DownFrame,
    FrameReceiver,
    FrameSender,
    LineWindow,
    PacketBuffer,
    PacketReader,
    UpFrame,
)
from sim.benches.cobs import packet_bytes, packets_of
from sim.benches.packing import packing
from sim.benches.parsers import beats
from sim.benches.streams import Clocked

SETTLE = 20
"""Cycles from a frame's last byte until all is done that follows from it."""


class Link(wiring.Component):
    """Down: a receiver, whose frames' bodies are kept when ``keep`` is high, and become packets. Up: the window and its sender."""

    i: In(stream.Signature(PacketByte))
    frame: Out(DownFrame)
    good: Out(1)
    bad: Out(1)
    keep: In(1)
    fits: Out(1)
    taken: Out(16)
    packets: Out(stream.Signature(PacketBeat))

    lines: In(stream.Signature(MemoryWrite))
    acknowledge: In(1)
    acknowledged: In(8)
    go_back: In(1)
    following: Out(8)
    status: In(UpFrame)
    asked: In(1)
    o: Out(stream.Signature(PacketByte))

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = FrameReceiver()
        m.submodules.buffer = buffer = PacketBuffer()
        m.submodules.reader = reader = PacketReader()
        m.submodules.window = window = LineWindow()
        m.submodules.sender = sender = FrameSender()
        wiring.connect(m, wiring.flipped(self.i), receiver.i)
        wiring.connect(m, buffer.o, reader.i)
        wiring.connect(m, reader.o, wiring.flipped(self.packets))
        wiring.connect(m, wiring.flipped(self.lines), window.i)
        wiring.connect(m, sender.o, wiring.flipped(self.o))
        m.d.comb += [
            self.frame.eq(receiver.frame),
            self.good.eq(receiver.good),
            self.bad.eq(receiver.bad),
            buffer.body.eq(receiver.body),
            buffer.has_body.eq(receiver.has_body),
            buffer.commit.eq(receiver.good & self.keep & buffer.fits),
            buffer.drop.eq(receiver.good | receiver.bad),
            self.taken.eq(buffer.taken),
            window.acknowledge.eq(self.acknowledge),
            window.acknowledged.eq(self.acknowledged),
            window.go_back.eq(self.go_back),
            self.following.eq(window.following),
            sender.status.eq(self.status),
            sender.asked.eq(self.asked),
            sender.has_line.eq(window.has_line),
            sender.line.eq(window.line),
            window.sent.eq(sender.sent),
            window.slot.eq(sender.slot),
            window.place.eq(sender.place),
            sender.byte.eq(window.byte),
        ]
        # Whether the frame that has just ended fits: a moment later the next one begins.
        with m.If(receiver.good):
            m.d.sync += self.fits.eq(buffer.fits)
        return m


def component() -> wiring.Component:
    return Link()


class LinkBench:
    """The component with nothing going on."""

    def __init__(self, dut: Any, *, pauses: float = 1.0) -> None:
        self.dut = dut
        self.clocked = Clocked(dut)
        self.frames = self.clocked.source("i", PacketByte, pauses)
        self.lines = self.clocked.source("lines", MemoryWrite, pauses)
        self.packets = self.clocked.sink("packets", PacketBeat, pauses)
        self.sent = self.clocked.sink("o", PacketByte, pauses)
        self.goods: list[int] = []
        self.bads: list[int] = []
        self.clocked.watch(self._edge)
        for name in ("keep", "acknowledge", "go_back", "asked", "status"):
            getattr(dut, name).value = 0

    def _edge(self, cycle: int) -> None:
        if int(self.dut.good.value):
            self.goods.append(cycle)
        if int(self.dut.bad.value):
            self.bads.append(cycle)

    async def give(self, content: bytes) -> bool:
        """A frame's content with its CRC; whether it was found good."""
        before = len(self.goods)
        self.frames.send(packet_bytes(content))
        await self.clocked.until(lambda: self.frames.idle)
        await self.clocked.cycles(SETTLE)
        return len(self.goods) > before

    async def acknowledge(self, number: int, *, go_back: bool = False) -> None:
        """As a frame with this number has it."""
        self.dut.acknowledged.value = number % 256
        self.dut.acknowledge.value, self.dut.go_back.value = 1, go_back
        await self.clocked.cycles(1)
        self.dut.acknowledge.value = 0
        await self.clocked.cycles(1)

    def taken_frames(self) -> list[tuple[dict[str, int], bytes]]:
        """Header and body of what was sent since the last call; fails where a CRC is wrong."""
        found = []
        for content in packets_of(self.sent.values()):
            body = content[:-CRC_BYTES]
            assert zlib.crc32(body).to_bytes(CRC_BYTES, "little") == content[-CRC_BYTES:]
            found.append((unpack(UP_HEADER, body), body[size(UP_HEADER) :]))
        self.sent.received.clear()
        return found


def with_crc(content: bytes) -> bytes:
    return content + zlib.crc32(content).to_bytes(CRC_BYTES, "little")


def packets_frame(body: bytes) -> bytes:
    return with_crc(pack(DOWN_HEADER, kind=Down.PACKETS) + body)


def a_line() -> dict[str, Any]:
    return {"address": 64 * random.getrandbits(32), "data": random.randbytes(64)}


@cocotb.test()
async def frames_are_good_or_bad(dut):
    """A frame is good if its CRC is and it has a header; its fields stand then, and it is known in time."""
    bench = LinkBench(dut)
    await bench.clocked.reset()
    for bench.frames.activity in (1.0, 0.2):
        for _ in range(60):
            values = {name: random.getrandbits(bits) for name, bits in (DOWN_HEADER | REGISTER_BODY).items()}
            content = with_crc(pack(DOWN_HEADER | REGISTER_BODY, **values))
            assert await bench.give(content)
            assert packing(DownFrame).unpack(int(dut.frame.value)) == values
            assert bench.goods[-1] - bench.frames.taken[-1] == 2
            at = random.randrange(len(content))
            assert not await bench.give(
                content[:at] + bytes([content[at] ^ 1 << random.randrange(8)]) + content[at + 1 :]
            )
            assert not await bench.give(content[:-1])
            assert await bench.give(with_crc(pack(DOWN_HEADER)))
        for length in range(size(DOWN_HEADER)):
            assert not await bench.give(with_crc(bytes(length)))


@cocotb.test()
async def packets_cut_anywhere(dut):
    """The stream of packets is cut into bodies of all lengths; frames that are bad or not kept leave nothing of theirs."""
    bench = LinkBench(dut, pauses=0.8)
    await bench.clocked.reset()
    packets = [random.randbytes(length) for length in (*range(25), 60, 1500, 0, 64)]
    rest = b"".join(
        pack(PACKET_HEADER, length=len(packet), timestamp=(n + 1) << 40) + packet for n, packet in enumerate(packets)
    )
    total = len(rest)
    while rest:
        length = random.randint(1, CHUNK_BYTES)
        dut.keep.value = 1
        assert not await bench.give(packets_frame(random.randbytes(length)) + b"\0")
        assert await bench.give(packets_frame(rest[:length]))
        rest = rest[length:]
        dut.keep.value = 0
        assert await bench.give(packets_frame(random.randbytes(length)))
    await bench.clocked.cycles(5000)
    expected = []
    for number, packet in enumerate(packets):
        timestamp = (number + 1) << 40
        expected += beats(packet, timestamp=timestamp) or [
            {"data": bytes(8), "count": 0, "last": True, "timestamp": timestamp}
        ]
    found = bench.packets.values()
    for number, (ours, theirs) in enumerate(zip(found, expected, strict=False)):
        assert ours["data"][: ours["count"]] == theirs["data"][: theirs["count"]], f"beat {number}"
        assert (ours["count"], ours["last"], ours["timestamp"]) == (
            theirs["count"],
            theirs["last"],
            theirs["timestamp"],
        )
    assert len(found) == len(expected)
    assert int(dut.taken.value) == total


@cocotb.test()
async def credit(dut):
    """As many bytes as the host may send fit, however the card stands still; a byte more does not, and what is kept stays whole."""
    bench = LinkBench(dut)
    bench.packets.activity = 0
    await bench.clocked.reset()
    dut.keep.value = 1
    # The first beat and the one that is being collected leave the buffer.
    packet = random.randbytes(PACKET_BUFFER_BYTES + 100)
    stream_bytes = pack(PACKET_HEADER, length=len(packet)) + packet
    first = size(PACKET_HEADER) + 8
    assert await bench.give(packets_frame(stream_bytes[:first]))
    await bench.clocked.cycles(100)
    assert int(dut.taken.value) == first
    rest = stream_bytes[first:]
    for at in range(0, PACKET_CREDIT, 124):
        assert await bench.give(packets_frame(rest[at : min(at + 124, PACKET_CREDIT)]))
        assert int(dut.fits.value)
    for length in (1, 5, 100):
        assert await bench.give(packets_frame(bytes(length)))
        assert not int(dut.fits.value)
    bench.packets.activity = 1
    await bench.clocked.cycles(10_000)
    assert await bench.give(packets_frame(rest[PACKET_CREDIT:]))
    assert int(dut.fits.value)
    await bench.clocked.cycles(300)
    found = b"".join(beat["data"][: beat["count"]] for beat in bench.packets.values())
    assert found == packet


@cocotb.test()
async def lines_are_kept_until_acknowledged(dut):
    """All lines go out in order, at most a window ahead; going back sends again what is not acknowledged, also in a line's middle."""
    bench = LinkBench(dut, pauses=0.9)
    await bench.clocked.reset()
    lines = [a_line() for _ in range(300)]
    bench.lines.send(lines)
    bodies = [pack({"line": 32}, line=line["address"] // 64) + line["data"] for line in lines]
    here = 0
    while here < len(lines):
        await bench.clocked.cycles(random.choice((100, 1000, 8000)))
        assert int(dut.following.value) == min(here + LINE_WINDOW + 1, len(lines), len(bench.lines.taken) + 1) % 256
        await bench.clocked.until(lambda: packets_end(bench))
        for header, body in bench.taken_frames():
            assert header["kind"] == Up.LINE
            number = here + (header["sequence"] - here + 128) % 256 - 128
            assert number - here < LINE_WINDOW
            # One that is acknowledged while it is sent once more may already be another's bytes.
            assert number < here or body == bodies[number]
            # A host that loses some.
            if number == here and random.random() < 0.9:
                here += 1
        await bench.acknowledge(here, go_back=True)
    await bench.clocked.cycles(3000)
    bench.taken_frames()
    await bench.acknowledge(here - 1)
    await bench.acknowledge(here + 5, go_back=True)
    await bench.clocked.cycles(3000)
    assert bench.taken_frames() == []


def packets_end(bench: LinkBench) -> bool:
    """Whether what was sent so far ends with a frame."""
    received = bench.sent.received
    return not received or bool(received[-1].value["last"])


@cocotb.test()
async def statuses(dut):
    """A status is sent when asked for and when something changes that the host waits for, once each, behind lines that wait."""
    bench = LinkBench(dut, pauses=0.9)
    await bench.clocked.reset()

    async def answers(**values: int) -> list[tuple[dict[str, int], bytes]]:
        dut.status.value = packing(UpFrame).pack({"kind": Up.STATUS, **values})
        await bench.clocked.cycles(500)
        return bench.taken_frames()

    assert await answers() == []
    values = {name: random.getrandbits(bits) for name, bits in (UP_HEADER | STATUS_BODY).items()} | {"kind": Up.STATUS}
    ((header, body),) = await answers(**values)
    assert header | unpack(STATUS_BODY, body) == values
    for name, change in (("finished", 1), ("stalled", 1), ("taken", 256)):
        values[name] ^= change
        assert len(await answers(**values)) == 1, name
    for name in ("sequence", "acknowledged", "dropped", "reads", "value"):
        values[name] ^= 1
        assert await answers(**values) == [], name
    bench.lines.send([a_line()])
    await bench.clocked.until(lambda: bench.lines.idle)
    dut.asked.value = 1
    await bench.clocked.cycles(1)
    dut.asked.value = 0
    assert [header["kind"] for header, _ in await answers(**values)] == [Up.LINE, Up.STATUS]
