"""Numbers on the wire are multiplied exactly, or do not fit (docs/sbe.md, "Fields")."""

import itertools

import pytest
from amaranth.hdl import Module, Signal, signed, unsigned
from amaranth.sim import Simulator

from hdl.sbe_plan import FORMS, LIMITS
from hdl.sbe_scale import Number, Scaler

UNSIGNED, SIGNED = ([shape(bits) for bits in (8, 16, 32, 64)] for shape in (unsigned, signed))


def ends(shape) -> list[int]:
    """The numbers at the ends of a shape, and around 0."""
    least = -(1 << shape.width - 1) if shape.signed else 0
    most = (1 << shape.width - shape.signed) - 1
    return [number for number in (least, least + 1, -1, 0, 1, most - 1, most) if least <= number <= most]


@pytest.mark.parametrize("field", ["price", "quantity"])
@pytest.mark.parametrize(
    "shapes",
    [
        *([shape] for shape in UNSIGNED + SIGNED),
        *zip(UNSIGNED, SIGNED, strict=True),
        *zip(UNSIGNED[1:], SIGNED, strict=False),
    ],
    ids=lambda shapes: " ".join(f"{'i' if shape.signed else 'u'}{shape.width}" for shape in shapes),
)
@pytest.mark.parametrize("powers", [(0,), (8,), (8, 0), (2, 17)], ids=str)
def test_a_number_is_scaled_exactly_or_does_not_fit(field, shapes, powers):
    lowest, highest = LIMITS[FORMS[field]]
    kinds = list(itertools.product(shapes, powers))
    m = Module()
    raws = [Signal(shape, name=f"raw{n}") for n, (shape, _) in enumerate(kinds)]
    chosen = Signal(range(max(len(kinds), 2)))
    numbers = [Number(raw, power) for raw, (_, power) in zip(raws, kinds, strict=True)]
    scaler = Scaler(m, field, numbers, chosen, 1, lowest, highest)
    compared = 0

    async def bench(context):
        nonlocal compared
        for n, (shape, power) in enumerate(kinds):
            for number in ends(shape):
                context.set(chosen, n)
                context.set(raws[n], number)
                await context.tick()
                product = number * 10**power
                fits = lowest <= product <= highest
                assert context.get(scaler.fits) == fits, (number, power)
                assert context.get(scaler.result) == (product % (1 << 64) if fits else 0), (number, power)
                compared += 1

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert compared >= 3 * len(kinds)
