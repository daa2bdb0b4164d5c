"""Bench of hdl/fix_tokenizer.py, against slices of the bytes (docs/fix.md, "Fields")."""

import random
import re
from itertools import accumulate
from typing import Any

import cocotb
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import LANES, payload_beat
from hdl.fix_characters import ends_a_beat
from hdl.fix_segmenter import TAG_DIGITS
from hdl.fix_tags import BEGIN, MOST_TAG_DIGITS
from hdl.fix_tokenizer import NUMBER_FORMS, Tokenizer, field_beat
from hdl.fixed_point import FRACTION_DIGITS, MOST_CHARACTERS, WHOLE_DIGITS
from hdl.frame import crc64
from hdl.limits import FIELD_LIMIT, FLOWS
from host.generate.faults import encode
from sim.benches.fix_model import SOH, split
from sim.benches.parsers import POSITIONS, beats
from sim.benches.streams import Clocked

ALPHABET = b"8=FIX\x01\x01=.-0123456789A"
NUMBER_ALPHABET = b"0123456789.-0123456789.A"


class Streamed(wiring.Component):
    """The tokenizer between streams: it moves where its output does."""

    i: In(stream.Signature(payload_beat(LANES)))
    o: Out(stream.Signature(field_beat(LANES)))

    def elaborate(self, platform):
        m = Module()
        m.submodules.tokenizer = tokenizer = Tokenizer(LANES)
        m.d.comb += [
            tokenizer.advance.eq(~self.o.valid | self.o.ready),
            tokenizer.valid.eq(self.i.valid),
            tokenizer.beat.eq(self.i.payload),
            self.i.ready.eq(tokenizer.ready),
            self.o.valid.eq(tokenizer.o_valid),
            self.o.payload.eq(tokenizer.o),
        ]
        return m


def component() -> wiring.Component:
    return Streamed()


class TokenizerBench:
    """The tokenizer, and what each flow has carried since the reset."""

    def __init__(self, dut: Any, gaps: float = 1.0, ready: float = 1.0) -> None:
        self.clocked = Clocked(dut)
        self.source = self.clocked.source("i", payload_beat(LANES), gaps)
        self.sink = self.clocked.sink("o", field_beat(LANES), ready)
        self._streams = [bytearray() for _ in range(FLOWS)]
        self._packets: list[list[int]] = [[] for _ in range(FLOWS)]  # where each packet began
        self._holes: list[list[int]] = [[] for _ in range(FLOWS)]

    def send(self, payload: bytes, flow: int = 0, hole: bool = False) -> int:
        """Have a packet taken, behind a hole or not; returns its number of beats."""
        carried = self._streams[flow]
        if hole:
            self._holes[flow].append(len(carried))
            self.source.send([{"gap": 1, "flow": flow, "position": len(carried) % POSITIONS}])
        self._packets[flow].append(len(carried))
        for beat in (packet := beats(payload, flow=flow)):
            self.source.send([beat | {"position": len(carried) % POSITIONS}])
            carried += beat["data"]
        return len(packet)

    async def check(self) -> int:
        """Let everything through and compare every field and overrun; returns how many fields there were."""
        await self.clocked.until(lambda: self.source.idle)
        await self.clocked.cycles(30)
        self._sums = [
            list(accumulate(carried, lambda total, byte: (total + byte) % 256, initial=0)) for carried in self._streams
        ]
        found: list[list[tuple[str, Any]]] = [[] for _ in range(FLOWS)]
        for beat in self.sink.values():
            if beat["overrun"]:
                found[beat["flow"]].append(("overrun", beat["cut"]))
            fields = [field for n, field in enumerate(beat["fields"]) if beat["ends"] >> n & 1]
            found[beat["flow"]] += [("field", field) for field in fields]
        for flow, ours in enumerate(found):
            self._compare(flow, ours)
        return sum(kind == "field" for ours in found for kind, _ in ours)

    def _compare(self, flow: int, found: list[tuple[str, Any]]) -> None:
        carried, holes = bytes(self._streams[flow]), [*self._holes[flow], len(self._streams[flow])]
        first, behind_overrun, number = 0, False, 0
        for hole in holes:
            while True:
                limit = first + FIELD_LIMIT
                soh = carried.find(SOH, first, min(limit, hole))
                if soh < 0 and limit > hole:
                    break
                kind, given = found[number] if number < len(found) else ("nothing", None)
                number += 1
                if soh < 0:
                    assert (kind, given) == ("overrun", limit % POSITIONS)
                    first, behind_overrun = limit, True
                    continue
                assert kind == "field", carried[first : soh + 1]
                self._check(given, flow, first, carried[first : soh + 1], behind_overrun)
                first, behind_overrun = soh + 1, False
            first, behind_overrun = hole, False
        assert number == len(found)

    def _check(self, field: dict[str, Any], flow: int, first: int, text: bytes, behind_overrun: bool) -> None:
        end = first + len(text)
        assert (field["first"], field["end"]) == (first % POSITIONS, end % POSITIONS), text
        packet = max(began for began in self._packets[flow] if began < end)
        assert field["older"] == (first < packet), text
        begin = text.rfind(BEGIN)
        assert field["begin"] == (begin >= 0), text
        sums = self._sums[flow]
        assert field["end_sum"] == sums[end], text
        if begin >= 0:
            assert field["begin_position"] == (first + begin) % POSITIONS, text
            assert field["begin_sum"] == sums[first + begin], text
        if behind_overrun:
            return  # nothing else is looked at: the framing seeks a begin
        assert field["first_sum"] == sums[first], text
        tag, value = split(text[:-1])
        assert field["tag_bad"] == (tag is None), text
        if tag is None:
            return
        digits = [int(digit) for digit in reversed(str(tag))]
        assert field["tag_count"] == len(digits) <= MOST_TAG_DIGITS, text
        assert field["tag"] == (digits + [0] * TAG_DIGITS)[:TAG_DIGITS], text
        exact = len(value) <= MOST_CHARACTERS
        assert (field["value_count"] == len(value)) if exact else (field["value_count"] > MOST_CHARACTERS), text
        if len(digits) > 1:
            assert field["crc"] == crc64(value), text
        assert field["is_number"] == (tag in NUMBER_FORMS and value != b""), text
        if tag in NUMBER_FORMS:
            assert field["form"] == NUMBER_FORMS[tag].value, text
        self._check_number(field["number"], value, whole=len(digits) == 1)

    @staticmethod
    def _check_number(number: dict[str, Any], value: bytes, whole: bool) -> None:
        parts = re.fullmatch(rb"(-?)([0-9]*)(\.?)([0-9]*)", value)
        assert number["bad"] == (parts is None), value
        assert min(number["length"], MOST_CHARACTERS + 1) == min(len(value), MOST_CHARACTERS + 1), value
        if parts is None or (whole and b"." in value):
            return
        minus, digits_before, point, fraction = parts.groups()
        digits = [byte - ord("0") for byte in reversed(digits_before)] + [0] * WHOLE_DIGITS
        tenths = [byte - ord("0") for byte in fraction] + [0] * FRACTION_DIGITS
        assert number["negative"] == bool(minus), value
        assert number["point"] == bool(point), value
        assert number["whole"] == digits[:WHOLE_DIGITS], value
        assert number["fraction"] == tenths[:FRACTION_DIGITS], value
        assert number["over"] == any(digits[WHOLE_DIGITS:]), value
        assert number["finer"] == any(tenths[FRACTION_DIGITS:]), value


@cocotb.test()
async def every_alignment_at_full_rate(dut):
    """Fields of 4 bytes and more beginning in every lane: eight bytes every cycle, Tokenizer.LATENCY cycles later they
    are out."""
    bench = TokenizerBench(dut)
    await bench.clocked.reset()
    for length in range(4, 24):
        for lane in range(8):
            bench.send(b"1=" + b"x" * (5 + lane) + b"\x01" + (b"2=" + b"3" * (length - 3) + b"\x01") * 9)
    await bench.check()
    assert bench.source.stalls == 0
    assert [transfer.cycle - Tokenizer.LATENCY for transfer in bench.sink.received] == bench.source.taken


@cocotb.test()
async def cut_at_every_byte(dut):
    """Messages in two packets, cut everywhere, another flow's bytes between them."""
    bench = TokenizerBench(dut, 0.8, 0.7)
    await bench.clocked.reset()
    message = encode([b"35=D", b"34=17", b"55=LONG-SYMBOL-X", b"44=-12.5"])
    for cut in range(1, len(message)):
        bench.send(message[:cut], 1)
        bench.send(message[cut // 2 :], 2)
        bench.send(message[cut:], 1)
    assert await bench.check() > 500


@cocotb.test()
async def any_bytes(dut):
    """Random bytes of FIX's alphabet, cut and interleaved at random, with holes between them."""
    bench = TokenizerBench(dut, 0.9, 0.8)
    await bench.clocked.reset()
    for _ in range(600):
        payload = bytes(random.choices(ALPHABET, k=random.randint(1, 40)))
        bench.send(payload, random.randint(3, 6), hole=random.random() < 0.05)
    for _ in range(100):
        bench.send(random.randbytes(random.randint(1, 90)), 7)
    assert await bench.check() > 1000


@cocotb.test()
async def numbers(dut):
    """Values of digits, points and signs, of every length, cut anywhere."""
    bench = TokenizerBench(dut)
    await bench.clocked.reset()
    waiting = b"".join(
        random.choice([b"34=", b"38=", b"44=", b"44=-", b"58="])
        + bytes(random.choices(NUMBER_ALPHABET[: random.choice([11, 22, 24])], k=random.randint(0, 24)))
        + SOH
        for _ in range(1500)
    )
    while waiting:
        cut = random.randint(1, 60)
        bench.send(waiting[:cut], random.choice([8, 8, 9]))
        waiting = waiting[cut:]
    assert await bench.check() > 1000


@cocotb.test()
async def field_limit(dut):
    """Fields around FIELD_LIMIT, ending in every lane; the longest values and tags."""
    bench = TokenizerBench(dut, ready=0.9)
    await bench.clocked.reset()
    for lane in range(8):
        bench.send(b"1" * (1 + lane) + b"\x01", 10)
        for length in (FIELD_LIMIT - 1, FIELD_LIMIT, FIELD_LIMIT + 1):
            bench.send(b"58=" + bytes(random.choices(ALPHABET.replace(b"\x01", b""), k=length - 4)) + b"\x01", 10)
    bench.send(b"\x01" + b"0123456789ABCDEF" * 300 + b"\x018=FIX\x01", 10)
    await bench.check()


@cocotb.test()
async def more_ends_a_beat(dut):
    """A beat takes one cycle for each ``ends_a_beat`` fields that end in it."""
    bench = TokenizerBench(dut)
    await bench.clocked.reset()
    count = bench.send(b"\x01" * 800, 11)
    await bench.check()
    assert bench.source.taken[-1] - bench.source.taken[0] == LANES // ends_a_beat(LANES) * (count - 1)
