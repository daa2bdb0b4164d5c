"""Bench of hdl/digit_serial.py, against Python's Decimal (docs/fix.md, "integer" and "decimal")."""

import random
from typing import Any

import cocotb
from amaranth.lib import wiring

from hdl.digit_serial import DIGITS, DigitSerial
from hdl.fixed_point import Decimal, Form
from sim.benches.fixed_point import CHOSEN, any_text, expected, near_limits, taken_apart
from sim.benches.packing import packing
from sim.benches.streams import Clocked


def component() -> wiring.Component:
    return DigitSerial()


async def convert(dut: Any, wanted: list[tuple[Form, str]]) -> None:
    """Each number takes the cycles of its form, stays as long as it is not taken, and leaves nothing to the next."""
    clocked = Clocked(dut)
    dut.wanted.value = dut.advance.value = 0
    await clocked.reset()
    numbers = packing(Decimal)
    for form, text in wanted:
        dut.wanted.value, dut.advance.value = 1, 0
        dut.form.value, dut.number.value = form.value, numbers.pack(taken_apart(text))
        for _ in range(DIGITS[form]):
            await clocked.cycles(1)
            assert not int(dut.settled.value), f"{form.name} {text!r} is there too soon"
        await clocked.cycles(random.choice((1, 1, 3)))
        assert int(dut.settled.value)
        found = int(dut.value.value), bool(int(dut.bad.value)), bool(int(dut.range.value))
        value, *causes = expected(form, text)
        assert found[1:] == tuple(causes), f"{form.name} {text!r}"
        assert any(causes) or found[0] == value, f"{form.name} {text!r}: {found[0]}, not {value}"
        dut.advance.value = 1
        await clocked.cycles(1)
        dut.wanted.value, dut.advance.value = 0, random.randrange(2)
        await clocked.cycles(random.randrange(2))


@cocotb.test()
async def chosen_numbers(dut):
    await convert(dut, [(form, text) for form in Form for text in (*CHOSEN, *near_limits())])


@cocotb.test()
async def any_numbers(dut):
    await convert(dut, [(random.choice(list(Form)), any_text()) for _ in range(3000)])
