"""Whatever bytes come by a FIX flow, both cards make the same of them."""

from hypothesis import given
from hypothesis import strategies as st

from tests.cards.comparison import (
    GEOMETRIES,
    assert_every_byte_is_in_one_message,
    frames_of_flow,
    reading_of_equal_cards,
)
from tests.cards.fix_grammar import FIX_ENDS, Cut, cut_into_packets, cuts, streams
from tests.cards.fuzzing import examples

geometries = st.sampled_from(GEOMETRIES)


@examples(500)
@given(streams, cuts, geometries)
def test_one_flow_gives_the_same_frames_on_both_cards_however_it_is_cut(stream, turns, geometry):
    turns = [Cut(0, turn.size) for turn in turns]
    whole = reading_of_equal_cards(cut_into_packets({0: stream}, [Cut(0, 9000)]))
    cut = reading_of_equal_cards(cut_into_packets({0: stream}, turns), geometry=geometry)
    assert_every_byte_is_in_one_message(cut, {0: stream})
    assert frames_of_flow(cut, 0) == frames_of_flow(whole, 0)


@examples(150)
@given(st.dictionaries(st.sampled_from(list(FIX_ENDS)), streams, min_size=2), cuts, geometries)
def test_interleaved_flows_give_the_frames_that_each_gives_alone(flows, turns, geometry):
    together = reading_of_equal_cards(cut_into_packets(flows, turns), geometry=geometry)
    assert_every_byte_is_in_one_message(together, flows)
    alone = reading_of_equal_cards(cut_into_packets(flows, [Cut(flow, 9000) for flow in flows]))
    for flow in flows:
        assert frames_of_flow(together, flow) == frames_of_flow(alone, flow)
