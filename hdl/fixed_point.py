"""Decimal digits to fixed-point numbers, in a pipeline (docs/fix.md, "integer" and "decimal")."""

import enum
from functools import reduce
from itertools import compress, pairwise, product
from operator import or_
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
    amount less one, and the one is taken from its lowest digits as they are looked up.
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
        self._in_blocks = tables is Tables.BLOCK_RAM
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

        # Stage 1: what the text is worth. Its digits go to the tables meanwhile.
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
        verdicts = [Signal(verdict, name=f"verdict{stage}") for stage in range(1, self.LATENCY)]
        with m.If(self.enable):
            m.d.sync += [
                verdicts[0].bad.eq(~too_long & wrong),
                verdicts[0].range.eq(too_long | (~wrong & beyond)),
                verdicts[0].negative.eq(negative),
                verdicts[0].integer.eq(integer),
                verdicts[0].price.eq(price),
                *(after.eq(before) for before, after in pairwise(verdicts)),
            ]
        lowest, others, one_at = self._look_up_all(m, [*reversed(fraction), *whole], whole, integer, quantity, negative)

        # Stage 2: the first sums. What is no integer's is cleared for one.
        levels = 1 if self._in_blocks else 2
        lowest = self._register(m, "lowest", self._add_up(m, lowest, levels))
        others = self._register(m, "others", self._add_up(m, others, levels), cleared=verdicts[0].integer)

        # Stage 3: the next ones. Where the one comes from no table of an integer, a price has nothing there either: then one side
        # of the two is always 0.
        apart = one_at == others[0].zeros
        sums = [lowest, others] if apart else [lowest + others]
        sums = [self._register(m, f"sum{n}", self._add_up(m, terms, 2)) for n, terms in enumerate(sums)]

        # Stage 4: the last one, and whether it is in range. A price of 19 digits is out of it already, so none is 2^63 itself;
        # and 10^19 has bit 63 without bit 62: only 0 less one has both.
        last = verdicts[-1]
        total, amount, inverse, right = Signal(64), Signal(64), Signal(), Signal()
        m.d.comb += total.eq(reduce(or_, (term.value for terms in sums for term in self._add_up(m, terms, 1))))
        outside = last.range | (last.integer & total[32:34].any()) | (last.price & total[63] & ~total[62])
        with m.If(self.enable):
            m.d.sync += [
                amount.eq(total),
                inverse.eq(last.negative),
                right.eq(~(last.bad | outside)),
                self.bad.eq(last.bad),
                self.range.eq(~last.bad & outside),
            ]
        with m.If(right):
            m.d.comb += self.value.eq(amount ^ (inverse.replicate(64 - one_at) << one_at))
        return m

    def _look_up_all(self, m, digits, integer_digits, integer, quantity, negative):
        """What a price's ``digits``, the lowest first, are worth: those of the tables that integers have digits in, the others, and
        the power of two that a ``negative`` one is less by.

        An integer's digits come to the lowest tables. A quantity's belong one place lower than a price's; block RAM is told so
        by its address.
        """
        if not self._in_blocks:
            digits = [_either(quantity, above, digit) for digit, above in pairwise(digits)]
        size = 2 if self._in_blocks else 1
        integers = min(self._characters, MOST_INTEGER_DIGITS)
        integer_digits = [*integer_digits[:integers], *[NOTHING] * len(digits)]
        lowest: list[Term] = []
        others: list[Term] = []
        one_at = None
        for place in range(0, len(digits), size):
            table = digits[place : place + size]
            takes_one = one_at is None and not _is_empty(table)
            if place < integers:
                table = [_either(integer, *both) for both in zip(integer_digits[place:], table, strict=False)]
            if _is_empty(table):
                continue
            term = self._look_up(m, place, table, quantity, negative if takes_one else None)
            if takes_one:
                one_at = term.zeros
            (lowest if place < integers else others).append(term)
        return lowest, others, one_at

    def _look_up(self, m, place, digits, quantity, negative):
        """What ``digits`` from ``place`` on are worth; where ``negative`` is given, less the lowest bit that it can have.

        Stage 1 is the register before the table, which block RAM has itself.
        """
        used = [digit is not NOTHING for digit in digits]
        contents = _worths(place, used, self._in_blocks)
        most = max(contents)
        zeros = min((worth & -worth).bit_length() - 1 for worth in contents if worth)
        shape = unsigned(most.bit_length() - zeros)
        address = [*compress(digits, used), *([quantity] if self._in_blocks else [])]
        if negative is not None:
            contents += [worth - (1 << zeros) for worth in contents]
            shape = signed(shape.width + 1)
            address.append(negative)
        m.submodules[f"table{place}"] = table = memory.Memory(
            shape=shape,
            depth=len(contents),
            init=[worth >> zeros for worth in contents],
            attrs={"rom_style": "block" if self._in_blocks else "logic"},
        )
        if self._in_blocks:
            port = table.read_port()
            m.d.comb += [port.en.eq(self.enable), port.addr.eq(Cat(address))]
        else:
            port = table.read_port(domain="comb")
            with m.If(self.enable):
                m.d.sync += port.addr.eq(Cat(address))
        return Term(port.data.shift_left(zeros), most, zeros)

    def _register(self, m, name, terms, cleared=None):
        """Registers of ``terms``."""
        registered = []
        for n, term in enumerate(terms):
            register = Signal.like(term.value, name=f"{name}{n}")
            with m.If(self.enable):
                m.d.sync += register.eq(term.value)
            if cleared is not None:
                # Not within the condition above: so it is the flip-flop's own reset.
                with m.If(self.enable & cleared):
                    m.d.sync += register.eq(0)
            registered.append(term._replace(value=register))
        return registered

    @staticmethod
    def _add_up(m, terms, levels):
        """Each two of ``terms`` as their sum, the lowest first, and so on, ``levels`` times."""
        for _ in range(levels):
            paired: list[Term] = []
            for low, high in zip(terms[::2], terms[1::2], strict=False):
                most, zeros = low.most + high.most, high.zeros
                bits = most.bit_length()
                is_signed = low.value.shape().signed or high.value.shape().signed
                total = Signal(signed(bits + 1) if is_signed else bits, name="total")
                # In parts: else Yosys makes one sum of those of all levels, with carry-save adders, which take more.
                m.d.comb += total.eq(
                    Cat(low.value[:zeros], low.value.shift_right(zeros) + high.value.shift_right(zeros))
                )
                paired.append(Term(total, most, low.zeros))
            terms = paired + ([terms[-1]] if len(terms) % 2 else [])
        return terms


def _either(condition, one, other):
    """One of two digits; ``NOTHING`` where both are."""
    return NOTHING if one is other else Mux(condition, one, other)


def _is_empty(digits):
    return all(digit is NOTHING for digit in digits)


def _worths(place, used, by_quantity):
    """A table: what the digits from ``place`` on are worth, of which there are those ``used``, in a price or an integer, and behind
    that, if ``by_quantity``, in a quantity. Its address is the digits, the lowest in the lowest bits."""
    contents = []
    figures = [range(16) if each else range(1) for each in reversed(used)]
    for divisor, *number in product((1, 10) if by_quantity else (1,), *figures):
        worth = sum(figure * 10**n for n, figure in enumerate(reversed(number), place)) // divisor
        contents.append(worth if max(number) < 10 and worth < 10**RESULT_DIGITS else 0)
    return contents
