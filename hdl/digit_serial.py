"""Decimal digits to fixed-point numbers, a digit a cycle: what fixed_point.py does at once, for FPGAs with few cells."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.fixed_point import (
    FRACTION_DIGITS,
    MOST_CHARACTERS,
    MOST_DIGITS,
    MOST_INTEGER_DIGITS,
    WHOLE_DIGITS,
    Decimal,
    Form,
)
from hdl.frame import QUANTITY_DECIMALS
from hdl.select import select

DIGITS = {
    Form.INTEGER: WHOLE_DIGITS,
    Form.QUANTITY: WHOLE_DIGITS + QUANTITY_DECIMALS,
    Form.PRICE: WHOLE_DIGITS + FRACTION_DIGITS,
}
"""Digits of a form's result, from the first one kept on: so many cycles it takes."""


class DigitSerial(wiring.Component):
    """Converts a decimal as :class:`hdl.fixed_point.FixedPoint` does, in ``DIGITS`` cycles of its form.

    ``number`` is there from the first cycle of ``wanted`` on, and stays until it leaves with ``advance``, which waits for
    ``settled``. Then ``value``, ``bad`` and ``range`` are those of FixedPoint, but that ``value`` means nothing with one of these.

    Of a negative price each digit is subtracted, so the value comes as its two's complement.
    """

    wanted: In(1)
    advance: In(1)
    number: In(Decimal)
    form: In(Form)
    settled: Out(1)
    value: Out(64)
    bad: Out(1)
    range: Out(1)

    def elaborate(self, platform):
        m = Module()
        number, total = self.number, self.value
        price, quantity = self.form == Form.PRICE, self.form == Form.QUANTITY
        integer = ~price & ~quantity

        # The digits, the first one first.
        taken = Signal(range(max(DIGITS.values()) + 1))
        digit, signed_digit = Signal(4), Signal(5)
        done = Signal()
        m.d.comb += [
            digit.eq(select([*reversed(list(number.whole)), *number.fraction], taken, 4)),
            signed_digit.eq(Mux(number.negative, -digit, digit)),
            done.eq(
                taken == Mux(integer, DIGITS[Form.INTEGER], Mux(quantity, DIGITS[Form.QUANTITY], DIGITS[Form.PRICE]))
            ),
            self.settled.eq(~self.wanted | done),
        ]
        five_times = Signal(64)
        m.d.comb += five_times.eq((total << 2) + total)
        with m.If(self.wanted & ~done):
            m.d.sync += [
                taken.eq(taken + 1),
                total.eq(Cat(Const(0, 1), five_times) + Cat(signed_digit, signed_digit[-1].replicate(64))),
            ]
        with m.If(self.advance):
            m.d.sync += [taken.eq(0), total.eq(0)]

        # What it is, by its text and by its value. Below 10^19 a price is out of range by its highest bits: one of 19 digits is out
        # of it anyway, so none is 2^63 itself.
        marks = number.negative + number.point
        too_long = Mux(integer, number.length > MOST_INTEGER_DIGITS, number.length > MOST_CHARACTERS)
        wrong = (
            number.bad
            | (number.length == marks)
            | (integer & (number.negative | number.point))
            | (quantity & number.negative)
        )
        beyond = (
            (number.length > MOST_DIGITS + marks)
            | number.over
            | number.finer
            | (price & ((number.whole[-1] != 0) | Mux(number.negative, total[62:] == 0b01, total[63])))
            | (quantity & (number.fraction[-1] != 0))
            | (integer & total[32:].any())
        )
        m.d.comb += [self.bad.eq(~too_long & wrong), self.range.eq(too_long | (~wrong & beyond))]
        return m
