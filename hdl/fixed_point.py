"""Decimal digits to fixed-point numbers, in a pipeline (docs/fix.md, "integer" and "decimal")."""

import enum
from itertools import pairwise, product, zip_longest
from typing import NamedTuple

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hdl.frame import PRICE_DECIMALS, QUANTITY_DECIMALS

WHOLE_DIGITS = 11
"""Digits kept before the point: a quantity has at most 11 (below 10^19 in 1e-8), a price and an integer 10."""
FRACTION_DIGITS = PRICE_DECIMALS

MOST_CHARACTERS = 20
"""Longest decimal: sign, point and ``MOST_DIGITS`` digits."""
MOST_DIGITS = 18
MOST_INTEGER_DIGITS = 10
RESULT_DIGITS = 19
"""Digits of the largest result: 10^19 - 1 fits 64 bits."""

assert PRICE_DECIMALS - QUANTITY_DECIMALS == 1, "a digit of a quantity is worth a tenth of that of a price at its place"

NOTHING = Const(0, 4)
"""A digit that no text has."""

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
``length``: characters of the text, above ``MOST_CHARACTERS`` for any more. ``negative``: it begins with ``-``. ``point``: it has
a ``.``. ``bad``: another character, a second point, or a ``-`` that is not the first. ``over``: a digit other than 0 before
``whole``; ``finer``: one behind ``fraction``."""


class Form(enum.Enum):
    """What a number's text must look like, and what the result counts."""

    INTEGER = 0
    PRICE = 1
    QUANTITY = 2


class Tables(enum.Enum):
    """Where the worth of digits is looked up: that of each two in block RAM, or that of each one in logic."""

    BLOCK_RAM = enum.auto()
    LOGIC = enum.auto()


class Term(NamedTuple):
    """A part of a sum: at most ``most``, and a multiple of 2^``zeros``."""

    value: Value
    most: int
    zeros: int


class FixedPoint(wiring.Component):
    """Converts a decimal to a 64-bit number: a price in 1e-9 (signed), a quantity in 1e-8, an integer in 1.

    One a cycle, latency ``LATENCY`` cycles of ``enable``. ``bad`` says that the text is no number of this form,
    ``range`` that it does not fit; with either, ``value`` is 0. The text must not be empty. What comes of one longer than
    ``characters`` means nothing, unless that is ``MOST_CHARACTERS``: then it is a matter of ``range``.

    What the digits are worth is looked up in ``tables`` and added up in a tree, so no multiplier is needed. Block RAM (13
    DP16KD of an ECP5 for the longest text) saves more than half of the LUTs. A negative price is the inverse of its
    amount less one, and the one is taken from the lowest digits as they are looked up.
    """

    LATENCY = 4

    enable: In(1)
    number: In(Decimal)
    form: In(Form)
    value: Out(64)
    bad: Out(1)
    range: Out(1)

    def __init__(self, characters: int = MOST_CHARACTERS, tables: Tables = Tables.BLOCK_RAM):
        self._characters = characters
        self._tables = tables
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        verdict = data.StructLayout({"bad": 1, "range": 1, "negative": 1, "integer": 1, "price": 1})

        # What a text of so many characters can have.
        number, most = self.number, self._characters
        whole = [number.whole[n] if n < most else NOTHING for n in range(WHOLE_DIGITS)]
        fraction = [number.fraction[n] if n < most - 1 else NOTHING for n in range(FRACTION_DIGITS)]
        length = number.length[: most.bit_length()]
        over = number.over if most > WHOLE_DIGITS else 0
        finer = number.finer if most > FRACTION_DIGITS + 1 else 0

        # Stage 1: what the text is worth.
        price, quantity = self.form == Form.PRICE, self.form == Form.QUANTITY
        integer = ~price & ~quantity
        negative = number.negative & price
        marks = number.negative + number.point
        longest = MOST_DIGITS + marks
        too_long = Mux(integer, length > MOST_INTEGER_DIGITS, length > MOST_CHARACTERS)
        wrong = Signal()
        m.d.comb += wrong.eq(
            number.bad | (length == marks) | (integer & (number.negative | number.point)) | (quantity & number.negative)
        )
        beyond = (length > longest) | over | finer | (price & (whole[-1] != 0)) | (quantity & (fraction[-1] != 0))
        verdicts = [Signal(verdict, name=f"verdict{stage}") for stage in range(self.LATENCY - 1)]
        with m.If(self.enable):
            m.d.sync += [
                verdicts[0].bad.eq(~too_long & wrong),
                verdicts[0].range.eq(too_long | (~wrong & beyond)),
                verdicts[0].negative.eq(negative),
                verdicts[0].integer.eq(integer),
                verdicts[0].price.eq(price),
                *(after.eq(before) for before, after in pairwise(verdicts)),
            ]

        # Meanwhile the digits go to the tables, the lowest first, at the places of a price. Those of an integer come to the
        # lowest tables, and what the others give is cleared. Where a price has no digit there, either ones give 0.
        by_two = self._tables is Tables.BLOCK_RAM
        digits = [*reversed(fraction), *whole]
        if not by_two:
            digits = [_either(quantity, next_digit, digit) for digit, next_digit in pairwise(digits)]
        integer_digits = whole[: min(most, MOST_INTEGER_DIGITS)]
        lowest: list[Term] = []
        others: list[Term] = []
        sign_at, shared = -1, False  # where the one is taken from, as a power of two
        for place in range(0, len(digits), 2 if by_two else 1):
            group = digits[place : place + (2 if by_two else 1)]
            of_integer = integer_digits[place : place + len(group)]
            has_price = any(digit is not NOTHING for digit in group)
            if not has_price and not of_integer:
                continue
            chosen = (
                [_either(integer, other, digit) for digit, other in zip_longest(group, of_integer, fillvalue=NOTHING)]
                if of_integer
                else group
            )
            takes_one = has_price and sign_at < 0
            term = self._look_up(m, place, chosen, quantity, negative if takes_one else None)
            if takes_one:
                sign_at = term.zeros
            shared |= bool(has_price and of_integer)
            (lowest if of_integer else others).append(term)

        # Stages 2 to 4: the terms are added up, so many levels of the tree a stage.
        sums = [lowest, others]
        for stage, levels in enumerate((1, 2, 1) if by_two else (2, 2, 1), 2):
            sums = [self._add_up(m, f"sum{stage}_{n}", terms, levels) for n, terms in enumerate(sums)]
            if stage == self.LATENCY:
                break
            sums = [
                [
                    self._registered(
                        m,
                        term,
                        f"{'lowest' if n == 0 else 'others'}{stage}_{k}",
                        verdicts[0].integer if stage == 2 and n == 1 else None,
                    )
                    for k, term in enumerate(terms)
                ]
                for n, terms in enumerate(sums)
            ]
            if stage == 2 and shared:
                sums = [sums[0] + sums[1]]
        total = 0
        for [term] in sums:
            total |= term.value

        # A price of 19 digits is out of range already, so none is 2^63 itself. 10^19 has bit 63 without bit 62; 0 less one has both.
        last = verdicts[-1]
        amount, inverse, right = Signal(64), Signal(), Signal()
        exact = Signal(64)
        m.d.comb += exact.eq(total)
        outside = (last.integer & exact[32:34].any()) | (last.price & exact[63] & ~exact[62])
        with m.If(self.enable):
            m.d.sync += [
                amount.eq(exact),
                inverse.eq(last.negative),
                right.eq(~(last.bad | last.range | outside)),
                self.bad.eq(last.bad),
                self.range.eq(~last.bad & (last.range | outside)),
            ]
        with m.If(right):
            m.d.comb += self.value.eq(amount ^ (inverse.replicate(64 - sign_at) << sign_at))
        return m

    def _registered(self, m, term, name, clear):
        register = Signal.like(term.value, name=name)
        with m.If(self.enable):
            m.d.sync += register.eq(term.value)
        if clear is not None:
            with m.If(self.enable & clear):
                m.d.sync += register.eq(0)
        return term._replace(value=register)

    def _look_up(self, m, place, digits, quantity, negative):
        by_two = self._tables is Tables.BLOCK_RAM
        contents = _worths(place, [digit is not NOTHING for digit in digits], by_two)
        zeros = min((worth & -worth).bit_length() - 1 for worth in contents if worth)
        most = max(contents)
        bits = most.bit_length() - zeros
        address = [*(digit for digit in digits if digit is not NOTHING)]
        if by_two:
            address.append(quantity)
        if negative is not None:
            address.append(negative)
            contents += [worth - (1 << zeros) for worth in contents]
        table = memory.Memory(
            shape=unsigned(bits) if negative is None else signed(bits + 1),
            depth=len(contents),
            init=[worth >> zeros for worth in contents],
            attrs={"rom_style": "block" if by_two else "logic"},
        )
        m.submodules[f"table{place}"] = table
        if by_two:
            port = table.read_port()
            m.d.comb += [port.en.eq(self.enable), port.addr.eq(Cat(address))]
        else:
            port = table.read_port(domain="comb")
            with m.If(self.enable):
                m.d.sync += port.addr.eq(Cat(address))
        return Term(port.data.shift_left(zeros), most, zeros)

    @staticmethod
    def _add_up(m, name, terms, levels):
        """Each two of ``terms`` as their sum, the lowest first."""
        for level in range(levels):
            paired: list[Term] = []
            for low, high in zip(terms[::2], terms[1::2], strict=False):
                most, zeros = low.most + high.most, high.zeros
                bits = most.bit_length()
                shape = signed(bits + 1) if low.value.shape().signed else unsigned(bits)
                total = Signal(shape, name=f"{name}_{level}_{len(paired)}")
                m.d.comb += total.eq(
                    Cat(low.value[:zeros], low.value.shift_right(zeros) + high.value.shift_right(zeros))
                )
                paired.append(Term(total, most, low.zeros))
            terms = paired + ([terms[-1]] if len(terms) % 2 else [])
        return terms


def _either(condition, one, other):
    """A digit of two, which may be ``NOTHING`` both."""
    return NOTHING if one is other else Mux(condition, one, other)


def _worths(place, present, by_quantity):
    """A table: what ``digits`` digits from ``place`` on are worth. Its address is the digits, the lowest first."""
    contents = []
    figures = [range(16) if p else range(1) for p in reversed(present)]
    for divisor, *number in product((1, 10)[: 1 + by_quantity], *figures):
        worth = sum(figure * 10**n for n, figure in enumerate(reversed(number), place)) // divisor
        contents.append(worth if max(number) < 10 and worth < 10**RESULT_DIGITS else 0)
    return contents
