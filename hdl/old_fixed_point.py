"""Decimal text to fixed-point numbers, in a pipeline (docs/fix.md, "integer" and "decimal")."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.fix_tokenizer import MINUS, NUMBER_CHARACTERS, POINT

DIGITS = 18
"""Most digits of a decimal."""
RESULT_DIGITS = 19
"""Digits of the largest result: 10^19 - 1 fits 64 bits."""

Text = data.StructLayout({"characters": data.ArrayLayout(4, NUMBER_CHARACTERS), "length": unsigned(5)})
"""A number as characters, the last one first, as in ``Token``; ``length`` above 20 stands for any longer text."""


class FixedPoint(wiring.Component):
    """Converts a decimal to an integer that counts 10^-``decimals``. One a cycle, latency 5 cycles of ``enable``.

    ``bad`` says that the text is no number of this kind, ``range`` that it does not fit (then
    ``value`` is 0); an empty text gives 0 and neither.
    """

    LATENCY = 5

    def __init__(self, decimals: int, sign: bool):
        self.decimals = decimals
        self.sign = sign
        super().__init__(
            {
                "enable": In(1),
                "text": In(Text),
                "value": Out(signed(64) if sign else unsigned(64)),
                "bad": Out(1),
                "range": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        verdict = data.StructLayout({"bad": 1, "range": 1, "negative": 1})

        # Stage 1, digits: sign and point are out, and what the text is worth is known.
        length = self.text.length
        char = self.text.characters
        there = Cat(n < length for n in range(NUMBER_CHARACTERS))
        points = Signal(NUMBER_CHARACTERS)
        digit = Signal(NUMBER_CHARACTERS)
        negative = Signal()
        others = Signal(NUMBER_CHARACTERS)
        m.d.comb += [
            points.eq(Cat(char[n] == POINT for n in range(NUMBER_CHARACTERS)) & there),
            digit.eq(Cat(char[n] <= 9 for n in range(NUMBER_CHARACTERS)) & there),
        ]
        first = Array(char[n] for n in range(NUMBER_CHARACTERS))[(length - 1)[:5]]
        if self.sign:
            m.d.comb += negative.eq((length != 0) & (length <= NUMBER_CHARACTERS) & (first == MINUS))
        minus = Cat(negative & (length == n + 1) for n in range(NUMBER_CHARACTERS))
        m.d.comb += others.eq(there & ~(points | digit | minus))
        has_point = points.any()
        two_points = (points & (points - 1)).any()
        digits = Signal(range(NUMBER_CHARACTERS + 1))
        m.d.comb += digits.eq(length - negative - has_point)

        kept = [char[n] & digit[n].replicate(4) for n in range(NUMBER_CHARACTERS)] + [Const(0, 4)]
        squeezed = Signal(data.ArrayLayout(4, DIGITS))
        fraction = Signal(range(NUMBER_CHARACTERS))
        for n in range(DIGITS):
            # Digits in front of the point move down by one.
            behind_point = points[: n + 1].any()
            m.d.comb += squeezed[n].eq(Mux(behind_point, kept[n + 1], kept[n]))
        for n in range(NUMBER_CHARACTERS):
            with m.If(points[n]):
                m.d.comb += fraction.eq(n)

        number = Signal(data.ArrayLayout(4, DIGITS))
        decimals = Signal(range(NUMBER_CHARACTERS))
        verdict1 = Signal(verdict)
        too_long = length > NUMBER_CHARACTERS
        bad = (length != 0) & ~too_long & (others.any() | two_points | (digits == 0))
        with m.If(self.enable):
            m.d.sync += [
                number.eq(squeezed),
                decimals.eq(fraction),
                verdict1.bad.eq(bad),
                verdict1.range.eq(too_long | (~bad & (digits > DIGITS))),
                verdict1.negative.eq(negative),
            ]

        # Stage 2, aligned: the lowest digit counts 10^-decimals; nothing but zeros may drop out.
        wide = Signal(4 * (DIGITS + self.decimals))
        m.d.comb += wide.eq(number.as_value() << (4 * self.decimals))
        aligned = Array([wide >> (4 * n) for n in range(DIGITS + 1)])[decimals]
        dropped = Array([Const(0, 1)] + [wide[: 4 * n].any() for n in range(1, DIGITS + 1)])[decimals]
        whole = Signal(4 * (DIGITS + self.decimals))
        m.d.comb += whole.eq(aligned)
        bcd = Signal(data.ArrayLayout(4, RESULT_DIGITS))
        verdict2 = Signal(verdict)
        with m.If(self.enable):
            m.d.sync += [
                bcd.eq(whole[: 4 * RESULT_DIGITS]),
                verdict2.eq(verdict1),
                verdict2.range.eq(verdict1.range | (~verdict1.bad & (dropped | whole[4 * RESULT_DIGITS :].any()))),
            ]

        # Stages 3 to 5: pairs and quads; eights; the whole number.
        level, decimals_each = [bcd[n] for n in range(RESULT_DIGITS)], 1
        verdicts = verdict2
        for levels in (2, 1, 2):
            for _ in range(levels):
                level = self._pair_up(m, level, decimals_each)
                decimals_each *= 2
            if levels == 2 and len(level) == 1:
                break
            registered = [Signal.like(number, name=f"level{decimals_each}_{n}") for n, number in enumerate(level)]
            following = Signal(verdict, name=f"verdict{decimals_each}")
            with m.If(self.enable):
                m.d.sync += [register.eq(number) for register, number in zip(registered, level, strict=True)]
                m.d.sync += following.eq(verdicts)
            level, verdicts = registered, following

        (total,) = level
        over = total[63] if self.sign else Const(0)
        wrong = verdicts.bad | verdicts.range | over
        with m.If(self.enable):
            m.d.sync += [
                self.value.eq(Mux(wrong, 0, Mux(verdicts.negative, -total, total))),
                self.bad.eq(verdicts.bad),
                self.range.eq(~verdicts.bad & (verdicts.range | over)),
            ]
        return m

    @staticmethod
    def _pair_up(m, numbers, decimals):
        """Each pair of base-10^``decimals`` digits as one number, the lowest first."""
        paired = []
        for low in range(0, len(numbers), 2):
            if low + 1 == len(numbers):
                paired.append(numbers[low])
                continue
            high_decimals = min(decimals, RESULT_DIGITS - decimals * (low + 1))
            width = (10 ** (decimals + high_decimals) - 1).bit_length()
            number = Signal(width, name=f"digits{decimals * 2}_{low}")
            m.d.comb += number.eq(numbers[low + 1] * 10**decimals + numbers[low])
            paired.append(number)
        return paired
