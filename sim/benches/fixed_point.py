"""Bench of hdl/fixed_point.py, against Python's Decimal (docs/fix.md, "integer" and "decimal")."""

import random
import re
from decimal import Decimal

import cocotb
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.fix_tokenizer import MINUS, NO_DIGIT, NUMBER_CHARACTERS, POINT
from hdl.old_fixed_point import FixedPoint, Text
from hdl.frame import PRICE_DECIMALS, QUANTITY_DECIMALS
from sim.benches.packing import packing
from sim.benches.streams import Clocked

CONVERTERS = {"price": (PRICE_DECIMALS, True), "quantity": (QUANTITY_DECIMALS, False), "integer": (0, False)}
"""The converters of the FIX parser: decimals and sign."""

LIMITS = {"price": 1 << 63, "quantity": 10**19, "integer": 10**19}
MOST_DIGITS = 18


class Converters(wiring.Component):
    """All converters side by side, on the same text."""

    def __init__(self, decimals: dict[str, int] | None = None) -> None:
        self._converters = {
            name: FixedPoint((decimals or {}).get(name, its_decimals), sign)
            for name, (its_decimals, sign) in CONVERTERS.items()
        }
        outputs = {}
        for name in CONVERTERS:
            outputs |= {f"{name}_value": Out(64), f"{name}_bad": Out(1), f"{name}_range": Out(1)}
        super().__init__({"enable": In(1), "text": In(Text), **outputs})

    def elaborate(self, platform):
        m = Module()
        for name, converter in self._converters.items():
            m.submodules[name] = converter
            m.d.comb += [converter.enable.eq(self.enable), converter.text.eq(self.text)]
            for output in ("value", "bad", "range"):
                m.d.comb += getattr(self, f"{name}_{output}").eq(getattr(converter, output))
        return m


def component() -> wiring.Component:
    return Converters()


def expected(name: str, text: str) -> tuple[int, bool, bool]:
    """Value, bad and range of a text, by docs/fix.md."""
    decimals, sign = CONVERTERS[name]
    if not text:
        return 0, False, False
    if len(text) > NUMBER_CHARACTERS:
        return 0, False, True
    if not re.fullmatch(r"%s(\d+\.?\d*|\.\d+)" % ("-?" if sign else ""), text, re.ASCII):
        return 0, True, False
    scaled = Decimal(text).scaleb(decimals)
    if sum(map(str.isdigit, text)) > MOST_DIGITS or scaled != int(scaled) or abs(scaled) >= LIMITS[name]:
        return 0, False, True
    return int(scaled), False, False


def encode(text: str) -> dict:
    """A text as the tokenizer gives it: the last characters, the last one first."""
    codes = {".": POINT, "-": MINUS} | {str(digit): digit for digit in range(10)}
    characters = [codes.get(character, NO_DIGIT) for character in reversed(text)][:NUMBER_CHARACTERS]
    return {"characters": characters, "length": min(len(text), NUMBER_CHARACTERS + 1)}


def texts() -> list[str]:
    """Every length with the point everywhere, the limits and their neighbours, and random ones."""
    chosen = ["", "-", ".", "-.", "1-", "--1", "1.2.3", "+1", "1e3", "-0", "00", "0.0", "x", "-x"]
    for length in range(1, NUMBER_CHARACTERS + 3):
        digits = "".join(random.choices("0123456789", k=length))
        zeros = "0" * length
        for sign in ("", "-"):
            chosen += [sign + digits, sign + zeros, sign + "9" * length]
            chosen += [f"{sign}{run[:point]}.{run[point:]}" for run in (digits, zeros) for point in range(length + 1)]
    for limit in (2**63, 10**19, 2**64):
        for near in (limit - 1, limit, limit + 1):
            for decimals in (0, PRICE_DECIMALS, QUANTITY_DECIMALS):
                text = f"{near // 10**decimals}.{near % 10**decimals:0{max(decimals, 1)}d}"
                chosen += [text, "-" + text, str(near)]
    chosen += [
        "".join(random.choices("0123456789.-x", (4,) * 10 + (3, 1, 1), k=random.randint(1, 21))) for _ in range(1500)
    ]
    return chosen


async def convert(dut, activity: float) -> None:
    """Put all texts through; ``enable`` is high with this probability. At each edge the outputs are those of the
    text that entered LATENCY enabled edges before."""
    bench = Clocked(dut)
    dut.enable.value = 0
    await bench.reset()
    entered: list[str] = []
    for text in texts() + [""] * FixedPoint.LATENCY:
        dut.text.value = packing(Text).pack(encode(text))
        enabled = False
        while not enabled:
            enabled = random.random() < activity
            dut.enable.value = enabled
            await bench.cycles(1)
            if len(entered) >= FixedPoint.LATENCY:
                check(dut, entered[-FixedPoint.LATENCY])
        entered.append(text)


def check(dut, text: str) -> None:
    """The outputs are those of a text."""
    for name, (_, sign) in CONVERTERS.items():
        value, bad, beyond = (int(getattr(dut, f"{name}_{part}").value) for part in ("value", "bad", "range"))
        value -= 1 << 64 if sign and value >> 63 else 0
        assert (value, bool(bad), bool(beyond)) == expected(name, text), f"{name} of '{text}'"


@cocotb.test()
async def one_text_a_cycle(dut):
    """A conversion every cycle, its result exactly LATENCY cycles later."""
    await convert(dut, 1.0)


@cocotb.test()
async def held_by_enable(dut):
    """Nothing moves while ``enable`` is low."""
    await convert(dut, 0.5)
