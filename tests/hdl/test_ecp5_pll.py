"""Dividers of an ECP5's PLL give the rates that are asked for, by an oscillator that runs."""

import pytest

from hdl.boards.ecp5_pll import VCO_HZ, dividers


@pytest.mark.parametrize(
    ("clock", "rates"), [(100_000_000, [125_000_000, 50_000_000]), (25_000_000, [125_000_000, 50_000_000]), (100_000_000, [50_000_000]), (12_000_000, [24_000_000])]
)  # fmt: skip
def test_rates_are_exact(clock, rates):
    found = dividers(clock, rates)
    vco = clock * found.feedback * found.outputs[0] // found.reference
    assert VCO_HZ[0] <= vco <= VCO_HZ[1]
    assert [vco / output for output in found.outputs] == rates
    assert rates[0] == clock * found.feedback / found.reference


def test_rates_that_cannot_be_had():
    with pytest.raises(ValueError, match="no PLL makes 125,000,000, 41,000,000 Hz of 25,000,000 Hz"):
        dividers(25_000_000, [125_000_000, 41_000_000])
