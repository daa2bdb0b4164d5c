"""Generated traffic gives the same frames on both cards, whatever share of it is malformed."""

import pytest

from hdl.frame import Kind
from host.generate import SCHEMA, generate
from tests.cards.comparison import GEOMETRIES, reading_of_equal_cards
from tests.cards.fuzzing import FUZZ

SEEDS = range(2 * max(FUZZ, 1))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("malformed", [0.01, 0.5, 1.0])
def test_generated_traffic_gives_the_same_frames_on_both_cards(malformed, seed):
    generated = generate(orders=1500, seed=seed, malformed=malformed)
    geometry = GEOMETRIES[seed % len(GEOMETRIES)]
    reading = reading_of_equal_cards(generated.packets, list(generated.flows), SCHEMA, geometry)
    assert (reading.frames["kind"] == Kind.MALFORMED).sum() == generated.sent.malformed.total()
