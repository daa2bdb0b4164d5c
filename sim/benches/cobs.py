"""Bench of hdl/cobs.py, against the code's definition and the software in hdl/serial_frame.py."""

import random
import zlib
from typing import Any

import cocotb
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.cobs import CobsDecoder, CobsEncoder, PacketByte
from hdl.serial_frame import decode, encode
from sim.benches.streams import Clocked


class CobsPair(wiring.Component):
    """An encoder (``i`` to ``encoded``) and a decoder (``coded`` to ``o``)."""

    i: In(stream.Signature(PacketByte))
    encoded: Out(stream.Signature(8))
    coded: In(stream.Signature(8))
    o: Out(stream.Signature(PacketByte))

    def elaborate(self, platform):
        m = Module()
        m.submodules.encoder = encoder = CobsEncoder()
        m.submodules.decoder = decoder = CobsDecoder()
        wiring.connect(m, wiring.flipped(self.i), encoder.i)
        wiring.connect(m, encoder.o, wiring.flipped(self.encoded))
        wiring.connect(m, wiring.flipped(self.coded), decoder.i)
        wiring.connect(m, decoder.o, wiring.flipped(self.o))
        return m


def component() -> wiring.Component:
    return CobsPair()


def some_packets() -> list[bytes]:
    """Runs of every length about a block's, with and without zeros around them, and random ones."""
    runs = [bytes(random.randrange(1, 256) for _ in range(length)) for length in (0, 1, 2, 253, 254, 255, 508, 509)]
    packets = [
        before + run + behind for run in runs for before in (b"", b"\0") for behind in (b"", b"\0", b"\0\0", b"\1")
    ]
    packets += [bytes(random.choice((0, 0, 1, 255)) for _ in range(random.randint(1, 40))) for _ in range(100)]
    return [packet for packet in packets if packet]


def packet_bytes(packet: bytes) -> list[dict[str, Any]]:
    return [{"data": byte, "last": at == len(packet) - 1} for at, byte in enumerate(packet)]


def packets_of(values: list[dict[str, Any]]) -> list[bytes]:
    found, current = [], b""
    for value in values:
        current += bytes([value["data"]])
        if value["last"]:
            found.append(current)
            current = b""
    assert not current
    return found


def cobs(packet: bytes) -> bytes:
    """By the definition: a zero is put behind the packet, and each block is as long as it can be."""
    encoded, rest = b"", packet + b"\0"
    while rest:
        length = min(rest.index(0), 254)
        encoded += bytes([length + 1]) + rest[:length]
        rest = rest[length if length == 254 else length + 1 :]
        if rest == b"\0" and length == 254:
            break  # a full block that ends the packet needs no zero
    return encoded + b"\0"


@cocotb.test()
async def encoded(dut):
    """What the encoder gives is what the definition says, and software decodes it."""
    bench = Clocked(dut)
    source, sink = bench.source("i", PacketByte, 0.9), bench.sink("encoded", 8)
    bench.source("coded", 8), bench.sink("o", PacketByte)
    await bench.reset()
    for sink.activity in (1.0, 0.3):
        sink.received.clear()
        packets = some_packets()
        expected = b"".join(map(cobs, packets))
        for packet in packets:
            source.send(packet_bytes(packet))
        await bench.until(lambda: source.idle)
        await bench.cycles(2_000)
        assert bytes(sink.values()) == expected


@cocotb.test()
async def decoded(dut):
    """What software and definition encode is decoded; packets that end within a block end there; empty ones give nothing."""
    bench = Clocked(dut)
    source, sink = bench.source("coded", 8, 0.8), bench.sink("o", PacketByte, 0.8)
    bench.source("i", PacketByte), bench.sink("encoded", 8)
    await bench.reset()
    packets = some_packets()
    expected: list[bytes] = []
    for packet in packets:
        source.send(b"\0" * random.randrange(3))
        source.send(cobs(packet))
        source.send(by_software := encode(packet))
        expected.append(packet)
        assert decode(by_software[:-1]) == packet
        expected.append(packet + zlib.crc32(packet).to_bytes(4, "little"))
        cut = bytes(random.randrange(1, 256) for _ in range(20))
        source.send(bytes([200]) + cut + b"\0")
        expected.append(cut)
    await bench.until(lambda: source.idle)
    await bench.cycles(20)
    assert packets_of(sink.values()) == expected
