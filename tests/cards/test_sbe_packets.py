"""Whatever an SBE packet says, both cards make the same of it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.capture.packets import Packets
from tests.cards.comparison import DEMO_SCHEMA, GEOMETRIES, compiled, frames_of_flow, reading_of_equal_cards
from tests.cards.fix_grammar import fix_packet, pieces
from tests.cards.fuzzing import FUZZ, examples
from tests.cards.sbe_grammar import sbe_packet, sbe_payloads

ODD_SCHEMA = Path(__file__).parent / "odd_schema.xml"
SBE_ROWS = (4, 5, 6)

geometries = st.sampled_from(GEOMETRIES)


def packets_by(schema: Path) -> st.SearchStrategy[list[bytes]]:
    """SBE packets of several flows."""
    packet = st.builds(sbe_packet, st.sampled_from(SBE_ROWS), sbe_payloads(compiled(schema)))
    return st.lists(packet, min_size=1, max_size=5)


def same_on_both_cards(packets: list[bytes], schema: Path, geometry) -> None:
    times = [2**63 + 7 * number for number in range(len(packets))]
    reading_of_equal_cards(Packets.of(packets, times), schema=schema, geometry=geometry)


@examples(250)
@given(packets_by(DEMO_SCHEMA), geometries)
def test_packets_of_the_demo_s_schema_give_the_same_frames_on_both_cards(packets, geometry):
    same_on_both_cards(packets, DEMO_SCHEMA, geometry)


@examples(100)
@given(st.data(), geometries)
def test_packets_of_cme_s_schema_give_the_same_frames_on_both_cards(shared_data, data, geometry):
    schema = shared_data / "schemas/omi/Cme.Futures.Mdp3.Sbe.v1.6.xml"
    same_on_both_cards(data.draw(packets_by(schema)), schema, geometry)


@pytest.mark.slow
@pytest.mark.skipif(not FUZZ, reason="compiles a card of its own: only with TICKGATE_FUZZ")
@examples(300)
@given(packets_by(ODD_SCHEMA), geometries)
def test_packets_of_an_odd_schema_give_the_same_frames_on_both_cards(packets, geometry):
    same_on_both_cards(packets, ODD_SCHEMA, geometry)


@examples(100)
@given(
    st.lists(
        st.one_of(
            st.builds(sbe_packet, st.sampled_from(SBE_ROWS), sbe_payloads(compiled(DEMO_SCHEMA))),
            st.builds(fix_packet, st.sampled_from([0, 3, 15]), pieces),
        ),
        max_size=12,
    ),
    geometries,
)
def test_tightly_interleaved_fix_and_sbe_keep_the_order_of_their_packets(packets, geometry):
    reading = reading_of_equal_cards(Packets.of(packets), geometry=geometry)
    calm = reading_of_equal_cards(Packets.of(packets))
    for flow in (0, 3, 15, *SBE_ROWS):
        assert frames_of_flow(reading, flow) == frames_of_flow(calm, flow)
