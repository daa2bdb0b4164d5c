"""Bench of hdl/fixed_point.py, against Python's Decimal (docs/fix.md, "integer" and "decimal")."""

import random
import re
from decimal import Decimal as Exact
from itertools import product

import cocotb
from amaranth.hdl import Cat, Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.fixed_point import FRACTION_DIGITS, MOST_CHARACTERS, WHOLE_DIGITS, Decimal, FixedPoint, Form, Tables
from hdl.frame import PRICE_DECIMALS, QUANTITY_DECIMALS
from sim.benches.packing import packing
from sim.benches.streams import Clocked

PATTERNS = {
    Form.INTEGER: r"\d+",
    Form.PRICE: r"-?(\d+\.?\d*|\.\d+)",
    Form.QUANTITY: r"\d+\.?\d*|\.\d+",
}
DECIMALS = {Form.INTEGER: 0, Form.PRICE: PRICE_DECIMALS, Form.QUANTITY: QUANTITY_DECIMALS}
LIMITS = {Form.INTEGER: 1 << 32, Form.PRICE: 1 << 63, Form.QUANTITY: 10**19}
MOST_DIGITS = {Form.INTEGER: 10, Form.PRICE: 18, Form.QUANTITY: 18}
LONGEST = {Form.INTEGER: 10, Form.PRICE: 20, Form.QUANTITY: 20}

CHOSEN = (
    "0", "-0", "-0.000000000", ".", "-", "-.", "-.5", "5.", ".5", "--1", "1-2", "1.2.3", "1..2", "A", "1e5",
    "4294967295", "4294967296", "9999999999", "0000000001", "12345678901",
    "9223372036.854775807", "9223372036.854775808", "-9223372036.854775807", "-9223372036.854775808",
    "-9999999999.99999999", "99999999999.9999999", "0.0000000001", "0.1000000000", "1.00000000000000000",
    "000000000000000001", "0000000000000000001", "100000000000", "-99999999.999999999", "12345678.12345678",
    "1.123456789", "1.12345678", "123456789012345678901",
)  # fmt: skip


FEW_CHARACTERS = 3
"""Of a small converter: what the second field of a beat has room for."""

SOME_CHARACTERS = 7
"""So many that integers have tables of their own, and others that they share with prices."""

VARIANTS = tuple(product((MOST_CHARACTERS, SOME_CHARACTERS, FEW_CHARACTERS), Tables))
"""Characters and tables of the converters, as :class:`Converters` has them."""

Results = data.ArrayLayout(data.StructLayout({"value": 64, "bad": 1, "range": 1}), len(VARIANTS))


class Converters(wiring.Component):
    """A converter of each variant, all with the same input."""

    enable: In(1)
    number: In(Decimal)
    form: In(Form)
    results: Out(Results)

    def elaborate(self, platform):
        m = Module()
        for n, (characters, tables) in enumerate(VARIANTS):
            m.submodules[f"converter{n}"] = converter = FixedPoint(characters, tables)
            m.d.comb += [
                converter.enable.eq(self.enable),
                converter.number.eq(self.number),
                converter.form.eq(self.form),
                self.results[n].as_value().eq(Cat(converter.value, converter.bad, converter.range)),
            ]
        return m


def component() -> wiring.Component:
    return Converters()


def taken_apart(text: str) -> dict:
    """A text as ``Decimal``."""
    negative = text.startswith("-")
    rest = text[1:] if negative else text
    whole, point, fraction = rest.partition(".")
    number = [[int(c) if c in "0123456789" else 0 for c in part] for part in (whole[::-1], fraction)]
    return {
        "whole": (number[0] + [0] * WHOLE_DIGITS)[:WHOLE_DIGITS],
        "fraction": (number[1] + [0] * FRACTION_DIGITS)[:FRACTION_DIGITS],
        "length": min(len(text), MOST_CHARACTERS + 1),
        "negative": negative,
        "point": bool(point),
        "bad": not re.fullmatch(r"[0-9]*\.?[0-9]*", rest),
        "over": any(number[0][WHOLE_DIGITS:]),
        "finer": any(number[1][FRACTION_DIGITS:]),
    }


def expected(form: Form, text: str) -> tuple[int, bool, bool]:
    """Value, bad and range of a text, by docs/fix.md."""
    if len(text) > LONGEST[form]:
        return 0, False, True
    if not re.fullmatch(PATTERNS[form], text, re.ASCII):
        return 0, True, False
    exact = Exact(text).scaleb(DECIMALS[form])
    if (
        sum(c.isdigit() for c in text) > MOST_DIGITS[form]
        or exact != exact.to_integral_value()
        or abs(exact) >= LIMITS[form]
    ):
        return 0, False, True
    return int(exact) % (1 << 64), False, False


def any_text() -> str:
    """A number near the limits, or something like one."""
    if random.random() < 0.1:
        return random.choice(CHOSEN)
    count = random.choice((1, 2, 3, 5, 8, 10, 11, 12, 17, 18, 19, 20, 21, 30))
    alphabet = random.choice(("0123456789", "000000009", "9", "0123456789.-A"))
    text = "".join(random.choice(alphabet) for _ in range(count))
    if random.random() < 0.6:
        place = random.randint(0, count)
        text = text[:place] + "." + text[place:]
    return "-" + text if random.random() < 0.3 else text


def near_limits() -> list[str]:
    """Both sides of every limit, written with the point at every place, and every length with the point everywhere."""
    texts = []
    for limit in (1 << 32, 1 << 63, 10**18, 10**19):
        for number in (limit - 1, limit, limit + 1):
            for decimals in range(PRICE_DECIMALS + 2):
                digits = str(number).rjust(decimals + 1, "0")
                texts += [
                    sign + digits[: len(digits) - decimals] + "." + digits[len(digits) - decimals :]
                    for sign in ("", "-")
                ]
    for length in range(1, MOST_CHARACTERS + 2):
        digits = "".join(random.choices("0123456789", k=length))
        texts += [
            digits,
            "0" * length,
            "9" * length,
            *(f"{digits[:point]}.{digits[point:]}" for point in range(length + 1)),
        ]
    return texts


async def convert(dut, wanted: list[tuple[Form, str]], enabled: float) -> None:
    """Numbers go in one an enabled cycle, and come out of each converter that they are not too long for ``LATENCY`` enabled
    cycles later."""
    clocked = Clocked(dut)
    await clocked.reset()
    numbers, converted = packing(Decimal), packing(Results)
    forms = {form: form.value for form in Form}
    results: list[int] = []
    waiting = [*wanted, *[wanted[-1]] * FixedPoint.LATENCY]
    while len(results) < len(waiting):
        dut.enable.value = int(random.random() < enabled)
        form, text = waiting[len(results)]
        dut.form.value = forms[form]
        dut.number.value = numbers.pack(taken_apart(text))
        await clocked.cycles(1)
        if int(dut.enable.value):
            results.append(int(dut.results.value))
    for (form, text), bits in zip(wanted, results[FixedPoint.LATENCY :], strict=True):
        for (characters, tables), result in zip(VARIANTS, converted.unpack(bits), strict=True):
            if len(text) <= characters or characters == MOST_CHARACTERS:
                number = result["value"], bool(result["bad"]), bool(result["range"])
                assert number == expected(form, text), (
                    f"{form.name} {text!r}: {number}, not {expected(form, text)} ({characters} characters, {tables.name})"
                )


@cocotb.test()
async def chosen_numbers(dut):
    """Every chosen text in every form, one a cycle."""
    await convert(dut, [(form, text) for form in Form for text in (*CHOSEN, *near_limits())], enabled=1.0)


@cocotb.test()
async def any_numbers(dut):
    """Random texts in random forms, with pauses."""
    await convert(dut, [(random.choice(list(Form)), any_text()) for _ in range(6000)], enabled=0.8)


@cocotb.test()
async def all_short_numbers(dut):
    """Every text of few characters in random order, so that none is right only behind its neighbour."""
    texts = [
        "".join(text) for length in range(1, FEW_CHARACTERS + 1) for text in product("0123456789.-A", repeat=length)
    ]
    wanted = list(product(Form, texts))
    random.shuffle(wanted)
    await convert(dut, wanted, enabled=1.0)
