"""Bench of SmallFixParser in hdl/fix_parser.py, against docs/fix.md in plain Python."""

import random
from typing import Any

import cocotb
from amaranth.lib import wiring

from hdl.digit_serial import DIGITS
from hdl.fix_parser import SmallFixParser
from hdl.frame import Kind
from hdl.limits import FIELD_LIMIT
from host.generate.faults import FAULTS, encode
from sim.benches.fix_parser import DATA, HEARTBEAT, MINIMAL, ORDER, SHORT, SNAPSHOT, close, padded
from sim.benches.fix_stimulus import Stimulus
from sim.benches.parsers import POSITIONS, FixBench

FLOW = range(1)
PACKETS_A_ROUND = 6000


def component() -> wiring.Component:
    return SmallFixParser()


async def new_bench(dut: Any, **activity: float) -> FixBench:
    """The parser after a reset."""
    bench = FixBench(dut, **activity)
    await bench.clocked.reset()
    return bench


@cocotb.test()
async def latency(dut):
    """Every frame is valid LATENCY cycles after the byte that completed its message was taken, if a packet does not end there."""
    bench = await new_bench(dut)
    for padding in range(16):
        bench.send(padded(ORDER, padding) + HEARTBEAT + MINIMAL + SNAPSHOT + DATA + b"8=FIX")
    await bench.check()
    shown = [transfer.cycle for transfer in bench.sink.received if transfer.value["has_frame"]]
    taken = [bench.source.taken[beat] for beat in bench.last_beats]
    assert {cycle - before for cycle, before in zip(shown, taken, strict=True)} == {SmallFixParser.LATENCY}


@cocotb.test()
async def input_waits_for_numbers_and_frames_alone(dut):
    """How long it waits in all is what the component says."""
    bench = await new_bench(dut)
    message = encode([b"35=D", b"34=17", b"38=12.5", b"44=-4300.25"])
    packets = 20
    for _ in range(packets):
        bench.send(message)
    await bench.check()
    assert (
        bench.source.stalls
        == packets * (sum(DIGITS.values()) + SmallFixParser.TELLING_CYCLES) - SmallFixParser.TELLING_CYCLES
    )


@cocotb.test()
async def cut_at_every_byte(dut):
    """Messages in two packets, cut everywhere, with pauses in and out."""
    bench = await new_bench(dut, gaps=0.8, ready=0.3)
    for message in (encode(ORDER), DATA, SNAPSHOT, encode(SHORT)):
        for cut in range(1, len(message)):
            bench.send(message[:cut])
            bench.send(message[cut:])
    frames = await bench.check()
    assert not any(frame["kind"] == Kind.MALFORMED for frame in frames)


@cocotb.test()
async def malformed(dut):
    """Every kind of fault, several times, among good messages, cut anywhere."""
    bench = await new_bench(dut, gaps=0.9, ready=0.8)
    waiting = b""
    for fault in list(FAULTS.values()) * 4:
        waiting += fault(random.Random(random.random()), ORDER) + encode(ORDER)
        while waiting:
            cut = random.randint(1, 200)
            bench.send(waiting[:cut], fragment=random.random() < 0.1)
            waiting = waiting[cut:]
    close(bench, FLOW)
    frames = await bench.check()
    assert sum(frame["kind"] == Kind.MALFORMED for frame in frames) >= len(FAULTS)


@cocotb.test()
async def nothing_outlives_a_hole(dut):
    """What was taken of a message that a hole ends is not in the frame of the garbage behind it, nor in the next message's."""
    bench = await new_bench(dut)
    for message in (encode(ORDER), SNAPSHOT, DATA, encode([*ORDER, *ORDER[4:]])):
        for cut in range(1, len(message)):
            bench.send(message[:cut])
            bench.send(b"x\x01" + MINIMAL, missing=cut)
    frames = await bench.check()
    assert [frame["kind"] for frame in frames] == [Kind.GAP, Kind.MALFORMED, Kind.SESSION] * (len(frames) // 3)


@cocotb.test()
async def beyond_the_limits(dut):
    """Fields and messages around the limits, positions that begin anew, and bytes that are no FIX at all."""
    bench = await new_bench(dut, ready=0.9)
    for length in (FIELD_LIMIT - 1, FIELD_LIMIT, FIELD_LIMIT + 1):
        bench.send(encode([b"35=0", b"58=" + b"y" * (length - 4)]))
    for filling in (1900, 2006, 2046, 2100):
        bench.send(encode([b"35=0", b"58=" + b"z" * 1999, b"96=" + b"z" * filling]))
    bench.send(random.randbytes(4000))
    bench.send(b"\x01" * 700)
    bench.send(bytes(random.choices(b"8=FIX.49=1\x0135=D", k=3000)))
    while bench.beats < POSITIONS:
        close(bench, FLOW)
    await bench.check()


@cocotb.test()
async def half_a_message(dut):
    """Leaves a message unfinished for the reset that begins the next test."""
    bench = await new_bench(dut)
    bench.send(encode(ORDER)[:-1])
    assert await bench.check() == []


@cocotb.test()
async def a_reset_forgets_what_was_unfinished(dut):
    bench = await new_bench(dut)
    bench.send(encode(ORDER))
    frames = await bench.check()
    assert [frame["kind"] for frame in frames] == [Kind.NEW_ORDER]


@cocotb.test()
async def anything(dut):
    """Directed random traffic, without pauses and with."""
    for gaps, ready in ((1.0, 1.0), (0.9, 0.5)):
        bench = await new_bench(dut, gaps=gaps, ready=ready)
        for sent in Stimulus(random.Random(random.random()), FLOW, bench.lanes).packets(PACKETS_A_ROUND):
            bench.send(*sent)
        await bench.check()
