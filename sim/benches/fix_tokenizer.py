"""Bench of hdl/fix_tokenizer.py, against slices of the bytes (docs/fix.md, "Fields")."""

import random
from typing import Any

import cocotb
from amaranth.lib import wiring

from hdl.beat import PayloadBeat
from hdl.fix_tokenizer import (
    BEGIN,
    MINUS,
    NO_DIGIT,
    NUMBER_CHARACTERS,
    POINT,
    SOH,
    TAG_DIGITS,
    FieldBeat,
    Tokenizer,
)
from hdl.frame import crc64
from hdl.limits import FIELD_LIMIT, FLOWS
from host.generate.faults import encode
from sim.benches.parsers import POSITIONS, beats
from sim.benches.streams import Clocked, Sink, Source

LATENCY = 2
COUNTED_TAG_DIGITS = 10
"""From here on the tokenizer stops counting: such a tag is bad anyway."""

ALPHABET = b"8=FIX\x01\x01=.-0123456789A"

_streams = [bytearray() for _ in range(FLOWS)]
"""What each flow has carried; each test has flows of its own."""
_times: list[dict[int, int]] = [{} for _ in range(FLOWS)]
"""Per flow, the timestamp of each packet by its first position."""
_done = [0] * FLOWS
"""Up to where each flow's fields were compared."""


def component() -> wiring.Component:
    return Tokenizer()


def send(source: Source, payload: bytes, flow: int = 0) -> int:
    """Have a packet taken; returns its number of beats."""
    stream = _streams[flow]
    timestamp = 10**18 + len(stream)
    _times[flow][len(stream)] = timestamp
    for beat in (packet := beats(payload, flow=flow, timestamp=timestamp)):
        source.send([beat | {"position": len(stream) % POSITIONS}])
        stream += beat["data"]
    return len(packet)


def fields_of(flow: int) -> list[tuple[int, int]]:
    """First and end position of the fields that are complete and were not compared yet."""
    stream, fields = _streams[flow], []
    while True:
        first = _done[flow]
        soh = stream.find(SOH, first, first + FIELD_LIMIT)
        end = soh + 1 if soh >= 0 else first + FIELD_LIMIT
        if end > len(stream):
            return fields
        fields.append((first, end))
        _done[flow] = end


def check(field: dict[str, Any], flow: int, first: int, end: int) -> None:
    """A field that the tokenizer gave is the one that stands there."""
    token = field["token"]
    text = bytes(_streams[flow][first:end])
    terminated = text[-1] == SOH
    content = text[:-1] if terminated else text
    tag, equals, value = content.partition(b"=")
    assert field["unterminated"] == (not terminated), text
    assert field["end"] == end % POSITIONS, text
    assert token["first"] == first % POSITIONS, text
    packet = max(position for position in _times[flow] if position <= first)
    assert token["timestamp"] == _times[flow][packet], text
    assert token["sum"] == sum(text) % 256, text
    assert token["in_value"] == bool(equals), text
    assert token["tag_bad"] == ((not tag.isdigit() and tag != b"") or tag.startswith(b"0")), text
    assert token["tag_digits"] == min(len(tag), COUNTED_TAG_DIGITS) or len(tag) > COUNTED_TAG_DIGITS, text
    if not token["tag_bad"]:
        digits = [byte - ord("0") for byte in reversed(tag)] + [0] * TAG_DIGITS
        assert token["tag"] == digits[:TAG_DIGITS], text
    if equals:
        assert token["value"] == (first + len(tag) + 1) % POSITIONS, text
        assert token["value_length"] == len(value), text
        assert token["crc"] == crc64(value), text
        codes = {ord("."): POINT, ord("-"): MINUS} | {ord("0") + digit: digit for digit in range(10)}
        characters = [codes.get(byte, NO_DIGIT) for byte in reversed(value)] + [0] * NUMBER_CHARACTERS
        assert token["characters"] == characters[:NUMBER_CHARACTERS], text
    begin = text.rfind(BEGIN)
    assert token["begin"] == (begin >= 0), text
    if begin >= 0:
        assert token["begin_position"] == (first + begin) % POSITIONS, text
        assert token["sum_before_begin"] == sum(text[:begin]) % 256, text


async def check_all(bench: Clocked, source: Source, sink: Sink, flows: range) -> int:
    """Let everything through and compare every field; returns how many there were."""
    await bench.until(lambda: source.idle)
    await bench.cycles(30)
    found: dict[int, list[dict[str, Any]]] = {flow: [] for flow in flows}
    for beat in sink.values():
        found[beat["flow"]] += [field for field in beat["fields"] if field["valid"]]
    for flow in flows:
        places = fields_of(flow)
        for field, (first, end) in zip(found[flow], places, strict=False):
            check(field, flow, first, end)
        assert len(found[flow]) == len(places)
    return sum(map(len, found.values()))


@cocotb.test()
async def every_alignment_at_full_rate(dut):
    """Fields of 4 bytes and more beginning in every lane: eight bytes every cycle, LATENCY cycles later they are out."""
    bench = Clocked(dut)
    source, sink = bench.source("i", PayloadBeat), bench.sink("o", FieldBeat)
    await bench.reset()
    for length in range(4, 24):
        for lane in range(8):
            send(source, b"1=" + b"x" * (5 + lane) + b"\x01" + (b"2=" + b"3" * (length - 3) + b"\x01") * 9)
    await check_all(bench, source, sink, range(1))
    assert source.stalls == 0
    assert [transfer.cycle - LATENCY for transfer in sink.received] == source.taken


@cocotb.test()
async def cut_at_every_byte(dut):
    """Messages in two packets, cut everywhere, another flow's bytes between them."""
    bench = Clocked(dut)
    source, sink = bench.source("i", PayloadBeat, 0.8), bench.sink("o", FieldBeat, 0.7)
    await bench.reset()
    message = encode([b"35=D", b"34=17", b"55=LONG-SYMBOL-X", b"44=-12.5"])
    for cut in range(1, len(message)):
        send(source, message[:cut], 1)
        send(source, message[cut // 2 :], 2)
        send(source, message[cut:], 1)
    assert await check_all(bench, source, sink, range(1, 3)) > 500


@cocotb.test()
async def any_bytes(dut):
    """Random bytes of FIX's alphabet, cut and interleaved at random."""
    bench = Clocked(dut)
    source, sink = bench.source("i", PayloadBeat, 0.9), bench.sink("o", FieldBeat, 0.8)
    await bench.reset()
    for _ in range(600):
        send(source, bytes(random.choices(ALPHABET, k=random.randint(1, 40))), random.randint(3, 6))
    for _ in range(100):
        send(source, random.randbytes(random.randint(1, 90)), 7)
    assert await check_all(bench, source, sink, range(3, 8)) > 1000


@cocotb.test()
async def field_limit(dut):
    """Fields around FIELD_LIMIT, ending in every lane; the longest values and tags."""
    bench = Clocked(dut)
    source, sink = bench.source("i", PayloadBeat), bench.sink("o", FieldBeat, 0.9)
    await bench.reset()
    for lane in range(8):
        send(source, b"1" * (1 + lane) + b"\x01", 8)
        for length in (FIELD_LIMIT - 1, FIELD_LIMIT, FIELD_LIMIT + 1):
            send(source, b"58=" + bytes(random.choices(ALPHABET.replace(b"\x01", b""), k=length - 4)) + b"\x01", 8)
    send(source, b"\x01" + b"0123456789ABCDEF" * 300 + b"\x018=FIX\x01", 8)
    await check_all(bench, source, sink, range(8, 9))


@cocotb.test()
async def more_than_two_ends_a_beat(dut):
    """A beat takes one cycle for each two fields that end in it."""
    bench = Clocked(dut)
    source, sink = bench.source("i", PayloadBeat), bench.sink("o", FieldBeat)
    await bench.reset()
    count = send(source, b"\x01" * 800, 9)
    await check_all(bench, source, sink, range(9, 10))
    assert source.taken[-1] - source.taken[0] == 4 * (count - 1)
