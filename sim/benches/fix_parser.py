"""Bench of hdl/fix_parser.py, against docs/fix.md in plain Python. It is run for each width of the data (fix_parser_32.py,
fix_parser_8.py), and the last test fails where a named bin of sim/benches/fix_coverage.py was not hit."""

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import cocotb
from amaranth.lib import wiring

from hdl.beat import LANES
from hdl.fix_parser import FixParser
from hdl.frame import Kind
from hdl.limits import FIELD_LIMIT, FLOWS
from host.generate.faults import FAULTS, encode
from sim.benches import coverage as coverage_file
from sim.benches.fix_coverage import FixCoverage
from sim.benches.fix_stimulus import Stimulus, framed
from sim.benches.parsers import POSITIONS, FixBench, lanes_of

MOST_LATENCY = 8
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
HEARTBEAT = framed(b"35=0\x0149=A\x0156=B\x0134=2\x0152=20240229-12:00:00\x01")
MINIMAL = framed(b"35=0\x01", b"8=FIX.4.2\x01")
"""``8=FIX.4.2|9=5|35=0|10=...|``, the shortest message."""
SNAPSHOT = framed(b"35=W\x0155=ES\x01268=2\x01269=0\x01270=5\x01269=1\x01271=7\x01")
DATA = framed(b"35=B\x0195=11\x0196=a\x0110=12\x01bcd\x01")
"""With SOHs that are as far apart as fields are long."""

OVER = 4200
"""Bytes of well-formed messages after which every flow is at a message's end, whatever came before."""

PACKETS_A_ROUND = 3000
MOST_ROUNDS = 60

_coverage: FixCoverage | None = None


def component() -> wiring.Component:
    return FixParser(data_width=8 * LANES)


def covered(dut: Any) -> FixCoverage:
    """The coverage of all tests."""
    global _coverage
    if _coverage is None:
        _coverage = FixCoverage(lanes_of(dut))
    return _coverage


async def new_bench(dut: Any, **activity: float) -> FixBench:
    """The parser after a reset."""
    bench = FixBench(dut, covered(dut), **activity)
    await bench.clocked.reset()
    return bench


def padded(fields: list[bytes], padding: int) -> bytes:
    """A message whose text is so many bytes longer."""
    return encode([*fields, b"58=" + b"x" * (1 + padding)])


def close(bench: FixBench, flows: range) -> None:
    """Bring flows to a message's end."""
    order = encode(ORDER)
    for flow in flows:
        bench.send(order * (OVER // len(order) + 1), flow)


def assert_full_rate(bench: FixBench) -> None:
    """The parser took a beat in every cycle, from the first to the last."""
    assert bench.source.stalls == 0
    assert all(cycle + 1 == following for cycle, following in pairwise(bench.source.taken))


def assert_latency(bench: FixBench) -> None:
    """Every frame was valid FixParser.LATENCY cycles after the beat that completed its message was taken."""
    shown = [transfer.cycle for transfer in bench.sink.received if transfer.value["has_frame"]]
    taken = [bench.source.taken[beat] for beat in bench.last_beats]
    assert {cycle - before for cycle, before in zip(shown, taken, strict=True)} == {FixParser.LATENCY}


@cocotb.test()
async def well_formed_messages_at_full_rate(dut):
    """Back to back, beginning in every lane, a beat every cycle: the parser is never not ready, and every frame comes in
    FixParser.LATENCY cycles, eight at most."""
    bench = await new_bench(dut)
    for fields in (ORDER, SHORT, ORDER[:4]):
        for padding in range(16):
            bench.send(padded(fields, padding) * 9, flow=padding)
    for message in (MINIMAL, HEARTBEAT, SNAPSHOT, DATA, encode(SHORT), encode(SHORT[:1] + SHORT[1:2] * 60)):
        for shift in range(8):
            bench.send(padded(ORDER, shift) + message * 33, flow=20 + shift)
    frames = await bench.check()
    assert not any(frame["kind"] == Kind.MALFORMED for frame in frames)
    assert_full_rate(bench)
    assert_latency(bench)
    assert FixParser.LATENCY <= MOST_LATENCY


@cocotb.test()
async def interleaved_packets_at_full_rate(dut):
    """Packets of 1 to 8 bytes by turns of two and three flows, so that a flow is back after one beat, or two."""
    bench = await new_bench(dut)
    stream = b"".join((encode(ORDER), MINIMAL * 3, encode(SHORT), HEARTBEAT, SNAPSHOT, DATA, padded(SHORT, 5)))
    for flows in (range(2), range(2, 5)):
        for size in range(1, 9):
            # Each flow is at another place of the stream.
            streams = [padded(ORDER, flow) * (flow + 1) + stream for flow in flows]
            for at in range(0, max(map(len, streams)), size):
                for flow, its in zip(flows, streams, strict=True):
                    if payload := its[at : at + size]:
                        bench.send(payload, flow)
    frames = await bench.check()
    assert not any(frame["kind"] == Kind.MALFORMED for frame in frames)
    assert_full_rate(bench)
    assert_latency(bench)


@cocotb.test()
async def malformed_messages_and_holes_as_fast(dut):
    """What ends no more fields in a beat than well-formed messages do is as fast, whatever is wrong with it."""
    bench = await new_bench(dut)
    faults = random.Random(random.random())
    for fault in FAULTS:
        if fault.startswith("garbage"):
            continue  # its fields may be shorter
        for padding in range(8):
            bench.send(FAULTS[fault](faults, ORDER) + padded(ORDER, padding) * 40, flow=padding)
    for cut in range(1, 40):
        bench.send(encode(ORDER)[:cut], 9)
        bench.send(encode(ORDER), 9, missing=cut)
    frames = await bench.check()
    assert sum(frame["kind"] == Kind.GAP for frame in frames) == 39
    assert_full_rate(bench)
    assert_latency(bench)


@cocotb.test()
async def nothing_outlives_a_hole(dut):
    """What was taken of a message that a hole ends is not in the frame of the garbage behind it, nor in the next message's."""
    bench = await new_bench(dut)
    for flow, message in enumerate((encode(ORDER), SNAPSHOT, DATA, encode([*ORDER, *ORDER[4:]])), start=14):
        for cut in range(1, len(message)):
            bench.send(message[:cut], flow)
            bench.send(b"x\x01" + MINIMAL, flow, missing=cut)
    frames = await bench.check()
    assert [frame["kind"] for frame in frames] == [Kind.GAP, Kind.MALFORMED, Kind.SESSION] * (len(frames) // 3)


@cocotb.test()
async def cut_at_every_byte(dut):
    """A message in two packets, cut everywhere, while another flow's message is cut elsewhere."""
    bench = await new_bench(dut, gaps=0.8, ready=0.7)
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
    bench = await new_bench(dut, ready=0.6)
    for message in (encode(ORDER), DATA, SNAPSHOT):
        for byte in message:
            bench.send(bytes([byte]), 2)
            bench.send(bytes([byte]), 3, fragment=True)
    await bench.check()


@cocotb.test()
async def malformed(dut):
    """Every kind of fault, several times, among good messages, cut anywhere, on several flows."""
    bench = await new_bench(dut, gaps=0.9, ready=0.8)
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
    bench = await new_bench(dut, ready=0.9)
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
async def begin_of_a_tag_and_its_value(dut):
    """``8=FIX`` that is the end of a tag and a value, at every place of a beat and behind all that can be in front of it."""
    bench = await new_bench(dut)
    for filling in range(1, 9):
        for fields in (
            [b"58=FIX"],
            [b"58=FIX", b"35=0"],
            [b"58=FIX", b"35=0", b"34=7"],
            [b"35=0", b"58=FIX", b"34=7"],
            [b"35=0", b"95=4", b"58=FIX", b"96=abcd"],
            [b"35=0", b"8=FIX", b"34=7"],
        ):
            bench.send(encode([b"35=0", b"58=" + b"x" * filling]) + encode(fields), 13)
    close(bench, [13])
    await bench.check()


@cocotb.test()
async def positions_begin_anew(dut):
    """A flow's stream is longer than positions can count."""
    bench = await new_bench(dut)
    message = encode([b"35=8", b"58=" + b"y" * 1800, b"44=1.5", b"96=" + b"z" * 1700])
    for _ in range(POSITIONS // len(message) + 2):
        bench.send(message, 12)
    frames = await bench.check()
    assert not any(frame["kind"] == Kind.MALFORMED for frame in frames)


@cocotb.test()
async def half_a_message(dut):
    """Leaves flows in the middle of a message, of a field and of garbage, for the reset that begins the next test."""
    bench = await new_bench(dut)
    unfinished = (encode(ORDER)[:40], b"8=FIX.4.4", b"junk\x01", encode(ORDER)[:-1], DATA[:-9], SNAPSHOT[:-9])
    for flow, part in enumerate(unfinished, start=12):
        bench.send(part, flow)
    assert await bench.check() == []


@cocotb.test()
async def a_reset_forgets_what_was_unfinished(dut):
    """After a reset every flow begins anew, also those that `half_a_message` left unfinished."""
    bench = await new_bench(dut)
    for flow in range(12, 18):
        bench.send(encode(ORDER), flow)
    frames = await bench.check()
    assert [frame["kind"] for frame in frames] == [Kind.NEW_ORDER] * 6


@cocotb.test()
async def anything_until_all_bins_are_hit(dut):
    """Directed random traffic, in some rounds without pauses, in others with."""
    coverage = covered(dut).coverage
    for number in range(MOST_ROUNDS):
        gaps, ready = ((1.0, 1.0), (0.8, 1.0), (1.0, 0.7), (0.9, 0.9))[number % 4]
        bench = await new_bench(dut, gaps=gaps, ready=ready)
        stimulus = Stimulus(random.Random(random.random()), range(FLOWS), bench.lanes)
        for sent in stimulus.packets(PACKETS_A_ROUND):
            bench.send(*sent)
        await bench.check()
        if not coverage.missed():
            break


@cocotb.test()
async def every_named_bin_was_hit(dut):
    """By the tests above, together."""
    coverage = covered(dut).coverage
    coverage.write(Path(coverage_file.FILE))
    assert coverage.missed() == []
