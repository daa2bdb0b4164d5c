"""Whatever an SBE packet says, both cards make the same of it."""

from pathlib import Path

import pytest
from hypothesis import strategies as st

from hdl.sources import ROOT
from host.capture.packets import Packets
from tests.cards.comparison import DEMO_SCHEMA, GEOMETRIES, compiled, frames_of_flow, reading_of_equal_cards
from tests.cards.fix_grammar import pieces
from tests.cards.fix_packets import fix_packet
from tests.cards.fuzzing import fuzzed
from tests.cards.sbe_grammar import sbe_packet, sbe_payloads

ODD_SCHEMA = Path(__file__).parent / "odd_schema.xml"
CME_SCHEMA = ROOT.parent / "shared/data/schemas/omi/Cme.Futures.Mdp3.Sbe.v1.6.xml"
SBE_ROWS = (4, 5, 6)

geometries = st.sampled_from(GEOMETRIES)


def packets_by(schema: Path) -> st.SearchStrategy[list[bytes]]:
    """SBE packets of several flows."""
    payloads = st.deferred(lambda: sbe_payloads(compiled(schema).schema))
    return st.lists(st.builds(sbe_packet, st.sampled_from(SBE_ROWS), payloads), min_size=1, max_size=5)


def same_on_both_cards(packets: list[bytes], schema: Path, geometry) -> None:
    times = [2**63 + 7 * number for number in range(len(packets))]
    reading_of_equal_cards(Packets.of(packets, times), schema=schema, geometry=geometry)


@fuzzed("SBE, the demo's schema", 150, packets_by(DEMO_SCHEMA), geometries)
def test_packets_of_the_demo_s_schema_give_the_same_frames_on_both_cards(packets, geometry):
    same_on_both_cards(packets, DEMO_SCHEMA, geometry)


@pytest.mark.skipif(not CME_SCHEMA.exists(), reason=f"no {CME_SCHEMA}")
@fuzzed("SBE, CME's schema", 60, packets_by(CME_SCHEMA), geometries, schema=CME_SCHEMA)
def test_packets_of_cme_s_schema_give_the_same_frames_on_both_cards(packets, geometry):
    same_on_both_cards(packets, CME_SCHEMA, geometry)


@pytest.mark.skip(reason="compiles a card of its own: make fuzz does")
@fuzzed("SBE, an odd schema", 1, packets_by(ODD_SCHEMA), geometries, schema=ODD_SCHEMA)
def test_packets_of_an_odd_schema_give_the_same_frames_on_both_cards(packets, geometry):
    same_on_both_cards(packets, ODD_SCHEMA, geometry)


@fuzzed(
    "FIX and SBE",
    60,
    st.lists(
        st.one_of(
            st.builds(sbe_packet, st.sampled_from(SBE_ROWS), sbe_payloads(compiled(DEMO_SCHEMA).schema)),
            st.builds(fix_packet, st.sampled_from([1, 3, 15]), pieces),
        ),
        max_size=12,
    ),
    geometries,
)
def test_tightly_interleaved_fix_and_sbe_keep_the_order_of_their_packets(packets, geometry):
    reading = reading_of_equal_cards(Packets.of(packets), geometry=geometry)
    calm = reading_of_equal_cards(Packets.of(packets))
    for flow in (1, 3, 15, *SBE_ROWS):
        assert frames_of_flow(reading, flow) == frames_of_flow(calm, flow)
