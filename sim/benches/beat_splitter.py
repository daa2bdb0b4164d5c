"""Bench of hdl/beat_splitter.py: what comes out are the bytes that went in, and the gaps where they were."""

import random
from typing import Any

import cocotb
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import LANES, POSITION_BITS, PayloadBeat, payload_beat
from hdl.beat_splitter import BeatSplitter
from hdl.limits import FLOWS
from sim.benches.streams import Clocked

WIDTHS = (4, 1)
SAME = ("timestamp", "flow", "fragment")
"""What stands in every beat of a packet."""


class BothWidths(wiring.Component):
    """A splitter to 4 bytes and one to a byte, side by side."""

    i4: In(stream.Signature(PayloadBeat))
    o4: Out(stream.Signature(payload_beat(4)))
    i1: In(stream.Signature(PayloadBeat))
    o1: Out(stream.Signature(payload_beat(1)))

    def elaborate(self, platform):
        m = Module()
        for lanes in WIDTHS:
            m.submodules[f"splitter{lanes}"] = splitter = BeatSplitter(lanes)
            wiring.connect(m, wiring.flipped(getattr(self, f"i{lanes}")), splitter.i)
            wiring.connect(m, splitter.o, wiring.flipped(getattr(self, f"o{lanes}")))
        return m


def component() -> wiring.Component:
    return BothWidths()


def packet_beats() -> list[dict[str, Any]]:
    """A packet of any length and place, some with a gap in front of it."""
    length, position = random.randint(1, 40), random.randrange(1 << POSITION_BITS)
    same = {"timestamp": random.getrandbits(64), "flow": random.randrange(FLOWS), "fragment": random.randrange(2)}
    beats = []
    if random.random() < 0.3:
        missing = random.getrandbits(32).to_bytes(4, "little")
        beats.append({**same, "data": missing, "count": 0, "last": 0, "position": position, "gap": 1})
    payload = random.randbytes(length)
    for at in range(0, length, LANES):
        part = payload[at : at + LANES]
        place = (position + at) % (1 << POSITION_BITS)
        beats.append(
            {**same, "data": part, "count": len(part), "last": at + LANES >= length, "position": place, "gap": 0}
        )
    return beats


def pieces(beats: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Each byte with its place and what stands beside it, and each gap."""
    found: list[tuple[Any, ...]] = []
    for beat in beats:
        same = tuple(int(beat[name]) for name in SAME)
        data, count = bytes(beat["data"]), int(beat["count"])
        if beat["gap"]:
            found.append(("gap", data[:4], int(beat["position"]), int(beat["last"]), same))
        for n in range(count):
            place = (int(beat["position"]) + n) % (1 << POSITION_BITS)
            found.append((data[n], place, bool(beat["last"]) and n == count - 1, same))
    return found


async def split(dut: Any, lanes: int, *, gaps: float, ready: float) -> tuple[list[dict[str, Any]], Any, Any]:
    """Send packets; what went in, and the source and the sink."""
    bench = Clocked(dut)
    source = bench.source(f"i{lanes}", PayloadBeat, gaps)
    sink = bench.sink(f"o{lanes}", payload_beat(lanes), ready)
    await bench.reset()
    beats = [beat for _ in range(100) for beat in packet_beats()]
    source.send(beats)
    await bench.until(lambda: source.idle and len(pieces([each.value for each in sink.received])) == len(pieces(beats)))
    await bench.cycles(5)
    return beats, source, sink


@cocotb.test()
@cocotb.parametrize(lanes=WIDTHS, activity=[1.0, 0.5])
async def bytes_stay_in_order(dut, lanes, activity):
    """Every byte once, with its position; no beat holds more than it may; full ones but for the last of each that came."""
    beats, _, sink = await split(dut, lanes, gaps=activity, ready=activity)
    out = [each.value for each in sink.received]
    assert pieces(out) == pieces(beats)
    assert all(int(beat["count"]) <= lanes for beat in out)
    assert len(out) == sum(1 if beat["gap"] else -(-beat["count"] // lanes) for beat in beats)


@cocotb.test()
@cocotb.parametrize(lanes=WIDTHS)
async def a_beat_a_cycle(dut, lanes):
    """No cycle is lost where nobody waits."""
    _, _, sink = await split(dut, lanes, gaps=1.0, ready=1.0)
    cycles = [each.cycle for each in sink.received]
    assert cycles == list(range(cycles[0], cycles[0] + len(cycles)))
