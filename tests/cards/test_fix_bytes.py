"""Whatever bytes come by a FIX flow, both cards make of them what the pages say."""

from hypothesis import strategies as st

from hdl.beat import POSITION_BITS
from hdl.limits import STORE_BYTES
from tests.cards.comparison import (
    GEOMETRIES,
    assert_every_byte_is_in_one_message,
    frames_of_flow,
    reading_of_equal_cards,
)
from tests.cards.fix_grammar import (
    data_messages,
    good_messages,
    market_data_messages,
    message,
    mutated_streams,
    overruns,
    several,
    streams,
)
from tests.cards.fix_packets import (
    FIX_ENDS,
    FOLLOWED,
    LONGEST_PAYLOAD,
    Cut,
    cut_into_packets,
    cuts,
    firsts,
    rows,
    segments,
    steps,
)
from tests.cards.fuzzing import fuzzed
from tests.cards.peers import frames_that_agree_with_simplefix

WRAPS = (STORE_BYTES, 1 << POSITION_BITS)
"""Stream positions at which the card's store, or its count of positions, begins anew."""

geometries = st.sampled_from(GEOMETRIES)


def however_it_is_cut(stream: bytes, turns: list[Cut], geometry) -> None:
    """The frames of a stream are those that it gives in the longest packets."""
    turns = [Cut(0, turn.size) for turn in turns]
    whole = reading_of_equal_cards(cut_into_packets({0: stream}, [Cut(0, LONGEST_PAYLOAD)]))
    cut = reading_of_equal_cards(cut_into_packets({0: stream}, turns), geometry=geometry)
    assert_every_byte_is_in_one_message(cut, {0: stream})
    assert frames_of_flow(cut, 0) == frames_of_flow(whole, 0)


@fuzzed("well-formed messages", 60, st.lists(good_messages, min_size=1, max_size=6), cuts, geometries)
def test_well_formed_messages_are_what_simplefix_reads(messages, turns, geometry):
    stream = b"".join(messages)
    turns = [Cut(0, turn.size) for turn in turns]
    reading = reading_of_equal_cards(cut_into_packets({0: stream}, turns), geometry=geometry)
    assert [raw for _, raw in reading.distinct_messages()] == messages
    assert frames_that_agree_with_simplefix(reading) == len(messages)


@fuzzed("messages and garbage", 100, streams, cuts, geometries)
def test_one_flow_gives_the_same_frames_on_both_cards_however_it_is_cut(stream, turns, geometry):
    however_it_is_cut(stream, turns, geometry)


@fuzzed("data fields", 50, several(data_messages, 4, 1), cuts, geometries)
def test_data_fields_give_the_same_frames_on_both_cards_however_they_are_cut(stream, turns, geometry):
    however_it_is_cut(stream, turns, geometry)


@fuzzed("market data", 50, several(market_data_messages, 4, 1), cuts, geometries)
def test_market_data_gives_the_same_frames_on_both_cards_however_it_is_cut(stream, turns, geometry):
    however_it_is_cut(stream, turns, geometry)


@fuzzed("mutated messages", 60, mutated_streams, cuts, geometries)
def test_mutated_messages_give_the_same_frames_on_both_cards_however_they_are_cut(stream, turns, geometry):
    however_it_is_cut(stream, turns, geometry)


@fuzzed("overruns and limits", 30, overruns, cuts, geometries)
def test_overruns_give_the_same_frames_on_both_cards_however_they_are_cut(stream, turns, geometry):
    however_it_is_cut(stream, turns, geometry)


@fuzzed("interleaved flows", 40, st.dictionaries(rows, streams, min_size=2, max_size=8), cuts, geometries)
def test_interleaved_flows_give_the_frames_that_each_gives_alone(flows, turns, geometry):
    together = reading_of_equal_cards(cut_into_packets(flows, turns), geometry=geometry)
    assert_every_byte_is_in_one_message(together, flows)
    alone = reading_of_equal_cards(cut_into_packets(flows, [Cut(flow, LONGEST_PAYLOAD) for flow in flows]))
    for flow in flows:
        assert frames_of_flow(together, flow) == frames_of_flow(alone, flow)


@fuzzed("all flows at once", 8, st.lists(streams, min_size=4, max_size=12), st.integers(1, 40), geometries)
def test_all_flows_at_once_give_the_frames_that_each_gives_alone(some, size, geometry):
    flows = {row: some[number % len(some)] for number, row in enumerate(FIX_ENDS)}
    reading = reading_of_equal_cards(
        cut_into_packets(flows, [Cut(row, size + row % 7) for row in flows], 3000), geometry=geometry
    )
    assert_every_byte_is_in_one_message(reading, flows)


@fuzzed(
    "TCP faults",
    80,
    st.dictionaries(st.sampled_from(FOLLOWED[:6]) | rows, several(good_messages, 5) | streams, min_size=1, max_size=4),
    steps,
    firsts,
    geometries,
)
def test_segments_lost_repeated_and_reordered_give_the_same_frames_on_both_cards(flows, turns, first, geometry):
    reading_of_equal_cards(segments(flows, turns, first), geometry=geometry)


@fuzzed("positions that wrap", 16, streams, cuts, st.sampled_from(WRAPS), st.integers(0, 5000))
def test_a_stream_gives_the_same_frames_where_its_positions_wrap(stream, turns, wrap, before):
    heartbeat = message(b"35=0\x0134=1\x01", b"8=FIX.4.4\x01")
    stream = (heartbeat * (wrap // len(heartbeat)))[before:] + stream * 3
    turns = [Cut(15, LONGEST_PAYLOAD)] * (wrap // LONGEST_PAYLOAD) + [Cut(15, turn.size) for turn in turns]
    reading = reading_of_equal_cards(cut_into_packets({15: stream}, turns, most_packets=100))
    assert_every_byte_is_in_one_message(reading, {15: stream})
