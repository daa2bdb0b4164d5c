"""Decimal digits to fixed-point numbers, in a pipeline (docs/fix.md, "integer" and "decimal")."""

import enum
from itertools import pairwise

from amaranth.hdl import Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.frame import PRICE_DECIMALS, QUANTITY_DECIMALS

WHOLE_DIGITS = 11
"""Digits kept before the point: a quantity has at most 11 (below 10^19 in 1e-8), a price and an integer 10."""
FRACTION_DIGITS = PRICE_DECIMALS

MOST_CHARACTERS = 20
"""Longest decimal: sign, point and ``MOST_DIGITS`` digits."""
MOST_DIGITS = 18
MOST_INTEGER_CHARACTERS = 10
RESULT_DIGITS = 19
"""Digits of the largest result: 10^19 - 1 fits 64 bits."""

Decimal = data.StructLayout(
    {
        "whole": data.ArrayLayout(4, WHOLE_DIGITS),
        "fraction": data.ArrayLayout(4, FRACTION_DIGITS),
        "length": unsigned(5),
        "negative": 1,
        "point": 1,
        "bad": 1,
        "over": 1,
        "finer": 1,
    }
)
"""A number's text, taken apart as it came.

``whole``: the last digits before the point, units first. ``fraction``: the first digits behind it, tenths first.
``length``: characters of the text, ``MOST_CHARACTERS + 1`` for any more. ``negative``: it begins with ``-``. ``point``: it has
a ``.``. ``bad``: another character, a second point, or a ``-`` that is not the first. ``over``: a digit other than 0 before
``whole``; ``finer``: one behind ``fraction``."""


class Form(enum.Enum):
    """What a number's text must look like, and what the result counts."""

    INTEGER = 0
    PRICE = 1
    QUANTITY = 2


class FixedPoint(wiring.Component):
    """Converts a decimal to a 64-bit number: a price in 1e-9 (signed), a quantity in 1e-8, an integer in 1.

    One a cycle, latency ``LATENCY`` cycles of ``enable``. ``bad`` says that the text is no number of this form,
    ``range`` that it does not fit; with either, ``value`` is 0. The text must not be empty.

    Each digit's worth is looked up and the 19 of them are added up in a tree, so no multiplier is needed. A
    negative price is the inverse of its amount less one, and the one is taken from the units as they are looked up.
    """

    LATENCY = 4

    enable: In(1)
    number: In(Decimal)
    form: In(Form)
    value: Out(64)
    bad: Out(1)
    range: Out(1)

    def elaborate(self, platform):
        m = Module()
        verdict = data.StructLayout({"bad": 1, "range": 1, "negative": 1, "integer": 1, "price": 1})

        # Stage 1: the digits at their places, the lowest first, and what the text is worth.
        number, length = self.number, self.number.length
        price, quantity = self.form == Form.PRICE, self.form == Form.QUANTITY
        integer = ~price & ~quantity
        nothing = Const(0, 4)
        digits = Signal(data.ArrayLayout(4, RESULT_DIGITS))
        for place in range(RESULT_DIGITS):

            def digit_of(decimals, place=place):
                if place < decimals:
                    return number.fraction[decimals - 1 - place]
                return number.whole[place - decimals] if place - decimals < WHOLE_DIGITS else nothing

            chosen = Mux(price, digit_of(PRICE_DECIMALS), Mux(quantity, digit_of(QUANTITY_DECIMALS), digit_of(0)))
            with m.If(self.enable):
                m.d.sync += digits[place].eq(chosen)

        marks = number.negative + number.point
        longest = MOST_DIGITS + marks
        too_long = Mux(integer, length > MOST_INTEGER_CHARACTERS, length > MOST_CHARACTERS)
        wrong = Signal()
        m.d.comb += wrong.eq(
            number.bad | (length == marks) | (integer & (number.negative | number.point)) | (quantity & number.negative)
        )
        beyond = (
            (length > longest)
            | number.over
            | number.finer
            | (price & (number.whole[WHOLE_DIGITS - 1] != 0))
            | (quantity & (number.fraction[FRACTION_DIGITS - 1] != 0))
        )
        verdicts = [Signal(verdict, name=f"verdict{stage}") for stage in range(self.LATENCY)]
        with m.If(self.enable):
            m.d.sync += [
                verdicts[0].bad.eq(~too_long & wrong),
                verdicts[0].range.eq(too_long | (~wrong & beyond)),
                verdicts[0].negative.eq(number.negative & price),
                verdicts[0].integer.eq(integer),
                verdicts[0].price.eq(price),
                *(after.eq(before) for before, after in pairwise(verdicts)),
            ]

        # Stages 2 to 4: what each digit is worth, added up: 19 to 5, 5 to 2, 2 to 1.
        terms = []
        for place in range(RESULT_DIGITS):
            worth = Signal((9 * 10**place).bit_length(), name=f"worth{place}")
            with m.Switch(digits[place]):
                for digit in range(1, 10):
                    with m.Case(digit):
                        m.d.comb += worth.eq(digit * 10**place)
            terms.append((worth, 9 * 10**place))
        units = Signal(signed(5))
        m.d.comb += units.eq(terms[0][0] - verdicts[0].negative)
        terms[0] = (units, 9)
        for levels in (2, 2, 1):
            for _ in range(levels):
                terms = self._pair_up(m, terms)
            registered = []
            for n, (term, most) in enumerate(terms):
                register = Signal.like(term, name=f"sum{len(terms)}_{n}")
                with m.If(self.enable):
                    m.d.sync += register.eq(term)
                registered.append((register, most))
            terms = registered

        # A negative amount less one, with 63 ones, is 2^63.
        ((total, _),) = terms
        last = verdicts[-1]
        amount = Signal(64)
        outside = Signal()
        m.d.comb += [
            amount.eq(total),
            outside.eq(
                (last.integer & (amount[32:34] != 0))
                | (last.price & ~last.negative & amount[63])
                | (last.negative & (amount[63] ^ amount[:63].all()))
            ),
            self.bad.eq(last.bad),
            self.range.eq(~last.bad & (last.range | outside)),
        ]
        with m.If(~(last.bad | last.range | outside)):
            m.d.comb += self.value.eq(amount ^ last.negative.replicate(64))
        return m

    @staticmethod
    def _pair_up(m, terms):
        """Each two of ``terms`` (a signal and the most it can be) as their sum, the lowest first."""
        paired: list[tuple] = []
        for (low, low_most), (high, high_most) in zip(terms[::2], terms[1::2], strict=False):
            most = low_most + high_most
            shape = signed(most.bit_length() + 1) if low.shape().signed else unsigned(most.bit_length())
            total = Signal(shape, name=f"total{len(terms)}_{len(paired)}")
            m.d.comb += total.eq(high + low)
            paired.append((total, most))
        return paired + ([terms[-1]] if len(terms) % 2 else [])
