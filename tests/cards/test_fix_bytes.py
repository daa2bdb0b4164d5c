"""Whatever bytes come by a FIX flow, both cards make the same of them."""

from hypothesis import given
from hypothesis import strategies as st

from hdl.beat import POSITION_BITS
from hdl.limits import STORE_BYTES
from tests.cards.comparison import (
    GEOMETRIES,
    assert_every_byte_is_in_one_message,
    frames_of_flow,
    reading_of_equal_cards,
)
from tests.cards.fix_grammar import FIX_ENDS, Cut, cut_into_packets, cuts, message, streams
from tests.cards.fuzzing import examples

WRAPS = (STORE_BYTES, 1 << POSITION_BITS)
"""Stream positions at which the card's store, or its count of positions, begins anew."""

geometries = st.sampled_from(GEOMETRIES)


@examples(250)
@given(streams, cuts, geometries)
def test_one_flow_gives_the_same_frames_on_both_cards_however_it_is_cut(stream, turns, geometry):
    turns = [Cut(0, turn.size) for turn in turns]
    whole = reading_of_equal_cards(cut_into_packets({0: stream}, [Cut(0, 9000)]))
    cut = reading_of_equal_cards(cut_into_packets({0: stream}, turns), geometry=geometry)
    assert_every_byte_is_in_one_message(cut, {0: stream})
    assert frames_of_flow(cut, 0) == frames_of_flow(whole, 0)


@examples(80)
@given(st.dictionaries(st.sampled_from(list(FIX_ENDS)), streams, min_size=2), cuts, geometries)
def test_interleaved_flows_give_the_frames_that_each_gives_alone(flows, turns, geometry):
    together = reading_of_equal_cards(cut_into_packets(flows, turns), geometry=geometry)
    assert_every_byte_is_in_one_message(together, flows)
    alone = reading_of_equal_cards(cut_into_packets(flows, [Cut(flow, 9000) for flow in flows]))
    for flow in flows:
        assert frames_of_flow(together, flow) == frames_of_flow(alone, flow)


@examples(40)
@given(streams, cuts, st.sampled_from(WRAPS), st.integers(0, 5000))
def test_a_stream_gives_the_same_frames_where_its_positions_wrap(stream, turns, wrap, before):
    heartbeat = message(b"35=0\x0134=1\x01", b"8=FIX.4.4\x01", 0, 0)
    stream = (heartbeat * (wrap // len(heartbeat)))[before:] + stream * 3
    turns = [Cut(15, 9000)] * (wrap // 9000) + [Cut(15, turn.size) for turn in turns]
    reading = reading_of_equal_cards(cut_into_packets({15: stream}, turns, most_packets=100))
    assert_every_byte_is_in_one_message(reading, {15: stream})
