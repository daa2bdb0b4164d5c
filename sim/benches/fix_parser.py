"""Bench of hdl/fix_parser.py, against the soft card (docs/fix.md)."""

import random

import cocotb
from amaranth.lib import wiring

from hdl.fix_parser import FixParser
from hdl.flow import Parser
from hdl.frame import Kind
from hdl.limits import FIELD_LIMIT
from host.generate.faults import FAULTS, encode
from sim.benches.parsers import ParserBench

LATENCY = FixParser.LATENCY
ORDER = [
    b"35=D",
    b"49=CLIENT",
    b"56=GATEWAY",
    b"34=17",
    b"11=A-1",
    b"55=ESZ5",
    b"54=1",
    b"38=12.5",
    b"44=-4300.25",
    b"40=2",
]
SHORT = [b"35=0", b"1=A", b"2=B", b"3=C", b"4=D", b"34=5"]
"""Fields of four bytes, the shortest there are."""

OVER = 4200
"""Bytes of well-formed messages after which every flow is at a message's end, whatever came before."""


def component() -> wiring.Component:
    return FixParser()


def padded(fields: list[bytes], padding: int) -> bytes:
    """A message whose text is so many bytes longer."""
    return encode([*fields, b"58=" + b"x" * (1 + padding)])


def close(bench: ParserBench, flows: range) -> None:
    """Bring flows to a message's end."""
    order = encode(ORDER)
    for flow in flows:
        bench.send(order * (OVER // len(order) + 1), flow)


@cocotb.test()
async def every_alignment_at_full_rate(dut):
    """Messages back to back, beginning in every lane, eight bytes every cycle: the parser is never not ready."""
    bench = ParserBench(dut, Parser.FIX)
    await bench.clocked.reset()
    for fields in (ORDER, SHORT, ORDER[:4]):
        for padding in range(16):
            bench.send(padded(fields, padding) * 9, flow=padding)
    frames = await bench.check()
    assert bench.source.stalls == 0
    assert bench.source.taken == list(range(bench.source.taken[0], bench.source.taken[0] + len(bench.source.taken)))
    assert not any(frame["kind"] == Kind.MALFORMED for frame in frames)


@cocotb.test()
async def latency(dut):
    """A frame is valid LATENCY cycles after its message's last byte was taken, whatever lane that was in."""
    bench = ParserBench(dut, Parser.FIX)
    await bench.clocked.reset()
    last_beats, beats = [], 0
    for padding in range(16):
        message = padded(ORDER, padding)
        bench.send(message)
        beats += -(-len(message) // 8)
        last_beats.append(beats - 1)
    await bench.check()
    shown = [transfer.cycle for transfer in bench.sink.received if transfer.value["has_frame"]]
    assert [cycle - bench.source.taken[beat] for cycle, beat in zip(shown, last_beats, strict=True)] == [LATENCY] * 16


@cocotb.test()
async def cut_at_every_byte(dut):
    """A message in two packets, cut everywhere, while another flow's message is cut elsewhere."""
    bench = ParserBench(dut, Parser.FIX, gaps=0.8, ready=0.7)
    await bench.clocked.reset()
    one, other = encode(ORDER), encode(ORDER[:6])
    for cut in range(1, len(one)):
        elsewhere = 1 + cut * 7 % (len(other) - 1)
        bench.send(one[:cut], 0)
        bench.send(other[:elsewhere], 1)
        bench.send(one[cut:], 0)
        bench.send(other[elsewhere:], 1)
    frames = await bench.check()
    assert len(frames) == 2 * (len(one) - 1)
    assert not any(frame["kind"] == Kind.MALFORMED for frame in frames)


@cocotb.test()
async def one_byte_a_packet(dut):
    """Whole messages in packets of one byte each, the flows taking turns."""
    bench = ParserBench(dut, Parser.FIX, ready=0.6)
    await bench.clocked.reset()
    for byte, again in zip(encode(ORDER), encode(ORDER), strict=True):
        bench.send(bytes([byte]), 2)
        bench.send(bytes([again]), 3, fragment=True)
    await bench.check()


@cocotb.test()
async def malformed(dut):
    """Every kind of fault, several times, among good messages, cut anywhere, on several flows."""
    bench = ParserBench(dut, Parser.FIX, gaps=0.9, ready=0.8)
    await bench.clocked.reset()
    flows = range(4, 8)
    waiting = dict.fromkeys(flows, b"")
    for fault in list(FAULTS.values()) * 3:
        flow = random.choice(flows)
        waiting[flow] += fault(random.Random(random.random()), ORDER) + encode(ORDER)
        flow = random.choice(flows)
        while waiting[flow]:
            cut = random.randint(1, 200)
            bench.send(waiting[flow][:cut], flow, fragment=random.random() < 0.1)
            waiting[flow] = waiting[flow][cut:]
    for flow in flows:
        bench.send(waiting[flow] + b"\x01", flow)
    close(bench, flows)
    frames = await bench.check()
    assert sum(frame["kind"] == Kind.MALFORMED for frame in frames) >= len(FAULTS)


@cocotb.test()
async def beyond_the_limits(dut):
    """Fields and messages around the limits, and bytes that are no FIX at all."""
    bench = ParserBench(dut, Parser.FIX, ready=0.9)
    await bench.clocked.reset()
    for length in (FIELD_LIMIT - 1, FIELD_LIMIT, FIELD_LIMIT + 1):
        bench.send(encode([b"35=0", b"58=" + b"y" * (length - 4)]), 8)
    for filling in (1900, 2006, 2046, 2100):
        bench.send(encode([b"35=0", b"58=" + b"z" * 1999, b"96=" + b"z" * filling]), 9)
    bench.send(random.randbytes(4000), 10)
    bench.send(b"\x01" * 700, 11)
    bench.send(bytes(random.choices(b"8=FIX.49=1\x0135=D", k=3000)), 11)
    close(bench, range(8, 12))
    await bench.check()


@cocotb.test()
async def half_a_message(dut):
    """Leaves flows in the middle of a message, of a field and of garbage, for the reset that begins the next test."""
    bench = ParserBench(dut, Parser.FIX)
    await bench.clocked.reset()
    for flow, unfinished in enumerate((encode(ORDER)[:40], b"8=FIX.4.4", b"junk\x01", encode(ORDER)[:-1]), start=12):
        bench.send(unfinished, flow)
    assert await bench.check() == []


@cocotb.test()
async def a_reset_forgets_what_was_unfinished(dut):
    """After a reset every flow begins anew, also those that `half_a_message` left unfinished."""
    bench = ParserBench(dut, Parser.FIX)
    await bench.clocked.reset()
    for flow in range(12, 16):
        bench.send(encode(ORDER), flow)
    frames = await bench.check()
    assert [frame["kind"] for frame in frames] == [Kind.NEW_ORDER] * 4
