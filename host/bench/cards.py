"""The cards beside Amaranth's own simulator and simplefix."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import simplefix

from hdl.flow import Endpoint, Flow, Parser, Protocol
from hdl.sbe_venue import load_venue
from host.bench.measure import Row, Work, compare, timed
from host.capture.packets import Packets
from host.capture.write import tcp_packet
from host.card import Card, open_card
from host.generate import SCHEMA, generate

CLIENT, GATEWAY = Endpoint.parse("10.0.0.1:40000"), Endpoint.parse("10.0.0.2:9880")
FIX_MESSAGES = 20_000
MESSAGES_A_PACKET = 7
"""As many messages of the bench's length as an Ethernet packet holds."""
PEER_MESSAGES = 2_000
PYSIM_CYCLES = 400
LOOKED_UP = (35, 34, 11, 55, 1, 54, 40, 59, 38, 44)
"""Tags that the frame carries of an order."""


def order(number: int) -> bytes:
    """A NewOrderSingle of 183 bytes, as desks send them."""
    body = (
        f"35=D|34={number:07d}|49=CLI|52=20250617-13:30:00.123456|56=TICKGATE|1=ACCT-0042|11=ORD{number:011d}|"
        f"38=1500|40=2|44=101.25|54={1 + number % 2}|55=ALDER|59=0|60=20250617-13:30:00.123|"
    )
    text = f"8=FIX.4.4|9={len(body)}|{body}".replace("|", "\x01").encode()
    return text + b"10=%03d\x01" % (sum(text) % 256)


def fix_packets() -> Packets:
    """FIX_MESSAGES orders of one session, several a packet."""
    payloads = [
        b"".join(order(number) for number in range(first, min(first + MESSAGES_A_PACKET, FIX_MESSAGES)))
        for first in range(0, FIX_MESSAGES, MESSAGES_A_PACKET)
    ]
    starts = np.cumsum([0, *map(len, payloads)])
    return Packets.of(
        [tcp_packet(each, CLIENT, GATEWAY, sequence=int(at)) for each, at in zip(payloads, starts, strict=False)]
    )


def drain(card: Card, packets: Packets, counted: Callable[[np.ndarray], int] = len) -> int:
    """Play all packets; returns how many frames came, or what is ``counted`` of them."""
    done = count = 0
    while True:
        done = card.feed(packets, done)
        while len(view := card.ring.poll()):
            count += counted(view)
            card.ring.release(len(view))
        if done == len(packets):
            return count


def rtl_row() -> Row:
    """Clock cycles a second of the card's RTL in both simulators, playing the same traffic."""
    made = generate(4_000)
    card = open_card("rtl:", made.flows, load_venue(SCHEMA))

    def verilated() -> tuple[int, float]:
        before, begin = card.cycles, time.perf_counter()  # type: ignore[attr-defined]
        drain(card, made.packets)
        return card.cycles - before, time.perf_counter() - begin  # type: ignore[attr-defined]

    return compare("rtl.cycles_per_s", "cycles/s", verilated, "amaranth.sim", _pysim(made.packets))


def _pysim(packets: Packets) -> Work:
    from amaranth.sim import Simulator

    from hdl.card import Card as Gateware

    gateware = Gateware(load_venue(SCHEMA))
    simulator = Simulator(gateware)
    simulator.add_clock(1e-8)
    seconds = [0.0]

    async def play(context: Any) -> None:
        beats = (
            (packet[at : at + 8], at + 8 >= len(packet))
            for packet in map(packets.packet, range(len(packets)))
            for at in range(0, len(packet), 8)
        )
        context.set(gateware.memory.ready, 1)
        context.set(gateware.packets.valid, 1)
        while True:
            begin = time.perf_counter()
            for _ in range(PYSIM_CYCLES):
                data, last = next(beats)
                payload = {"data": list(data.ljust(8, b"\0")), "count": len(data), "last": last, "timestamp": 0}
                context.set(gateware.packets.payload, payload)
                await context.tick().until(gateware.packets.ready)
            seconds[0] = time.perf_counter() - begin
            await context.delay(1e-6)

    simulator.add_testbench(play, background=True)

    def run() -> tuple[int, float]:
        seconds[0] = 0.0
        while not seconds[0]:
            simulator.advance()
        return PYSIM_CYCLES, seconds[0]

    return run


def fix_row() -> Row:
    """FIX messages a second: packets to frames in the ring, checksums verified; the peer parses and looks up what the
    frame carries, without checking anything."""
    packets = fix_packets()
    card = open_card("soft:", [Flow(Protocol.TCP, GATEWAY, Parser.FIX)])
    stream = b"".join(order(number) for number in range(PEER_MESSAGES))

    def with_simplefix() -> int:
        parser = simplefix.FixParser()
        parser.append_buffer(stream)
        count = 0
        while (message := parser.get_message()) is not None:
            for tag in LOOKED_UP:
                message.get(tag)
            count += 1
        return count

    return compare(
        "soft.fix.messages_per_s",
        "messages/s",
        timed(lambda: drain(card, packets)),
        "simplefix",
        timed(with_simplefix),
    )


def fix_split_row() -> Row:
    """The same, beside what one writes without a library: ``split`` into a dictionary, CheckSum verified, nothing else."""
    packets = fix_packets()
    card = open_card("soft:", [Flow(Protocol.TCP, GATEWAY, Parser.FIX)])
    stream = b"".join(order(number) for number in range(PEER_MESSAGES))
    tags = [b"%d" % tag for tag in LOOKED_UP]

    def with_split() -> int:
        start = count = 0
        while (trailer := stream.find(b"\x0110=", start) + 1) > 0:
            message = stream[start:trailer]
            fields = dict(field.split(b"=", 1) for field in message[:-1].split(b"\x01"))
            for tag in tags:
                fields.get(tag)
            count += sum(message) & 0xFF == int(stream[trailer + 3 : trailer + 6])
            start = trailer + len(b"10=000|")
        return count

    return compare(
        "soft.fix.split.messages_per_s",
        "messages/s",
        timed(lambda: drain(card, packets)),
        "bytes.split in plain Python",
        timed(with_split),
    )
