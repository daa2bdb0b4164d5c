"""Bench of hdl/fix_entries.py: entries of random messages are those of docs/fix.md (`sim/benches/fix_model.py`)."""

import random
from typing import Any

import cocotb
from amaranth.lib import wiring

from hdl.beat import LANES
from hdl.fix_entries import Entry, FixEntries, MessageBeat
from hdl.frame import Flag
from sim.benches.market_data import causes, described, market_data, message, read
from sim.benches.streams import Clocked

OF_AN_ENTRY = Flag.PRICE_ABSENT | Flag.QUANTITY_ABSENT | Flag.DUPLICATE_TAG


def component() -> wiring.Component:
    return FixEntries()


def beats(raw: bytes) -> list[dict[str, Any]]:
    return [
        {"data": raw[at : at + LANES], "count": len(raw[at : at + LANES]), "last": at + LANES >= len(raw)}
        for at in range(0, len(raw), LANES)
    ]


class EntriesBench:
    """Messages one behind the other, and the entries that come of them."""

    def __init__(self, dut: Any, gaps: float = 1.0, ready: float = 1.0) -> None:
        self.dut = dut
        self.clocked = Clocked(dut)
        self.source = self.clocked.source("i", MessageBeat, gaps)
        self.sink = self.clocked.sink("o", Entry, ready)

    async def entries(self, raw: bytes) -> list[dict[str, int]]:
        """The entries of one message."""
        self.dut.incremental.value = b"\x0135=X\x01" in raw
        before = len(self.sink.received)
        self.source.send(beats(raw))
        await self.clocked.until(lambda: any(entry["last"] for entry in self.sink.values()[before:]))
        found = self.sink.values()[before:]
        assert [entry["last"] for entry in found] == [0] * (len(found) - 1) + [1]
        return found

    async def check(self, raw: bytes) -> None:
        """The entries of a well-formed message are those of the page."""
        span = read(raw)
        found = await self.entries(raw)
        flags = 0
        for entry in found:
            flags |= entry["flags"] & (Flag.VALUE | Flag.RANGE)
        assert flags == causes(span), raw
        if not span.entries:
            assert causes(span) or not any(entry["present"] for entry in found), raw
            return
        instrument = int(span.frame["instrument"])
        for number, (entry, frame) in enumerate(zip(found, span.entries, strict=True)):
            ours = {name: entry[name] for name in entry if name in described(frame)} | {"entry_offset": entry["offset"]}
            assert ours == described(frame), f"entry {number} of {raw!r}"
            assert entry["present"]
            of_message = int(span.frame["flags"]) & Flag.DUPLICATE_TAG
            assert entry["flags"] | of_message == int(frame["flags"]) & OF_AN_ENTRY, f"entry {number} of {raw!r}"
            instrument = entry["instrument"] if entry["has_instrument"] else instrument
            assert instrument == int(frame["instrument"]), f"entry {number} of {raw!r}"


@cocotb.test()
async def entries_are_those_of_the_page(dut):
    """Random messages, bytes with pauses, entries that wait."""
    bench = EntriesBench(dut, gaps=0.8, ready=0.6)
    await bench.clocked.reset()
    for _ in range(150):
        await bench.check(market_data(random.randint(0, 6)))


@cocotb.test()
async def bad_entries_are_found(dut):
    """A number or character that is none, at any place."""
    bench = EntriesBench(dut)
    await bench.clocked.reset()
    for _ in range(150):
        await bench.check(market_data(random.randint(1, 4), bad=0.4))


@cocotb.test()
async def every_alignment(dut):
    """Each field of an entry begins in every lane; symbols of every length."""
    bench = EntriesBench(dut)
    await bench.clocked.reset()
    for length in range(1, 42):
        for tag, value in ((270, b"-123456789.123456789"), (271, b"12345678901.12345678"), (346, b"4294967295")):
            entry = [(269, b"0"), (58, b"x" * length), (tag, value), (55, b"SYMBOL/" * 9), (1023, b"7")]
            await bench.check(message("W", [*entry, (269, b"1"), (55, b"ABCDEFGHIJK"[: length % 11 + 1])]))


@cocotb.test()
async def eight_bytes_and_a_field_a_cycle(dut):
    """The input is taken at full rate; a beat in which more than one field ends takes a cycle for each."""
    bench = EntriesBench(dut)
    await bench.clocked.reset()
    for _ in range(40):
        raw = market_data(random.randint(1, 8))
        bench.source.taken.clear()
        bench.sink.received.clear()
        await bench.entries(raw)
        more = [max(0, raw[at : at + LANES].count(b"\x01") - 1) for at in range(0, len(raw), LANES)]
        taken = bench.source.taken
        assert taken[-1] - taken[0] == len(more) - 1 + sum(more[:-1])
        assert bench.sink.received[-1].cycle - taken[-1] == FixEntries.LATENCY + more[-1]


@cocotb.test()
async def garbage_ends(dut):
    """Bytes that are no message come to an end, and the next message is read as ever."""
    bench = EntriesBench(dut, ready=0.8)
    await bench.clocked.reset()
    parts = (b"\x01", b"=", b"269=", b"0", b"9999", b"95=9\x0196=", b"270=1", b"-", b".", b"279=1\x01", b"\x00")
    for _ in range(150):
        garbage = b"".join(random.choices(parts, k=random.randint(1, 60)))
        await bench.entries(garbage)
        await bench.check(market_data(2))
