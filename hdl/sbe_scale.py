"""Prices and quantities of SBE in the units of the frame, in two stages (docs/sbe.md, "Fields")."""

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed

from hdl.sbe_plan import MOST_POWER

LIMB = 18
"""Bits of a factor of an ECP5's multiplier."""

POWER_BITS = 10
"""Of a power of ten: an exponent on the wire of 8 bits, and what the frame field's unit adds to it."""

RESULT_BITS = 64


@dataclass
class Number:
    """A number on the wire: ``raw × 10^power``. ``raw`` is signed, or (``floating_bits``) the bits of a float or double."""

    raw: Value
    power: int | Value
    floating_bits: int = 0


class Scaler:
    """Multiplies by a power of ten and says whether the product lies from ``lowest`` to ``highest``.

    Of several ``choices``, one is ``chosen`` by its number. Two cycles with ``advance``: ``fits`` and ``result`` (0 where it
    does not fit) are to be registered by the caller at the end of the second one. Integers with constant exponents are
    made for speed, exponents on the wire and floating point numbers are not.
    """

    def __init__(self, m: Module, name: str, choices: Sequence[Number], chosen, advance, lowest: int, highest: int):
        self._m, self._name, self._advance = m, name, advance
        self._lowest, self._highest = lowest, highest
        self.fits = Signal(name=f"{name}_fits")
        self.result = Signal(RESULT_BITS, name=f"{name}_result")
        integers = {n: each for n, each in enumerate(choices) if not each.floating_bits}
        floats = {n: each for n, each in enumerate(choices) if each.floating_bits}
        if not integers and not floats:
            m.d.comb += self.fits.eq(1)
            return
        fits, result = self._integers(integers, chosen) if integers else (Const(0), Const(0))
        if floats:
            is_float = Signal(name=f"{name}_is_float")
            with m.If(advance), m.Switch(chosen):
                with m.Case(*floats):
                    m.d.sync += is_float.eq(1)
                with m.Default():
                    m.d.sync += is_float.eq(0)
            float_fits, float_result = self._floats(floats, chosen)
            fits, result = Mux(is_float, float_fits, fits), Mux(is_float, float_result, result)
        m.d.comb += [self.fits.eq(fits), self.result.eq(result)]

    def _pick(self, values: dict[int, Value | int], chosen, shape, name: str) -> Signal:
        """The chosen one of some values."""
        picked = Signal(shape, name=f"{self._name}_{name}")
        first, *others = values
        self._m.d.comb += picked.eq(values[first])
        with self._m.Switch(chosen):
            for n in others:
                with self._m.Case(n):
                    self._m.d.comb += picked.eq(values[n])
        return picked

    def _integers(self, numbers: dict[int, Number], chosen):
        m = self._m
        shapes = [Value.cast(each.raw).shape() for each in numbers.values()]
        width = max(shape.width + (not shape.signed) for shape in shapes)
        raw = self._pick({n: each.raw for n, each in numbers.items()}, chosen, signed(width), "raw")
        in_range, least, most, factor, factors = self._powers(numbers, chosen, width)

        # First stage: is it in range, and the products of limbs.
        fits = Signal(name=f"{self._name}_integer_fits")
        with m.If(self._advance):
            within = (raw >= least) & (raw <= most)
            m.d.sync += fits.eq(within if in_range is None else (within & in_range) | (raw == 0))
        places = min(width, RESULT_BITS) if self._lowest == 0 else RESULT_BITS
        extended = Signal(signed(RESULT_BITS), name=f"{self._name}_extended")
        m.d.comb += extended.eq(raw)
        if factors == {1}:
            rows = [Signal(RESULT_BITS, name=f"{self._name}_product")]
            with m.If(self._advance):
                m.d.sync += rows[0].eq(extended)
        else:
            rows = self._limb_products(extended[:places], factor, max(factors).bit_length())

        # Second stage: their sum.
        total = Signal(RESULT_BITS, name=f"{self._name}_sum")
        m.d.comb += total.eq(sum(rows[1:], rows[0]))
        return fits, Mux(fits, total, 0)

    def _powers(self, numbers: dict[int, Number], chosen, width: int):
        """Whether the power can be (None: it always can), the least and the largest number that fits with it, its factor, and
        all factors."""
        constant = all(isinstance(each.power, int) for each in numbers.values())
        least_of_all, most_of_all = -(1 << width - 1), (1 << width - 1) - 1

        def limits(power: int) -> tuple[int, int]:
            return max(-(-self._lowest // 10**power), least_of_all), min(self._highest // 10**power, most_of_all)

        if constant:
            powers = {n: int(each.power) for n, each in numbers.items()}
            if len(set(powers.values())) == 1:
                power = next(iter(powers.values()))
                return None, *limits(power), Const(10**power), {10**power}
            index, cases = chosen, powers
        else:
            power = self._pick({n: each.power for n, each in numbers.items()}, chosen, signed(POWER_BITS), "power")
            index, cases = power, {n: n for n in range(MOST_POWER + 2)}
        m = self._m
        in_range = Signal(name=f"{self._name}_in_range")
        least, most = (Signal(signed(width), name=f"{self._name}_{name}") for name in ("least", "most"))
        factor = Signal(RESULT_BITS, name=f"{self._name}_factor")
        with m.Switch(index):
            for case, power in cases.items():
                with m.Case(case):
                    low, high = limits(power)
                    m.d.comb += [in_range.eq(1), least.eq(low), most.eq(high), factor.eq(10**power)]
        return in_range, least, most, factor, {10**power for power in cases.values()}

    def _limb_products(self, raw, factor, factor_bits: int) -> list[Signal]:
        """Registered products of limbs, side by side where they do not overlap; their sum is the product modulo 2^64."""
        m = self._m
        products: list[tuple[int, Value]] = []
        factor_bits = min(factor_bits, RESULT_BITS)
        for i in range(0, len(raw), LIMB):
            for j in range(0, factor_bits, LIMB):
                if i + j < RESULT_BITS:
                    one, other = raw[i : i + LIMB], factor[j : min(j + LIMB, factor_bits)]
                    product = Signal(len(one) + len(other), name=f"{self._name}_product_{i}_{j}")
                    with m.If(self._advance):
                        m.d.sync += product.eq(one * other)
                    products.append((i + j, product))
        rows: list[list[Value]] = []
        for place, product in sorted(products, key=lambda each: each[0]):
            for row in rows:
                if len(Cat(row)) <= place:
                    break
            else:
                row = []
                rows.append(row)
            row += [Const(0, place - len(Cat(row))), product]
        return [Cat(row)[:RESULT_BITS] for row in rows]

    def _floats(self, numbers: dict[int, Number], chosen):
        """The first stage multiplies, the second moves the binary point."""
        m, advance, name = self._m, self._advance, self._name
        layout = {"negative": 1, "magnitude": 53, "down": signed(13), "infinite": 1}
        fields = {key: Signal(shape, name=f"{name}_float_{key}") for key, shape in layout.items()}
        power = self._pick({n: each.power for n, each in numbers.items()}, chosen, signed(POWER_BITS), "float_power")
        with m.Switch(chosen):
            for n, each in numbers.items():
                with m.Case(n):
                    mantissa_bits, exponent_bits = (52, 11) if each.floating_bits == 64 else (23, 8)
                    mantissa, biased = each.raw[:mantissa_bits], each.raw[mantissa_bits:-1]
                    bias = (1 << exponent_bits - 1) - 1 + mantissa_bits
                    m.d.comb += [
                        fields["negative"].eq(each.raw[-1]),
                        fields["magnitude"].eq(Cat(mantissa, biased.any())),
                        fields["down"].eq(bias - Mux(biased.any(), biased, 1)),
                        fields["infinite"].eq(biased.all()),
                    ]
        product, negative, infinite = Signal(84), Signal(), Signal()
        zero, down = Signal(), Signal(signed(13))
        with m.If(advance):
            m.d.sync += [
                negative.eq(fields["negative"]),
                infinite.eq(fields["infinite"]),
                zero.eq((fields["magnitude"] == 0) & ~fields["infinite"]),
                down.eq(fields["down"]),
            ]
            with m.Switch(power):
                for its_power in sorted({int(each.power) for each in numbers.values()}):
                    with m.Case(its_power):
                        m.d.sync += product.eq(fields["magnitude"] * 10**its_power)
        # It moves down by so many bits as it has at most, or up until it is beyond 64.
        place, up, place_of_half = Signal(7), Signal(7), Signal(7)
        half, odd, number = Signal(128), Signal(), Signal(192)
        m.d.comb += [
            place.eq(down),
            up.eq(Mux(down < -64, 64, -down)),
            place_of_half.eq(down - 1),
            half.eq(Const(1) << place_of_half),
            odd.eq(product >> place),
        ]
        with m.If(down > len(product)):
            m.d.comb += number.eq(0)
        with m.Elif(down > 0):
            m.d.comb += number.eq((product + half - ~odd) >> place)
        with m.Else():
            m.d.comb += number.eq(product << up)
        limit = Mux(negative, -self._lowest, self._highest)
        fits = zero | (~infinite & (number <= limit))
        return fits, Mux(fits, Mux(negative, -number, number), 0)
