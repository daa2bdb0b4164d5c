"""Generated traffic gives the same frames on both cards, whatever share of it is malformed."""

from hypothesis import strategies as st

from hdl.frame import Kind
from host.generate import SCHEMA, generate
from tests.cards.comparison import GEOMETRIES, reading_of_equal_cards
from tests.cards.fuzzing import fuzzed


@fuzzed(
    "generated traffic",
    6,
    st.sampled_from([0.01, 0.5, 1.0]),
    st.integers(0, 2**31),
    st.sampled_from([100, 1000]),
    st.sampled_from(GEOMETRIES),
)
def test_generated_traffic_gives_the_same_frames_on_both_cards(malformed, seed, orders, geometry):
    generated = generate(orders=orders, seed=seed, malformed=malformed)
    reading = reading_of_equal_cards(generated.packets, list(generated.flows), SCHEMA, geometry)
    assert (reading.frames["kind"] == Kind.MALFORMED).sum() == generated.sent.malformed.total()
